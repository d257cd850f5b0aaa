use crate::layout::record::{GAP_BYTES, HEADER_BYTES};

/// The private copy of a lane's sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the ring, a power of two.
    pub capacity: u64,
    /// Records start at multiples of this power of two.
    pub align: u64,
    /// Between header and payload: 0, or a ticket's 8.
    pub prefix: u64,
}

impl Shape {
    /// Bytes from one record's header to the next record's header.
    #[inline(always)]
    pub fn record_size(&self, len: u64) -> u64 {
        self.rounding().size(len)
    }

    /// The same, prepared for whoever asks for every message.
    #[inline(always)]
    pub(super) fn rounding(&self) -> Rounding {
        Rounding { add: self.before_payload() + self.align - 1, mask: !(self.align - 1) }
    }

    /// Bytes from a record's start to its payload.
    #[inline(always)]
    pub fn before_payload(&self) -> u64 {
        HEADER_BYTES + self.prefix
    }

    /// What is kept free behind every message: room for a gap and an end
    /// mark, so that closing never has to wait.
    #[inline(always)]
    pub(super) fn reserve(&self) -> u64 {
        self.record_size(GAP_BYTES) + self.record_size(0)
    }

    /// The longest payload that a lane accepts.
    #[inline(always)]
    pub fn max_len(&self) -> u64 {
        let record = (self.max_used() - self.reserve()) & !(self.align - 1);
        (record - self.before_payload()).min(u32::MAX as u64 - 1)
    }

    /// The most that records may take from head to tail: one word stays zero.
    #[inline(always)]
    pub fn max_used(&self) -> u64 {
        self.capacity - HEADER_BYTES
    }
}

/// How a payload's length becomes its record's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    add: u64,
    mask: u64,
}

impl Rounding {
    /// [`Shape::record_size`]: two steps, for the next record's place waits for them.
    #[inline(always)]
    pub(super) fn size(self, len: u64) -> u64 {
        (len + self.add) & self.mask
    }
}

/// Something in shared memory is impossible: a bug or a hostile peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (position {position}, value {value:#x})")]
pub struct Corrupt {
    /// What is impossible.
    pub fault: Fault,
    /// Where in the stream.
    pub position: u64,
    /// The word that was found.
    pub value: u64,
}

/// What is impossible about a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The consumer's head moved back or beyond the tail.
    #[error("the head is outside the records")]
    Head,
    /// A record's header is no word that a producer writes.
    #[error("a record has a header that no producer writes")]
    Header,
    /// A record reaches beyond what the ring can hold.
    #[error("a record is longer than the ring can hold")]
    Length,
    /// A record does not carry the sequence that comes next.
    #[error("a record carries another sequence than the next")]
    Sequence,
    /// A check point or commit slot holds a position that is no record's.
    #[error("a stored position is not aligned")]
    Position,
    /// A record carries a ticket that nobody drew, or one of before.
    #[error("a record carries a ticket that was not drawn for it")]
    Ticket,
    /// The lane's state word has an unknown phase.
    #[error("the lane's state is unknown")]
    State,
}
