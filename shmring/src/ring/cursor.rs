use super::shape::Rounding;
use super::{Corrupt, Fault, Memory, Shape, writer};
use crate::layout::record::{self, HEADER_BYTES, Kind};
use crate::layout::{Cause, Slot, Word};

/// How far a [`Reader`](super::Reader) is in one lane.
#[derive(Debug)]
pub struct Cursor<M> {
    memory: M,
    shape: Shape,
    rounding: Rounding,
    /// Committed: the producer may overwrite what lies before.
    head: u64,
    /// Read up to here.
    position: u64,
    /// The sequence of the message that comes next.
    sequence: u64,
    /// The lane's state word as of the last death that was told.
    death: u64,
    /// Something was read since the last commit.
    pub(super) is_touched: bool,
    /// It holds something impossible, and is not looked at any more.
    pub(super) is_aside: bool,
}

/// A record that was found and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which of the reader's lanes it is in.
    pub lane: u32,
    /// What it is.
    pub kind: Kind,
    /// Flag bits.
    pub flags: u8,
    /// Payload bytes, at most what the ring can hold.
    pub len: usize,
    /// Its sequence, if it is a message; that of the first dropped one, if it
    /// is a gap; the next message's, if it is an end mark.
    pub sequence: u64,
    position: u64,
}

impl Record {
    /// True for an end mark.
    pub fn is_end(&self) -> bool {
        self.kind == Kind::End
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }
}

impl<M: Memory> Cursor<M> {
    /// At what is committed in `slot`, which is not checked yet.
    pub(super) fn new(memory: M, shape: Shape, slot: Slot) -> Cursor<M> {
        let head = memory.load(Word::HeadPosition(slot));
        let sequence = memory.load(Word::HeadSequence(slot));
        let death = memory.load(Word::HeadDeath(slot));
        Cursor {
            memory,
            shape,
            rounding: shape.rounding(),
            head,
            position: head,
            sequence,
            death,
            is_touched: false,
            is_aside: false,
        }
    }

    /// Takes the lane over from whoever read it last, at the first message
    /// that was not committed; sets it aside if there can be none. The caller
    /// holds the consumer's lock.
    pub(super) fn take_over(&mut self) -> Result<(), Corrupt> {
        let taken = self.check_head();
        match taken {
            Ok(()) => self.memory.store_release(Word::Head, self.head), // FREE
            Err(_) => self.is_aside = true,
        }
        taken
    }

    fn check_head(&self) -> Result<(), Corrupt> {
        let (head, shape) = (self.head, &self.shape);
        let stored = self.memory.load(Word::Head);
        if !head.is_multiple_of(shape.align) {
            return Err(Corrupt { fault: Fault::Position, position: head, value: head });
        }
        // The commit is the slot; a consumer killed right after it has not
        // moved the head word yet. More than a ring apart is not possible.
        if head.wrapping_sub(stored) > shape.max_used() {
            return Err(Corrupt { fault: Fault::Head, position: head, value: stored });
        }
        Ok(())
    }

    /// The header word of the next record; 0: there is none.
    #[inline(always)]
    fn next_header(&self) -> u64 {
        self.memory.header_acquire(self.position) // PUBLISH
    }

    /// True if there is a next record. Whoever wants to see what it is loads its
    /// header again.
    #[inline(always)]
    pub fn is_next_there(&self) -> bool {
        !self.is_aside && self.memory.header(self.position) != 0
    }

    /// The same, but for an end mark: one that nothing follows may stay for long.
    #[inline(always)]
    pub(super) fn is_news_there(&self) -> bool {
        let word = if self.is_aside { 0 } else { self.memory.header(self.position) };
        word != 0 && !record::may_be_end(word)
    }

    /// The next record, if there is one. Everything about it is checked.
    #[inline(always)]
    pub(super) fn peek(&self, lane: u32) -> Result<Option<Record>, Corrupt> {
        match self.next_header() {
            0 => Ok(None),
            word if self.is_message(word) => Ok(Some(self.message(lane, word))),
            word => self.no_message(lane, word).map(Some),
        }
    }

    /// Copies the next record to `buffer` and steps over it, if it is a message
    /// and fits there; else nothing is done, and [`peek`](Self::peek) finds out
    /// what is there.
    #[inline(always)]
    pub(super) fn take(&mut self, lane: u32, buffer: &mut [u8]) -> Option<Record> {
        let word = self.next_header();
        if !self.is_message(word) {
            return None;
        }
        let message = self.message(lane, word);
        if message.len > buffer.len() {
            return None;
        }
        self.position = self.after(&message);
        self.sequence = message.sequence.wrapping_add(1);
        self.read(&message, &mut buffer[..message.len]);
        Some(message)
    }

    /// True if a word is that of the next message, and nothing is wrong with it.
    #[inline(always)]
    fn is_message(&self, word: u64) -> bool {
        record::is_message(word, self.sequence) && self.fits(record::message(word).1)
    }

    /// What a word says for which that is true.
    #[inline(always)]
    fn message(&self, lane: u32, word: u64) -> Record {
        let (flags, len) = record::message(word);
        let (sequence, position) = (self.sequence, self.position);
        Record { lane, kind: Kind::Data, flags, len: len as usize, sequence, position }
    }

    /// True if a record with that payload length lies within what was committed
    /// last and a ring behind it.
    #[inline(always)]
    fn fits(&self, len: u32) -> bool {
        let after = self.position.wrapping_add(self.rounding.size(len as u64));
        after.wrapping_sub(self.head) <= self.shape.max_used()
    }

    /// What a word is that is not that of the next message.
    #[cold]
    fn no_message(&self, lane: u32, word: u64) -> Result<Record, Corrupt> {
        let position = self.position;
        let corrupt = |fault| Err(Corrupt { fault, position, value: word });
        let Some(head) = record::decode(word) else {
            return corrupt(Fault::Header);
        };
        if !self.fits(head.len) {
            return corrupt(Fault::Length);
        }
        if !record::carries(head.sequence_low, self.sequence) {
            return corrupt(Fault::Sequence);
        }
        let len = head.len as usize;
        Ok(Record { lane, kind: head.kind, flags: head.flags, len, sequence: self.sequence, position })
    }

    /// True if there is anything behind `record`.
    pub fn is_followed(&self, record: &Record) -> bool {
        // Whoever wants to see what it is loads it again.
        self.memory.header(self.after(record)) != 0
    }

    /// True if a producer attached behind `record`, which is the last one: an
    /// attach writes a check point there, and an end mark has its own before.
    pub fn is_attached_behind(&self, record: &Record) -> bool {
        let slot = Slot::of(self.memory.load_acquire(Word::CheckGeneration)); // CHECK
        self.memory.load(Word::CheckTail(slot)) == self.after(record)
    }

    #[inline(always)]
    fn after(&self, record: &Record) -> u64 {
        record.position.wrapping_add(self.rounding.size(record.len as u64))
    }

    /// Copies the payload of `record` to `bytes`, which is as long as it.
    #[inline(always)]
    pub(super) fn read(&self, record: &Record, bytes: &mut [u8]) {
        debug_assert_eq!(bytes.len(), record.len);
        self.memory.read(self.payload_at(record), bytes);
    }

    /// The position of the payload of `record`, which is one of this lane's.
    #[inline(always)]
    pub fn payload_at(&self, record: &Record) -> u64 {
        record.position.wrapping_add(self.shape.before_payload())
    }

    /// How many messages the gap `record` says were dropped.
    pub(super) fn gap(&self, record: &Record) -> u64 {
        writer::gap(&self.memory, record.position, self.shape)
    }

    /// The ticket of `record`, a message in a region of total order.
    pub(super) fn ticket(&self, record: &Record) -> u64 {
        // Written before the header, which was loaded with Acquire.
        self.memory.header(record.position.wrapping_add(HEADER_BYTES))
    }

    /// The next commit writes it: notes that in `touched`, once.
    #[inline(always)]
    pub(super) fn touch(&mut self, lane: u32, touched: &mut Vec<u32>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(lane);
        }
    }

    /// Steps over `record`, which takes `sequences` of them.
    #[inline(always)]
    pub(super) fn advance(&mut self, record: &Record, sequences: u64) {
        self.position = self.after(record);
        self.sequence = record.sequence.wrapping_add(sequences);
    }

    /// Writes down in `slot` how far it is.
    #[inline]
    pub(super) fn store(&self, slot: Slot) {
        self.memory.store(Word::HeadPosition(slot), self.position);
        self.memory.store(Word::HeadSequence(slot), self.sequence);
        self.memory.store(Word::HeadDeath(slot), self.death);
    }

    /// Gives what was read back to the producer: it is committed.
    #[inline]
    pub(super) fn free(&mut self) {
        self.memory.store_release(Word::Head, self.position); // FREE
        self.head = self.position;
        self.is_touched = false;
    }

    /// Messages that were dropped behind everything that is there, and that no
    /// gap tells of yet.
    pub fn untold_drops(&self) -> u64 {
        let slot = Slot::of(self.memory.load_acquire(Word::CheckGeneration)); // CHECK
        if self.memory.load(Word::CheckTail(slot)) != self.position {
            return 0;
        }
        let dropped = Cause::ALL.map(|cause| self.memory.load(Word::CheckDropped(slot, cause)));
        dropped
            .into_iter()
            .fold(0u64, u64::wrapping_add)
            .wrapping_sub(self.memory.load(Word::CheckGaps(slot)))
    }

    pub(super) fn set_death(&mut self, state: u64) {
        self.death = state;
    }

    /// The lane's state word as of the last death that was told: see
    /// [`Reader::set_death`](super::Reader::set_death).
    pub fn death(&self) -> u64 {
        self.death
    }

    /// Bytes read and not committed.
    pub fn uncommitted(&self) -> u64 {
        self.position.wrapping_sub(self.head)
    }

    /// The committed position.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The sequence of the message that comes next.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// True if the lane was set aside: see
    /// [`Reader::set_aside`](super::Reader::set_aside).
    pub fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}
