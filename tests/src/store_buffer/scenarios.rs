//! Who sleeps, who wakes, and what they begin with.

use std::cell::Cell;
use std::time::Duration;

use shmring::internals::ring::sleep::{SleepCell, reset};

use super::{ASLEEP, FIRST, SECOND, SLEEPER, Scenario, WANTED, WORD, code, part, wait_for};

/// One waker with two messages, and a sleep before each.
pub fn two_messages() -> Scenario {
    let consumer = code(SLEEPER, [wait_for([(FIRST, 1)]), wait_for([(FIRST, 2)])]);
    let producer = code(FIRST, [part(|cpu| cpu.publish(1)), part(|cpu| cpu.publish(2))]);
    Scenario::new([consumer, producer])
}

/// As [`two_messages`]: the waker registers between them.
pub fn registers_between() -> Scenario {
    let mut scenario = two_messages();
    scenario.codes[FIRST].parts.insert(1, part(|cpu| cpu.register()));
    scenario
}

/// As [`two_messages`]: in a process of several threads one of its own
/// registers it.
pub fn registered_at_any_moment() -> Scenario {
    let mut codes = two_messages().codes;
    codes.push(code(FIRST, [part(|cpu| cpu.register())]));
    Scenario::new(codes)
}

/// Two wakers with one message each: one of them may find the word cleared by
/// the other, whose wake-up must do for both.
pub fn two_producers() -> Scenario {
    let consumer = code(SLEEPER, [wait_for([(FIRST, 1), (SECOND, 1)])]);
    let producer = |process| code(process, [part(|cpu| cpu.publish(1))]);
    Scenario::new([consumer, producer(FIRST), producer(SECOND)])
}

/// As [`two_producers`]: one of them has another message.
pub fn three_messages() -> Scenario {
    let mut scenario = two_producers();
    scenario.codes[SLEEPER].parts.push(wait_for([(FIRST, 2), (SECOND, 1)]));
    scenario.codes[FIRST].parts.push(part(|cpu| cpu.publish(2)));
    scenario
}

/// A producer that waits for the second of two heads, after it gave up waiting
/// for a later one.
pub fn wanted_head() -> Scenario {
    let wants = part(|cpu| [48, 32].into_iter().for_each(|head| cpu.store_to(WANTED, head)));
    let producer = code(SLEEPER, [wants, wait_for([(FIRST, 32)])]);
    let consumer = code(FIRST, [part(|cpu| cpu.free(16)), part(|cpu| cpu.free(32))]);
    Scenario::new([producer, consumer])
}

/// The word of an owner that died asleep, with these bits besides, and a new
/// one that waits for the message of a waker that is at work.
pub fn new_owner(bits: u32) -> Scenario {
    let owner = part(|cpu| reset(cpu, cpu.has_barrier));
    let consumer = code(SLEEPER, [owner, wait_for([(FIRST, 1)]), wait_for([(FIRST, 2)])]);
    let producer = code(FIRST, [part(|cpu| cpu.publish(1)), part(|cpu| cpu.publish(2))]);
    let mut scenario = Scenario::new([consumer, producer]);
    scenario.start.memory[WORD] = 12 | ASLEEP | bits;
    scenario
}

/// A word of one thread.
#[derive(Debug, Default)]
pub struct Alone {
    /// The word.
    pub word: Cell<u32>,
    /// The barrier works.
    pub has_barrier: bool,
    /// How often a barrier was asked for.
    pub barriers: Cell<u32>,
    /// The word that it slept on last.
    pub slept_on: Cell<u32>,
}

impl SleepCell for Alone {
    fn load(&self) -> u32 {
        self.word.get()
    }
    fn store(&self, value: u32) {
        self.word.set(value)
    }
    fn replace(&self, _: u32, _: u32) -> Result<(), u32> {
        unreachable!("nobody wakes")
    }
    fn fence(&self) {}
    fn light_fence(&self) -> bool {
        unreachable!("nobody wakes")
    }
    fn barrier(&self) -> bool {
        self.barriers.set(self.barriers.get() + 1);
        self.has_barrier
    }
    fn wait(&self, expected: u32, _: Duration) {
        self.slept_on.set(expected)
    }
    fn wake(&self) {
        unreachable!("nobody wakes")
    }
}

impl Alone {
    /// What a reset makes of a word.
    pub fn reset(word: u32, has_barrier: bool) -> u32 {
        let alone = Alone { word: Cell::new(word), ..Alone::default() };
        reset(&alone, has_barrier);
        alone.word.get()
    }
}
