//! How many scenarios of what.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plant::{self, Plant};
use super::scenario::{Operation, ROUND, Scenario};
use super::trace::{Progress, stay_on_one_processor};
use super::watch::Tally;
use super::{many, newcomers, product};

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
        match operation {
            _ if cfg!(debug_assertions) => 1,
            DropMessage | LanesCommit | FirstConsumer | FirstProducer | NextProducer if self.is_short => 1,
            _ if self.is_short => 2,
            DropMessage | LanesCommit => 2,
            LaneTake | Takeover | TotalSend => 3,
            _ => 7,
        }
    }
}

/// Scenarios with each planted bug: a round without its longest messages,
/// which the harness's own memory copies slowly; fewer where one has many steps.
fn planted(operation: Operation) -> usize {
    use Operation::{DropMessage, LaneTake, LanesCommit, TotalSend};
    match operation {
        LaneTake | TotalSend | DropMessage | LanesCommit => 4,
        _ => ROUND - 2,
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

    /// Steps through the operation that `plant` shows in; with none, as a
    /// control, through those of all.
    pub(crate) fn plant(&self, plant: Option<Plant>) -> Result<Tally> {
        let operations = match plant {
            Some(plant) => vec![plant.operation()],
            None => {
                use Operation::{DropMessage, FileCommit, LanesCommit, Send, TotalSend};
                vec![Send, FileCommit, TotalSend, DropMessage, LanesCommit]
            }
        };
        let mut tally = Tally::default();
        for operation in operations {
            for number in 0..planted(operation) {
                let scenario = Scenario::new(operation, number);
                let one = plant::run(plant, scenario, &self.path(), &self.progress);
                tally.add(&self.cleared(scenario, one)?);
            }
        }
        Ok(tally)
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
