//! The lane against a naive oracle under random operations, owners killed at
//! every store, hostile bytes, and two threads. All on a heap lane: safe code.

mod deaths;
mod hostile;
mod threads;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use shmring::internals::Heap;
use shmring::internals::layout::blocks::lane;
use shmring::internals::layout::record::{HEADER_BYTES, KNOWN_FLAGS, Kind};
use shmring::internals::layout::{Slot, Word};
use shmring::internals::ring::{Claim, Corrupt, Fault, Memory, Reader, Record, Shape, Writer};

fn config(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Where a lane starts in its life.
#[derive(Debug, Clone, Copy)]
struct Start {
    shape: Shape,
    position: u64,
    sequence: u64,
}

fn start() -> impl Strategy<Value = Start> {
    let shape = (select(vec![8, 16, 64]), 8u32..=12).prop_map(|(align, bits)| {
        let capacity = 1 << bits;
        Shape { capacity, align }
    });
    let position = prop_oneof![Just(0), (0u64..80).prop_map(|n| 0u64.wrapping_sub(n * 64)), any::<u64>()];
    let near = |at: u64| (0u64..12).prop_map(move |n| at.wrapping_sub(n));
    let sequence = prop_oneof![near(0), near(1 << 24), near(1 << 32), near(77 << 24), any::<u64>()];
    (shape, position, sequence).prop_map(|(shape, position, sequence)| Start {
        shape,
        position: position & !63,
        sequence,
    })
}

/// What the two owners may do. Lengths are parts of the longest message, in
/// 256ths: most are short, some are exact.
#[derive(Debug, Clone, Copy)]
enum Op {
    Send { part: u16, flags: u8 },
    Stage { part: u16, used: u8, flags: u8 },
    TooLong,
    Publish,
    Abort,
    End,
    NewWriter,
    NewReader,
    Read,
    ReadAll,
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    let part = || prop_oneof![4 => 0u16..64, 2 => 0u16..=256, 1 => Just(256)];
    let flags = 0..=KNOWN_FLAGS;
    prop_oneof![
        6 => (part(), flags.clone()).prop_map(|(part, flags)| Op::Send { part, flags }),
        4 => (part(), any::<u8>(), flags).prop_map(|(part, used, flags)| Op::Stage { part, used, flags }),
        1 => Just(Op::TooLong),
        3 => Just(Op::Publish),
        1 => Just(Op::Abort),
        1 => Just(Op::End),
        1 => Just(Op::NewWriter),
        1 => Just(Op::NewReader),
        6 => Just(Op::Read),
        1 => Just(Op::ReadAll),
        4 => Just(Op::Commit),
    ]
}

/// The bytes of a message, told by its sequence.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (sequence.wrapping_mul(31).wrapping_add(i * 7) % 251) as u8).collect()
}

/// A record as the oracle remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    kind: Kind,
    flags: u8,
    len: usize,
    sequence: u64,
}

/// The lane without a ring: a queue and a few counts.
#[derive(Debug, Clone)]
struct Oracle {
    shape: Shape,
    /// Published and not committed.
    records: VecDeque<Kept>,
    /// How many of those are read.
    read: usize,
    staged: Vec<Kept>,
    head: u64,
    tail: u64,
    sequence: u64,
    bytes: u64,
}

impl Oracle {
    fn new(start: Start) -> Oracle {
        Oracle {
            shape: start.shape,
            records: VecDeque::new(),
            read: 0,
            staged: Vec::new(),
            head: start.position,
            tail: start.position,
            sequence: start.sequence,
            bytes: 0,
        }
    }

    /// Not the product's formula: whole steps of the alignment.
    fn size(&self, len: usize) -> u64 {
        (HEADER_BYTES + len as u64).div_ceil(self.shape.align) * self.shape.align
    }

    fn size_of<'a>(&self, records: impl IntoIterator<Item = &'a Kept>) -> u64 {
        records.into_iter().map(|record| self.size(record.len)).sum()
    }

    fn used(&self) -> u64 {
        self.size_of(&self.records)
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.wrapping_add(self.staged.len() as u64)
    }

    /// Room for the message, for an end mark behind it and for a zero word.
    fn has_room(&self, len: usize) -> bool {
        let taken = self.used() + self.size_of(&self.staged);
        taken + self.size(len) + self.size(0) + HEADER_BYTES <= self.shape.capacity
    }

    fn stage(&mut self, flags: u8, len: usize) {
        let sequence = self.next_sequence();
        self.staged.push(Kept { kind: Kind::Data, flags, len, sequence });
    }

    fn publish(&mut self) {
        self.tail = self.tail.wrapping_add(self.size_of(&self.staged));
        self.sequence = self.next_sequence();
        self.bytes += self.staged.iter().map(|record| record.len as u64).sum::<u64>();
        self.records.extend(self.staged.drain(..));
    }

    /// Without room the last record has to be an end mark already.
    fn end(&mut self) {
        self.publish();
        if self.used() + self.size(0) + HEADER_BYTES <= self.shape.capacity {
            let mark = Kept { kind: Kind::End, flags: 0, len: 0, sequence: self.sequence };
            self.records.push_back(mark);
            self.tail = self.tail.wrapping_add(self.size(0));
        } else {
            assert_eq!(self.records.back().map(|record| record.kind), Some(Kind::End));
        }
    }

    fn commit(&mut self) {
        let read: Vec<_> = self.records.drain(..self.read).collect();
        self.head = self.head.wrapping_add(self.size_of(&read));
        self.read = 0;
    }

    fn unread(&self) -> Option<Kept> {
        self.records.get(self.read).copied()
    }

    /// The sequence of the next message that a reader meets.
    fn expected(&self) -> u64 {
        self.unread().map_or(self.sequence, |record| record.sequence)
    }
}

/// Both owners of a lane and the oracle beside them.
struct Pair<'a> {
    heap: &'a Heap,
    oracle: Oracle,
    writer: Writer<&'a Heap>,
    reader: Reader<&'a Heap>,
}

impl<'a> Pair<'a> {
    fn new(heap: &'a Heap, start: Start) -> Pair<'a> {
        Pair {
            heap,
            oracle: Oracle::new(start),
            writer: Writer::take_over(heap, start.shape).unwrap(),
            reader: Reader::take_over(heap, start.shape).unwrap(),
        }
    }

    fn len(&self, part: u16) -> usize {
        (self.oracle.shape.max_len() * part as u64 / 256) as usize
    }

    fn stage(&mut self, claimed: usize, len: usize, flags: u8) {
        let claim = self.writer.claim(claimed);
        if !self.oracle.has_room(claimed) {
            return assert_eq!(claim, Err(Claim::Full));
        }
        assert_eq!(claim, Ok(()));
        let bytes = payload(self.oracle.next_sequence(), len);
        let (first, second) = bytes.split_at(len / 3);
        self.writer.write(0, first);
        self.writer.write(first.len(), second);
        self.writer.stage(flags, len);
        self.oracle.stage(flags, len);
    }

    fn publish(&mut self) {
        self.writer.publish();
        self.oracle.publish();
    }

    fn read(&mut self) -> bool {
        let found = self.reader.peek().expect("no damage");
        assert_eq!(found.map(kept), self.oracle.unread());
        let Some(record) = found else {
            return false;
        };
        assert_eq!(bytes_of(&self.reader, &record), payload(record.sequence, record.len));
        self.reader.advance(&record);
        self.oracle.read += 1;
        true
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send { part, flags } => {
                self.stage(self.len(part), self.len(part), flags);
                self.publish();
            }
            Op::Stage { part, used, flags } => {
                let claimed = self.len(part);
                self.stage(claimed, claimed * used as usize / 255, flags);
            }
            Op::TooLong => {
                let longest = self.oracle.shape.max_len() as usize;
                assert_eq!(self.writer.claim(longest + 1), Err(Claim::TooLarge));
                assert_eq!(self.writer.claim(usize::MAX), Err(Claim::TooLarge));
            }
            Op::Publish => self.publish(),
            Op::Abort => {
                self.writer.abort();
                self.oracle.staged.clear();
            }
            Op::End => {
                self.writer.end().expect("no damage");
                self.oracle.end();
            }
            Op::NewWriter => {
                self.writer = Writer::take_over(self.heap, self.oracle.shape).expect("no damage");
                self.oracle.staged.clear();
            }
            Op::NewReader => {
                self.reader = Reader::take_over(self.heap, self.oracle.shape).expect("no damage");
                self.oracle.read = 0;
            }
            Op::Read => drop(self.read()),
            Op::ReadAll => while self.read() {},
            Op::Commit => {
                self.reader.commit();
                self.oracle.commit();
            }
        }
    }

    fn compare(&self) {
        let Pair { oracle, writer, reader, .. } = self;
        assert_eq!(
            (writer.tail(), writer.sequence(), writer.bytes(), writer.staged()),
            (oracle.tail, oracle.sequence, oracle.bytes, oracle.staged.len() as u64)
        );
        let uncommitted = oracle.size_of(oracle.records.iter().take(oracle.read));
        assert_eq!(
            (reader.head(), reader.uncommitted(), reader.sequence()),
            (oracle.head, uncommitted, oracle.expected())
        );
        self.compare_wanted_heads();
    }

    /// A message fits from the needed head on, and not 8 bytes before; the
    /// wanted head is not before it and is reached once all is read.
    fn compare_wanted_heads(&self) {
        let Pair { oracle, writer, .. } = self;
        for len in [0, oracle.shape.max_len() as usize / 2, oracle.shape.max_len() as usize] {
            let needed = writer.head_needed(len);
            assert_eq!(oracle.head.wrapping_sub(needed) as i64 >= 0, oracle.has_room(len));
            let wanted = writer.head_wanted(len);
            assert!(wanted.wrapping_sub(needed) as i64 >= 0);
            if oracle.staged.is_empty() {
                assert!(oracle.tail.wrapping_sub(wanted) as i64 >= 0);
            }
        }
    }
}

fn kept(record: Record) -> Kept {
    let Record { kind, flags, len, sequence, .. } = record;
    Kept { kind, flags, len, sequence }
}

fn bytes_of<M: Memory>(reader: &Reader<M>, record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; record.len];
    reader.read(record, &mut bytes);
    bytes
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_lane_is_a_queue(start in start(), ops in vec(op(), 1..200)) {
        let heap = Heap::new(start.shape, start.position, start.sequence);
        let mut pair = Pair::new(&heap, start);
        for op in ops {
            pair.apply(op);
            pair.compare();
        }
        for op in [Op::Publish, Op::NewReader, Op::ReadAll, Op::Commit, Op::NewReader, Op::NewWriter] {
            pair.apply(op);
            pair.compare();
        }
    }
}
