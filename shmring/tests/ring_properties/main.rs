//! A region's ring against a naive oracle under random operations, owners
//! killed at every store, hostile bytes, and threads. Up to four lanes, in both
//! orders, all on the heap: safe code.

mod deaths;
mod fairness;
mod group;
mod hostile;
mod oracle;
mod room;
mod threads;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use shmring::internals::Heap;
use shmring::internals::layout::blocks::{control, lane};
use shmring::internals::layout::record::{GAP_BYTES, HEADER_BYTES, KNOWN_FLAGS, Kind, UNTERMINATED};
use shmring::internals::layout::{Cause, Slot, Word};
use shmring::internals::ring::{Broken, Claim, Corrupt, Fault, Memory, Reader, Record, Shape, Sink, Writer};

use group::{Group, Op, op};
use oracle::{Kept, Oracle};

fn config(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Where a region starts in its life.
#[derive(Debug, Clone, Copy)]
struct Start {
    shape: Shape,
    lanes: usize,
    position: u64,
    sequence: u64,
}

fn start() -> impl Strategy<Value = Start> {
    let shape = (select(vec![8, 16, 64]), 8u32..=12, select(vec![0, 8]))
        .prop_map(|(align, bits, prefix)| Shape { capacity: 1 << bits, align, prefix });
    let position = prop_oneof![Just(0), (0u64..80).prop_map(|n| 0u64.wrapping_sub(n * 64)), any::<u64>()];
    let near = |at: u64| (0u64..12).prop_map(move |n| at.wrapping_sub(n));
    let sequence = prop_oneof![near(0), near(1 << 24), near(1 << 32), near(77 << 24), any::<u64>()];
    (shape, 1usize..=4, position, sequence).prop_map(|(shape, lanes, position, sequence)| Start {
        shape,
        lanes,
        position: position & !63,
        sequence,
    })
}

impl Start {
    /// Each lane at another place.
    fn position(&self, lane: usize) -> u64 {
        self.position.wrapping_add(192 * lane as u64)
    }

    fn sequence(&self, lane: usize) -> u64 {
        self.sequence.wrapping_add(5 * lane as u64)
    }

    fn heaps(&self) -> Vec<Heap> {
        let first = Heap::new(self.shape, self.position, self.sequence);
        let others: Vec<_> =
            (1..self.lanes).map(|lane| first.beside(self.position(lane), self.sequence(lane))).collect();
        std::iter::once(first).chain(others).collect()
    }
}

/// A reader of all these lanes.
fn read_lanes<M: Memory>(lanes: impl IntoIterator<Item = M>, shape: Shape) -> Result<Reader<M>, Broken> {
    let mut lanes = lanes.into_iter().peekable();
    let mut reader = Reader::take_over(lanes.peek().expect("a lane"), shape, 4);
    lanes.try_for_each(|lane| reader.add(lane))?;
    Ok(reader)
}

/// The bytes of a message, told by its sequence.
fn payload(sequence: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (sequence.wrapping_mul(31).wrapping_add(i * 7) % 251) as u8).collect()
}

fn bytes_of<M: Memory>(reader: &Reader<M>, record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; record.len];
    reader.read(record, &mut bytes);
    bytes
}

/// The next message as a consumer takes it in one go, if it can be; with a glance,
/// one that waits.
fn take<M: Memory>(reader: &mut Reader<M>, buffer: &mut [u8], glance: bool) -> Option<Record> {
    let taken = reader.take(buffer);
    if taken.is_none() && glance && reader.glance() { reader.take(buffer) } else { taken }
}

/// The next record as a consumer finds it.
fn find<M: Memory>(reader: &mut Reader<M>) -> Result<Option<Record>, Broken> {
    if let Some(record) = reader.peek()? {
        return Ok(Some(record));
    }
    reader.begin();
    reader.scan(true)
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_region_is_a_queue_for_each_lane(start in start(), ops in vec(op(), 1..250)) {
        let heaps = start.heaps();
        let mut group = Group::new(&heaps, start);
        for op in ops {
            group.apply(op);
            group.compare();
        }
        for lane in 0..start.lanes as u8 {
            group.apply(Op::Publish { lane });
            group.apply(Op::NewWriter { lane });
        }
        for op in [Op::UseLane, Op::UseLane, Op::UseLane, Op::NewReader, Op::ReadAll, Op::Commit, Op::NewReader] {
            group.apply(op);
            group.compare();
        }
    }
}

#[test]
fn a_reference_to_a_memory_replaces_as_the_memory_does() {
    let heap = Heap::new(Shape { capacity: 256, align: 8, prefix: 0 }, 0, 0);
    let replace = |current, new| Memory::replace(&&heap, Word::State, current, new);
    assert_eq!([replace(0, 3), replace(0, 4), replace(3, 5)], [true, false, true]);
    assert_eq!(heap.load(Word::State), 5);
}

#[test]
fn the_longest_message_just_fits() {
    for (capacity, align, prefix) in [(256, 8, 0), (256, 16, 0), (4096, 64, 0), (256, 8, 8), (1 << 16, 16, 8)]
    {
        let shape = Shape { capacity, align, prefix };
        // With a gap and an end mark, and a zero word.
        let needed = |len| shape.record_size(len) + shape.record_size(GAP_BYTES) + shape.record_size(0) + 8;
        assert!(needed(shape.max_len()) <= capacity, "{shape:?}");
        assert!(needed(shape.max_len() + 1) > capacity, "{shape:?}");
    }
}
