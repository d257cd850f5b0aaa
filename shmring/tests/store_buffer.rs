//! The handshake on a machine with store buffers, where the sleeper pays for
//! the wakers' fence: every interleaving, and no wake-up is lost.
//!
//! loom cannot show this: it knows no fence that one thread puts into another.
//! Here every thread has a buffer of its own stores, without bound, that
//! empties into memory entry by entry at any moment. A load finds the newest
//! store of its own buffer, or else memory (x86's order; weaker processors are
//! loom's part). The kernel's barrier empties the buffers of the threads of
//! registered processes, thread by thread, in any order, with anything between.
//! The barrier's caller and whoever enters the kernel has an empty buffer then.
//!
//! The shipped `sleep`, `wake` and `reset` run. A thread's code is a function
//! of what its operations return, so a thread is the list of these results:
//! to find its next operation its code runs from the start, is fed the list,
//! and is unwound at the first operation that has no result yet.
//!
//! A sleep here has no time-out: who still sleeps when nothing more can happen
//! has lost a wake-up. Each part of the handshake is left out once, and that
//! must be found.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use shmring::internals::ring::sleep::{SleepCell, reset, sleep, wake};

/// Where the words are in memory: the sleep word, the head that a producer
/// waits for, and for each process what it publishes and whether it knows that
/// it is registered.
const WORD: usize = 0;
const WANTED: usize = 1;
const PUBLISHED: usize = 2;
const REGISTERED: usize = 5;
const WORDS: usize = 8;

/// The sleeper is thread and process 0; `FIRST` and `SECOND` wake it.
const SLEEPER: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

/// The bits of the sleep word.
const ASLEEP: u32 = 1;
const FENCE: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Load(usize),
    Store(usize, u32),
    /// A locked compare-and-exchange of the sleep word; gives what it found.
    Replace(u32, u32),
    Fence,
    Barrier,
    /// Has the kernel's barrier reach this thread's process from now on.
    Register,
    Wait(u32),
    Wake,
}

/// What a handshake leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    /// The sleeper's barrier does nothing and claims to have worked.
    NoBarrier,
    NoSecondLook,
    /// A registered waker does not fence for a sleeper without a barrier.
    NoFenceForSleeper,
    /// A sleeper whose barrier fails does not fence again.
    NoSecondFence,
    /// A registered waker looks at the word before it stores what is waited
    /// for, as a compiler may have it without the light fence.
    NoLightFence,
}

/// A thread's view of the machine, while its code runs on the results so far.
struct Cpu<'a> {
    twin: Twin,
    process: usize,
    has_barrier: bool,
    results: &'a [u32],
    next: Cell<usize>,
    asked: Cell<Option<Operation>>,
    fences: Cell<u32>,
    /// The word as it was looked at too early.
    early: Cell<Option<u32>>,
}

impl Cpu<'_> {
    fn ask(&self, operation: Operation) -> u32 {
        let at = self.next.replace(self.next.get() + 1);
        self.results.get(at).copied().unwrap_or_else(|| {
            self.asked.set(Some(operation));
            resume_unwind(Box::new("has to be done first"))
        })
    }

    fn load_from(&self, at: usize) -> u32 {
        self.ask(Operation::Load(at))
    }

    fn store_to(&self, at: usize, value: u32) {
        self.ask(Operation::Store(at, value));
    }

    fn publish(&self, value: u32) {
        if self.twin == Twin::NoLightFence {
            self.early.set(Some(self.load_from(WORD)));
        }
        self.store_to(PUBLISHED + self.process, value);
        wake(self, || true);
    }

    /// Moves the head, and wakes a producer that waits for no later one.
    fn free(&self, head: u32) {
        self.store_to(PUBLISHED + self.process, head);
        wake(self, || self.load_from(WANTED) <= head);
    }

    fn register(&self) {
        self.ask(Operation::Register);
        self.store_to(REGISTERED + self.process, 1);
    }

    /// Waits as the endpoints do: try, sleep, and again. True when it is there.
    fn wait_for(&self, published: &[(usize, u32)]) -> bool {
        let is_there = || published.iter().all(|&(by, value)| self.load_from(PUBLISHED + by) >= value);
        if is_there() {
            return true;
        }
        sleep(self, Duration::MAX, || self.twin != Twin::NoSecondLook && is_there());
        false
    }
}

impl SleepCell for Cpu<'_> {
    fn load(&self) -> u32 {
        self.early.take().unwrap_or_else(|| self.load_from(WORD))
    }
    fn store(&self, value: u32) {
        self.store_to(WORD, value)
    }
    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        let found = self.ask(Operation::Replace(current, new));
        if found == current { Ok(()) } else { Err(found) }
    }
    fn fence(&self) {
        self.fences.set(self.fences.get() + 1);
        let left_out = match self.twin {
            Twin::NoFenceForSleeper => self.process != SLEEPER,
            Twin::NoSecondFence => self.process == SLEEPER && self.fences.get() == 2,
            _ => false,
        };
        if !left_out {
            self.ask(Operation::Fence);
        }
    }
    fn light_fence(&self) -> bool {
        self.load_from(REGISTERED + self.process) == 1
    }
    fn barrier(&self) -> bool {
        if self.has_barrier && self.twin != Twin::NoBarrier {
            self.ask(Operation::Barrier);
        }
        self.has_barrier
    }
    fn wait(&self, expected: u32, _: Duration) {
        self.ask(Operation::Wait(expected));
    }
    fn wake(&self) {
        self.ask(Operation::Wake);
    }
}

/// A part of a thread's code; false: once more from its start.
type Part = Box<dyn Fn(&Cpu) -> bool>;

struct Code {
    process: usize,
    parts: Vec<Part>,
}

fn code<const N: usize>(process: usize, parts: [Part; N]) -> Code {
    Code { process, parts: parts.into() }
}

fn part(run: impl Fn(&Cpu) + 'static) -> Part {
    Box::new(move |cpu| {
        run(cpu);
        true
    })
}

fn wait_for<const N: usize>(published: [(usize, u32); N]) -> Part {
    Box::new(move |cpu| cpu.wait_for(&published))
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Thread {
    part: usize,
    /// Of this part's operations.
    results: Vec<u32>,
    /// Oldest first.
    buffer: Vec<(usize, u32)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: [u32; WORDS],
    /// What the kernel knows, for each process.
    registered: [bool; 3],
    /// The sleeper sleeps in the kernel.
    asleep: bool,
    /// In the sleeper's barrier: the threads that it has not come to.
    barrier: Option<Vec<usize>>,
    threads: Vec<Thread>,
}

impl State {
    fn load(&self, thread: usize, at: usize) -> u32 {
        let own = self.threads[thread].buffer.iter().rev().find(|(place, _)| *place == at);
        own.map_or(self.memory[at], |(_, value)| *value)
    }

    fn drain_one(&mut self, thread: usize) {
        let (at, value) = self.threads[thread].buffer.remove(0);
        self.memory[at] = value;
    }

    fn drain(&mut self, thread: usize) {
        while !self.threads[thread].buffer.is_empty() {
            self.drain_one(thread);
        }
    }

    fn give(&mut self, thread: usize, result: u32) {
        self.threads[thread].results.push(result);
    }

    /// Does a thread's next operation.
    fn perform(&mut self, thread: usize, process: usize, operation: Operation) {
        if !matches!(operation, Operation::Load(_) | Operation::Store(..)) {
            self.drain(thread);
        }
        let result = match operation {
            Operation::Load(at) => self.load(thread, at),
            Operation::Store(at, value) => {
                self.threads[thread].buffer.push((at, value));
                0
            }
            Operation::Replace(current, new) => {
                let found = self.memory[WORD];
                if found == current {
                    self.memory[WORD] = new;
                }
                found
            }
            Operation::Fence => 0,
            Operation::Barrier => {
                let others = (0..self.threads.len()).filter(|&t| t != thread);
                self.barrier = Some(others.collect());
                return;
            }
            Operation::Register => {
                self.registered[process] = true;
                0
            }
            Operation::Wait(expected) if self.memory[WORD] == expected => {
                self.asleep = true;
                return;
            }
            Operation::Wait(_) => 0,
            Operation::Wake => {
                if std::mem::take(&mut self.asleep) {
                    self.give(SLEEPER, 0);
                }
                0
            }
        };
        self.give(thread, result);
    }
}

struct Scenario {
    twin: Twin,
    has_barrier: bool,
    start: State,
    codes: Vec<Code>,
}

/// What a thread does next, unless it is in the kernel or at its end.
#[derive(Clone, Copy)]
enum Next {
    Operation(Operation),
    Part(usize),
}

impl Scenario {
    fn new(codes: impl IntoIterator<Item = Code>) -> Scenario {
        let codes: Vec<Code> = codes.into_iter().collect();
        let thread = Thread { part: 0, results: Vec::new(), buffer: Vec::new() };
        let start = State {
            memory: [0; WORDS],
            registered: [false; 3],
            asleep: false,
            barrier: None,
            threads: vec![thread; codes.len()],
        };
        Scenario { twin: Twin::Sound, has_barrier: true, start, codes }
    }

    fn twin(self, twin: Twin) -> Scenario {
        Scenario { twin, ..self }
    }

    fn registered<const N: usize>(mut self, processes: [usize; N]) -> Scenario {
        for process in processes {
            self.start.registered[process] = true;
            self.start.memory[REGISTERED + process] = 1;
        }
        self
    }

    /// The sleeper has no barrier, and said so before anything else happens.
    fn without_barrier(mut self) -> Scenario {
        self.has_barrier = false;
        self.start.memory[WORD] = after_reset(self.start.memory[WORD], false);
        self
    }

    /// Runs a thread's code on the results it has.
    fn next(&self, thread: usize, part: usize, results: &[u32]) -> Next {
        let Code { process, parts } = &self.codes[thread];
        let (twin, has_barrier) = (self.twin, self.has_barrier);
        let (next, asked, fences, early) = Default::default();
        let cpu = Cpu { twin, process: *process, has_barrier, results, next, asked, fences, early };
        let run = catch_unwind(AssertUnwindSafe(|| parts[part](&cpu)));
        match (run, cpu.asked.get()) {
            (Err(_), Some(operation)) => Next::Operation(operation),
            (Ok(done), None) => Next::Part(part + usize::from(done)),
            (Err(panic), None) => resume_unwind(panic),
            (Ok(_), Some(_)) => unreachable!("the code was unwound"),
        }
    }

    /// Goes through all states; how many lost a wake-up.
    fn explore(self, name: &str) -> usize {
        let begun = Instant::now();
        let mut known = HashMap::new();
        let mut seen = HashSet::from([self.start.clone()]);
        let mut open = vec![self.start.clone()];
        let (mut ends, mut lost) = (0, 0);
        while let Some(state) = open.pop() {
            let mut after = Vec::new();
            let mut step = |change: &dyn Fn(&mut State)| {
                let mut state = state.clone();
                change(&mut state);
                after.push(state);
            };
            for (t, thread) in state.threads.iter().enumerate() {
                if !thread.buffer.is_empty() {
                    step(&|s| s.drain_one(t));
                }
                let in_kernel = t == SLEEPER && (state.asleep || state.barrier.is_some());
                if in_kernel || thread.part == self.codes[t].parts.len() {
                    continue;
                }
                let place = (t, thread.part, thread.results.clone());
                let next = *known.entry(place).or_insert_with_key(|(t, part, r)| self.next(*t, *part, r));
                step(&|s| match next {
                    Next::Operation(operation) => s.perform(t, self.codes[t].process, operation),
                    Next::Part(part) => (s.threads[t].part, s.threads[t].results) = (part, Vec::new()),
                });
            }
            for (i, &t) in state.barrier.iter().flatten().enumerate() {
                step(&|s| {
                    if s.registered[self.codes[t].process] {
                        s.drain(t);
                    }
                    s.barrier.as_mut().expect("in the barrier").remove(i);
                });
            }
            if state.barrier.as_ref().is_some_and(Vec::is_empty) {
                step(&|s| {
                    s.barrier = None;
                    s.give(SLEEPER, 1);
                });
            }
            if after.is_empty() {
                // Every waker is done, so what the sleeper waits for is there.
                ends += 1;
                lost += usize::from(state.asleep);
            }
            open.extend(after.into_iter().filter(|s| seen.insert(s.clone())));
        }
        assert!(ends > 0, "{name}: nothing ends");
        println!("{name}: {} states, {lost} of {ends} ends lost, {:.1?}", seen.len(), begun.elapsed());
        lost
    }
}

/// One registered waker with two messages, and a sleep before each.
fn two_messages() -> Scenario {
    let consumer = code(SLEEPER, [wait_for([(FIRST, 1)]), wait_for([(FIRST, 2)])]);
    let producer = code(FIRST, [part(|cpu| cpu.publish(1)), part(|cpu| cpu.publish(2))]);
    Scenario::new([consumer, producer]).registered([FIRST])
}

/// Two wakers with one message each: one of them may find the word cleared by
/// the other, whose wake-up must do for both. Nobody is registered yet.
fn two_producers() -> Scenario {
    let consumer = code(SLEEPER, [wait_for([(FIRST, 1), (SECOND, 1)])]);
    let producer = |process| code(process, [part(|cpu| cpu.publish(1))]);
    Scenario::new([consumer, producer(FIRST), producer(SECOND)])
}

/// A producer that waits for the second of two heads, after it gave up waiting
/// for a later one.
fn wanted_head() -> Scenario {
    let wants = part(|cpu| [48, 32].into_iter().for_each(|head| cpu.store_to(WANTED, head)));
    let producer = code(SLEEPER, [wants, wait_for([(FIRST, 32)])]);
    let consumer = code(FIRST, [part(|cpu| cpu.free(16)), part(|cpu| cpu.free(32))]);
    Scenario::new([producer, consumer]).registered([FIRST])
}

/// The word of an owner that died asleep, and a new one that waits for the
/// message of a waker that is at work.
fn new_owner() -> Scenario {
    let owner = part(|cpu| reset(cpu, cpu.has_barrier));
    let consumer = code(SLEEPER, [owner, wait_for([(FIRST, 1)]), wait_for([(FIRST, 2)])]);
    let producer = code(FIRST, [part(|cpu| cpu.publish(1)), part(|cpu| cpu.publish(2))]);
    let mut scenario = Scenario::new([consumer, producer]).registered([FIRST]);
    scenario.start.memory[WORD] = 12 | ASLEEP;
    scenario
}

#[test]
fn no_wake_up_of_a_registered_waker_is_lost() {
    assert_eq!(two_messages().explore("two messages"), 0);
}

#[test]
fn no_wake_up_of_two_registered_wakers_is_lost() {
    assert_eq!(two_producers().registered([FIRST, SECOND]).explore("two producers"), 0);
    let mut scenario = two_producers().registered([FIRST, SECOND]);
    scenario.codes[SLEEPER].parts.push(wait_for([(FIRST, 2), (SECOND, 1)]));
    scenario.codes[FIRST].parts.push(part(|cpu| cpu.publish(2)));
    assert_eq!(scenario.explore("two producers, three messages"), 0);
}

#[test]
fn no_wake_up_of_an_unregistered_waker_is_lost() {
    let mut scenario = two_messages();
    (scenario.start.registered, scenario.start.memory) = ([false; 3], [0; WORDS]);
    assert_eq!(scenario.explore("two messages, unregistered"), 0);
}

#[test]
fn no_wake_up_is_lost_if_one_waker_of_two_is_registered() {
    assert_eq!(two_producers().registered([SECOND]).explore("two producers, one registered"), 0);
}

#[test]
fn no_wake_up_is_lost_if_a_waker_registers_between_two_messages() {
    let mut scenario = Scenario::new(two_messages().codes);
    scenario.codes[FIRST].parts.insert(1, part(|cpu| cpu.register()));
    assert_eq!(scenario.explore("registers between two messages"), 0);
}

/// In a process of several threads one of its own registers it.
#[test]
fn no_wake_up_is_lost_if_a_waker_is_registered_at_any_moment() {
    let mut codes = two_messages().codes;
    codes.push(code(FIRST, [part(|cpu| cpu.register())]));
    assert_eq!(Scenario::new(codes).explore("is registered at any moment"), 0);
}

#[test]
fn no_wake_up_is_lost_by_a_sleeper_without_a_barrier() {
    assert_eq!(two_messages().without_barrier().explore("two messages, no barrier"), 0);
    let wakers = || two_producers().registered([FIRST, SECOND]);
    assert_eq!(wakers().without_barrier().explore("two producers, no barrier"), 0);
    let mixed = || two_producers().registered([SECOND]);
    assert_eq!(mixed().without_barrier().explore("two producers, one registered, no barrier"), 0);
}

#[test]
fn no_wake_up_is_lost_by_a_producer_that_waits_for_a_head() {
    assert_eq!(wanted_head().explore("wanted head"), 0);
    assert_eq!(wanted_head().without_barrier().explore("wanted head, no barrier"), 0);
}

#[test]
fn no_wake_up_is_lost_by_a_new_owner() {
    assert_eq!(new_owner().explore("new owner"), 0);
    let mut before = new_owner();
    before.start.memory[WORD] |= FENCE;
    assert_eq!(before.explore("new owner after one without a barrier"), 0);
}

/// Its wakers fence themselves. What the second fence does: a waker that clears
/// the first word finds nobody asleep, and the second word goes over that.
fn a_barrier_that_fails() -> Scenario {
    let mut scenario = two_messages();
    (scenario.start.registered, scenario.start.memory) = ([false; 3], [0; WORDS]);
    scenario.has_barrier = false;
    scenario
}

#[test]
fn no_wake_up_of_an_unregistered_waker_is_lost_if_the_barrier_fails() {
    assert_eq!(a_barrier_that_fails().explore("a barrier that fails"), 0);
}

#[test]
fn a_missing_second_fence_is_found() {
    assert!(a_barrier_that_fails().twin(Twin::NoSecondFence).explore("no second fence") > 0);
}

#[test]
fn a_look_before_the_store_is_found() {
    assert!(two_messages().twin(Twin::NoLightFence).explore("two messages: looked before the store") > 0);
}

/// The limit: a light waker that has looked at the word before it says FENCE
/// may miss that one sleep, which its time-out ends.
#[test]
fn a_first_word_without_a_barrier_may_be_missed() {
    let mut scenario = new_owner();
    scenario.has_barrier = false;
    assert!(scenario.explore("new owner without a barrier") > 0);
    let mut scenario = two_messages();
    scenario.has_barrier = false;
    assert!(scenario.explore("the barrier fails") > 0);
}

#[test]
fn a_missing_barrier_is_found() {
    assert!(two_messages().twin(Twin::NoBarrier).explore("two messages: barrier left out") > 0);
    assert!(wanted_head().twin(Twin::NoBarrier).explore("wanted head: barrier left out") > 0);
    let wakers = two_producers().registered([FIRST, SECOND]);
    assert!(wakers.twin(Twin::NoBarrier).explore("two producers: barrier left out") > 0);
}

#[test]
fn a_missing_second_look_is_found() {
    assert!(two_messages().twin(Twin::NoSecondLook).explore("two messages: no second look") > 0);
    assert!(wanted_head().twin(Twin::NoSecondLook).explore("wanted head: no second look") > 0);
}

/// Of two messages the second would wake for the first: one each.
#[test]
fn a_waker_that_publishes_before_it_is_registered_is_found() {
    let mut scenario = two_producers().registered([FIRST, SECOND]);
    scenario.start.registered = [false; 3];
    assert!(scenario.explore("two producers: publish before registering") > 0);
}

#[test]
fn a_missing_fence_for_a_sleeper_without_a_barrier_is_found() {
    let found =
        |scenario: Scenario, name| scenario.without_barrier().twin(Twin::NoFenceForSleeper).explore(name);
    assert!(found(two_messages(), "two messages: FENCE ignored") > 0);
    assert!(found(wanted_head(), "wanted head: FENCE ignored") > 0);
    let wakers = two_producers().registered([FIRST, SECOND]);
    assert!(found(wakers, "two producers: FENCE ignored") > 0);
}

/// A word of one thread, whose owner's barrier fails.
#[derive(Default)]
struct Word {
    word: Cell<u32>,
    barriers: Cell<u32>,
    slept_on: Cell<u32>,
}

impl SleepCell for Word {
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
        false
    }
    fn wait(&self, expected: u32, _: Duration) {
        self.slept_on.set(expected)
    }
    fn wake(&self) {
        unreachable!("nobody wakes")
    }
}

fn after_reset(word: u32, has_barrier: bool) -> u32 {
    let word = Word { word: Cell::new(word), ..Word::default() };
    reset(&word, has_barrier);
    word.word.get()
}

#[test]
fn a_reset_leaves_the_counter_and_says_whether_there_is_a_barrier() {
    for counter in [0, 4, 400, !(ASLEEP | FENCE)] {
        for left in [0, ASLEEP, FENCE, ASLEEP | FENCE] {
            assert_eq!(after_reset(counter | left, true), counter);
            assert_eq!(after_reset(counter | left, false), counter | FENCE);
        }
    }
}

#[test]
fn a_barrier_that_fails_is_not_tried_again_and_the_word_says_so() {
    let word = Word::default();
    for counter in [4, 8] {
        sleep(&word, Duration::MAX, || false);
        assert_eq!(word.slept_on.get(), counter | FENCE | ASLEEP);
        assert_eq!((word.word.get(), word.barriers.get()), (counter | FENCE, 1));
    }
}
