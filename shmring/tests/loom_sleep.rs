//! The sleep and wake handshake under a model checker: no wake-up is lost.
//!
//! The kernel's futex is a queue under a lock: a sleeper looks at the word and
//! queues itself while it holds the lock, a waker takes the lock to empty the
//! queue. A sleep here has no time-out, so a lost wake-up is a deadlock, which
//! the checker reports.
//!
//! Both directions run: a message towards a consumer that sleeps, and a head
//! towards a producer that sleeps and said which head is worth waking it. Each
//! also runs with twins that leave out one part of the handshake; every twin
//! must be found.

use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use shmring::internals::ring::sleep::{SleepCell, sleep, wake};

/// What one handshake leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    NoFenceInWaker,
    NoFenceInSleeper,
    /// The sleeper sleeps without looking again after it announced itself.
    NoSecondLook,
    /// The waker clears the word and wakes nobody.
    ClearsWithoutWake,
    /// The sleeper looks at the queue, not at the word, before it sleeps.
    SleepsWhateverTheWord,
    /// The waker asks whether it is worth it before its fence.
    WorthBeforeFence,
    /// The sleeper looks for a change since just before it announced itself,
    /// instead of for what it waits for.
    LooksForChange,
    /// Every access to the word and to the wanted head is relaxed. Not a
    /// fault: between the two, the fences alone make the handshake.
    FencesOnly,
}

/// The sleep word and the kernel's queue for it.
struct Futex {
    word: AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
    step: AtomicU32,
}

impl Futex {
    fn new() -> Futex {
        Futex {
            word: AtomicU32::new(0),
            queue: Mutex::new(()),
            woken: Condvar::new(),
            step: AtomicU32::new(0),
        }
    }

    /// Lets the checker try the other thread here. On its own it does so where
    /// two accesses to one word may race, but remembers one access for each
    /// word and so overlooks some.
    fn may_be_preempted(&self) {
        self.step.store(0, Ordering::Relaxed);
    }
}

/// One side's view of the word.
struct Side<'a> {
    futex: &'a Futex,
    twin: Twin,
    without_fence: Twin,
}

impl Side<'_> {
    fn ordering(&self, ordering: Ordering) -> Ordering {
        if self.twin == Twin::FencesOnly { Ordering::Relaxed } else { ordering }
    }
}

impl SleepCell for Side<'_> {
    fn load(&self) -> u32 {
        self.futex.may_be_preempted();
        self.futex.word.load(self.ordering(Ordering::Acquire))
    }

    fn store(&self, value: u32) {
        self.futex.may_be_preempted();
        self.futex.word.store(value, self.ordering(Ordering::Release))
    }

    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        self.futex.may_be_preempted();
        let (done, failed) = (self.ordering(Ordering::AcqRel), self.ordering(Ordering::Acquire));
        self.futex.word.compare_exchange(current, new, done, failed).map(drop)
    }

    fn fence(&self) {
        if self.twin != self.without_fence {
            fence(Ordering::SeqCst);
        }
    }

    /// Nobody is registered here.
    fn light_fence(&self) -> bool {
        false
    }

    fn barrier(&self) -> bool {
        true
    }

    fn wait(&self, expected: u32, _: Duration) {
        let queue = self.futex.queue.lock().unwrap();
        // The queue's lock orders this load after the exchange of a waker that
        // emptied the queue before.
        let asleep = self.futex.word.load(Ordering::Relaxed) == expected;
        if asleep || self.twin == Twin::SleepsWhateverTheWord {
            drop(self.futex.woken.wait(queue).unwrap());
        }
    }

    fn wake(&self) {
        if self.twin != Twin::ClearsWithoutWake {
            let _queue = self.futex.queue.lock().unwrap();
            self.futex.woken.notify_one();
        }
    }
}

/// Everything that the two sides share.
struct Shared {
    twin: Twin,
    futex: Futex,
    /// What is waited for: a message's header, or the head.
    awaited: AtomicU64,
    /// The head that the producer waits for.
    wanted: AtomicU64,
}

impl Shared {
    fn new(twin: Twin) -> Arc<Shared> {
        Arc::new(Shared { twin, futex: Futex::new(), awaited: AtomicU64::new(0), wanted: AtomicU64::new(0) })
    }

    fn sleeper(&self) -> Side<'_> {
        Side { futex: &self.futex, twin: self.twin, without_fence: Twin::NoFenceInSleeper }
    }

    fn waker(&self) -> Side<'_> {
        Side { futex: &self.futex, twin: self.twin, without_fence: Twin::NoFenceInWaker }
    }

    fn supply(&self, value: u64) {
        self.futex.may_be_preempted();
        self.awaited.store(value, Ordering::Release);
    }

    fn reached(&self, value: u64) -> bool {
        self.futex.may_be_preempted();
        self.awaited.load(Ordering::Acquire) >= value
    }

    fn want(&self, head: u64) {
        self.futex.may_be_preempted();
        self.wanted.store(head, self.waker().ordering(Ordering::Release));
    }

    fn wanted_head(&self) -> u64 {
        self.futex.may_be_preempted();
        self.wanted.load(self.waker().ordering(Ordering::Acquire))
    }

    /// Waits as the endpoints do: try, sleep, and again.
    fn wait_for(&self, value: u64) {
        let look = || self.twin != Twin::NoSecondLook && self.reached(value);
        while !self.reached(value) {
            sleep(&self.sleeper(), Duration::MAX, look);
        }
    }
}

/// Every interleaving with so many preemptions at most. Two find every twin;
/// three take half a minute where there are three threads.
fn model(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// A producer publishes two messages one after the other; a consumer that
/// sleeps before each gets both.
fn messages_wake_the_consumer(twin: Twin) {
    let shared = Shared::new(twin);
    let theirs = shared.clone();
    let producer = thread::spawn(move || {
        for header in 1..=2 {
            theirs.supply(header);
            wake(&theirs.waker(), || true);
        }
    });
    shared.wait_for(1);
    shared.wait_for(2);
    producer.join().unwrap();
}

/// Two producers wake one consumer: one of them may find the word cleared by
/// the other, whose wake-up must do for both.
fn either_producer_wakes_the_consumer(twin: Twin) {
    let shared = Shared::new(twin);
    let producers = [(); 2].map(|()| {
        let theirs = shared.clone();
        thread::spawn(move || {
            theirs.futex.may_be_preempted();
            theirs.awaited.fetch_add(1, Ordering::Release);
            wake(&theirs.waker(), || true);
        })
    });
    shared.wait_for(2);
    for producer in producers {
        producer.join().unwrap();
    }
}

/// A consumer commits twice. The producer, which just gave up waiting for a
/// later head, waits for the second one and says so: it sleeps until then and
/// no longer, and the consumer does not decide by what was wanted before.
fn the_wanted_head_wakes_the_producer(twin: Twin) {
    let shared = Shared::new(twin);
    let theirs = shared.clone();
    let consumer = thread::spawn(move || {
        for head in [16, 32] {
            theirs.supply(head);
            let worth = || theirs.wanted_head() <= head;
            if theirs.twin == Twin::WorthBeforeFence {
                let early = worth();
                wake(&theirs.waker(), || early);
            } else {
                wake(&theirs.waker(), worth);
            }
        }
    });
    shared.want(48);
    shared.want(32);
    shared.wait_for(32);
    consumer.join().unwrap();
}

/// A producer publishes its end mark, then the state "closed", and wakes once.
/// The consumer waits for both. The state is in the place of the wanted head.
fn a_close_wakes_the_consumer(twin: Twin) {
    const CLOSED: u64 = 2;
    let shared = Shared::new(twin);
    let theirs = shared.clone();
    let producer = thread::spawn(move || {
        theirs.supply(1);
        theirs.want(CLOSED);
        wake(&theirs.waker(), || true);
    });
    let is_told = || shared.reached(1) && shared.wanted_head() == CLOSED;
    while !is_told() {
        let before = shared.wanted_head();
        sleep(&shared.sleeper(), Duration::MAX, || match twin {
            Twin::NoSecondLook => false,
            Twin::LooksForChange => shared.wanted_head() != before,
            _ => is_told(),
        });
    }
    producer.join().unwrap();
}

/// Makes a test of the sound handshake, and one of each twin that has to fail.
macro_rules! held_by {
    ($scenario:ident, $preemptions:literal: $($twin:ident),+) => {
        mod $scenario {
            #[test]
            fn holds() {
                super::model($preemptions, || super::$scenario(super::Twin::Sound));
            }

            #[test]
            fn holds_by_its_fences_alone() {
                super::model($preemptions, || super::$scenario(super::Twin::FencesOnly));
            }
            $(
                #[test]
                #[should_panic(expected = "deadlock")]
                #[allow(non_snake_case)]
                fn $twin() {
                    super::model($preemptions, || super::$scenario(super::Twin::$twin));
                }
            )+
        }
    };
}

held_by!(messages_wake_the_consumer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(either_producer_wakes_the_consumer, 2:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(the_wanted_head_wakes_the_producer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord, WorthBeforeFence);
held_by!(a_close_wakes_the_consumer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord, LooksForChange);
