//! The lane against a naive oracle under random operations, owners killed at
//! every store, hostile bytes, and two threads. All on a heap lane: safe code.

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

/// A lane whose owner dies after a number of stores: later ones are lost.
struct Mortal<'a> {
    heap: &'a Heap,
    stores_left: Cell<u64>,
    /// A twin that must be found: slots are stored after their generation.
    generation_first: bool,
    late: Cell<Vec<(Word, u64)>>,
}

impl<'a> Mortal<'a> {
    fn new(heap: &'a Heap, stores_left: u64, generation_first: bool) -> Mortal<'a> {
        Mortal { heap, stores_left: Cell::new(stores_left), generation_first, late: Cell::default() }
    }

    fn lives(&self) -> bool {
        let left = self.stores_left.get();
        self.stores_left.set(left.saturating_sub(1));
        left > 0
    }

    fn is_dead(&self) -> bool {
        self.stores_left.get() == 0
    }
}

impl Memory for Mortal<'_> {
    fn load(&self, word: Word) -> u64 {
        self.heap.load(word)
    }

    fn load_acquire(&self, word: Word) -> u64 {
        self.heap.load_acquire(word)
    }

    fn store(&self, word: Word, value: u64) {
        if self.generation_first {
            let mut late = self.late.take();
            late.push((word, value));
            self.late.set(late);
        } else if self.lives() {
            self.heap.store(word, value);
        }
    }

    fn store_release(&self, word: Word, value: u64) {
        if self.lives() {
            self.heap.store_release(word, value);
        }
        for (word, value) in self.late.take() {
            if self.lives() {
                self.heap.store(word, value);
            }
        }
    }

    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.lives() && self.heap.replace(word, current, new)
    }

    fn header_acquire(&self, position: u64) -> u64 {
        self.heap.header_acquire(position)
    }

    fn store_header(&self, position: u64, value: u64) {
        if self.lives() {
            self.heap.store_header(position, value);
        }
    }

    fn store_header_release(&self, position: u64, value: u64) {
        if self.lives() {
            self.heap.store_header_release(position, value);
        }
    }

    /// Eight bytes are one store.
    fn write(&self, position: u64, bytes: &[u8]) {
        for (at, word) in bytes.chunks(8).enumerate() {
            if self.lives() {
                self.heap.write(position.wrapping_add(8 * at as u64), word);
            }
        }
    }

    fn read(&self, position: u64, bytes: &mut [u8]) {
        self.heap.read(position, bytes);
    }

    fn keep_program_order(&self) {
        self.heap.keep_program_order();
    }
}

/// What owners that may die do. Only whole steps, so that the oracle is before
/// or after one.
#[derive(Debug, Clone)]
enum Step {
    /// Messages published in one store.
    Batch(Vec<usize>),
    End,
    /// Reads so many records and commits them.
    Consume(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(prop_oneof![0usize..24, 0usize..90, 150usize..=232], 1..4).prop_map(Step::Batch),
        1 => Just(Step::End),
        3 => (1usize..6).prop_map(Step::Consume),
    ]
}

/// Does one step with both owners and returns the oracle after it.
fn do_step<W: Memory, R: Memory>(
    oracle: &Oracle,
    step: &Step,
    writer: &mut Writer<W>,
    reader: &mut Reader<R>,
) -> Oracle {
    let mut after = oracle.clone();
    match step {
        Step::Batch(lens) => {
            for &len in lens.iter().filter(|&&len| len as u64 <= oracle.shape.max_len()) {
                if writer.claim(len).is_ok() {
                    writer.write(0, &payload(after.next_sequence(), len));
                    writer.stage(0, len);
                    after.stage(0, len);
                }
            }
            writer.publish();
            after.publish();
        }
        Step::End => {
            writer.end().expect("no damage");
            after.end();
        }
        Step::Consume(count) => {
            for _ in 0..*count {
                if let Some(record) = reader.peek().expect("no damage") {
                    reader.advance(&record);
                    after.read += 1;
                }
            }
            reader.commit();
            after.commit();
        }
    }
    after
}

/// True if new owners find exactly what `oracle` has, and a next message after it.
fn finds(heap: &Heap, oracle: &Oracle) -> bool {
    let (Ok(mut writer), Ok(mut reader)) =
        (Writer::take_over(heap, oracle.shape), Reader::take_over(heap, oracle.shape))
    else {
        return false;
    };
    let same_counts = (writer.tail(), writer.sequence(), writer.bytes())
        == (oracle.tail, oracle.sequence, oracle.bytes)
        && (reader.head(), reader.sequence()) == (oracle.head, oracle.expected());
    let mut left = oracle.clone();
    let fits = writer.claim(0).is_ok();
    if fits {
        writer.stage(0, 0);
        writer.publish();
        left.stage(0, 0);
        left.publish();
    }
    let same_records = left.records.iter().all(|&record| match reader.peek() {
        Ok(Some(found)) => {
            let bytes = bytes_of(&reader, &found);
            reader.advance(&found);
            kept(found) == record && bytes == payload(record.sequence, record.len)
        }
        _ => false,
    });
    same_counts && same_records && fits == oracle.has_room(0) && reader.peek() == Ok(None)
}

/// Runs the steps with owners that share `stores` until one is dead. True if
/// what new owners find is the lane before or after the step that was cut.
fn survives_death(start: Start, steps: &[Step], stores: u64, twin: bool) -> Option<bool> {
    let heap = Heap::new(start.shape, start.position, start.sequence);
    let memory = Mortal::new(&heap, stores, twin);
    let mut oracle = Oracle::new(start);
    let (Ok(mut writer), Ok(mut reader)) =
        (Writer::take_over(&memory, start.shape), Reader::take_over(&memory, start.shape))
    else {
        panic!("a fresh lane");
    };
    if memory.is_dead() {
        return Some(finds(&heap, &oracle));
    }
    for step in steps {
        let after = do_step(&oracle, step, &mut writer, &mut reader);
        if memory.is_dead() {
            return Some(one_of(&heap, &oracle, &after));
        }
        oracle = after;
    }
    None
}

/// True if the lane is as in one of the two. The counts tell which one it must be.
fn one_of(heap: &Heap, before: &Oracle, after: &Oracle) -> bool {
    let (Ok(writer), Ok(reader)) =
        (Writer::take_over(heap, before.shape), Reader::take_over(heap, before.shape))
    else {
        return false;
    };
    let is_after = (writer.tail(), reader.head()) == (after.tail, after.head);
    finds(heap, if is_after { after } else { before })
}

/// The number of stores until the steps survive, or the first death that they don't.
fn all_deaths(start: Start, steps: &[Step], twin: bool) -> Result<u64, u64> {
    for stores in 0.. {
        match survives_death(start, steps, stores, twin) {
            Some(true) => {}
            Some(false) => return Err(stores),
            None => return Ok(stores),
        }
    }
    unreachable!()
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn an_owner_may_die_at_every_store(start in start(), steps in vec(step(), 1..30)) {
        let start = Start { shape: Shape { capacity: 256, ..start.shape }, ..start };
        prop_assert!(all_deaths(start, &steps, false).is_ok());
    }
}

/// The twin of the memory whose slots come after their generation is found.
#[test]
fn a_slot_after_its_generation_is_found() {
    let shape = Shape { capacity: 256, align: 8 };
    let start = Start { shape, position: 0, sequence: 5 };
    let steps: Vec<_> = (0..6).flat_map(|_| [Step::Batch(vec![40, 8]), Step::Consume(2)]).collect();
    assert!(all_deaths(start, &steps, false).is_ok());
    assert!(all_deaths(start, &steps, true).is_err());
}

/// Counts header loads, so that no damage makes an owner walk for ever.
struct Counted<'a> {
    heap: &'a Heap,
    headers: Cell<u64>,
}

impl<'a> Counted<'a> {
    fn new(heap: &'a Heap) -> Counted<'a> {
        Counted { heap, headers: Cell::new(0) }
    }

    /// As many records as the ring can hold, and the zero after them.
    fn check_walk(&self, shape: Shape) {
        assert!(self.headers.take() <= shape.capacity / shape.align + 1);
    }
}

impl Memory for Counted<'_> {
    fn load(&self, word: Word) -> u64 {
        self.heap.load(word)
    }

    fn load_acquire(&self, word: Word) -> u64 {
        self.heap.load_acquire(word)
    }

    fn store(&self, word: Word, value: u64) {
        self.heap.store(word, value);
    }

    fn store_release(&self, word: Word, value: u64) {
        self.heap.store_release(word, value);
    }

    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.heap.replace(word, current, new)
    }

    fn header_acquire(&self, position: u64) -> u64 {
        self.headers.set(self.headers.get() + 1);
        self.heap.header_acquire(position)
    }

    fn store_header(&self, position: u64, value: u64) {
        self.heap.store_header(position, value);
    }

    fn store_header_release(&self, position: u64, value: u64) {
        self.heap.store_header_release(position, value);
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        self.heap.write(position, bytes);
    }

    fn read(&self, position: u64, bytes: &mut [u8]) {
        self.heap.read(position, bytes);
    }

    fn keep_program_order(&self) {
        self.heap.keep_program_order();
    }
}

/// Reads until there is nothing or damage; every length is one that fits.
fn read_all(reader: &mut Reader<&Counted>, shape: Shape) {
    let limit = shape.capacity / shape.align;
    for steps in 0.. {
        assert!(steps <= limit, "more records than the ring can hold");
        let Ok(Some(record)) = reader.peek() else {
            break;
        };
        assert!(record.len as u64 <= shape.max_used() - HEADER_BYTES);
        bytes_of(reader, &record);
        reader.advance(&record);
        assert!(reader.uncommitted() <= shape.max_used());
    }
    reader.commit();
}

fn write_some(writer: &mut Writer<&Counted>, shape: Shape) {
    for len in [0, 1, shape.max_len() as usize / 3, shape.max_len() as usize] {
        if writer.claim(len).is_ok() {
            writer.write(0, &payload(0, len));
            writer.stage(0, len);
        }
        writer.head_wanted(len);
    }
    writer.publish();
    let _ = writer.end();
}

/// Whatever the lane holds, both owners start, work and go, or say why not.
fn work_on(heap: &Heap, shape: Shape) {
    let counted = Counted::new(heap);
    for _ in 0..2 {
        let writer = Writer::take_over(&counted, shape);
        counted.check_walk(shape);
        if let Ok(mut writer) = writer {
            write_some(&mut writer, shape);
        }
        if let Ok(mut reader) = Reader::take_over(&counted, shape) {
            read_all(&mut reader, shape);
            read_all(&mut reader, shape);
        }
        counted.headers.set(0);
    }
}

/// Words that get further than random ones: small, near a wrap, headers of
/// zero-length messages, lengths around the capacity.
fn evil_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        0u64..5000,
        (0u64..5000).prop_map(|n| n * 8),
        (0u64..5000).prop_map(|n| 0u64.wrapping_sub(n)),
        (0u64..70, 0u64..4, 0u64..300).prop_map(|(s, kind, len)| s << 40 | kind << 32 | (len + 1)),
        (any::<u32>(), 0u64..70).prop_map(|(len, s)| s << 40 | len as u64),
    ]
}

fn bytes(words: Vec<u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn image(shape: Shape) -> impl Strategy<Value = (Shape, Vec<u64>, Vec<u64>)> {
    let control = vec(prop_oneof![2 => Just(0), 1 => evil_word()], lane::STRIDE / 8);
    let data = vec(prop_oneof![1 => Just(0), 3 => evil_word()], shape.capacity as usize / 8);
    (Just(shape), control, data)
}

/// The words that an owner loads.
const TRUSTED: [Word; 13] = [
    Word::CheckGeneration,
    Word::CheckTail(Slot::A),
    Word::CheckTail(Slot::B),
    Word::CheckSequence(Slot::A),
    Word::CheckSequence(Slot::B),
    Word::CheckBytes(Slot::A),
    Word::CheckBytes(Slot::B),
    Word::Head,
    Word::HeadGeneration,
    Word::HeadPosition(Slot::A),
    Word::HeadPosition(Slot::B),
    Word::HeadSequence(Slot::A),
    Word::HeadSequence(Slot::B),
];

/// What a hostile peer overwrites.
#[derive(Debug, Clone, Copy)]
enum Flip {
    Control(usize, u64),
    Bit(usize, u32),
    Data(u64, u64),
    DataBit(u64, u32),
}

fn flip() -> impl Strategy<Value = Flip> {
    let word = 0..TRUSTED.len();
    prop_oneof![
        (word.clone(), evil_word()).prop_map(|(word, value)| Flip::Control(word, value)),
        (word, 0u32..64).prop_map(|(word, bit)| Flip::Bit(word, bit)),
        (0u64..512, evil_word()).prop_map(|(at, value)| Flip::Data(at * 8, value)),
        (0u64..512, 0u32..64).prop_map(|(at, bit)| Flip::DataBit(at * 8, bit)),
    ]
}

fn overwrite(heap: &Heap, flip: Flip) {
    match flip {
        Flip::Control(word, value) => heap.store(TRUSTED[word], value),
        Flip::Bit(word, bit) => heap.store(TRUSTED[word], heap.load(TRUSTED[word]) ^ 1 << bit),
        Flip::Data(at, value) => heap.store_header(at, value),
        Flip::DataBit(at, bit) => heap.store_header(at, heap.header_acquire(at) ^ 1 << bit),
    }
}

/// Something that happens while owners work.
#[derive(Debug, Clone)]
enum Event {
    Write(usize),
    Read,
    Commit,
    Flip(Flip),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0usize..60).prop_map(Event::Write),
        3 => Just(Event::Read),
        1 => Just(Event::Commit),
        2 => flip().prop_map(Event::Flip),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_bytes_are_refused_or_worked_on(
        (shape, control, data) in start().prop_flat_map(|start| image(start.shape)),
    ) {
        work_on(&Heap::from_image(&bytes(control), &bytes(data)), shape);
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_damaged_lane_is_refused_or_worked_on(
        start in start(),
        ops in vec(op(), 1..60),
        flips in vec(flip(), 1..5),
    ) {
        let heap = Heap::new(start.shape, start.position, start.sequence);
        let mut pair = Pair::new(&heap, start);
        ops.into_iter().for_each(|op| pair.apply(op));
        flips.into_iter().for_each(|flip| overwrite(&heap, flip));
        work_on(&heap, start.shape);
    }

    #[test]
    fn a_peer_may_overwrite_anything_at_any_time(start in start(), events in vec(event(), 1..120)) {
        let shape = start.shape;
        let heap = Heap::new(shape, start.position, start.sequence);
        let counted = Counted::new(&heap);
        let mut writer = Writer::take_over(&counted, shape).unwrap();
        let mut reader = Reader::take_over(&counted, shape).unwrap();
        for event in events {
            match event {
                Event::Write(len) => {
                    if writer.claim(len).is_ok() {
                        writer.write(0, &payload(0, len));
                        writer.stage(0, len);
                        writer.publish();
                    }
                }
                Event::Read => {
                    if let Ok(Some(record)) = reader.peek() {
                        bytes_of(&reader, &record);
                        reader.advance(&record);
                    }
                    assert!(reader.uncommitted() <= shape.max_used());
                }
                Event::Commit => reader.commit(),
                Event::Flip(flip) => overwrite(&heap, flip),
            }
        }
        read_all(&mut reader, shape);
        let _ = writer.end();
    }
}

/// A lane of 16 records of 16 bytes, the first at 0 and with sequence 5; 6
/// messages of 8 bytes are sent, 2 are read and committed.
fn used_lane() -> (Heap, Shape) {
    let shape = Shape { capacity: 256, align: 16 };
    let heap = Heap::new(shape, 0, 5);
    let mut writer = Writer::take_over(&heap, shape).unwrap();
    let mut reader = Reader::take_over(&heap, shape).unwrap();
    for _ in 0..6 {
        writer.claim(8).unwrap();
        writer.stage(0, 8);
        writer.publish();
    }
    writer.check_point();
    for _ in 0..2 {
        let record = reader.peek().unwrap().unwrap();
        reader.advance(&record);
    }
    reader.commit();
    (heap, shape)
}

/// The fault that a new owner, or its first look, finds in a used lane.
fn fault_of<T>(damage: impl Fn(&Heap), look: impl Fn(&Heap, Shape) -> Result<T, Corrupt>) -> Option<Fault> {
    let (heap, shape) = used_lane();
    damage(&heap);
    look(&heap, shape).err().map(|corrupt| corrupt.fault)
}

fn new_writer(heap: &Heap, shape: Shape) -> Result<(), Corrupt> {
    Writer::take_over(heap, shape).map(drop)
}

fn new_reader(heap: &Heap, shape: Shape) -> Result<(), Corrupt> {
    Reader::take_over(heap, shape)?.peek().map(drop)
}

/// The generations are the ones that `used_lane` leaves: what is damaged has
/// to be the slot that counts.
fn set(word: fn(Slot) -> Word, generation: Word, value: u64) -> impl Fn(&Heap) {
    move |heap| heap.store(word(Slot::of(heap.load(generation))), value)
}

#[test]
fn a_new_producer_names_what_is_impossible() {
    let header = |word: u64| move |heap: &Heap| heap.store_header(96, word);
    let tail = |value| set(Word::CheckTail, Word::CheckGeneration, value);
    let head = |value: u64| move |heap: &Heap| heap.store(Word::Head, value);
    assert_eq!(fault_of(|_| {}, new_writer), None);
    assert_eq!(fault_of(tail(8), new_writer), Some(Fault::Position));
    assert_eq!(fault_of(head(96), new_writer), None, "all is read");
    assert_eq!(fault_of(head(112), new_writer), Some(Fault::Head), "beyond the tail");
    assert_eq!(fault_of(head(96u64.wrapping_sub(256)), new_writer), Some(Fault::Head), "more than a ring");
    assert_eq!(fault_of(header(11 << 40 | 9), new_writer), None, "a seventh message");
    assert_eq!(fault_of(header(11 << 40 | 0xF << 32 | 9), new_writer), Some(Fault::Header));
    assert_eq!(fault_of(header(12 << 40 | 9), new_writer), Some(Fault::Sequence));
    assert_eq!(fault_of(header(11 << 40 | 249), new_writer), Some(Fault::Length));
}

#[test]
fn a_new_consumer_names_what_is_impossible() {
    let header = |word: u64| move |heap: &Heap| heap.store_header(32, word);
    let head = |value| set(Word::HeadPosition, Word::HeadGeneration, value);
    assert_eq!(fault_of(|_| {}, new_reader), None);
    assert_eq!(fault_of(head(40), new_reader), Some(Fault::Position));
    assert_eq!(fault_of(head(16), new_reader), Some(Fault::Head), "back");
    assert_eq!(fault_of(head(32 + 256), new_reader), Some(Fault::Head), "more than a ring");
    assert_eq!(fault_of(header(7 << 40 | 0xF << 32 | 9), new_reader), Some(Fault::Header));
    assert_eq!(fault_of(header(8 << 40 | 9), new_reader), Some(Fault::Sequence));
    assert_eq!(fault_of(header(7 << 40 | 249), new_reader), Some(Fault::Length));
}

/// The head that a working producer loads lies between the last one and its tail.
#[test]
fn a_producer_names_an_impossible_head() {
    let claim = |head: u64| {
        let (heap, shape) = used_lane();
        let mut writer = Writer::take_over(&heap, shape).unwrap();
        heap.store(Word::Head, head);
        writer.claim(shape.max_len() as usize)
    };
    let is_refused = |head| matches!(claim(head), Err(Claim::Corrupt(Corrupt { fault: Fault::Head, .. })));
    assert_eq!(claim(32), Err(Claim::Full));
    assert_eq!(claim(96), Ok(()), "all is read");
    assert!(is_refused(16), "back");
    assert!(is_refused(112), "beyond the tail");
    assert!(is_refused(u64::MAX));
}

/// End marks take no sequence: a ring full of them has no end.
#[test]
fn nobody_walks_for_ever() {
    for align in [8, 16, 64] {
        let shape = Shape { capacity: 256, align };
        let heap = Heap::new(shape, 0, 5);
        (0..256).step_by(8).for_each(|at| heap.store_header(at, 5 << 40 | 1 << 32 | 1));
        let counted = Counted::new(&heap);
        let walked = Writer::take_over(&counted, shape).map(drop);
        assert!(matches!(walked, Err(Corrupt { fault: Fault::Length, .. })));
        counted.check_walk(shape);
        let mut reader = Reader::take_over(&counted, shape).unwrap();
        read_all(&mut reader, shape);
        counted.check_walk(shape);
    }
}

/// Ends the wait of the other thread when this one panics.
struct Failed<'a>(&'a AtomicBool);

impl Failed<'_> {
    fn wait(&self) {
        assert!(!self.0.load(Ordering::Relaxed), "the other thread failed");
        thread::yield_now();
    }
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// A producer and a consumer in two threads: everything arrives, in order.
#[test]
fn two_threads_pass_messages() {
    let messages: u64 = if cfg!(miri) { 60 } else { 10_000 };
    for align in [8, 64] {
        let shape = Shape { capacity: 256, align };
        let first = (1 << 24) - 20;
        let heap = Heap::new(shape, 0u64.wrapping_sub(512), first);
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| produce(&heap, shape, messages, Failed(&failed)));
            scope.spawn(|| consume(&heap, shape, messages, Failed(&failed)));
        });
        let reader = Reader::take_over(&heap, shape).unwrap();
        assert_eq!((reader.sequence(), reader.peek()), (first + messages, Ok(None)));
    }
}

fn len_of(sequence: u64, shape: Shape) -> usize {
    (sequence.wrapping_mul(0x9E37_79B9) >> 7) as usize % (shape.max_len() as usize + 1)
}

fn produce(heap: &Heap, shape: Shape, messages: u64, failed: Failed) {
    let mut writer = Writer::take_over(heap, shape).unwrap();
    for _ in 0..messages {
        let sequence = writer.sequence();
        let len = len_of(sequence, shape);
        while writer.claim(len) == Err(Claim::Full) {
            failed.wait();
        }
        writer.write(0, &payload(sequence, len));
        writer.stage(0, len);
        writer.publish();
    }
}

fn consume(heap: &Heap, shape: Shape, messages: u64, failed: Failed) {
    let mut reader = Reader::take_over(heap, shape).unwrap();
    let mut received = 0;
    while received < messages {
        let Some(record) = reader.peek().unwrap() else {
            reader.commit();
            failed.wait();
            continue;
        };
        assert_eq!(record.len, len_of(record.sequence, shape));
        assert_eq!(bytes_of(&reader, &record), payload(record.sequence, record.len));
        reader.advance(&record);
        received += 1;
        if received % 3 == 0 {
            reader.commit();
        }
    }
    reader.commit();
}
