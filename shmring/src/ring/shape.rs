use crate::layout::record::HEADER_BYTES;

/// The private copy of a lane's sizes, in bytes. Powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the ring.
    pub capacity: u64,
    /// Records start at multiples of this.
    pub align: u64,
}

impl Shape {
    /// Bytes from one record's header to the next record's header.
    #[inline(always)]
    pub fn record_size(&self, len: u64) -> u64 {
        (HEADER_BYTES + len + self.align - 1) & !(self.align - 1)
    }

    /// The longest payload that a lane accepts. A lane keeps room for an end
    /// mark behind every message, so that closing never has to wait.
    pub fn max_len(&self) -> u64 {
        (self.capacity - 2 * self.align - HEADER_BYTES).min(u32::MAX as u64 - 1)
    }

    /// The most that records may take from head to tail: one word stays zero.
    #[inline(always)]
    pub fn max_used(&self) -> u64 {
        self.capacity - HEADER_BYTES
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
    /// The lane's state word has an unknown phase.
    #[error("the lane's state is unknown")]
    State,
}
