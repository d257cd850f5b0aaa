//! The model of the sleep word with a part left out.

use tests::store_buffer::{FIRST, SECOND, Scenario, Twin, two_messages, two_producers, wanted_head};

use super::Plant;
use crate::prove::watch::Tally;

/// Goes through all states of scenarios in which the bug shows.
pub(super) fn run(plant: Option<Plant>) -> Tally {
    let mut tally = Tally::default();
    for (name, scenario) in scenarios(plant) {
        let explored = scenario.explore();
        let first_violation = (explored.lost > 0).then(|| format!("{name}: {explored}"));
        tally.add(&Tally {
            scenarios: 1,
            points: 0,
            images: explored.states as u64,
            violations: explored.lost as u64,
            first_violation,
        });
    }
    tally
}

fn scenarios(plant: Option<Plant>) -> Vec<(&'static str, Scenario)> {
    let messages = || ("two messages", two_messages().registered([FIRST]));
    let producers = || ("two producers", two_producers().registered([FIRST, SECOND]));
    let head = || ("a head that is waited for", wanted_head().registered([FIRST]));
    let without = |(name, scenario): (_, Scenario), twin| (name, scenario.twin(twin));
    let fenced = |(name, scenario): (_, Scenario), twin| (name, scenario.without_barrier().twin(twin));
    match plant {
        Some(Plant::NoBarrier) => {
            vec![without(messages(), Twin::NoBarrier), without(head(), Twin::NoBarrier)]
        }
        Some(Plant::NoSecondLook) => {
            vec![without(messages(), Twin::NoSecondLook), without(head(), Twin::NoSecondLook)]
        }
        Some(Plant::FenceBitIgnored) => {
            let twin = Twin::NoFenceForSleeper;
            vec![fenced(messages(), twin), fenced(head(), twin)]
        }
        // Of two messages of one producer the second would wake for the first.
        Some(Plant::PublishBeforeRegistering) => {
            let (name, scenario) = producers();
            vec![(name, scenario.before_registering())]
        }
        _ => vec![
            messages(),
            producers(),
            head(),
            fenced(messages(), Twin::Sound),
            fenced(head(), Twin::Sound),
        ],
    }
}
