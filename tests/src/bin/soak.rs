//! Minutes of producers and consumers that come, stop, go and are killed at
//! random, and an independent judge of what they wrote down: see the module.
//!
//! Exit status: 0 all was as promised; 1 it was not, and stderr says what.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use tests::Random;

#[path = "../soak/mod.rs"]
mod soak;

use soak::{Consume, Produce, Transcripts, Verdict, consume, judge, play, produce};

/// Producers and consumers that come, stop, go and are killed at random.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// How long. In no time nothing would be shown.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Repeats a plan. Usually there is a new one each time.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Keeps the transcripts in this folder, which is made.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Part>,
}

/// What the processes of a run are started as, and the judge alone.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// One of the producers.
    #[command(hide = true)]
    Produce(Produce),
    /// One of the consumers.
    #[command(hide = true)]
    Consume(Consume),
    /// Judges the transcripts of one round once more.
    Judge {
        /// Where they are.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.role {
        None => run(&options),
        Some(Part::Produce(options)) => produce(options),
        Some(Part::Consume(options)) => match consume(options) {
            Ok(false) => return ExitCode::from(soak::LEFT),
            received => received.map(drop),
        },
        Some(Part::Judge { folder }) => judge_folder(folder).map(|verdict| println!("{verdict}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn judge_folder(folder: &Path) -> Result<Verdict> {
    judge(&Transcripts::read(folder)?)
}

/// Round after round.
fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| Random::seed("soak"));
    println!("soak: --seed {seed}");
    let temporary = tempfile::tempdir()?;
    if let Some(kept) = &options.keep {
        std::fs::create_dir_all(kept).with_context(|| format!("{}", kept.display()))?;
    }
    let folder = options.keep.as_deref().unwrap_or(temporary.path());
    let mut all = Verdict::default();
    let (mut starts, mut kills, mut stops) = (0, 0, 0);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    for round in 0.. {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            println!("{round} rounds: {starts} starts, {kills} kills, {stops} stops; {all}");
            break;
        }
        let folder = folder.join(format!("round-{round}"));
        // Never upon what another run left.
        std::fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        let judged = play(&folder, seed, round, left).and_then(|deeds| {
            starts += deeds.starts;
            kills += deeds.kills;
            stops += deeds.stops;
            judge_folder(&folder)
        });
        match judged {
            Ok(verdict) => all += verdict,
            Err(error) => {
                let kept = if options.keep.is_some() { folder } else { temporary.keep() };
                let about = format!("round {round} of --seed {seed}; all is in {}", kept.display());
                return Err(error).context(about);
            }
        }
        if options.keep.is_none() {
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}
