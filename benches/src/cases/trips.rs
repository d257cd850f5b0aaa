//! Cases that time each message.

use bench_kit::{Measure, Plan};

use super::{entry, everybody, group, one_way, ours, rival, with_floors};
use crate::play::{Entry, Figure, Group};
use crate::report::Kind;
use crate::roster::Roster;
use crate::round::Cores;
use crate::targets;

/// Between two messages to a sleeper, in microseconds: long enough to be asleep.
const SLEEP: u64 = 500;

pub(super) fn round_trip(roster: &Roster) -> Vec<Group> {
    let floors = ["cache line", "record ring"];
    let pinned = [8, 48, 56, 64, 256, 1024].map(|size| {
        let entries = everybody(roster, &floors, &super::round_trip(size), Cores::Pinned);
        let group = group("round_trip", "", Figure::HalfNanos, entries);
        let has_target = targets::ALL.iter().any(|target| (target.case, target.size) == ("round_trip", size));
        if has_target { rival("cache line", group) } else { group }
    });
    let free = everybody(roster, &floors, &super::round_trip(64), Cores::Free);
    let free = group("round_trip", "unpinned", Figure::HalfNanos, free);
    pinned.into_iter().chain([free]).collect()
}

pub(super) fn wake(roster: &Roster) -> Vec<Group> {
    let plan = wake_plan(64);
    let all = |cores| everybody(roster, &["futex wake"], &plan, cores);
    vec![
        rival("futex wake", group("wake", "", Figure::HalfMicros, all(Cores::Pinned))),
        group("wake", "unpinned", Figure::HalfMicros, all(Cores::Free)),
    ]
}

fn wake_plan(size: usize) -> Plan {
    Plan { measure: Measure::Wake { messages: 0, every: SLEEP }, ..one_way(size) }
}

pub(super) fn one_core(roster: &Roster) -> Vec<Group> {
    let all = |plan: &Plan| -> Vec<Entry> { everybody(roster, &["record ring"], plan, Cores::One) };
    vec![
        group("one_core", "one way", Figure::Rate, all(&one_way(64))),
        group("one_core", "round trip", Figure::HalfNanos, all(&super::round_trip(64))),
    ]
}

pub(super) fn floors(_: &Roster) -> Vec<Group> {
    let pinned = Cores::Pinned;
    let mut groups = vec![group(
        "floors",
        "round trip",
        Figure::HalfNanos,
        with_floors(&["cache line", "record ring"], &super::round_trip(8), pinned),
    )];
    let batch = Plan { measure: super::one_way::batches(), ..one_way(8) };
    let numbers = vec![
        ours(&batch, pinned),
        entry("u64 ring", Kind::Floor, &batch, pinned),
        entry("record ring", Kind::Floor, &batch, pinned),
    ];
    groups.push(group("floors", "one way, batches of 64", Figure::Rate, numbers));
    for size in [64, 1024, 65536] {
        let entries = with_floors(&["record ring", "CAS ring", "memcpy"], &one_way(size), pinned);
        groups.push(group("floors", "one way", Figure::Rate, entries));
    }
    let entries = with_floors(&["futex wake"], &wake_plan(64), pinned);
    groups.push(group("floors", "wake", Figure::HalfMicros, entries));
    groups
}
