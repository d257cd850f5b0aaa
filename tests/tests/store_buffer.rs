//! No wake-up is lost on a machine with store buffers, and each part of the
//! handshake that is left out is found: see `tests::store_buffer`.

use std::time::Duration;

use shmring::internals::ring::sleep::{Announced, rise, sleep};
use tests::store_buffer::*;

/// How many ends of the scenario lost a wake-up.
fn lost(name: &str, scenario: Scenario) -> usize {
    let explored = scenario.explore();
    println!("{name}: {explored}");
    explored.lost
}

#[test]
fn no_wake_up_of_a_registered_waker_is_lost() {
    assert_eq!(lost("two messages", two_messages().registered([FIRST])), 0);
}

#[test]
fn no_wake_up_of_two_registered_wakers_is_lost() {
    assert_eq!(lost("two producers", two_producers().registered([FIRST, SECOND])), 0);
    assert_eq!(lost("two producers, three messages", three_messages().registered([FIRST, SECOND])), 0);
}

#[test]
fn no_wake_up_of_an_unregistered_waker_is_lost() {
    assert_eq!(lost("two messages, unregistered", two_messages()), 0);
}

#[test]
fn no_wake_up_is_lost_if_one_waker_of_two_is_registered() {
    assert_eq!(lost("two producers, one registered", two_producers().registered([SECOND])), 0);
}

#[test]
fn no_wake_up_is_lost_if_a_waker_registers_between_two_messages() {
    assert_eq!(lost("registers between two messages", registers_between()), 0);
}

#[test]
fn no_wake_up_is_lost_if_a_waker_is_registered_at_any_moment() {
    assert_eq!(lost("is registered at any moment", registered_at_any_moment()), 0);
}

#[test]
fn no_wake_up_is_lost_by_a_sleeper_without_a_barrier() {
    let scenarios = [
        ("two messages", two_messages().registered([FIRST])),
        ("two producers", two_producers().registered([FIRST, SECOND])),
        ("two producers, one registered", two_producers().registered([SECOND])),
        ("wanted head", wanted_head().registered([FIRST])),
    ];
    for (name, scenario) in scenarios {
        assert_eq!(lost(&format!("{name}, no barrier"), scenario.without_barrier()), 0);
    }
}

#[test]
fn no_wake_up_is_lost_by_a_producer_that_waits_for_a_head() {
    assert_eq!(lost("wanted head", wanted_head().registered([FIRST])), 0);
}

#[test]
fn no_wake_up_is_lost_by_a_new_owner() {
    assert_eq!(lost("new owner", new_owner(0).registered([FIRST])), 0);
    assert_eq!(lost("new owner after one without a barrier", new_owner(FENCE).registered([FIRST])), 0);
}

/// Its wakers fence themselves. What the second fence does: a waker that clears
/// the first word finds nobody asleep, and the second word goes over that.
#[test]
fn no_wake_up_of_an_unregistered_waker_is_lost_if_the_barrier_fails() {
    assert_eq!(lost("the barrier fails, unregistered", two_messages().failing_barrier()), 0);
}

#[test]
fn a_missing_second_fence_is_found() {
    let scenario = two_messages().failing_barrier().twin(Twin::NoSecondFence);
    assert!(lost("the barrier fails, no second fence", scenario) > 0);
}

#[test]
fn a_look_before_the_store_is_found() {
    let scenario = two_messages().registered([FIRST]).twin(Twin::NoLightFence);
    assert!(lost("looked before the store", scenario) > 0);
}

/// The limit: a light waker that has looked at the word before it says FENCE
/// may miss that one sleep, which its time-out ends.
#[test]
fn a_first_word_without_a_barrier_may_be_missed() {
    let owner = new_owner(0).registered([FIRST]).failing_barrier();
    assert!(lost("new owner without a barrier", owner) > 0);
    assert!(lost("the barrier fails", two_messages().registered([FIRST]).failing_barrier()) > 0);
}

#[test]
fn no_wake_up_is_lost_by_who_sleeps_on_after_a_time_out() {
    let scenarios = [
        ("two messages", two_messages().registered([FIRST])),
        ("two messages, unregistered", two_messages()),
        ("two messages, no barrier", two_messages().registered([FIRST]).without_barrier()),
        ("registers between two messages", registers_between()),
        ("two producers", two_producers().registered([FIRST, SECOND])),
        ("wanted head", wanted_head().registered([FIRST])),
    ];
    for (name, scenario) in scenarios {
        assert_eq!(lost(&format!("{name}, with time-outs"), scenario.timing_out(2)), 0);
    }
}

#[test]
fn a_sleep_whatever_the_word_is_found() {
    let found = |scenario: Scenario| {
        lost("sleeps whatever the word", scenario.timing_out(1).twin(Twin::SleepsWhateverTheWord)) > 0
    };
    assert!(found(two_messages().registered([FIRST])));
    assert!(found(wanted_head().registered([FIRST])));
}

/// What the others would find if it went on where it may not is a sleeper that
/// never sleeps: nothing is lost by that.
#[test]
fn only_who_finds_its_word_unchanged_sleeps_on() {
    let word = Alone { has_barrier: true, ..Alone::default() };
    let mut announced = Announced::default();
    let mut asleep = |looks: u32, barriers: u32, slept_on: u32| {
        let looked = std::cell::Cell::new(0);
        sleep(&word, &mut announced, Duration::MAX, || looked.replace(looked.get() + 1) > 0);
        assert_eq!((looked.get(), word.barriers.get(), word.slept_on.get()), (looks, barriers, slept_on));
    };
    asleep(1, 1, 4 | ASLEEP);
    // A time-out: it looks, and sleeps on.
    asleep(1, 1, 4 | ASLEEP);
    // A wake-up.
    word.word.set(4);
    asleep(1, 2, 8 | ASLEEP);
    asleep(1, 2, 8 | ASLEEP);
    rise(&word, &mut announced);
    assert_eq!(word.word.get(), 8);
    // There is nothing to take back, and whoever has the word then keeps it.
    word.word.set(12 | ASLEEP);
    rise(&word, &mut announced);
    assert_eq!(word.word.get(), 12 | ASLEEP);
}

#[test]
fn a_missing_barrier_is_found() {
    let found = |scenario: Scenario, name| lost(name, scenario.twin(Twin::NoBarrier)) > 0;
    assert!(found(two_messages().registered([FIRST]), "two messages: barrier left out"));
    assert!(found(wanted_head().registered([FIRST]), "wanted head: barrier left out"));
    assert!(found(two_producers().registered([FIRST, SECOND]), "two producers: barrier left out"));
    assert!(found(two_messages().registered([FIRST]).timing_out(1), "with a time-out: barrier left out"));
}

#[test]
fn a_missing_second_look_is_found() {
    let found = |scenario: Scenario, name| lost(name, scenario.twin(Twin::NoSecondLook)) > 0;
    assert!(found(two_messages().registered([FIRST]), "two messages: no second look"));
    assert!(found(wanted_head().registered([FIRST]), "wanted head: no second look"));
}

/// Of two messages the second would wake for the first: one each.
#[test]
fn a_waker_that_publishes_before_it_is_registered_is_found() {
    let scenario = two_producers().registered([FIRST, SECOND]).before_registering();
    assert!(lost("two producers: publish before registering", scenario) > 0);
}

#[test]
fn a_missing_fence_for_a_sleeper_without_a_barrier_is_found() {
    let found =
        |scenario: Scenario, name| lost(name, scenario.without_barrier().twin(Twin::NoFenceForSleeper)) > 0;
    assert!(found(two_messages().registered([FIRST]), "two messages: FENCE ignored"));
    assert!(found(wanted_head().registered([FIRST]), "wanted head: FENCE ignored"));
    assert!(found(two_producers().registered([FIRST, SECOND]), "two producers: FENCE ignored"));
}

#[test]
fn a_reset_leaves_the_counter_and_says_whether_there_is_a_barrier() {
    for counter in [0, 4, 400, !(ASLEEP | FENCE)] {
        for left in [0, ASLEEP, FENCE, ASLEEP | FENCE] {
            assert_eq!(Alone::reset(counter | left, true), counter);
            assert_eq!(Alone::reset(counter | left, false), counter | FENCE);
        }
    }
}

#[test]
fn a_barrier_that_fails_is_not_tried_again_and_the_word_says_so() {
    let word = Alone::default();
    for counter in [4, 8] {
        let mut announced = Announced::default();
        sleep(&word, &mut announced, Duration::MAX, || false);
        assert_eq!(word.slept_on.get(), counter | FENCE | ASLEEP);
        rise(&word, &mut announced);
        assert_eq!((word.word.get(), word.barriers.get()), (counter | FENCE, 1));
    }
}
