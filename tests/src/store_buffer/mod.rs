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
//! A sleep here has no time-out, or a number of them at any moments: who still
//! sleeps when nothing more can happen has lost a wake-up. Each part of the handshake is left out once, and that
//! must be found.

mod scenarios;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

pub use scenarios::{
    Alone, new_owner, registered_at_any_moment, registers_between, three_messages, two_messages,
    two_producers, wanted_head,
};
use shmring::internals::ring::sleep::{Announced, SleepCell, rise, sleep, wake};

/// Where the words are in memory: the sleep word, the head that a producer
/// waits for, and for each process what it publishes and whether it knows that
/// it is registered.
const WORD: usize = 0;
const WANTED: usize = 1;
const PUBLISHED: usize = 2;
const REGISTERED: usize = 5;
const WORDS: usize = 8;

/// The sleeper is thread and process 0.
const SLEEPER: usize = 0;
/// A process that wakes it.
pub const FIRST: usize = 1;
/// The other one.
pub const SECOND: usize = 2;

/// The bit of the sleep word: its owner sleeps.
pub const ASLEEP: u32 = 1;
/// The bit of the sleep word: its owner has no barrier.
pub const FENCE: u32 = 2;

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
    /// While the word is this one, if it is to be looked at.
    Wait(Option<u32>),
    Wake,
}

/// What a handshake leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// Nothing.
    Sound,
    /// The sleeper's barrier does nothing and claims to have worked.
    NoBarrier,
    /// The sleeper does not look again once the word says that it sleeps.
    NoSecondLook,
    /// A registered waker does not fence for a sleeper without a barrier.
    NoFenceForSleeper,
    /// A sleeper whose barrier fails does not fence again.
    NoSecondFence,
    /// The sleeper sleeps although the word is another one by then.
    SleepsWhateverTheWord,
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

    /// Waits as the endpoints do: try, sleep, and again.
    fn wait_for(&self, published: &[(usize, u32)]) {
        let is_there = || published.iter().all(|&(by, value)| self.load_from(PUBLISHED + by) >= value);
        let mut announced = Announced::default();
        while !is_there() {
            sleep(self, &mut announced, Duration::MAX, || self.twin != Twin::NoSecondLook && is_there());
        }
        rise(self, &mut announced);
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
        let whatever = self.twin == Twin::SleepsWhateverTheWord;
        self.ask(Operation::Wait((!whatever).then_some(expected)));
    }
    fn wake(&self) {
        self.ask(Operation::Wake);
    }
}

/// A part of a thread's code.
type Part = Box<dyn Fn(&Cpu)>;

struct Code {
    process: usize,
    parts: Vec<Part>,
}

fn code<const N: usize>(process: usize, parts: [Part; N]) -> Code {
    Code { process, parts: parts.into() }
}

fn part(run: impl Fn(&Cpu) + 'static) -> Part {
    Box::new(run)
}

fn wait_for<const N: usize>(published: [(usize, u32); N]) -> Part {
    part(move |cpu| cpu.wait_for(&published))
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
    /// So many of its sleeps may time out.
    time_outs: u32,
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
            Operation::Wait(expected) if expected.is_none_or(|word| self.memory[WORD] == word) => {
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

/// Threads, what they do, and how it begins.
pub struct Scenario {
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
            time_outs: 0,
            barrier: None,
            threads: vec![thread; codes.len()],
        };
        Scenario { twin: Twin::Sound, has_barrier: true, start, codes }
    }

    /// With this left out.
    pub fn twin(self, twin: Twin) -> Scenario {
        Scenario { twin, ..self }
    }

    /// The barrier reaches these processes, and they know it.
    pub fn registered<const N: usize>(mut self, processes: [usize; N]) -> Scenario {
        for process in processes {
            self.start.registered[process] = true;
            self.start.memory[REGISTERED + process] = 1;
        }
        self
    }

    /// So many sleeps may time out, at any moment.
    pub fn timing_out(mut self, count: u32) -> Scenario {
        self.start.time_outs = count;
        self
    }

    /// The barrier reaches nobody, and those who are registered think it does.
    pub fn before_registering(mut self) -> Scenario {
        self.start.registered = [false; 3];
        self
    }

    /// The sleeper's barrier fails when it is first needed.
    pub fn failing_barrier(self) -> Scenario {
        Scenario { has_barrier: false, ..self }
    }

    /// The sleeper has no barrier, and said so before anything else happens.
    pub fn without_barrier(mut self) -> Scenario {
        self.start.memory[WORD] = Alone::reset(self.start.memory[WORD], false);
        self.failing_barrier()
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
            (Ok(()), None) => Next::Part(part + 1),
            (Err(panic), None) => resume_unwind(panic),
            (Ok(_), Some(_)) => unreachable!("the code was unwound"),
        }
    }

    /// Goes through all states.
    pub fn explore(&self) -> Explored {
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
            // When nothing else can happen it is a wake-up that was lost.
            if state.asleep && state.time_outs > 0 && !after.is_empty() {
                let mut state = state.clone();
                (state.asleep, state.time_outs) = (false, state.time_outs - 1);
                state.give(SLEEPER, 0);
                after.push(state);
            }
            if after.is_empty() {
                // Every waker is done, so what the sleeper waits for is there.
                ends += 1;
                lost += usize::from(state.asleep);
            }
            open.extend(after.into_iter().filter(|s| seen.insert(s.clone())));
        }
        assert!(ends > 0, "nothing ends");
        Explored { states: seen.len(), ends, lost }
    }
}

/// What was found in all states that there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// How many there are.
    pub states: usize,
    /// In so many of them nothing more can happen.
    pub ends: usize,
    /// In so many of those the sleeper sleeps on.
    pub lost: usize,
}

impl std::fmt::Display for Explored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Explored { states, ends, lost } = self;
        write!(f, "{states} states, a wake-up is lost in {lost} of {ends} ends")
    }
}
