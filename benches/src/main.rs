//! Our ring beside its peers and the floors of the machine: see `--help`, and
//! docs/BENCHMARKS.md.

mod args;
mod cases;
mod contestant;
#[cfg(test)]
mod exchange;
mod floors;
mod json;
mod kernel;
mod machine;
mod ours;
mod peers;
mod play;
mod plot;
mod report;
mod roster;
mod round;
mod special;
mod table;
mod targets;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Parser;

use args::Args;
use cases::{Case, Way};
use play::{Pace, Player};
use report::{CaseResult, Kind};
use roster::Roster;

/// A message of ours was lost or wrong.
const WRONG: u8 = 1;
/// It could not go on.
const FAILED: u8 = 2;

/// The cases that are not played in rounds.
fn special(case: &str, quick: bool) -> Result<Vec<CaseResult>> {
    let found = special::ALL.iter().find(|(id, _)| *id == case);
    let (_, measure) = found.with_context(|| format!("nothing measures {case}"))?;
    measure(quick)
}

fn main() -> ExitCode {
    let side = if contestant::is_side() { Some(contestant::play()) } else { special::play() };
    let done = match side {
        Some(played) => played.map(|()| true),
        None => measure(&Args::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => WRONG.into(),
        Err(error) => {
            eprintln!("benches: {error:#}");
            FAILED.into()
        }
    }
}

/// Measures what was asked for; false if a message of ours was lost or wrong.
fn measure(args: &Args) -> Result<bool> {
    if args.list {
        print!("{}", args::list());
        return Ok(true);
    }
    if let Some(path) = &args.json {
        json::check(path)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let asked = args.peers();
    let all = roster::built_in().into_iter().chain(roster::peers()).collect();
    let roster = Roster::new(all, asked.as_deref())?;
    let pace = Pace::of(args.quick);
    print_head(&roster, pace);

    let player = Player { roster: &roster, pace, round: &round::play, stop: &stop };
    let (mut results, mut failures) = (Vec::new(), HashMap::new());
    let cases = args.cases();
    for case in &cases {
        if let Err(error) = measure_case(case, &player, args.quick, &mut results) {
            // Who was told to stop has no more to show.
            player.go_on()?;
            println!("{}: not measured: {error:#}\n", case.id);
            failures.insert(case.id, format!("{error:#}"));
        }
    }

    let rows = targets::rows(&cases, &results, |case| failures.get(case).cloned());
    println!("targets, of {} rounds\n{}", pace.rival_rounds, table::of_targets(&rows));
    if let Some(path) = &args.json {
        json::write(path, &rows)?;
    }
    if let Some(folder) = &args.plot {
        for path in plot::write(&results, folder, &machine::in_a_line())? {
            println!("{}", path.display());
        }
    }
    let ours = results.iter().flat_map(|result| &result.series).filter(|series| series.kind == Kind::Ours);
    let bad: u64 = ours.map(|series| series.lost + series.wrong).sum();
    if bad > 0 {
        eprintln!("benches: {bad} messages of ours were lost or wrong");
    }
    Ok(bad == 0)
}

/// Adds what a case gives, and prints it as it comes.
fn measure_case(case: &Case, player: &Player, quick: bool, results: &mut Vec<CaseResult>) -> Result<()> {
    let mut add = |result: CaseResult| {
        println!("{}", table::of(&result));
        results.push(result);
    };
    match case.way {
        Way::Rounds(groups) => {
            for group in groups(player.roster) {
                add(player.play(&group)?);
            }
        }
        Way::Special => special(case.id, quick)?.into_iter().for_each(&mut add),
    }
    Ok(())
}

/// What the figures depend on: the machine, how it is measured, and how everybody
/// is set up.
fn print_head(roster: &Roster, pace: Pace) {
    for line in machine::lines() {
        println!("{line}");
    }
    println!(
        "rounds: {} of each contestant, {} of those that a target compares, about {} ms each\n",
        pace.rounds,
        pace.rival_rounds,
        pace.round.as_millis()
    );
    let plan = round::one_way(64, 1);
    for known in roster.all() {
        let contestant = known.contestant.as_ref().map_err(|why| anyhow::anyhow!("cannot be built: {why}"));
        let what = contestant.and_then(|contestant| round::describe(contestant, &plan));
        println!("{}: {}", known.name, what.unwrap_or_else(|error| format!("skipped: {error:#}")));
    }
    println!();
}
