//! Cases that send one way from one sender.

use bench_kit::{Measure, Plan, Settings};

use super::{ONE_WAY, called, entry, everybody, floor, group, one_way, ours, rival, with_floors};
use crate::play::{Figure, Group};
use crate::report::Kind;
use crate::roster::Roster;
use crate::round::Cores;
use crate::table::bytes;
use crate::targets::{self, Tuning};

const FLOORS: [&str; 2] = ["record ring", "memcpy"];
/// Where a message of 1 MiB fits more than once.
const ROOM: u64 = 16 << 20;

pub(super) fn batches() -> Measure {
    Measure::OneWay { messages: 0, warmup: 0, batch: 64, work: 0 }
}

fn tuned(size: usize, measure: Measure, tuning: Tuning) -> Plan {
    let Settings { capacity, align, .. } = Settings::default();
    let (capacity, align) = (tuning.capacity.unwrap_or(capacity), tuning.align.unwrap_or(align));
    let settings = Settings { capacity, align, ..Settings::default() };
    Plan { measure, settings, ..one_way(size) }
}

pub(super) fn single(roster: &Roster) -> Vec<Group> {
    let mut groups = by_size(roster, "one_way", ONE_WAY, &[8, 64, 256, 1024, 4096, 16384, 65536], &FLOORS);
    let large = Tuning { capacity: Some(ROOM), align: None };
    let plan = tuned(1 << 20, ONE_WAY, large);
    groups.push(group(
        "one_way",
        large.text(),
        Figure::Rate,
        everybody(roster, &FLOORS, &plan, Cores::Pinned),
    ));
    let free = everybody(roster, &FLOORS, &one_way(64), Cores::Free);
    groups.push(group("one_way", "unpinned", Figure::Rate, free));
    groups
}

pub(super) fn batch(roster: &Roster) -> Vec<Group> {
    by_size(roster, "one_way_batch", batches(), &[8, 64, 1024], &["record ring", "u64 ring"])
}

/// Each size at the defaults, and with what its target names.
fn by_size(
    roster: &Roster,
    case: &'static str,
    measure: Measure,
    sizes: &[usize],
    floors: &[&str],
) -> Vec<Group> {
    let mut groups = Vec::new();
    for size in sizes {
        let target = targets::ALL.iter().find(|target| (target.case, target.size) == (case, *size));
        let mut tunings = vec![targets::NOTHING];
        tunings.extend(target.map(|target| target.tuning).filter(|tuning| *tuning != targets::NOTHING));
        for tuning in tunings {
            let entries = everybody(roster, floors, &tuned(*size, measure, tuning), Cores::Pinned);
            let group = group(case, tuning.text(), Figure::Rate, entries);
            groups.push(match target {
                Some(target) if target.tuning == tuning => rival("record ring", group),
                _ => group,
            });
        }
    }
    groups
}

pub(super) fn near_empty(_: &Roster) -> Vec<Group> {
    // The first has a target; more work shows where the lockstep ends.
    let works = [1, 2, 4, 16].map(|work| {
        let plan =
            Plan { measure: Measure::OneWay { messages: 0, warmup: 0, batch: 1, work }, ..one_way(64) };
        let text = if work == 1 { String::new() } else { format!("{work} pauses") };
        let group =
            group("near_empty", text, Figure::Rate, with_floors(&["record ring"], &plan, Cores::Pinned));
        if work == 1 { rival("record ring", group) } else { group }
    });
    works.into()
}

pub(super) fn steps(_: &Roster) -> Vec<Group> {
    let of = |capacity| tuned(64, ONE_WAY, Tuning { capacity: Some(capacity), align: None });
    let (small, large) = (of(128 << 10), of(1 << 20));
    let entries = vec![
        ours(&small, Cores::Pinned),
        called("ours, 1 MiB", ours(&large, Cores::Pinned)),
        floor("record ring", &small, Cores::Pinned),
        called("record ring, 1 MiB", floor("record ring", &large, Cores::Pinned)),
    ];
    vec![rival("ours, 1 MiB", group("one_way_128k_to_1m", "capacity 128 KiB", Figure::Rate, entries))]
}

pub(super) fn in_place(_: &Roster) -> Vec<Group> {
    let groups = [64, 4096, 65536, 1 << 20].map(|size| {
        let capacity = (size == 1 << 20).then_some(ROOM);
        let tuning = Tuning { capacity, align: None };
        let copied = tuned(size, ONE_WAY, tuning);
        let mut plan = copied.clone();
        plan.settings.in_place = true;
        let entries = vec![
            ours(&plan, Cores::Pinned),
            called("ours, copied", ours(&copied, Cores::Pinned)),
            floor("record ring", &copied, Cores::Pinned),
            floor("memcpy", &copied, Cores::Pinned),
            entry("iceoryx2", Kind::Peer, &plan, Cores::Pinned),
        ];
        let group = group("in_place", tuning.text(), Figure::Rate, entries);
        if size == 1 << 20 { rival("iceoryx2", group) } else { group }
    });
    groups.into()
}

pub(super) fn capacities(_: &Roster) -> Vec<Group> {
    let mut groups = Vec::new();
    for size in [64, 1024] {
        for shift in [14, 16, 17, 18, 19, 20, 22, 24, 26] {
            let plan = tuned(size, ONE_WAY, Tuning { capacity: Some(1 << shift), align: None });
            let entries = with_floors(&["record ring"], &plan, Cores::Pinned);
            let options = format!("capacity {}", bytes(1 << shift));
            groups.push(group("capacities", options, Figure::Rate, entries));
        }
    }
    groups
}

pub(super) fn alignments(_: &Roster) -> Vec<Group> {
    let groups = [8, 56, 64, 100].map(|size| {
        let of =
            |align| ours(&tuned(size, ONE_WAY, Tuning { capacity: None, align: Some(align) }), Cores::Pinned);
        let entries = vec![
            called("ours", of(16)),
            called("ours, align 8", of(8)),
            called("ours, align 64", of(64)),
            floor("record ring", &one_way(size), Cores::Pinned),
        ];
        group("alignments", "", Figure::Rate, entries)
    });
    groups.into()
}
