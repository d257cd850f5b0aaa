//! How many scenarios of what.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::plant::{self, Plant};
use super::scenario::{Operation, ROUND, Scenario};
use super::trace::{Progress, stay_on_one_processor};
use super::watch::Tally;
use super::{many, newcomers, pause, product, sleeper};

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

    /// Pauses `operation` everywhere and resumes it, in so many scenarios.
    pub(crate) fn paused(&self, operation: Operation, scenarios: usize) -> Result<Tally> {
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

    /// The control of [`paused`](Self::paused), which must show.
    pub(crate) fn paused_control(&self) -> Result<Tally> {
        let one = pause::run_premature(&self.path(), &self.progress);
        self.cleared(Scenario::new(Operation::ReadCommit, 0), one)
    }

    /// Really kills somebody in `operation` at so many points, with somebody
    /// else asleep.
    pub(crate) fn slept(
        &self,
        operation: Operation,
        points: usize,
        random: &mut tests::Random,
    ) -> Result<Tally> {
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
