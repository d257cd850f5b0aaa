//! How many scenarios of what.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plant::{self, Plant};
use super::scenario::{Operation, ROUND, Scenario};
use super::trace::{Progress, stay_on_one_processor};
use super::watch::Tally;
use super::{many, newcomers, product};

/// Rounds of an operation, however many points they have. Seven have every
/// length in every place, which is for those that are about one record; without
/// optimization an operation has seven times the instructions.
fn rounds(operation: Operation) -> usize {
    use Operation::{DropMessage, LaneTake, LanesCommit, Takeover, TotalSend};
    match operation {
        _ if cfg!(debug_assertions) => 1,
        DropMessage | LanesCommit => 2,
        LaneTake | Takeover | TotalSend => 3,
        _ => 7,
    }
}

/// Runs scenarios, each on a region of its own.
pub(crate) struct Campaign {
    folder: tempfile::TempDir,
    progress: Progress,
}

impl Campaign {
    /// Makes a folder for the regions.
    pub(crate) fn new() -> Result<Campaign> {
        stay_on_one_processor();
        Ok(Campaign { folder: tempfile::tempdir()?, progress: Progress::new()? })
    }

    /// Steps through `operation` in whole rounds of scenarios, until there are
    /// `points` of them.
    pub(crate) fn operation(&self, operation: Operation, points: u64) -> Result<Tally> {
        let mut tally = Tally::default();
        for number in 0.. {
            if number % ROUND == 0 && number >= rounds(operation) * ROUND && tally.points >= points {
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
