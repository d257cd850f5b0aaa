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
//!
//! Two forms of the handshake run here: wakers that are not registered and
//! fence themselves, and registered ones that fence because the sleeper says
//! that it has no barrier. The third, a fence that the sleeper puts into the
//! wakers, the checker does not know: `tests::store_buffer` shows it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use loom::model::Builder;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use shmring::internals::ring::sleep::{Announced, SleepCell, reset, rise, sleep, wake};

/// What one handshake leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    /// A registered waker: it does not care about FENCE.
    NoFenceInWaker,
    /// A registered waker goes by the word from before its fence.
    NoLoadAfterFence,
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
}

/// Who fences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Wakers that no barrier reaches.
    Unregistered,
    /// Registered wakers, of a sleeper that has no barrier.
    NoBarrier,
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
    form: Form,
    without_fence: Twin,
    /// What this side loaded first, for a twin that goes by it.
    first: Cell<Option<u32>>,
    /// Its sleep is over at once, whatever the word.
    times_out: bool,
}

impl SleepCell for Side<'_> {
    fn load(&self) -> u32 {
        if let Some(first) = self.first.get().filter(|_| self.twin == Twin::NoLoadAfterFence) {
            return first;
        }
        self.futex.may_be_preempted();
        let word = self.futex.word.load(Ordering::Relaxed);
        self.first.set(Some(word));
        word
    }

    fn store(&self, value: u32) {
        self.futex.may_be_preempted();
        self.futex.word.store(value, Ordering::Relaxed)
    }

    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        self.futex.may_be_preempted();
        self.futex.word.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed).map(drop)
    }

    fn fence(&self) {
        if self.twin != self.without_fence {
            fence(Ordering::SeqCst);
        }
    }

    fn light_fence(&self) -> bool {
        self.form == Form::NoBarrier
    }

    /// Reaches nobody: the unregistered fence, and the others are told to.
    fn barrier(&self) -> bool {
        assert_eq!(self.form, Form::Unregistered, "a sleeper that says FENCE asks for a barrier");
        true
    }

    fn wait(&self, expected: u32, _: Duration) {
        if self.times_out {
            return self.futex.may_be_preempted();
        }
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
    form: Form,
    futex: Futex,
    /// What is waited for: a message's header, or the head.
    awaited: AtomicU64,
    /// The head that the producer waits for.
    wanted: AtomicU64,
}

impl Shared {
    fn new(twin: Twin, form: Form) -> Arc<Shared> {
        let (awaited, wanted) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { twin, form, futex: Futex::new(), awaited, wanted };
        shared.own();
        Arc::new(shared)
    }

    /// Becomes the word's owner.
    fn own(&self) {
        reset(&self.sleeper(), self.form == Form::Unregistered);
    }

    fn side(&self, without_fence: Twin) -> Side<'_> {
        let (first, times_out) = (Cell::new(None), false);
        Side { futex: &self.futex, twin: self.twin, form: self.form, without_fence, first, times_out }
    }

    fn sleeper(&self) -> Side<'_> {
        self.side(Twin::NoFenceInSleeper)
    }

    fn waker(&self) -> Side<'_> {
        self.side(Twin::NoFenceInWaker)
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
        self.wanted.store(head, Ordering::Relaxed);
    }

    fn wanted_head(&self) -> u64 {
        self.futex.may_be_preempted();
        self.wanted.load(Ordering::Relaxed)
    }

    /// Waits as the endpoints do: try, sleep, and again.
    fn wait_for(&self, value: u64) {
        self.wait_after_time_outs(value, 0);
    }

    /// The first sleeps time out.
    fn wait_after_time_outs(&self, value: u64, count: u32) {
        let look = || self.twin != Twin::NoSecondLook && self.reached(value);
        let mut announced = Announced::default();
        let mut sleeps = 0..;
        while !self.reached(value) {
            let times_out = sleeps.next() < Some(count);
            sleep(&Side { times_out, ..self.sleeper() }, &mut announced, Duration::MAX, look);
        }
        rise(&self.sleeper(), &mut announced);
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
fn messages_wake_the_consumer(shared: Arc<Shared>) {
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

/// As above, and the consumer's first sleep before each message times out: it
/// sleeps on without a fence.
fn messages_wake_who_sleeps_on(shared: Arc<Shared>) {
    let theirs = shared.clone();
    let producer = thread::spawn(move || {
        for header in 1..=2 {
            theirs.supply(header);
            wake(&theirs.waker(), || true);
        }
    });
    shared.wait_after_time_outs(1, 1);
    shared.wait_after_time_outs(2, 1);
    producer.join().unwrap();
}

/// Two producers wake one consumer: one of them may find the word cleared by
/// the other, whose wake-up must do for both.
fn either_producer_wakes_the_consumer(shared: Arc<Shared>) {
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
fn the_wanted_head_wakes_the_producer(shared: Arc<Shared>) {
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
fn a_close_wakes_the_consumer(shared: Arc<Shared>) {
    const CLOSED: u64 = 2;
    let theirs = shared.clone();
    let producer = thread::spawn(move || {
        theirs.supply(1);
        theirs.want(CLOSED);
        wake(&theirs.waker(), || true);
    });
    let is_told = || shared.reached(1) && shared.wanted_head() == CLOSED;
    let mut announced = Announced::default();
    while !is_told() {
        let before = shared.wanted_head();
        sleep(&shared.sleeper(), &mut announced, Duration::MAX, || match shared.twin {
            Twin::NoSecondLook => false,
            Twin::LooksForChange => shared.wanted_head() != before,
            _ => is_told(),
        });
    }
    rise(&shared.sleeper(), &mut announced);
    producer.join().unwrap();
}

/// A sleeper died asleep. A new one takes its word over while a producer is at
/// work, and its first sleep ends. Where it has no barrier, the dead one had
/// none either.
fn a_new_owner_is_woken(shared: Arc<Shared>) {
    let dead = shared.futex.word.load(Ordering::Relaxed) + 5;
    shared.futex.word.store(dead, Ordering::Relaxed);
    let theirs = shared.clone();
    let producer = thread::spawn(move || {
        for header in 1..=2 {
            theirs.supply(header);
            wake(&theirs.waker(), || true);
        }
    });
    shared.own();
    shared.wait_for(2);
    producer.join().unwrap();
}

/// Makes a test of the sound handshake, and one of each twin that has to fail.
macro_rules! held_by {
    ($scenario:ident, $form:ident as $name:ident, $preemptions:literal: $($twin:ident),+) => {
        mod $name {
            fn check(twin: super::Twin) {
                let shared = move || super::Shared::new(twin, super::Form::$form);
                super::model($preemptions, move || super::$scenario(shared()));
            }

            #[test]
            fn holds() {
                check(super::Twin::Sound);
            }
            $(
                #[test]
                #[should_panic(expected = "deadlock")]
                #[allow(non_snake_case)]
                fn $twin() {
                    check(super::Twin::$twin);
                }
            )+
        }
    };
}

held_by!(messages_wake_the_consumer, Unregistered as messages_wake_the_consumer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(messages_wake_the_consumer, NoBarrier as messages_wake_a_consumer_without_barrier, 2:
    NoFenceInWaker, NoLoadAfterFence, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(messages_wake_who_sleeps_on, Unregistered as messages_wake_who_sleeps_on, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(messages_wake_who_sleeps_on, NoBarrier as messages_wake_who_sleeps_on_without_barrier, 2:
    NoFenceInWaker, NoLoadAfterFence, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(either_producer_wakes_the_consumer, Unregistered as either_producer_wakes_the_consumer, 2:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(either_producer_wakes_the_consumer, NoBarrier as either_producer_wakes_a_consumer_without_barrier, 2:
    NoFenceInWaker, NoLoadAfterFence, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(the_wanted_head_wakes_the_producer, Unregistered as the_wanted_head_wakes_the_producer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord, WorthBeforeFence);
held_by!(the_wanted_head_wakes_the_producer, NoBarrier as the_wanted_head_wakes_a_producer_without_barrier, 2:
    NoFenceInWaker, NoLoadAfterFence, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord,
    WorthBeforeFence);
held_by!(a_close_wakes_the_consumer, Unregistered as a_close_wakes_the_consumer, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord, LooksForChange);
held_by!(a_new_owner_is_woken, Unregistered as a_new_owner_is_woken, 3:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
held_by!(a_new_owner_is_woken, NoBarrier as a_new_owner_without_barrier_is_woken, 2:
    NoFenceInWaker, NoFenceInSleeper, NoSecondLook, ClearsWithoutWake, SleepsWhateverTheWord);
