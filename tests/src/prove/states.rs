//! Lanes as they may be found: one state after the other, as steps are taken.

use anyhow::{Result, ensure};
use shmring::Cause;
use shmring::internals::ring::Sink;

use super::scenario::{Plan, Scenario, payload};

/// What a consumer is told.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum What {
    Message(Vec<u8>),
    /// So many messages were dropped.
    Gap(u64),
    End,
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            What::Message(payload) => write!(f, "{} bytes, crc {:x}", payload.len(), crc32c::crc32c(payload)),
            What::Gap(count) => write!(f, "{count} dropped"),
            What::End => write!(f, "end"),
        }
    }
}

/// Something of a lane that a consumer is told.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) lane: usize,
    pub(crate) sequence: u64,
    pub(crate) what: What,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lane {} {:#x}: {:?}", self.lane, self.sequence, self.what)
    }
}

/// How many causes of drops there are.
const CAUSES: usize = Cause::ALL.len();

/// What a lane's next producer goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The sequence of its first message.
    pub(crate) next: u64,
    /// Payload bytes published before.
    pub(crate) bytes: u64,
    /// Messages dropped before, by cause.
    pub(crate) dropped: [u64; CAUSES],
    /// How many of them no gap tells of.
    pub(crate) untold: u64,
}

/// All that the survivors can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// What is not committed: in the order of delivery; where that is not
    /// fixed, lane after lane.
    pub(crate) told: Vec<Told>,
    /// Of each lane.
    pub(crate) tails: Vec<Tail>,
    /// The first sequence of each lane that is not committed.
    pub(crate) committed: Vec<u64>,
    /// What was committed with it.
    pub(crate) sink: Sink,
}

/// One step of the stepped process, or of its set-up.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A message that there is room for.
    Send(usize, Vec<u8>),
    /// A message that there is no room for.
    Fail(usize, Vec<u8>),
    /// Messages at one instant; then one is dropped.
    Batch(usize, Vec<Vec<u8>>, Option<Cause>),
    Drop(usize, Cause),
    /// So many messages, all of this lane.
    Read(usize, usize),
    /// Perhaps with a position in the sink.
    Commit(Option<u64>),
    Close(usize),
}

/// Who can take a step: the product, or the rings with a planted bug.
pub(crate) trait Hands {
    /// Takes it.
    fn take(&mut self, step: &Step) -> Result<()>;
}

/// The sink that positions are committed for.
pub(crate) const SINK: [u64; 4] = [1, 2, 3, 4];

/// The states that steps lead through, in order.
#[derive(Debug)]
pub(crate) struct States {
    scenario: Scenario,
    /// Messages of each lane that are read and not committed.
    read: Vec<usize>,
    all: Vec<State>,
}

impl States {
    /// What is there when the fillers are committed and the messages are
    /// there that the plan has before its operation.
    pub(crate) fn new(scenario: &Scenario, plan: &Plan) -> States {
        let fresh = Tail { next: plan.start_sequence, bytes: 0, dropped: [0; CAUSES], untold: 0 };
        let mut tails = vec![fresh; scenario.lanes];
        let tail = &mut tails[scenario.lane()];
        (tail.next, tail.bytes) = (plan.first_sequence, plan.bytes_before);
        let committed = tails.iter().map(|tail| tail.next).collect();
        let first = State { told: vec![], tails, committed, sink: Sink::default() };
        let mut states = States { scenario: *scenario, read: vec![0; scenario.lanes], all: vec![first] };
        let subjects = if scenario.operation.publishes() { &[][..] } else { &plan.subjects };
        let sequences = (0..).map(|i| plan.first_sequence.wrapping_add(i));
        for (sequence, &len) in sequences.zip(plan.pending.iter().chain(subjects)) {
            let message = payload(plan.believable, sequence, len);
            states.take(&Step::Send(scenario.lane(), message)).expect("a message");
        }
        states
    }

    /// The states since the last [`begin`](Self::begin).
    pub(crate) fn all(&self) -> &[State] {
        &self.all
    }

    /// Forgets how the last one came about: the operation begins.
    pub(crate) fn begin(&mut self) {
        self.all.drain(..self.all.len() - 1);
    }

    /// What comes of a step.
    pub(crate) fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Send(lane, message) => self.publish(*lane, std::slice::from_ref(message)),
            Step::Fail(..) => {}
            Step::Batch(lane, messages, cause) => {
                self.publish(*lane, messages);
                if let Some(cause) = cause {
                    self.drop_message(*lane, *cause);
                }
            }
            Step::Drop(lane, cause) => self.drop_message(*lane, *cause),
            Step::Read(lane, count) => self.read[*lane] += count,
            Step::Commit(position) => self.commit(*position)?,
            Step::Close(lane) => {
                self.tell_gap(*lane);
                let mut state = self.next();
                let sequence = state.tails[*lane].next;
                state.told.push(Told { lane: *lane, sequence, what: What::End });
                self.push(state);
            }
        }
        Ok(())
    }

    fn next(&self) -> State {
        self.all.last().expect("the first").clone()
    }

    fn push(&mut self, mut state: State) {
        sort(&self.scenario, &mut state.told);
        self.all.push(state);
    }

    fn publish(&mut self, lane: usize, messages: &[Vec<u8>]) {
        self.tell_gap(lane);
        let mut state = self.next();
        for message in messages {
            let tail = &mut state.tails[lane];
            state.told.push(Told { lane, sequence: tail.next, what: What::Message(message.clone()) });
            tail.next = tail.next.wrapping_add(1);
            tail.bytes += message.len() as u64;
        }
        self.push(state);
    }

    fn drop_message(&mut self, lane: usize, cause: Cause) {
        let mut state = self.next();
        let tail = &mut state.tails[lane];
        tail.next = tail.next.wrapping_add(1);
        tail.dropped[cause as usize] += 1;
        tail.untold += 1;
        self.push(state);
    }

    /// A gap needs no ticket: it comes right behind what its lane had before.
    fn tell_gap(&mut self, lane: usize) {
        let mut state = self.next();
        let tail = &mut state.tails[lane];
        let count = std::mem::take(&mut tail.untold);
        if count == 0 {
            return;
        }
        let gap = Told { lane, sequence: tail.next.wrapping_sub(count), what: What::Gap(count) };
        let at = state.told.iter().rposition(|told| told.lane == lane).map_or(0, |last| last + 1);
        state.told.insert(at, gap);
        self.push(state);
    }

    fn commit(&mut self, position: Option<u64>) -> Result<()> {
        let mut state = self.next();
        for (lane, left) in self.read.iter_mut().enumerate() {
            state.told.retain(|told| {
                let taken = told.lane == lane && *left > 0;
                if taken {
                    *left -= 1;
                    state.committed[lane] = told.sequence.wrapping_add(1);
                }
                !taken
            });
            ensure!(*left == 0, "more was read than there is");
        }
        if let Some(position) = position {
            state.sink = Sink { id: SINK, position };
        }
        self.push(state);
        Ok(())
    }
}

/// Brings what was told into the order of a [`State`].
pub(crate) fn sort(scenario: &Scenario, told: &mut [Told]) {
    if scenario.order() == shmring::Order::Fifo {
        told.sort_by_key(|told| told.lane);
    }
}
