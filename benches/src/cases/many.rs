//! Cases with several senders or several lanes.

use std::thread::available_parallelism;

use bench_kit::{Plan, Settings};

use super::{called, everybody, group, one_way, ours, rival, round_trip, with_floors};
use crate::play::{Figure, Group};
use crate::roster::Roster;
use crate::round::Cores;

fn with_senders(senders: u32) -> Plan {
    Plan { settings: Settings { senders, ..Settings::default() }, ..one_way(64) }
}

/// With a core for each process they stay on it. Where there are fewer, the
/// system moves them, as it would in daily use.
fn cores_for(senders: u32) -> (Cores, &'static str) {
    let count = available_parallelism().map_or(1, |count| count.get());
    if (senders as usize) < count { (Cores::Pinned, "") } else { (Cores::Free, "unpinned") }
}

/// The words that are not empty.
fn words(parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

pub(super) fn producers(roster: &Roster) -> Vec<Group> {
    let groups = [1, 2, 4, 8, 12, 16].map(|senders| {
        let (cores, pinning) = cores_for(senders);
        let floors: &[&str] = if senders == 1 { &["CAS ring", "record ring"] } else { &["CAS ring"] };
        let text = format!("{senders} producer{}", if senders == 1 { "" } else { "s" });
        let entries = everybody(roster, floors, &with_senders(senders), cores);
        group("producers", words(&[&text, pinning]), Figure::Rate, entries)
    });
    groups.into()
}

pub(super) fn four(_: &Roster) -> Vec<Group> {
    let (cores, pinning) = cores_for(4);
    let entries = with_floors(&["CAS ring"], &with_senders(4), cores);
    vec![rival(
        "CAS ring",
        group("producers_4_to_cas", words(&["4 producers", pinning]), Figure::Rate, entries),
    )]
}

pub(super) fn eight(_: &Roster) -> Vec<Group> {
    let (cores, pinning) = cores_for(8);
    let entries =
        vec![ours(&with_senders(8), cores), called("ours, 1 producer", ours(&with_senders(1), cores))];
    let options = words(&["8 producers", pinning]);
    vec![rival("ours, 1 producer", group("producers_8_to_1", options, Figure::Rate, entries))]
}

pub(super) fn total_order(_: &Roster) -> Vec<Group> {
    let groups = [1, 4].map(|senders| {
        let (cores, pinning) = cores_for(senders);
        let fifo = with_senders(senders);
        let mut total = fifo.clone();
        total.settings.total_order = true;
        let entries = vec![ours(&fifo, cores), called("ours, total order", ours(&total, cores))];
        let text = if senders == 1 { "" } else { "4 producers" };
        group("total_order", words(&[text, pinning]), Figure::Rate, entries)
    });
    groups.into()
}

pub(super) fn idle_lanes(_: &Roster) -> Vec<Group> {
    let settings = |idle_lanes| Settings { idle_lanes, capacity: 64 << 10, ..Settings::default() };
    let of = |plan: Plan, figure, way: &str| {
        let with = |idle| ours(&Plan { settings: settings(idle), ..plan.clone() }, Cores::Pinned);
        // With the sender's own there are 1024.
        let idle = [1, 16, 64, 256, 1023].map(|idle| called(format!("ours, {idle} idle"), with(idle)));
        let entries = [with(0)].into_iter().chain(idle).collect();
        group("idle_lanes", words(&[way, "capacity 64 KiB"]), figure, entries)
    };
    vec![of(one_way(64), Figure::Rate, "one way"), of(round_trip(64), Figure::HalfNanos, "round trip")]
}
