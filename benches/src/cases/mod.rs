//! What can be measured, by the name that `--case` takes.

mod many;
mod one_way;
mod trips;

use bench_kit::{Measure, Plan};

use crate::play::{Entry, Figure, Group};
use crate::report::Kind;
use crate::roster::Roster;
use crate::round::{self, Cores};

/// A case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    /// What it is, in a line.
    pub(crate) about: &'static str,
    /// Whom ours is divided by in rows that have no target.
    pub(crate) reference: Option<&'static str>,
    pub(crate) way: Way,
}

/// How a case is measured.
#[derive(Debug)]
pub(crate) enum Way {
    /// In rounds of processes that send messages.
    Rounds(fn(&Roster) -> Vec<Group>),
    /// In a way of its own.
    Special,
}

const fn rounds(
    id: &'static str,
    about: &'static str,
    reference: Option<&'static str>,
    groups: fn(&Roster) -> Vec<Group>,
) -> Case {
    Case { id, about, reference, way: Way::Rounds(groups) }
}

const fn special(id: &'static str, about: &'static str, reference: Option<&'static str>) -> Case {
    Case { id, about, reference, way: Way::Special }
}

/// All of them, in the order in which they are measured.
pub(crate) const ALL: &[Case] = &[
    rounds("floors", "ours beside what the machine gives, without peers", None, trips::floors),
    rounds("round_trip", "a message there and back, 8 to 1024 bytes", Some("cache line"), trips::round_trip),
    rounds(
        "one_way",
        "messages one way, each for itself, 8 bytes to 1 MiB",
        Some("record ring"),
        one_way::single,
    ),
    rounds("one_way_batch", "the same in batches of 64", Some("record ring"), one_way::batch),
    rounds(
        "near_empty",
        "a sender with a pause of work before each message",
        Some("record ring"),
        one_way::near_empty,
    ),
    rounds(
        "one_way_128k_to_1m",
        "a ring of 128 KiB against one of 1 MiB",
        Some("ours, 1 MiB"),
        one_way::steps,
    ),
    rounds("in_place", "messages written and read where they are", Some("iceoryx2"), one_way::in_place),
    rounds(
        "capacities",
        "one way through rings of 16 KiB to 64 MiB",
        Some("record ring"),
        one_way::capacities,
    ),
    rounds(
        "alignments",
        "one way with records at multiples of 8, 16 and 64",
        Some("record ring"),
        one_way::alignments,
    ),
    rounds("producers", "1 to 16 senders to one receiver", Some("CAS ring"), many::producers),
    rounds(
        "producers_4_to_cas",
        "4 senders against a bare ring that they share",
        Some("CAS ring"),
        many::four,
    ),
    rounds("producers_8_to_1", "8 senders against 1", Some("ours, 1 producer"), many::eight),
    rounds(
        "total_order",
        "what one order for all senders costs",
        Some("ours, total order"),
        many::total_order,
    ),
    rounds(
        "idle_lanes",
        "what lanes cost that nobody sends in, 0 to 1023",
        Some("ours, 1023 idle"),
        many::idle_lanes,
    ),
    rounds("one_core", "both processes on one core", Some("record ring"), trips::one_core),
    rounds("wake", "a message to a receiver that sleeps", Some("futex wake"), trips::wake),
    special("idle_cpu_percent", "processor time of a receiver that waits", None),
    special("loaded_to_quiet", "one way while something else uses the processor", Some("ours, quiet")),
    special("attach_1gib", "opening a region of 1 GiB and attaching to it", Some("bare open+mmap")),
    special("attach", "the same with 1 MiB to 64 GiB", Some("bare open+mmap")),
    special("checked", "what a sum over each message costs", Some("ours, checked")),
    special("memory", "memory and page faults of 1 and 10 processes", None),
    special("fast_path_syscalls", "system calls for a message while nobody sleeps", None),
    special("fast_path_allocs", "allocations for a message", None),
];

/// The case of that name.
pub(crate) fn find(id: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.id == id)
}

const ONE_WAY: Measure = Measure::OneWay { messages: 0, warmup: 0, batch: 1, work: 0 };

fn one_way(size: usize) -> Plan {
    round::one_way(size, 0)
}

fn round_trip(size: usize) -> Plan {
    round::round_trip(size, 0)
}

/// That contestant under its own name.
fn entry(name: &str, kind: Kind, plan: &Plan, cores: Cores) -> Entry {
    Entry { who: name.to_owned(), name: name.to_owned(), kind, plan: plan.clone(), cores }
}

fn ours(plan: &Plan, cores: Cores) -> Entry {
    entry("ours", Kind::Ours, plan, cores)
}

fn floor(name: &str, plan: &Plan, cores: Cores) -> Entry {
    entry(name, Kind::Floor, plan, cores)
}

/// The same under another name.
fn called(who: impl Into<String>, entry: Entry) -> Entry {
    Entry { who: who.into(), ..entry }
}

/// Ours and those floors.
fn with_floors(floors: &[&str], plan: &Plan, cores: Cores) -> Vec<Entry> {
    let floors = floors.iter().map(|name| floor(name, plan, cores));
    [ours(plan, cores)].into_iter().chain(floors).collect()
}

/// Ours, those floors, and all others.
fn everybody(roster: &Roster, floors: &[&str], plan: &Plan, cores: Cores) -> Vec<Entry> {
    let others = roster.others().map(|known| entry(known.name, known.kind, plan, cores));
    with_floors(floors, plan, cores).into_iter().chain(others).collect()
}

fn group(case: &'static str, options: impl Into<String>, figure: Figure, entries: Vec<Entry>) -> Group {
    let size = entries[0].plan.size;
    Group { case, size, options: options.into(), figure, entries, rival: None }
}

/// With whom ours is compared in more rounds.
fn rival(name: &'static str, group: Group) -> Group {
    Group { rival: Some(name), ..group }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{roster, targets};

    fn all_groups() -> Vec<Group> {
        let roster = Roster::new(roster::built_in(), None).unwrap();
        let groups = |case: &Case| match case.way {
            Way::Rounds(groups) => groups(&roster),
            Way::Special => Vec::new(),
        };
        ALL.iter().flat_map(groups).collect()
    }

    #[test]
    fn names_are_unique_and_so_is_each_row() {
        let ids: HashSet<_> = ALL.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), ALL.len());
        let mut rows = HashSet::new();
        for group in all_groups() {
            assert!(rows.insert((group.case, group.size, group.options.clone())), "twice: {group:?}");
        }
    }

    #[test]
    fn what_is_not_played_in_rounds_is_measured_in_a_way_of_its_own() {
        for case in ALL.iter().filter(|case| matches!(case.way, Way::Special)) {
            assert!(crate::special::ALL.iter().any(|(id, _)| *id == case.id), "{}", case.id);
        }
    }

    #[test]
    fn ours_comes_first_and_nobody_twice() {
        for group in all_groups() {
            assert_eq!((group.entries[0].who.as_str(), group.entries[0].kind), ("ours", Kind::Ours));
            let names: HashSet<_> = group.entries.iter().map(|entry| &entry.who).collect();
            assert_eq!(names.len(), group.entries.len(), "{group:?}");
            assert!(group.entries.iter().all(|entry| entry.plan.size == group.size), "{group:?}");
        }
    }

    #[test]
    fn each_target_is_measured_beside_its_reference() {
        let groups = all_groups();
        for target in targets::ALL {
            let case = find(target.case).expect(target.case);
            let Way::Rounds(_) = case.way else { continue };
            let text = target.tuning.text();
            let group = groups
                .iter()
                .find(|group| {
                    let is_it = text.is_empty() || group.options == text;
                    (group.case, group.size) == (target.case, target.size) && is_it
                })
                .unwrap_or_else(|| panic!("{target:?} has no group"));
            let reference = target.reference.unwrap();
            assert!(group.entries.iter().any(|entry| entry.who == reference), "{target:?}");
            assert_eq!(group.rival, target.reference, "{target:?} has no further rounds");
        }
    }

    #[test]
    fn only_one_way_may_name_options_for_its_target_and_stands_beside_the_defaults() {
        let groups = all_groups();
        for target in targets::ALL.iter().filter(|target| target.tuning != targets::NOTHING) {
            assert!(target.case.starts_with("one_way"), "{target:?}");
            let default = groups.iter().find(|group| (group.case, group.size) == (target.case, target.size));
            let default = default.unwrap();
            assert_eq!(default.options, "");
            assert_eq!(default.entries[0].plan.settings, bench_kit::Settings::default());
        }
    }
}
