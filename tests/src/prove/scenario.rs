//! The grid: which operation, on which ring, with which record where.

use shmring::Order;
use shmring::internals::layout::record::{self, GAP_BYTES, HEADER_BYTES, Kind, TICKET_BYTES};
use shmring::internals::ring::Shape;
use tests::Random;

/// Bytes of the ring: the smallest there is.
pub(crate) const CAPACITY: u64 = 64 * 1024;

/// Payload lengths: around a word, around each alignment, a copy by wide pieces; by
/// the string instruction on a processor without AVX.
const LENGTHS: [usize; 12] = [0, 1, 7, 8, 9, 24, 40, 56, 64, 100, 300, 2100];
const ALIGNS: [u64; 3] = [8, 16, 64];
const LOADS: [Load; 4] = [Load::Empty, Load::Few, Load::Eighth, Load::Full];
/// Where the lap begins that the operation is in or starts: the second ends
/// where positions wrap.
const LAPS: [u64; 3] = [5 * CAPACITY, 0u64.wrapping_sub(CAPACITY), 0];
/// The sequence of the first message: the header's 24 bits wrap, all 64 do.
const SEQUENCES: [u64; 5] = [41, (1 << 24) - 1, (1 << 24) - 3, u64::MAX, u64::MAX - 2];

/// Scenarios in a round: every length, place, alignment and load comes up.
pub(crate) const ROUND: usize = LENGTHS.len();

/// What the stepped process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `Producer::try_send`.
    Send,
    /// `Producer::try_reserve`, two writes, `Grant::commit`.
    ReserveCommit,
    /// `Producer::batch`, three messages, `Batch::publish`.
    Batch,
    /// `Consumer::try_read` twice, `Consumer::commit`.
    ReadCommit,
    /// `Consumer::try_read` twice, each message written to a file in two
    /// pieces, `Consumer::commit_at`.
    FileCommit,
    /// `Region::producer` after one that died in a batch or a long message.
    Takeover,
    /// `Region::consumer` after one that died with a message uncommitted.
    ConsumerAttach,
    /// `Region::open`, `Region::consumer` where there never was one.
    FirstConsumer,
    /// `Region::open`, `Region::producer` in a lane that nobody ever had.
    FirstProducer,
    /// `Region::open`, `Region::producer` after one that closed the lane.
    NextProducer,
    /// `Producer::close`.
    Close,
    /// `Region::producer_with` in a lane that nobody ever had, beside a living
    /// producer.
    LaneTake,
    /// In total order: `Producer::try_send`, another producer's, then
    /// `Producer::batch` with three messages, and the other's again.
    TotalSend,
    /// `Producer::drop_message` for both causes, a message when there is room,
    /// a batch that ends with a drop, `Producer::close`.
    DropMessage,
    /// `Consumer::commit_at` of what was read from two lanes, then of what was
    /// read from one of them, then of nothing.
    LanesCommit,
}

impl Operation {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Send => "send",
            Operation::ReserveCommit => "reserve_commit",
            Operation::Batch => "batch",
            Operation::ReadCommit => "read_commit",
            Operation::FileCommit => "file_commit",
            Operation::Takeover => "takeover",
            Operation::ConsumerAttach => "consumer_attach",
            Operation::FirstConsumer => "first_consumer",
            Operation::FirstProducer => "first_producer",
            Operation::NextProducer => "next_producer",
            Operation::Close => "close",
            Operation::LaneTake => "lane_take",
            Operation::TotalSend => "total_send",
            Operation::DropMessage => "drop_message",
            Operation::LanesCommit => "lanes_commit",
        }
    }

    /// True if it publishes the subjects; else they are there before it.
    pub(crate) fn publishes(self) -> bool {
        use Operation::{Batch, DropMessage, ReserveCommit, Send, TotalSend};
        matches!(self, Send | ReserveCommit | Batch | TotalSend | DropMessage)
    }

    /// True if the region is as it was created, but for the messages that the
    /// operation finds.
    pub(crate) fn is_on_new_region(self) -> bool {
        matches!(self, Operation::FirstConsumer | Operation::FirstProducer)
    }

    /// True if most of its instructions have nothing to do with the lane, and
    /// this harness can tell where those are.
    pub(crate) fn attaches(self) -> bool {
        use Operation::*;
        cfg!(target_arch = "x86_64")
            && [Takeover, ConsumerAttach, FirstConsumer, FirstProducer, NextProducer, LaneTake]
                .contains(&self)
    }

    fn lanes(self) -> usize {
        match self {
            Operation::LaneTake | Operation::TotalSend | Operation::LanesCommit => 2,
            _ => 1,
        }
    }
}

/// What is in the ring before the subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing: everything was committed.
    Empty,
    /// Two short messages.
    Few,
    /// So much that the next publish writes a check point, unless it is of one
    /// record of the least size.
    Eighth,
    /// So much that the subjects fill the ring to the last record.
    Full,
}

/// Where in the ring the first subject's header lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Middle,
    Start,
    LastRecord,
    Last64,
    EndsAtTheEnd,
    EndsJustBehind,
    HalfOver,
}

const PLACES: [Place; 7] = [
    Place::LastRecord,
    Place::HalfOver,
    Place::EndsAtTheEnd,
    Place::Middle,
    Place::EndsJustBehind,
    Place::Start,
    Place::Last64,
];

impl Place {
    fn offset(self, size: u64, align: u64) -> u64 {
        let before_end = match self {
            Place::Middle => 2 * CAPACITY / 3,
            Place::Start => CAPACITY,
            Place::LastRecord => align,
            Place::Last64 => 64,
            Place::EndsAtTheEnd => size,
            Place::EndsJustBehind => size.saturating_sub(align),
            Place::HalfOver => size / 2,
        };
        CAPACITY.wrapping_sub(before_end) / align * align
    }
}

/// One operation on one ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// What is done.
    pub(crate) operation: Operation,
    /// What is there before.
    pub(crate) load: Load,
    /// Numbered within its operation.
    pub(crate) number: usize,
    /// The region's: one, or two of which the other is a living producer's.
    pub(crate) lanes: usize,
    len: usize,
    place: Place,
    align: u64,
    lap: u64,
    first_sequence: u64,
}

impl Scenario {
    /// The `number`th scenario of `operation`. Every [`ROUND`] of them has all
    /// lengths; the other properties go round at other speeds.
    pub(crate) fn new(operation: Operation, number: usize) -> Scenario {
        let round = number / ROUND;
        Scenario {
            operation,
            number,
            lanes: operation.lanes(),
            len: LENGTHS[number % LENGTHS.len()],
            place: PLACES[number % PLACES.len()],
            align: ALIGNS[(number + round) % ALIGNS.len()],
            load: LOADS[(number / 3 + round) % LOADS.len()],
            lap: LAPS[(number / 2 + round) % LAPS.len()],
            first_sequence: SEQUENCES[number % SEQUENCES.len()],
        }
    }

    /// The same in a region of two lanes.
    pub(crate) fn beside_another(self) -> Scenario {
        Scenario { lanes: 2, ..self }
    }

    /// On the same ring, another operation.
    pub(crate) fn followed_by(self, operation: Operation) -> Scenario {
        Scenario { operation, ..self }
    }

    /// The lane that the plan is about. Nobody has it yet that takes one.
    pub(crate) fn lane(&self) -> usize {
        match self.operation {
            Operation::Takeover | Operation::TotalSend => self.lanes - 1,
            _ => 0,
        }
    }

    /// In which order messages of different producers are delivered.
    pub(crate) fn order(&self) -> Order {
        if self.operation == Operation::TotalSend { Order::Total } else { Order::Fifo }
    }

    /// How many messages it drops before the last subjects.
    pub(crate) fn drops(&self) -> usize {
        (self.operation == Operation::TotalSend && self.twisted()) as usize
    }

    /// True if the words that are not part of the protocol's truth should be
    /// made stale or wrong before the operation.
    pub(crate) fn twisted(&self) -> bool {
        self.number % 2 == 1
    }

    /// True if only those stretches are stepped in which the lane changes.
    /// The first scenario of every operation is stepped as a whole.
    pub(crate) fn needs_focus(&self) -> bool {
        self.operation.attaches() && self.number > 0
    }

    /// The sizes.
    pub(crate) fn shape(&self) -> Shape {
        let prefix = if self.order() == Order::Total { TICKET_BYTES } else { 0 };
        Shape { capacity: CAPACITY, align: self.align, prefix }
    }

    /// Lengths of the messages that the operation is about.
    fn subjects(&self) -> Vec<usize> {
        use Operation::*;
        match self.operation {
            Send | ReserveCommit | Takeover | Close | NextProducer => vec![self.len],
            Batch | ReadCommit | FileCommit | ConsumerAttach | FirstConsumer => vec![self.len, 24, 9],
            TotalSend => vec![self.len, 24, 9, 40],
            DropMessage | LaneTake | LanesCommit => vec![self.len, 24],
            FirstProducer => vec![],
        }
    }

    /// Lengths of the messages before the subjects, `room` bytes at most.
    fn pending(&self, room: u64) -> Vec<usize> {
        const PIECE: u64 = 16 * 1024;
        let before = self.shape().before_payload();
        match self.load {
            _ if self.operation == Operation::FirstProducer => vec![],
            Load::Empty => vec![],
            Load::Few => vec![40, 0],
            Load::Eighth => vec![(CAPACITY / 8 - SPACER_SIZE - self.align - before) as usize],
            Load::Full => {
                (0..room.div_ceil(PIECE)).map(|i| ((room - i * PIECE).min(PIECE) - before) as usize).collect()
            }
        }
    }

    /// All numbers of the scenario.
    pub(crate) fn plan(&self) -> Plan {
        let shape = self.shape();
        let size = |lens: &[usize]| lens.iter().map(|&l| shape.record_size(l as u64)).sum::<u64>();
        let subjects = self.subjects();
        let size_of_subjects = size(&subjects) + self.drops() as u64 * size(&[GAP_BYTES as usize]);
        // What an exactly full ring holds: see `Writer::claim`.
        let used = CAPACITY - size(&[GAP_BYTES as usize, 0]) - HEADER_BYTES;
        // In a ring that is full before it, a message is dropped.
        let kept_free = if self.operation == Operation::DropMessage { 0 } else { size_of_subjects };
        let pending = self.pending(used / self.align * self.align - kept_free);

        let at = self.lap.wrapping_add(self.place.offset(size_of_subjects, self.align));
        let spacer = (SPACER_SIZE - shape.before_payload()) as usize;
        let fillers = match self.operation.is_on_new_region() {
            true => vec![],
            false => [vec![shape.max_len() as usize; FILLERS], vec![spacer]].concat(),
        };
        let end = at.wrapping_add(size_of_subjects);
        let end_mark = if self.operation == Operation::Close { self.align } else { 0 };
        let messages = (pending.len() + subjects.len() + self.drops()) as u64;
        Plan {
            start_position: at.wrapping_sub(size(&fillers) + size(&pending)),
            start_sequence: self.first_sequence.wrapping_sub(fillers.len() as u64),
            first_sequence: self.first_sequence,
            believable: self.first_sequence.wrapping_add(messages),
            end: end.wrapping_add(end_mark),
            bytes_before: fillers.iter().sum::<usize>() as u64,
            fillers,
            pending,
            subjects,
        }
    }

    /// How much to reserve for a message of `len` bytes: a little more where
    /// there is room, and where there is most, so much that a check point is due.
    pub(crate) fn reserve(&self, len: usize) -> usize {
        match self.load {
            Load::Empty => self.shape().max_len() as usize,
            Load::Few | Load::Eighth => len + 100,
            Load::Full => len,
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Scenario { operation, number, lanes, len, place, load, align, lap, first_sequence } = self;
        write!(
            f,
            "{} #{number}: {len} bytes at {place:?}, ring {load:?}, {lanes} lanes, ",
            operation.name()
        )?;
        write!(f, "alignment {align}, lap {lap:#x}, from sequence {first_sequence:#x}")
    }
}

/// Messages of nearly the ring's size: three leave no other word in it but the
/// last one's header.
const FILLERS: usize = 3;
/// The record of a message that covers that header too. It has the same size
/// at every alignment, without padding.
const SPACER_SIZE: u64 = 320;

/// The numbers of a scenario.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Payload lengths of the messages that fill the ring with words to be
    /// mistaken for headers, and are committed before everything else.
    pub(crate) fillers: Vec<usize>,
    /// Where the region starts, so that the first subject lies in its place.
    pub(crate) start_position: u64,
    /// The sequence of the first message.
    pub(crate) start_sequence: u64,
    /// The sequence of the first message that is not committed at the start.
    pub(crate) first_sequence: u64,
    /// The sequence that comes next after the operation: all payloads are
    /// headers that carry it.
    pub(crate) believable: u64,
    /// The tail after the operation.
    pub(crate) end: u64,
    /// Payload bytes published before `first_sequence`.
    pub(crate) bytes_before: u64,
    /// Payload lengths of what lies in the ring before the subjects.
    pub(crate) pending: Vec<usize>,
    /// Payload lengths of what the operation is about.
    pub(crate) subjects: Vec<usize>,
}

/// The payload of a message: words that the reader of `believable` would take
/// for headers of short messages, and that tell one message from another.
pub(crate) fn payload(believable: u64, sequence: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut random = Random::of(sequence ^ (len as u64) << 32);
    while bytes.len() < len {
        let any = random.word();
        let word = record::encode(Kind::Data, (any >> 56) as u8 & 7, any as u32 % 1000, believable);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
