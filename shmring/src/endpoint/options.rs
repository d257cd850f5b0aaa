//! What a caller may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::layout::{CodecId, Order};
use crate::os::advice::MapOptions;

/// What a region should be, and how this process maps it.
///
/// | | a region that is created | one that exists |
/// |---|---|---|
/// | capacity, record alignment, producers, order, codec, schema, mode, group | has them | must have those that were given |
/// | [`start_at`](Self::start_at) | begins there | keeps its own |
/// | [`huge_pages`](Self::huge_pages) | is laid out for them | must be so |
/// | prefault, lock, advice, guard | not kept in it: each process chooses | the same |
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.ring");
/// use shmring::RegionOptions;
/// let region = RegionOptions::new().capacity(8 << 20).open_or_create(&path)?;
/// assert_eq!(region.capacity(), 8 << 20);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RegionOptions {
    pub(crate) capacity: Option<u64>,
    pub(crate) record_align: Option<u64>,
    pub(crate) max_producers: Option<u32>,
    pub(crate) order: Option<Order>,
    pub(crate) start_position: u64,
    pub(crate) start_sequence: u64,
    pub(crate) codec: Option<CodecId>,
    pub(crate) schema: Option<Schema>,
    pub(crate) mode: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) map: MapOptions,
}

impl RegionOptions {
    /// Capacity of a producer's ring when none is asked for: 1 MiB. Below
    /// 256 KiB, lines that two cores share move at half speed; from messages of
    /// 1 KiB up, 8 MiB is faster.
    pub const DEFAULT_CAPACITY: u64 = 1 << 20;
    /// Record alignment when none is asked for: 16 bytes.
    pub const DEFAULT_RECORD_ALIGN: u64 = 16;
    /// Producers at a time when no number is asked for: 16.
    pub const DEFAULT_MAX_PRODUCERS: u32 = 16;

    /// Nothing asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of each producer's ring: a power of two from 64 KiB to 1 TiB. A
    /// message may have all of it but 256 bytes.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Records start at multiples of this many bytes: 8, 16 or 64.
    pub fn record_align(mut self, bytes: u64) -> Self {
        self.record_align = Some(bytes);
        self
    }

    /// How many producers there can be at a time, from 1 to 1024. Each has a
    /// ring of its own, a lane, which takes space when a producer first takes it.
    pub fn max_producers(mut self, count: u32) -> Self {
        self.max_producers = Some(count);
        self
    }

    /// In which order messages of different producers are delivered.
    pub fn order(mut self, order: Order) -> Self {
        self.order = Some(order);
        self
    }

    /// Position of the first record and sequence of the first message, for
    /// tests of what happens when they wrap. Not compared with a region that
    /// exists.
    pub fn start_at(mut self, position: u64, sequence: u64) -> Self {
        self.start_position = position;
        self.start_sequence = sequence;
        self
    }

    /// The codec that the payloads are in.
    pub fn codec(mut self, codec: CodecId) -> Self {
        self.codec = Some(codec);
        self
    }

    /// What the payloads mean.
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }
}

/// Name and version of what the payloads mean, chosen by the caller. Two
/// programs that name different ones cannot attach to the same region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// At most 64 bytes, none of them zero.
    pub name: String,
    /// Changes when the meaning does.
    pub version: u32,
}

impl Schema {
    /// A schema.
    pub fn new(name: impl Into<String>, version: u32) -> Schema {
        Schema { name: name.into(), version }
    }

    /// The number in the header: CRC32C of the name above, the version below.
    pub(crate) fn fingerprint(&self) -> u64 {
        (crc32c::crc32c(self.name.as_bytes()) as u64) << 32 | self.version as u64
    }
}

impl std::fmt::Display for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() && self.version == 0 {
            return f.write_str("(none)");
        }
        // A name comes from another process and may go to a terminal.
        write!(f, "{} version {}", self.name.escape_debug(), self.version)
    }
}

/// How a blocking call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Spin for about fifty microseconds, yield once, then sleep until woken. After
    /// two sleeps in a row spin for some microseconds only, mostly. A consumer
    /// faster than its producer lets messages gather for up to some microseconds,
    /// where that has turned out to pay.
    #[default]
    Adaptive,
    /// Never give the processor away: the lowest latency, for a core of one's own.
    Spin,
    /// Sleep as soon as a few glances, within some tenths of a microsecond, have
    /// found nothing. A consumer keeps off as with `Adaptive`.
    Park,
}

/// A handle's way of waiting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    pub(crate) strategy: Wait,
    pub(crate) interrupt: Option<Arc<AtomicBool>>,
    /// When to look at the file again, and a consumer at the producers.
    pub(crate) next_check: Option<Instant>,
    /// Reads since, modulo 256: whoever never waits looks at the clock at times.
    pub(crate) reads: u8,
    /// Sleeps since something came before one.
    pub(crate) in_vain: u32,
    pub(crate) pace: Pace,
}

/// How a consumer that is faster than its producer keeps off the line that the
/// producer is writing: see `wait/pace.rs`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// How long it keeps off when it finds the ring empty.
    pub(crate) pauses: u32,
    /// So many times more it does not try whether that pays.
    pub(crate) rest: u32,
    /// Messages since it found the ring empty last.
    pub(crate) messages: u64,
}

impl Waiting {
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
