//! The region without a ring: a queue for each lane and a few counts.

use super::*;

/// A record as the oracle remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) len: usize,
    pub(super) sequence: u64,
}

impl Kept {
    pub(super) fn of(record: Record) -> Kept {
        let Record { kind, flags, len, sequence, .. } = record;
        Kept { kind, flags, len, sequence }
    }
}

/// A lane.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    shape: Shape,
    /// Published and not committed; with the ticket of a message, or the count
    /// of a gap.
    pub(super) records: VecDeque<(Kept, u64)>,
    /// How many of those are read.
    pub(super) read: usize,
    pub(super) staged: Vec<Kept>,
    pub(super) head: u64,
    pub(super) tail: u64,
    /// Of the next message, if none was dropped.
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    pub(super) unterminated: u64,
    pub(super) dropped: [u64; 2],
    /// Dropped, and no gap tells of it.
    pub(super) pending: u64,
}

impl Lane {
    fn new(shape: Shape, position: u64, sequence: u64) -> Lane {
        Lane {
            shape,
            records: VecDeque::new(),
            read: 0,
            staged: Vec::new(),
            head: position,
            tail: position,
            sequence,
            bytes: 0,
            unterminated: 0,
            dropped: [0; 2],
            pending: 0,
        }
    }

    /// Not the product's formula: whole steps of the alignment.
    fn size(&self, len: usize) -> u64 {
        (HEADER_BYTES + self.shape.prefix + len as u64).div_ceil(self.shape.align) * self.shape.align
    }

    fn size_of<'a>(&self, records: impl IntoIterator<Item = &'a Kept>) -> u64 {
        records.into_iter().map(|record| self.size(record.len)).sum()
    }

    fn kept(&self, from: usize) -> impl Iterator<Item = &Kept> {
        self.records.iter().skip(from).map(|(kept, _)| kept)
    }

    /// Bytes read and not committed.
    pub(super) fn uncommitted(&self) -> u64 {
        self.size_of(self.kept(0).take(self.read))
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.wrapping_add(self.staged.len() as u64)
    }

    /// Room for so many bytes and for a zero word.
    fn fits(&self, size: u64) -> bool {
        let taken = self.size_of(self.kept(0)) + self.size_of(&self.staged);
        taken + size + HEADER_BYTES <= self.shape.capacity
    }

    fn gap_size(&self) -> u64 {
        self.size(GAP_BYTES as usize)
    }

    /// Room for the gap that is due, the message, a gap and an end mark.
    pub(super) fn has_room(&self, len: usize) -> bool {
        let due = if self.pending > 0 { self.gap_size() } else { 0 };
        self.fits(due + self.size(len) + self.gap_size() + self.size(0))
    }

    pub(super) fn stage(&mut self, flags: u8, len: usize) {
        let sequence = self.next_sequence();
        self.staged.push(Kept { kind: Kind::Data, flags, len, sequence });
    }

    pub(super) fn publish(&mut self, tickets: &mut u64) {
        for kept in std::mem::take(&mut self.staged) {
            self.sequence = self.sequence.wrapping_add(1);
            self.bytes += kept.len as u64;
            self.unterminated += (kept.flags & UNTERMINATED != 0) as u64;
            self.push(kept, *tickets);
            *tickets += 1;
        }
    }

    fn push(&mut self, kept: Kept, number: u64) {
        self.tail = self.tail.wrapping_add(self.size(kept.len));
        self.records.push_back((kept, number));
    }

    pub(super) fn drop_message(&mut self, cause: Cause) {
        self.dropped[cause as usize] += 1;
        self.pending += 1;
    }

    /// False if there is no room for it and for the message of `len` bytes
    /// behind it, if the ring can hold both.
    pub(super) fn publish_gap(&mut self, len: usize) -> bool {
        let alone = 2 * self.gap_size() + self.size(0);
        let both = alone + self.size(len);
        let fits = self.fits(if both + 8 <= self.shape.capacity { both } else { alone });
        if fits {
            self.put_gap();
        }
        fits
    }

    fn put_gap(&mut self) {
        let len = GAP_BYTES as usize;
        self.push(Kept { kind: Kind::Gap, flags: 0, len, sequence: self.sequence }, self.pending);
        self.sequence = self.sequence.wrapping_add(self.pending);
        self.pending = 0;
    }

    /// The gap before an end mark, if one is due.
    pub(super) fn end_gap(&mut self) {
        if self.pending > 0 && self.fits(self.gap_size() + self.size(0)) {
            self.put_gap();
        }
    }

    /// Without room the last record has to be an end mark already.
    pub(super) fn end(&mut self) {
        if self.fits(self.size(0)) {
            self.push(Kept { kind: Kind::End, flags: 0, len: 0, sequence: self.sequence }, 0);
        } else {
            assert_eq!(self.kept(0).last().map(|record| record.kind), Some(Kind::End));
        }
    }

    fn commit(&mut self) {
        self.head = self.head.wrapping_add(self.uncommitted());
        self.records.drain(..self.read);
        self.read = 0;
    }

    pub(super) fn unread(&self) -> Option<(Kept, u64)> {
        self.records.get(self.read).copied()
    }

    /// True if nothing is left but the end of a stream.
    pub(super) fn is_done(&self) -> bool {
        let mut left = self.kept(self.read);
        left.next().is_none_or(|first| first.kind == Kind::End && left.next().is_none())
    }

    /// True if what comes next is an end mark that something follows.
    pub(super) fn is_past_end(&self) -> bool {
        self.unread().is_some_and(|(kept, _)| kept.kind == Kind::End) && !self.is_done()
    }

    /// The lowest ticket that was not read.
    pub(super) fn ticket(&self) -> Option<u64> {
        let mut left = self.records.iter().skip(self.read);
        left.find(|(kept, _)| kept.kind == Kind::Data).map(|(_, ticket)| *ticket)
    }

    /// The sequence of the message that a reader expects.
    pub(super) fn expected(&self) -> u64 {
        self.unread().map_or(self.sequence, |(record, _)| record.sequence)
    }
}

/// The region.
#[derive(Debug, Clone)]
pub(super) struct Oracle {
    pub(super) shape: Shape,
    pub(super) lanes: Vec<Lane>,
    pub(super) tickets: u64,
    pub(super) ends: u64,
    pub(super) sink: Sink,
    /// Ends and sink as committed.
    pub(super) committed: (u64, Sink),
}

impl Oracle {
    pub(super) fn new(start: Start) -> Oracle {
        let lane = |i| Lane::new(start.shape, start.position(i), start.sequence(i));
        let lanes = (0..start.lanes).map(lane).collect();
        let (tickets, ends, sink) = (0, 0, Sink::default());
        Oracle { shape: start.shape, lanes, tickets, ends, sink, committed: (0, sink) }
    }

    pub(super) fn publish(&mut self, lane: usize) {
        self.lanes[lane].publish(&mut self.tickets);
    }

    /// Steps over the next record of a lane.
    pub(super) fn advance(&mut self, lane: usize) -> (Kept, u64) {
        let next = self.lanes[lane].unread().expect("something to step over");
        self.lanes[lane].read += 1;
        self.ends += (next.0.kind == Kind::End) as u64;
        next
    }

    pub(super) fn commit(&mut self) {
        self.lanes.iter_mut().for_each(Lane::commit);
        self.committed = (self.ends, self.sink);
    }

    /// A new reader starts from the commit.
    pub(super) fn forget_reads(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.read = 0);
        (self.ends, self.sink) = self.committed;
    }
}
