//! A lane's memory, as one sees and changes it who has the bug.

use std::cell::{Cell, RefCell};

use shmring::internals::layout::record::{self, GAP_BYTES, HEADER_BYTES};
use shmring::internals::layout::{Slot, Word};
use shmring::internals::ring::{Corrupt, Fault, Memory, Shape, Writer};

use super::Plant;

/// A memory with the bug as soon as it is armed.
#[derive(Debug)]
pub(crate) struct Planted<M> {
    memory: M,
    shape: Shape,
    plant: Option<Plant>,
    armed: Cell<bool>,
    /// What waits for the header that publishes it.
    held: RefCell<Vec<(u64, Vec<u8>)>>,
    /// Tickets that were drawn and not stored.
    tickets: Cell<u64>,
    /// Payloads written since the last header.
    payloads: Cell<usize>,
    /// The record that was looked at last: its position, and its sequence.
    last: Cell<(u64, u64)>,
}

impl<M: Memory> Planted<M> {
    /// A memory that will have the bug.
    pub(crate) fn new(memory: M, shape: Shape, plant: Option<Plant>) -> Planted<M> {
        Planted {
            memory,
            shape,
            plant,
            armed: Cell::new(false),
            held: RefCell::default(),
            tickets: Cell::new(0),
            payloads: Cell::new(0),
            last: Cell::new((0, 0)),
        }
    }

    /// The sizes of its ring.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// From now on it has it.
    pub(crate) fn arm(&self) {
        self.armed.set(true);
    }

    pub(super) fn has(&self, plant: Plant) -> bool {
        self.armed.get() && self.plant == Some(plant)
    }

    /// [`Plant::TerminatorAtReserve`]: what a claim of `len` bytes does.
    pub(super) fn terminate(&self, next: u64, len: usize) {
        if self.has(Plant::TerminatorAtReserve) {
            self.memory.store_header(next.wrapping_add(self.shape.record_size(len as u64)), 0);
        }
    }

    /// The zero behind a record is not stored when it is published.
    fn leaves_word(&self) -> bool {
        use Plant::{NoZeroAfterRecord, TagInsteadOfZero, TerminatorAtReserve};
        [NoZeroAfterRecord, TagInsteadOfZero, TerminatorAtReserve].into_iter().any(|plant| self.has(plant))
    }

    /// [`Plant::TagInsteadOfZero`]: a header that carries another sequence than
    /// the next is none. All records are messages.
    fn tagged(&self, position: u64, word: u64) -> u64 {
        let (at, sequence) = self.last.get();
        let sequence = sequence.wrapping_add((at != position) as u64);
        self.last.set((position, sequence));
        let is_next = record::decode(word).is_some_and(|head| record::carries(head.sequence_low, sequence));
        if is_next { word } else { 0 }
    }

    fn hold(&self, position: u64, bytes: &[u8]) {
        self.held.borrow_mut().push((position, bytes.to_vec()));
    }
}

/// How a new producer takes the lane over, with the bug or without.
pub(crate) fn take_over<M: Memory>(memory: Planted<M>, shape: Shape) -> Result<Writer<Planted<M>>, Corrupt> {
    if memory.has(Plant::HeadCheckedAgainstStoredTail) {
        let slot = Slot::of(memory.load_acquire(Word::CheckGeneration));
        let (position, value) = (memory.load(Word::CheckTail(slot)), memory.load_acquire(Word::Head));
        if position.wrapping_sub(value) > shape.max_used() {
            return Err(Corrupt { fault: Fault::Head, position, value });
        }
    }
    if memory.has(Plant::SequenceInItsOwnWord) {
        let sequence = memory.load(Word::SequenceHint);
        // The walk is for the tail, where it leaves a check point.
        Writer::take_over(&memory, shape)?;
        let slot = Slot::of(memory.load(Word::CheckGeneration));
        memory.store(Word::CheckSequence(slot), sequence);
    }
    Writer::take_over(memory, shape)
}

impl<M: Memory> Memory for Planted<M> {
    fn load(&self, word: Word) -> u64 {
        use Word::{CheckSequence, CheckTail, HeadPosition, HeadSequence, SequenceHint, TailHint};
        let value = self.memory.load(match word {
            CheckTail(_) if self.has(Plant::TailTrustedBlindly) => TailHint,
            CheckSequence(_) if self.has(Plant::TailTrustedBlindly) => SequenceHint,
            word => word,
        });
        let (position, sequence) = self.last.get();
        match word {
            CheckTail(_) | HeadPosition(_) => self.last.set((value, sequence)),
            CheckSequence(_) | HeadSequence(_) => self.last.set((position, value)),
            _ => {}
        }
        value
    }
    fn load_acquire(&self, word: Word) -> u64 {
        let value = self.memory.load_acquire(word);
        if word == Word::Head && self.has(Plant::NoSpareWord) {
            // As much as is kept free behind a message: all but for the zero is
            // for a gap and an end mark.
            let kept = self.shape.record_size(GAP_BYTES) + self.shape.record_size(0) + HEADER_BYTES;
            return value.wrapping_add(kept);
        }
        value
    }
    fn store(&self, word: Word, value: u64) {
        use Word::{CheckGaps, CheckTail, HeadPosition, HeadSequence, SinkPosition};
        if matches!(word, CheckTail(_)) && self.has(Plant::CheckPointNotWritten) {
            return;
        }
        let (plant, slotted): (_, fn(Slot) -> Word) = match word {
            SinkPosition(_) => (Plant::RedoWordsStoredApart, SinkPosition),
            CheckGaps(_) => (Plant::GapsCountedApart, CheckGaps),
            HeadPosition(_) => (Plant::LaneCommitsApart, HeadPosition),
            HeadSequence(_) => (Plant::LaneCommitsApart, HeadSequence),
            word => return self.memory.store(word, value),
        };
        let moved = [Slot::A, Slot::B].iter().all(|&slot| self.memory.load(slotted(slot)) != value);
        if plant == Plant::LaneCommitsApart && !moved && self.has(Plant::LaneNotRewritten) {
            return;
        }
        self.memory.store(word, value);
        if self.has(plant) {
            self.memory.store(slotted(Slot::A), value);
            self.memory.store(slotted(Slot::B), value);
        }
    }
    fn store_release(&self, word: Word, value: u64) {
        self.memory.store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.memory.replace(word, current, new)
    }
    fn add(&self, word: Word, value: u64) -> u64 {
        if word == Word::Tickets && self.has(Plant::TicketAfterPublish) {
            self.tickets.set(value);
        }
        self.memory.add(word, value)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        let word = self.memory.header_acquire(position);
        match self.plant {
            Some(Plant::TailTrustedBlindly) if self.armed.get() => 0,
            Some(Plant::TagInsteadOfZero) if self.armed.get() => self.tagged(position, word),
            _ => word,
        }
    }
    fn store_header(&self, position: u64, value: u64) {
        match self.tickets.get().checked_sub(1) {
            Some(left) => {
                self.tickets.set(left);
                self.hold(position, &value.to_le_bytes());
            }
            None if value == 0 && self.leaves_word() => {}
            None if value != 0 && self.has(Plant::BatchFirstHeaderFirst) => {
                self.hold(position, &value.to_le_bytes());
            }
            None => self.memory.store_header(position, value),
        }
    }
    fn store_header_release(&self, position: u64, value: u64) {
        self.memory.store_header_release(position, value);
        self.payloads.set(0);
        for (position, bytes) in self.held.borrow_mut().drain(..) {
            self.memory.write(position, &bytes);
        }
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        let is_first = self.payloads.replace(self.payloads.get() + 1) == 0;
        let waits =
            self.has(Plant::PublishedBeforeCopied) || (self.has(Plant::BatchFirstHeaderFirst) && !is_first);
        match waits {
            true => self.hold(position, bytes),
            false => self.memory.write(position, bytes),
        }
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        if self.has(Plant::HeadBeforeTheUserIsDone) {
            let header = position.wrapping_sub(self.shape.before_payload());
            let after = header.wrapping_add(self.shape.record_size(bytes.len() as u64));
            self.memory.store_release(Word::Head, after);
        }
        if self.has(Plant::TrustsPeerLength) {
            let word = self.memory.header_acquire(position.wrapping_sub(self.shape.before_payload()));
            let mut copy = vec![0; record::decode(word).map_or(0, |head| head.len as usize)];
            self.memory.read(position, &mut copy);
            return bytes.iter_mut().zip(copy).for_each(|(byte, copied)| *byte = copied);
        }
        self.memory.read(position, bytes)
    }
    fn keep_program_order(&self) {
        self.memory.keep_program_order()
    }
}
