//! Messages while a program beside them uses a core.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use bench_kit::{Outcome, Plan};

use super::child::{Side, tell};
use super::{result, series, skipped};
use crate::contestant::{Contestant, built_in};
use crate::report::{CaseResult, Kind, Series};
use crate::round::{self, Cores};

pub(super) const SIDE: &str = "hog";
const SIZE: usize = 64;

/// A process that uses a core, until it is dropped.
#[derive(Debug)]
pub(super) struct Hog(#[expect(dead_code, reason = "ends when it is dropped")] Side);

impl Hog {
    pub(super) fn start() -> Result<Hog> {
        let mut side = Side::start(SIDE, &[])?;
        let line = side.line()?;
        ensure!(line == "ready", "not {line:?}");
        Ok(Hog(side))
    }
}

pub(super) fn play() -> Result<()> {
    tell("ready")?;
    let mut count = 0u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Ours, the hand-written ring, and who leaves the waiting to the kernel.
pub(super) fn loaded_to_quiet(quick: bool) -> Result<Vec<CaseResult>> {
    let of = [("ours", Kind::Ours), ("record ring", Kind::Floor), ("pipe", Kind::Peer)];
    loaded_to_quiet_of(&of.map(|(name, kind)| (built_in(name), kind)), quick).map(|result| vec![result])
}

/// Each of them beside a hog, and without, in turn and on cores as the system
/// likes. Ours, if it is there, is to be the first.
pub(super) fn loaded_to_quiet_of(of: &[(Contestant, Kind)], quick: bool) -> Result<CaseResult> {
    let (rounds, time) =
        if quick { (3, Duration::from_millis(50)) } else { (15, Duration::from_millis(400)) };
    let mut all = Vec::new();
    let mut plans = Vec::new();
    for (contestant, kind) in of {
        let plan = fitting(contestant, time).map_err(|e| format!("{e:#}"));
        for who in [contestant.name.to_owned(), format!("{}, quiet", contestant.name)] {
            all.push(match &plan {
                Ok(_) => series(&who, *kind, Vec::new()),
                Err(why) => skipped(&who, *kind, why.clone()),
            });
        }
        plans.push(plan);
    }
    for round in 0..rounds {
        for ((contestant, _), (plan, pair)) in of.iter().zip(plans.iter().zip(all.chunks_mut(2))) {
            let Ok(plan) = plan else { continue };
            // Whoever was first is second in the next round.
            for at in [round % 2, 1 - round % 2] {
                if pair.iter().all(|series| series.skipped.is_none()) {
                    let _hog = if at == 0 { Some(Hog::start()?) } else { None };
                    add(&mut pair[at], round::play(contestant, plan, Cores::Free));
                }
            }
        }
    }
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    let options = format!("unpinned, one hog on {cores} cores");
    Ok(CaseResult { size: SIZE, more_is_better: true, ..result("loaded_to_quiet", options, "M/s", all) })
}

/// As many messages as take about that time while nothing else is there.
fn fitting(contestant: &Contestant, time: Duration) -> Result<Plan> {
    let mut messages = 10_000;
    loop {
        let found = round::play(contestant, &round::one_way(SIZE, messages), Cores::Free)?;
        let took = Duration::from_nanos(found.nanos.max(1));
        if took >= time / 4 {
            messages = (messages as f64 * time.as_secs_f64() / took.as_secs_f64()) as u64;
            return Ok(round::one_way(SIZE, messages.max(1)));
        }
        messages *= 4;
    }
}

fn add(series: &mut Series, played: Result<Outcome>) {
    match played {
        Ok(outcome) => {
            series.rounds.push(outcome.messages as f64 * 1e3 / outcome.nanos.max(1) as f64);
            series.lost += outcome.lost;
            series.wrong += outcome.wrong;
        }
        Err(e) => series.skipped = Some(format!("{e:#}")),
    }
}

/// Messages with a sum over their bytes.
pub(super) fn checked(_quick: bool) -> Result<Vec<CaseResult>> {
    let why = "regions have no checked messages: format 1.0 has no place for a sum".to_owned();
    let on = skipped("ours, checked", Kind::Ours, why);
    Ok(vec![result("checked", "on and off".to_owned(), "M/s", vec![on])])
}
