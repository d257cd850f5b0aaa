use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What one process of one round does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Which contestant, where a program has several.
    pub name: String,
    /// Which side.
    pub role: Role,
    /// What is measured.
    pub measure: Measure,
    /// Bytes of a message, at least 8.
    pub size: usize,
    /// The core to stay on; `None`: where the system puts it.
    pub core: Option<usize>,
    /// A folder of this round's own, for files and sockets.
    pub place: PathBuf,
    /// What the contestants can be told.
    pub settings: Settings,
}

/// A side of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// One of those who send, from 0.
    Sender(u32),
    /// Who receives.
    Receiver,
    /// Sends back what it gets.
    Server,
    /// Sends, waits for what comes back, and takes the time.
    Client,
    /// Both sides, as threads.
    Both,
    /// None: prints one line, what it is and how it is set up for the plan.
    Describe,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// As many messages as possible one way.
    OneWay {
        /// Messages of each sender that are timed.
        messages: u64,
        /// Messages of each sender before those.
        warmup: u64,
        /// Messages that are handed over together; 1: each for itself.
        batch: u32,
        /// Pauses (`spin_loop`) of work before each message.
        work: u32,
    },
    /// A message there, the same back.
    RoundTrip {
        /// Round trips that are timed.
        messages: u64,
        /// Round trips before those.
        warmup: u64,
    },
    /// One message at a time to a receiver that has gone to sleep.
    Wake {
        /// How many.
        messages: u64,
        /// Between them, in microseconds.
        every: u64,
    },
    /// Nothing is sent: what does the receiver use while it waits?
    Idle {
        /// So long, in milliseconds.
        millis: u64,
    },
}

/// What the contestants can be told. Each takes note of what it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Bytes of the ring, or of the buffer.
    pub capacity: u64,
    /// Where records start.
    pub align: u64,
    /// How many send at the same time.
    pub senders: u32,
    /// Messages of all senders in one order.
    pub total_order: bool,
    /// Lanes that somebody uses and nobody sends in.
    pub idle_lanes: u32,
    /// Messages are written and read where they are.
    pub in_place: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            capacity: 1 << 20,
            align: 16,
            senders: 1,
            total_order: false,
            idle_lanes: 0,
            in_place: false,
        }
    }
}

/// The runner writes one word a line, the side answers each with `ok`, and the
/// last with an [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make what others connect to.
    Bind,
    /// Connect to it.
    Connect,
    /// Begin.
    Go,
}

impl Step {
    /// All, in order.
    pub const ALL: [Step; 3] = [Step::Bind, Step::Connect, Step::Go];

    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            Step::Bind => "bind",
            Step::Connect => "connect",
            Step::Go => "go",
        }
    }
}

/// What a side measured. A sender's has its processor time only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages or round trips that were timed.
    pub messages: u64,
    /// What they took together.
    pub nanos: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came torn, twice, or out of order.
    pub wrong: u64,
    /// Processor time of this side in that time.
    pub cpu_nanos: u64,
    /// Of each message, where each is timed.
    pub latency: Option<Percentiles>,
}

/// Of a distribution, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are at most this.
    pub p50: u64,
    /// 99 of 100 are.
    pub p99: u64,
    /// 999 of 1000 are.
    pub p999: u64,
    /// All are.
    pub max: u64,
}

impl Percentiles {
    /// Those of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Percentiles {
        Percentiles {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}
