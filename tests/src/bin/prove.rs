//! Kills a process at every instruction of every operation and shows that the
//! survivors find the lanes as they were before the operation or as they are
//! after it; where an operation is several, after so many of them.
//!
//! Exit status: 0 nothing was violated and every planted bug was caught; 1
//! otherwise; 77 tracing is not permitted here.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

#[path = "../prove/mod.rs"]
mod prove;

use prove::campaign::Campaign;
use prove::plant::Plant;
use prove::scenario::Operation;
use prove::trace::NotPermitted;
use prove::watch::Tally;
use prove::{pause, sleeper};

/// Kills at every instruction of every operation; survivors must lose nothing.
#[derive(Debug, Parser)]
struct Options {
    /// Least number of kill points, over all operations.
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    points: u64,
    /// Runs rings with this bug only; exit status 1 if it shows.
    #[arg(long, value_name = "NAME")]
    plant: Option<Plant>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.plant {
        Some(plant) => planted(plant),
        None => everything(options.points),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.root_cause().is::<NotPermitted>() => {
            println!("skipped: {}", error.root_cause());
            ExitCode::from(77)
        }
        Err(error) => {
            eprintln!("prove: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One planted bug; true if nothing came of it.
fn planted(plant: Plant) -> Result<bool> {
    let tally = Campaign::new()?.plant(Some(plant))?;
    print_heading("planted bug");
    print_row(plant.name(), &tally);
    print_violation(plant.name(), &tally);
    Ok(tally.violations == 0)
}

fn everything(points: u64) -> Result<bool> {
    let start = Instant::now();
    let campaign = Campaign::new()?;
    let operations = operations(&campaign, points)?;
    let others = pauses(&campaign, 1)? && sleepers(&campaign, 12)?;
    let plants = plants(&campaign)?;
    println!("{:.1} s", start.elapsed().as_secs_f64());
    Ok(operations && others && plants)
}

/// True if nothing was violated.
fn operations(campaign: &Campaign, points: u64) -> Result<bool> {
    print_heading("operation");
    let mut total = Tally::default();
    for operation in Operation::ALL {
        let tally = campaign.operation(operation, points.div_ceil(Operation::ALL.len() as u64))?;
        print_row(operation.name(), &tally);
        print_violation(operation.name(), &tally);
        total.add(&tally);
    }
    print_row("total", &total);
    Ok(total.violations == 0)
}

/// True if nothing was violated by who was paused and resumed, in so many
/// scenarios of each operation, and the control showed.
fn pauses(campaign: &Campaign, scenarios: usize) -> Result<bool> {
    println!();
    print_heading("paused, resumed");
    let mut violations = 0;
    for operation in pause::OPERATIONS {
        let tally = campaign.paused(operation, scenarios)?;
        print_row(operation.name(), &tally);
        print_violation(operation.name(), &tally);
        violations += tally.violations;
    }
    let control = campaign.paused_control()?;
    print_row("freed before copied", &control);
    print_violation("freed before copied", &control);
    Ok(violations == 0 && control.violations > 0)
}

/// True if nothing was violated when somebody was really killed, at so many
/// points of each operation, while somebody slept.
fn sleepers(campaign: &Campaign, points: usize) -> Result<bool> {
    println!();
    let mut random = tests::Random::new("prove");
    print_heading("killed, others asleep");
    let mut violations = 0;
    for operation in sleeper::OPERATIONS {
        let tally = campaign.slept(operation, points, &mut random)?;
        print_row(operation.name(), &tally);
        print_violation(operation.name(), &tally);
        violations += tally.violations;
    }
    Ok(violations == 0)
}

/// True if the control showed nothing and every planted bug was caught.
fn plants(campaign: &Campaign) -> Result<bool> {
    println!();
    print_heading("planted bug");
    let control = campaign.plant(None)?;
    print_row("none, as a control", &control);
    print_violation("none, as a control", &control);
    let mut caught = 0;
    let mut by = vec![];
    for plant in Plant::ALL {
        let tally = campaign.plant(Some(plant))?;
        print_row(plant.name(), &tally);
        if let Some(violation) = tally.first_violation {
            caught += 1;
            by.push((plant.name(), violation));
        }
    }
    println!();
    for (name, violation) in by {
        println!("{name} caught by: {violation}");
    }
    println!("planted bugs caught: {caught} of {}", Plant::ALL.len());
    Ok(control.violations == 0 && caught == Plant::ALL.len())
}

fn print_heading(what: &str) {
    println!(
        "{what:<22} {:>9} {:>11} {:>15} {:>10}",
        "scenarios", "kill points", "distinct images", "violations"
    );
}

fn print_row(what: &str, tally: &Tally) {
    let Tally { scenarios, points, images, violations, .. } = tally;
    println!("{what:<22} {scenarios:>9} {points:>11} {images:>15} {violations:>10}");
}

fn print_violation(what: &str, tally: &Tally) {
    if let Some(violation) = &tally.first_violation {
        println!("{what}: {violation}");
    }
}
