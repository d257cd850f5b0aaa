//! How many scenarios of what.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tests::Random;

use super::create::{self, Creation};
use super::pairs::{PAIRS, Second};
use super::plant::{self, Plant};
use super::scenario::{Operation, ROUND, Scenario};
use super::trace::{Progress, stay_on_one_processor};
use super::watch::Tally;
use super::{many, newcomers, pairs, pause, product, sleeper};

/// The rows of the report. What `create` does is not about a lane: it has its own.
pub(crate) const ROWS: [(&str, &[Operation]); 12] = {
    use Operation::*;
    [
        ("attach", &[ConsumerAttach, FirstConsumer, FirstProducer, NextProducer]),
        ("send", &[Send]),
        ("reserve_commit", &[ReserveCommit]),
        ("batch", &[Batch]),
        ("read_commit", &[ReadCommit]),
        ("file_commit", &[FileCommit]),
        ("takeover", &[Takeover]),
        ("close", &[Close]),
        ("lane_take", &[LaneTake]),
        ("total_send", &[TotalSend]),
        ("drop_message", &[DropMessage]),
        ("lanes_commit", &[LanesCommit]),
    ]
};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// Few rounds.
    pub(crate) is_short: bool,
    /// Least number of kill points, over all operations.
    pub(crate) points: u64,
}

impl Form {
    /// Rounds of an operation, however many points they have. Seven have every
    /// length in every place, which is for those that are about one record;
    /// without optimization an operation has seven times the instructions.
    fn rounds(self, operation: Operation) -> usize {
        use Operation::*;
        let full = match operation {
            DropMessage | LanesCommit => 2,
            LaneTake | Takeover | TotalSend => 3,
            _ => 7,
        };
        match operation {
            _ if cfg!(debug_assertions) => 1,
            Send | ReserveCommit | Batch | ReadCommit | FileCommit | Close if self.is_short => 2,
            _ if self.is_short => 1,
            _ => full,
        }
    }
}

/// Runs scenarios, each on a region of its own.
pub(crate) struct Campaign {
    form: Form,
    folder: tempfile::TempDir,
    progress: Progress,
}

impl Campaign {
    /// Makes a folder for the regions.
    pub(crate) fn new(form: Form) -> Result<Campaign> {
        stay_on_one_processor();
        Ok(Campaign { form, folder: tempfile::tempdir()?, progress: Progress::new()? })
    }

    /// Steps through creations of a region, the first two and in the long form
    /// all of them as a whole.
    pub(crate) fn create(&self) -> Result<Tally> {
        self.creations(|number| !self.form.is_short || number < 2, create::run)
    }

    /// Steps through creations on what others leave.
    pub(crate) fn create_twice(&self) -> Result<Tally> {
        self.creations(|_| false, create::run_twice)
    }

    fn creations(
        &self,
        is_whole: impl Fn(usize) -> bool,
        run: fn(Creation, bool, &Path, &Progress) -> Result<Tally>,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        for number in 0..(if self.form.is_short { 8 } else { 12 }) {
            let creation = Creation::new(number);
            let one = run(creation, is_whole(number), self.folder.path(), &self.progress);
            tally.add(&one.with_context(|| creation.to_string())?);
        }
        Ok(tally)
    }

    /// Steps through a row's operations, each in whole rounds of scenarios,
    /// until the row has its share of the points.
    pub(crate) fn row(&self, operations: &[Operation]) -> Result<Tally> {
        let share = self.form.points.div_ceil(ROWS.len() as u64 * operations.len() as u64);
        let mut tally = Tally::default();
        for &operation in operations {
            tally.add(&self.operation(operation, share)?);
        }
        Ok(tally)
    }

    fn operation(&self, operation: Operation, points: u64) -> Result<Tally> {
        let rounds = self.form.rounds(operation);
        let mut tally = Tally::default();
        for number in 0.. {
            if number % ROUND == 0 && number >= rounds * ROUND && tally.points >= points {
                break;
            }
            for scenario in scenarios(operation, number) {
                let one = self.run(scenario);
                tally.add(&self.cleared(scenario, one)?);
            }
        }
        Ok(tally)
    }

    /// Runs what `plant` shows in; with none, as a control, everything that
    /// any of them shows in.
    pub(crate) fn plant(&self, plant: Option<Plant>) -> Result<Tally> {
        plant::run(plant, &self.path(), &self.progress)
    }

    /// Steps through the `i`th pair of operations, the second on what the first
    /// one leaves.
    pub(crate) fn pair(&self, i: usize) -> Result<Tally> {
        let Form { is_short, .. } = self.form;
        let mut tally = Tally::default();
        for number in pairs::numbers(i, is_short) {
            let one = pairs::run(PAIRS[i], Second::Product, number, is_short, &self.path(), &self.progress);
            tally.add(&self.cleared(Scenario::new(PAIRS[i].0, number), one)?);
        }
        Ok(tally)
    }

    /// Pauses `operation` everywhere and resumes it.
    pub(crate) fn paused(&self, operation: Operation) -> Result<Tally> {
        let scenarios = if self.form.is_short { 1 } else { ROUND };
        let mut tally = Tally::default();
        // From one on with a message longer than what a full ring keeps free:
        // else nothing would overwrite it too soon.
        for number in 9..9 + scenarios {
            let scenario = Scenario::new(operation, number);
            let one = pause::run(scenario, &self.path(), &self.progress);
            tally.add(&self.cleared(scenario, one)?);
        }
        Ok(tally)
    }

    /// Really kills somebody in `operation`, at some points, with somebody else
    /// asleep.
    pub(crate) fn slept(&self, operation: Operation, random: &mut Random) -> Result<Tally> {
        let points = if self.form.is_short { 12 } else { 120 };
        sleeper::run(operation, points, &self.path(), random).with_context(|| operation.name())
    }

    fn run(&self, scenario: Scenario) -> Result<Tally> {
        let (path, progress) = (self.path(), &self.progress);
        match scenario.operation {
            Operation::TotalSend | Operation::DropMessage | Operation::LanesCommit => {
                many::run(scenario, &path, progress)
            }
            Operation::LaneTake => newcomers::run(scenario, &path, progress),
            Operation::Takeover if scenario.lanes > 1 => newcomers::run(scenario, &path, progress),
            _ => product::run(scenario, &path, progress),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("region")
    }

    /// Makes room for the next scenario's region.
    fn cleared(&self, scenario: Scenario, one: Result<Tally>) -> Result<Tally> {
        let tally = one.with_context(|| scenario.to_string())?;
        std::fs::remove_file(self.path())?;
        Ok(tally)
    }
}

/// Those with this number: a takeover comes alone and among others.
fn scenarios(operation: Operation, number: usize) -> Vec<Scenario> {
    let scenario = Scenario::new(operation, number);
    match operation {
        Operation::Takeover => vec![scenario, scenario.beside_another()],
        _ => vec![scenario],
    }
}
