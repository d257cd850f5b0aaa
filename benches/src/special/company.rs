//! Messages while something else is there: a program that uses a core, lanes
//! that nobody sends in, an order over all lanes.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bench_kit::{Plan, Settings};

use super::child::{Side, tell};
use super::{Entry, bytes, cores, in_turn, place, result, skipped, spare_bytes};
use crate::contestant::{Contestant, built_in};
use crate::report::{CaseResult, Kind};
use crate::round;

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

/// Ours and the hand-written ring.
pub(super) fn loaded_to_quiet(quick: bool) -> Result<Vec<CaseResult>> {
    let floor = (built_in("record ring"), Kind::Floor);
    Ok(vec![loaded_to_quiet_of(&[(built_in("ours"), Kind::Ours), floor], quick)?])
}

/// Each of them beside a hog, and then without; ours, if it is there, first.
pub(crate) fn loaded_to_quiet_of(of: &[(Contestant, Kind)], quick: bool) -> Result<CaseResult> {
    let (messages, rounds) = if quick { (1_000_000, 2) } else { (10_000_000, 9) };
    let entries: Vec<Entry> = of
        .iter()
        .flat_map(|(contestant, kind)| {
            [(1, contestant.name.to_owned()), (0, format!("{}, quiet", contestant.name))].map(
                |(hogs, who)| {
                    let plan = round::one_way(SIZE, messages);
                    Entry { who, kind: *kind, contestant: contestant.clone(), plan, hogs }
                },
            )
        })
        .collect();
    let options = format!("unpinned, one hog on {} cores", cores());
    in_turn("loaded_to_quiet", &options, &entries, rounds)
}

/// Lanes that somebody is attached to and nobody sends in.
pub(super) fn idle_lanes(quick: bool) -> Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for (what, plan) in plans(quick) {
        // A round trip has a region each way, each with those lanes.
        let regions = if what == "round trip" { 2 } else { 1 };
        let mut entries = Vec::new();
        let mut missing = Vec::new();
        let spare = spare_bytes(place()?.path())?;
        for idle_lanes in [0, 64, 1023u32] {
            let who =
                if idle_lanes == 0 { "ours".to_owned() } else { format!("ours, {idle_lanes} idle lanes") };
            let settings = Settings { idle_lanes, ..Settings::default() };
            let needed = regions * settings.capacity * (idle_lanes as u64 + 1);
            let plan = Plan { settings, ..plan.clone() };
            if needed > spare {
                let why = format!("{} are needed, {} may be taken here", bytes(needed), bytes(spare));
                missing.push(skipped(&who, Kind::Ours, why));
                continue;
            }
            entries.push(Entry { who, kind: Kind::Ours, contestant: built_in("ours"), plan, hogs: 0 });
        }
        let mut result = in_turn("idle_lanes", &format!("{what}, unpinned"), &entries, rounds(quick))?;
        result.series.extend(missing);
        results.push(result);
    }
    Ok(results)
}

/// All messages in the order of their sends, and those of each producer only.
pub(super) fn total_order(quick: bool) -> Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for (what, plan) in plans(quick) {
        for senders in [1, 2, 4] {
            if what == "round trip" && senders > 1 {
                continue;
            }
            let entries = [(true, "ours, total order"), (false, "ours")].map(|(total_order, who)| {
                let settings = Settings { senders, total_order, ..Settings::default() };
                let plan = Plan { settings, ..plan.clone() };
                let contestant = built_in("ours");
                Entry { who: who.to_owned(), kind: Kind::Ours, contestant, plan, hogs: 0 }
            });
            let options = format!("{what}, producers={senders}, unpinned");
            results.push(in_turn("total_order", &options, &entries, rounds(quick))?);
        }
    }
    Ok(results)
}

/// Messages with a sum over their bytes.
pub(super) fn checked(_quick: bool) -> Result<Vec<CaseResult>> {
    let why = "regions have no checked messages: format 1.0 has no place for a sum".to_owned();
    let on = skipped("ours, checked", Kind::Ours, why);
    Ok(vec![result("checked", "on and off".to_owned(), "M/s", vec![on])])
}

fn plans(quick: bool) -> [(&'static str, Plan); 2] {
    let (messages, trips) = if quick { (1_000_000, 50_000) } else { (5_000_000, 200_000) };
    [("one way", round::one_way(SIZE, messages)), ("round trip", round::round_trip(SIZE, trips))]
}

fn rounds(quick: bool) -> usize {
    if quick { 2 } else { 9 }
}
