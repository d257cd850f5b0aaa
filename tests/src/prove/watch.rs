//! Looks at the region at every instruction boundary and sends survivors in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::replica::Replica;
use super::scenario::Scenario;
use super::view::{Changes, Image, View};

/// Every so many different images the survivors go round the whole ring.
const LAP_EVERY: u64 = 128;

/// What was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Operations stepped through.
    pub(crate) scenarios: u64,
    /// Instruction boundaries at which the process could have been killed.
    #[serde(rename = "kill_points")]
    pub(crate) points: u64,
    /// Boundaries at which the lane held other bytes than at the one before:
    /// the survivors ran on each. At the others they would find the same.
    pub(crate) images: u64,
    /// Images after which a survivor lost, doubled, tore or invented something.
    pub(crate) violations: u64,
    /// The first of them, in words.
    pub(crate) first_violation: Option<String>,
}

impl Tally {
    /// Counts a violation, and keeps the first one's words.
    pub(crate) fn violated(&mut self, in_words: impl FnOnce() -> String) {
        self.violations += 1;
        self.first_violation.get_or_insert_with(in_words);
    }

    /// What was violated and nothing else.
    pub(crate) fn only_violations(self) -> Tally {
        Tally { violations: self.violations, first_violation: self.first_violation, ..Tally::default() }
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.scenarios += other.scenarios;
        self.points += other.points;
        self.images += other.images;
        self.violations += other.violations;
        if self.first_violation.is_none() {
            self.first_violation.clone_from(&other.first_violation);
        }
    }
}

/// Whose successor comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// The producer's.
    Producer,
    /// The consumer's.
    Consumer,
}

/// What a kill left.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    /// The bytes.
    pub(crate) image: &'a Image,
    /// The same bytes, to work on. What is done there is taken back.
    pub(crate) replica: &'a Replica,
}

/// In words, what is wrong.
pub(crate) type Verdict<T> = Result<T, String>;

/// An error of somebody, in words.
pub(crate) fn told<T, E: std::fmt::Display>(who: &str, result: Result<T, E>) -> Verdict<T> {
    result.map_err(|e| format!("{who}: {e:#}"))
}

/// Those who come after the kill, and what they may find.
pub(crate) trait Survivors {
    /// What they found.
    type Found: Clone + PartialEq + std::fmt::Debug;

    /// All successors come and work; with `lap`, once round the whole ring.
    fn come(&self, left: Left<'_>, first: First, lap: bool) -> Verdict<Self::Found>;

    /// Judges what was found, after `last` was found at an earlier point;
    /// `returned`: the operation has come back with success.
    fn judge(&self, found: &Self::Found, last: Option<&Self::Found>, returned: bool) -> Verdict<()>;
}

/// One scenario under observation.
pub(crate) struct Watch<'a, S: Survivors> {
    scenario: Scenario,
    survivors: &'a S,
    view: &'a View,
    image: Image,
    changes: Changes,
    replica: Replica,
    found: Option<S::Found>,
    begun: bool,
    tally: Tally,
}

impl<'a, S: Survivors> Watch<'a, S> {
    /// Starts from what the region holds now.
    pub(crate) fn new(scenario: Scenario, survivors: &'a S, view: &'a View) -> Watch<'a, S> {
        let image = view.image();
        let replica = Replica::new(&image);
        let tally = Tally { scenarios: 1, ..Tally::default() };
        let changes = Changes::default();
        Watch { scenario, survivors, view, image, changes, replica, found: None, begun: false, tally }
    }

    /// What the region holds now is what a kill would leave.
    pub(crate) fn look(&mut self, returned: bool) -> Result<()> {
        self.tally.points += 1;
        self.view.refresh(&mut self.image, &mut self.changes);
        if !self.changes.is_empty() || !self.begun {
            self.begun = true;
            self.tally.images += 1;
            self.replica.follow(&self.image, &self.changes);
            if let Err(violation) = self.send_survivors(returned) {
                self.report(violation);
            }
        } else if returned
            && let Some(found) = &self.found
            && let Err(violation) = self.survivors.judge(found, None, returned)
        {
            self.report(violation);
        }
        Ok(())
    }

    fn send_survivors(&mut self, returned: bool) -> Verdict<()> {
        let lap = self.tally.images % LAP_EVERY == 1;
        let mut send = |first: First| {
            let left = Left { image: &self.image, replica: &self.replica };
            // A survivor that panics has not survived.
            let found = catch_unwind(AssertUnwindSafe(|| self.survivors.come(left, first, lap)));
            self.replica.roll_back();
            found.unwrap_or_else(|_| Err("a panic".into())).map_err(|what| format!("{first:?} first: {what}"))
        };
        let writer_first = send(First::Producer)?;
        let reader_first = send(First::Consumer)?;
        if writer_first != reader_first {
            return Err(format!("Producer first: {writer_first:?}, Consumer first: {reader_first:?}"));
        }
        let last = self.found.replace(writer_first.clone());
        self.survivors.judge(&writer_first, last.as_ref(), returned)
    }

    fn report(&mut self, violation: String) {
        let (scenario, point) = (self.scenario, self.tally.points);
        self.tally.violated(|| format!("{violation} ({scenario}; killed at instruction boundary {point})"));
    }

    /// What the region held when it was last looked at.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// How many different images there were.
    pub(crate) fn images(&self) -> usize {
        self.tally.images as usize
    }

    /// What the survivors of the last one found.
    pub(crate) fn found(&self) -> Option<&S::Found> {
        self.found.as_ref()
    }

    /// What was counted.
    pub(crate) fn finish(self) -> Tally {
        self.tally
    }
}
