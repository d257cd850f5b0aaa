//! Looks at the region at every instruction boundary and sends survivors in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Result;

use super::expected::{Expected, Found};
use super::replica::Replica;
use super::scenario::Scenario;
use super::survivors::{First, Survivors};
use super::view::{Changes, Image, View};

/// Every so many different images the survivors go round the whole ring.
const LAP_EVERY: u64 = 128;

/// What was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Operations stepped through.
    pub(crate) scenarios: u64,
    /// Instruction boundaries at which the process could have been killed.
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

/// One scenario under observation.
pub(crate) struct Watch<'a> {
    scenario: Scenario,
    expected: &'a Expected,
    view: &'a View,
    trusts_hints: bool,
    image: Image,
    changes: Changes,
    replica: Replica,
    found: Option<Found>,
    begun: bool,
    tally: Tally,
}

impl<'a> Watch<'a> {
    /// Starts from what the region holds now.
    pub(crate) fn new(
        scenario: Scenario,
        expected: &'a Expected,
        view: &'a View,
        trusts_hints: bool,
    ) -> Watch<'a> {
        let image = view.image();
        let replica = Replica::new(&image);
        let tally = Tally { scenarios: 1, ..Tally::default() };
        Watch {
            scenario,
            expected,
            view,
            trusts_hints,
            image,
            changes: Changes::default(),
            replica,
            found: None,
            begun: false,
            tally,
        }
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
            && let Some(found) = self.found
            && let Err(violation) = self.expected.judge(found, None, returned)
        {
            self.report(violation);
        }
        Ok(())
    }

    fn send_survivors(&mut self, returned: bool) -> Result<(), String> {
        let lap = self.tally.images % LAP_EVERY == 1;
        let mut send = |first: First| {
            let survivors = Survivors {
                replica: &self.replica,
                shape: self.scenario.shape(),
                expected: self.expected,
                trusts_hints: self.trusts_hints,
            };
            // A survivor that panics has not survived.
            let found = catch_unwind(AssertUnwindSafe(|| survivors.come(first, lap)));
            self.replica.roll_back();
            found.unwrap_or_else(|_| Err("a panic".into())).map_err(|what| format!("{first:?} first: {what}"))
        };
        let writer_first = send(First::Producer)?;
        let reader_first = send(First::Consumer)?;
        if writer_first != reader_first {
            return Err(format!("Producer first: {writer_first:?}, Consumer first: {reader_first:?}"));
        }
        let last = self.found.replace(writer_first);
        self.expected.judge(writer_first, last, returned)
    }

    fn report(&mut self, violation: String) {
        self.tally.violations += 1;
        let (scenario, point) = (self.scenario, self.tally.points);
        self.tally.first_violation.get_or_insert_with(|| {
            format!("{violation} ({scenario}; killed at instruction boundary {point})")
        });
    }

    /// What was counted.
    pub(crate) fn finish(self) -> Tally {
        self.tally
    }
}
