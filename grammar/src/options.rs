//! Options that several programs have.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use shmring::{AttachError, NameError, Order, Region, RegionOptions, Wait};

use crate::frame::Framing;
use crate::units::{parse_duration, parse_size};

/// Which ring, and how much to say of it.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The ring: a name, or a path with a '/' in it
    #[arg(
        value_name = "RING",
        long_help = "The ring: a name, or a path with a '/' in it.\n\
        A name stands for $SHMRING_DIR/NAME.ring; without SHMRING_DIR, for \
        /dev/shm/shmring-<uid>/NAME.ring. It has at most 64 letters, digits, '.', '_' and '-'."
    )]
    pub ring: String,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented where it is defined")]
    pub verbosity: Verbosity,
}

/// How much to say on stderr.
#[derive(Debug, Clone, Args)]
pub struct Verbosity {
    /// Say more (twice: still more)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Common {
    /// The path that the ring's name stands for.
    ///
    /// # Errors
    /// As [`shmring::path_of`].
    pub fn path(&self) -> Result<PathBuf, NameError> {
        shmring::path_of(&self.ring)
    }
}

/// How often a ring that others create and remove is opened anew.
const ROUNDS: usize = 100;

/// Which region, and how to wait for its other side.
#[derive(Debug, Clone, Args)]
pub struct RegionFlags {
    /// Capacity of the ring, if it has to be created [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub capacity: Option<u64>,

    /// Fail if there is no such ring, instead of creating it
    #[arg(long)]
    pub no_create: bool,

    /// How to wait
    #[arg(long, value_enum, default_value = "adaptive")]
    pub wait: WaitFlag,

    /// Give up (exit code 4) when nothing moves for this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

impl RegionFlags {
    /// Opens the ring, or creates it where that is allowed, and attaches to it
    /// by `attach`. If that fails, a ring that was created for it is removed;
    /// if the ring was removed meanwhile, it starts again.
    ///
    /// # Errors
    /// As [`RegionOptions::open_or_create`], and those of `attach`.
    pub fn attach<T>(
        &self,
        path: &Path,
        mut options: RegionOptions,
        mut attach: impl FnMut(&Region) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Some(capacity) = self.capacity {
            options = options.capacity(capacity);
        }
        for round in 1.. {
            let region = if self.no_create { options.open(path) } else { options.open_or_create(path) }?;
            match attach(&region) {
                Err(e) if round < ROUNDS && matches!(e.downcast_ref(), Some(AttachError::Removed)) => {}
                Err(e) if region.is_new() => {
                    let _ = Region::remove(path);
                    return Err(e);
                }
                attached => return attached,
            }
        }
        unreachable!("the rounds end with a result")
    }

    /// When to give up, if nothing moves from now on.
    pub fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|t| Instant::now().checked_add(t))
    }
}

/// What a ring that is created is like for its producers.
#[derive(Debug, Clone, Args)]
pub struct LaneFlags {
    /// How many producers a new ring takes at a time, from 1 to 1024 [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_producers: Option<u32>,

    /// How a new ring orders messages of different producers [default: fifo]
    #[arg(long, value_enum)]
    order: Option<OrderFlag>,
}

/// The values of `--order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OrderFlag {
    /// Each producer's in the order it sent them
    Fifo,
    /// All in the order of their sends: costs more
    Total,
}

impl LaneFlags {
    /// The options with what was asked for.
    pub fn apply(&self, mut options: RegionOptions) -> RegionOptions {
        if let Some(count) = self.max_producers {
            options = options.max_producers(count);
        }
        match self.order {
            None => options,
            Some(OrderFlag::Fifo) => options.order(Order::Fifo),
            Some(OrderFlag::Total) => options.order(Order::Total),
        }
    }
}

/// How messages are told apart in a stream of bytes.
#[derive(Debug, Clone, Args)]
pub struct Framed {
    /// How messages are told apart: lines, nul, len32 or raw:N
    #[arg(
        long,
        value_name = "FRAMING",
        default_value = "lines",
        value_parser = Framing::from_str,
        long_help = "How messages are told apart:\n\
        lines   each ends with a newline\n\
        nul     each ends with a zero byte\n\
        len32   each begins with its length, 4 bytes little-endian\n\
        raw:N   blocks of N bytes, the last one may be shorter"
    )]
    pub framing: Framing,
}

/// The values of `--wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFlag {
    /// Spin shortly, then sleep until woken
    Adaptive,
    /// Never sleep: lowest latency, a whole core
    Spin,
    /// Sleep at once
    Park,
}

impl From<WaitFlag> for Wait {
    fn from(flag: WaitFlag) -> Wait {
        match flag {
            WaitFlag::Adaptive => Wait::Adaptive,
            WaitFlag::Spin => Wait::Spin,
            WaitFlag::Park => Wait::Park,
        }
    }
}
