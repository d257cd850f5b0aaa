//! How many scenarios of what.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plant::{self, Plant};
use super::product;
use super::scenario::{Operation, ROUND, Scenario};
use super::trace::{Progress, stay_on_one_processor};
use super::watch::Tally;

/// Rounds of every operation, however many points they have. Seven have every
/// length in every place; without optimization an operation has seven times
/// the instructions.
const ROUNDS: usize = if cfg!(debug_assertions) { 1 } else { 7 };
/// Scenarios with each planted bug: a round without its longest messages,
/// which the harness's own memory copies slowly.
const PLANTED: usize = ROUND - 2;

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
            if number % ROUND == 0 && number >= ROUNDS * ROUND && tally.points >= points {
                break;
            }
            let scenario = Scenario::new(operation, number);
            let one = product::run(scenario, &self.path(), &self.progress);
            tally.add(&self.cleared(scenario, one)?);
        }
        Ok(tally)
    }

    /// Steps through the operation that `plant` shows in; with none, as a
    /// control, through those of all.
    pub(crate) fn plant(&self, plant: Option<Plant>) -> Result<Tally> {
        let operations = match plant {
            Some(plant) => vec![plant.operation()],
            None => vec![Operation::Send, Operation::FileCommit],
        };
        let mut tally = Tally::default();
        for operation in operations {
            for number in 0..PLANTED {
                let scenario = Scenario::new(operation, number);
                let one = plant::run(plant, scenario, &self.path(), &self.progress);
                tally.add(&self.cleared(scenario, one)?);
            }
        }
        Ok(tally)
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
