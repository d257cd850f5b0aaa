//! Kills a process at every instruction of every operation and shows that the
//! survivors find the lanes as they were before the operation or as they are
//! after it; where an operation is several, after so many of them. Then variants
//! of that, and rings with planted bugs, which must all be caught.
//!
//! Exit status: 0 nothing was violated and every planted bug was caught; 1
//! otherwise; 77 tracing is not permitted here.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;

#[path = "../prove/mod.rs"]
mod prove;

use prove::campaign::{Campaign, Form, ROWS};
use prove::pairs::PAIRS;
use prove::plant::Plant;
use prove::report::{Bug, Report, Section};
use prove::trace::NotPermitted;
use prove::{pause, sleeper};
use tests::Random;

/// Kills at every instruction of every operation; survivors must lose nothing.
#[derive(Debug, Parser)]
struct Options {
    /// A tenth of the kill points, in a minute.
    #[arg(long)]
    short: bool,
    /// Least number of kill points, over all operations; default: a million, or with
    /// `--short` a hundred thousand.
    #[arg(long, value_name = "N")]
    points: Option<u64>,
    /// Runs rings with this bug only; exit status 1 if it shows.
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    plant: Option<Plant>,
    /// Writes what was found to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn form(&self) -> Form {
        let usual = if self.short { 100_000 } else { 1_000_000 };
        Form { is_short: self.short, points: self.points.unwrap_or(usual) }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.plant {
        Some(plant) => planted(&options, plant),
        None => everything(&options),
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
fn planted(options: &Options, plant: Plant) -> Result<bool> {
    let tally = Campaign::new(options.form())?.plant(Some(plant))?;
    let mut section = Section::new("planted bug");
    section.add(plant.name(), tally);
    Ok(section.total().violations == 0)
}

fn everything(options: &Options) -> Result<bool> {
    let start = Instant::now();
    // Not after minutes.
    let create = |path: &PathBuf| File::create(path).with_context(|| format!("{}", path.display()));
    let json = options.json.as_ref().map(create).transpose()?;
    let campaign = Campaign::new(options.form())?;

    let mut operations = Section::new("operation");
    operations.add("create", campaign.create()?);
    for (name, parts) in ROWS {
        operations.add(name, campaign.row(parts)?);
    }
    operations.print_total();

    let mut variants = Section::new("two dead");
    variants.add("create, then create", campaign.create_twice()?);
    for (i, (first, second)) in PAIRS.into_iter().enumerate() {
        variants.add(&format!("{}, then {}", first.name(), second.name()), campaign.pair(i)?);
    }
    variants.begin("paused, then continued");
    for operation in pause::OPERATIONS {
        variants.add(&format!("{}, paused", operation.name()), campaign.paused(operation)?);
    }
    println!();
    let mut random = Random::new("prove");
    variants.begin("killed, others asleep");
    for operation in sleeper::OPERATIONS {
        variants.add(&format!("{}, sleeper", operation.name()), campaign.slept(operation, &mut random)?);
    }
    variants.print_total();

    let mut plants = Section::new("planted bug");
    let control = campaign.plant(None)?;
    plants.add("none, as a control", control.clone());
    let mut bugs = vec![];
    for plant in Plant::ALL {
        let tally = campaign.plant(Some(plant))?;
        let caught_by = tally.first_violation.as_ref().map(|v| format!("{}: {v}", plant.ground().name()));
        bugs.push(Bug { name: plant.name().into(), caught_by });
        plants.add(plant.name(), tally);
    }

    let report = Report::new(operations, variants, &control, bugs);
    report.print();
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &report)?;
    }
    Ok(report.holds())
}
