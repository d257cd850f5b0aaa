use super::{Corrupt, Fault, Memory, Shape};
use crate::layout::record::{self, HEADER_BYTES, Kind};
use crate::layout::{Part, Slot, Word};

/// The consumer's half of a lane.
///
/// Reading and committing are separate: [`peek`](Reader::peek) and
/// [`advance`](Reader::advance) move a private position,
/// [`commit`](Reader::commit) gives the bytes before it back to the producer.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    shape: Shape,
    /// Committed: the producer may overwrite what lies before.
    head: u64,
    /// Read up to here.
    position: u64,
    /// The sequence of the message that comes next.
    sequence: u64,
    generation: u64,
    sink: Sink,
    /// The sink is not what was committed last.
    sink_changed: bool,
}

/// Where a consumer puts what it reads, as far as it tells the ring: committed
/// in the same store as what was read. All 0: nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sink {
    /// What the caller calls it.
    pub id: [u64; 4],
    /// How far it is.
    pub position: u64,
}

/// A record that was found and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Flag bits.
    pub flags: u8,
    /// Payload bytes, at most what the ring can hold.
    pub len: usize,
    /// Its sequence, if it is a message; the next message's, if it is an end mark.
    pub sequence: u64,
    position: u64,
}

impl<M: Memory> Reader<M> {
    /// Takes the lane over from whoever read it last, at the first message
    /// that was not committed. The caller holds the consumer's lock.
    pub fn take_over(memory: M, shape: Shape) -> Result<Reader<M>, Corrupt> {
        let generation = memory.load_acquire(Word::HeadGeneration); // COMMIT
        let slot = Slot::of(generation);
        let head = memory.load(Word::HeadPosition(slot));
        let sequence = memory.load(Word::HeadSequence(slot));
        let stored = memory.load(Word::Head);
        if !head.is_multiple_of(shape.align) {
            return Err(Corrupt { fault: Fault::Position, position: head, value: head });
        }
        // The commit is the slot; a consumer killed right after it has not
        // moved the head word yet. More than a ring apart is not possible.
        if head.wrapping_sub(stored) > shape.max_used() {
            return Err(Corrupt { fault: Fault::Head, position: head, value: stored });
        }
        let sink = Sink {
            id: Part::ALL.map(|part| memory.load(Word::SinkId(slot, part))),
            position: memory.load(Word::SinkPosition(slot)),
        };
        memory.store_release(Word::Head, head); // FREE
        let position = head;
        Ok(Reader { memory, shape, head, position, sequence, generation, sink, sink_changed: false })
    }

    /// The next record, if there is one. Everything about it is checked.
    #[inline]
    pub fn peek(&self) -> Result<Option<Record>, Corrupt> {
        let position = self.position;
        let word = self.memory.header_acquire(position); // PUBLISH
        if word == 0 {
            return Ok(None);
        }
        let corrupt = |fault| Err(Corrupt { fault, position, value: word });
        let Some(head) = record::decode(word) else {
            return corrupt(Fault::Header);
        };
        let after = position.wrapping_add(self.shape.record_size(head.len as u64));
        if after.wrapping_sub(self.head) > self.shape.max_used() {
            return corrupt(Fault::Length);
        }
        if !record::carries(head.sequence_low, self.sequence) {
            return corrupt(Fault::Sequence);
        }
        Ok(Some(Record {
            kind: head.kind,
            flags: head.flags,
            len: head.len as usize,
            sequence: self.sequence,
            position,
        }))
    }

    /// True if there is anything behind `record`.
    pub fn is_followed(&self, record: &Record) -> bool {
        self.memory.header_acquire(self.after(record)) != 0 // PUBLISH
    }

    /// True if a producer attached behind `record`, which is the last one: an
    /// attach writes a check point there, and an end mark has its own before.
    pub fn is_attached_behind(&self, record: &Record) -> bool {
        let slot = Slot::of(self.memory.load_acquire(Word::CheckGeneration)); // CHECK
        self.memory.load(Word::CheckTail(slot)) == self.after(record)
    }

    #[inline]
    fn after(&self, record: &Record) -> u64 {
        record.position.wrapping_add(self.shape.record_size(record.len as u64))
    }

    /// Copies the payload of `record` to `bytes`, which is as long as it.
    #[inline]
    pub fn read(&self, record: &Record, bytes: &mut [u8]) {
        debug_assert_eq!(bytes.len(), record.len);
        self.memory.read(record.position.wrapping_add(HEADER_BYTES), bytes);
    }

    /// Steps over `record`. It stays in the ring until the next commit.
    #[inline]
    pub fn advance(&mut self, record: &Record) {
        self.position = self.after(record);
        if record.kind == Kind::Data {
            self.sequence = record.sequence.wrapping_add(1);
        }
    }

    /// The sink as the last commit left it, or as it was set since.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// Says how far the sink is, from the next commit on.
    pub fn set_sink(&mut self, sink: Sink) {
        self.sink_changed |= self.sink != sink;
        self.sink = sink;
    }

    /// Commits everything read so far, and the sink, in one store: a consumer
    /// that takes over goes on behind it, and the producer may overwrite it.
    #[inline]
    pub fn commit(&mut self) {
        if self.position == self.head && !self.sink_changed {
            return;
        }
        let generation = self.generation.wrapping_add(1);
        let slot = Slot::of(generation);
        self.memory.store(Word::HeadPosition(slot), self.position);
        self.memory.store(Word::HeadSequence(slot), self.sequence);
        self.memory.store(Word::SinkPosition(slot), self.sink.position);
        for (part, word) in Part::ALL.into_iter().zip(self.sink.id) {
            self.memory.store(Word::SinkId(slot, part), word);
        }
        self.memory.store_release(Word::HeadGeneration, generation); // COMMIT
        self.memory.keep_program_order();
        self.memory.store_release(Word::Head, self.position); // FREE
        self.generation = generation;
        self.head = self.position;
        self.sink_changed = false;
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

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}
