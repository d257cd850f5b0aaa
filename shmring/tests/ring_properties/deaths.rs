//! Owners that are killed at any store: the next ones find all lanes as they
//! were before the step that was cut, or after it.
//!
//! A generation's store is made as late as a compiler may have it: right before
//! the next store that is a release, unless the program's order is kept.

use std::rc::Rc;

use super::*;

/// What a memory does worse than the real one; it must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    /// Slots are stored after their generation.
    GenerationFirst,
    /// A lane that did not move since the last commit is not written.
    LaggingLaneNotWritten,
    /// The program's order is not kept after a check point.
    CheckPointMayBeLate,
    /// Nor is it after a commit.
    CommitMayBeLate,
}

/// How long all owners of a region live: later stores are lost.
struct Life<'a> {
    stores_left: Cell<u64>,
    twin: Twin,
    late: Cell<Vec<(&'a Heap, Word, u64)>>,
    /// The last head position stored was that of a lane that did not move.
    is_lagging: Cell<bool>,
}

impl Life<'_> {
    fn new(stores_left: u64, twin: Twin) -> Self {
        let stores_left = Cell::new(stores_left);
        Life { stores_left, twin, late: Cell::default(), is_lagging: Cell::default() }
    }

    fn lives(&self) -> bool {
        let left = self.stores_left.get();
        self.stores_left.set(left.saturating_sub(1));
        left > 0
    }

    fn is_over(&self) -> bool {
        self.stores_left.get() == 0
    }
}

/// One owner's generation that is not stored yet.
type Held<'a> = Rc<Cell<Option<(&'a Heap, Word, u64)>>>;

/// A lane of owners that die.
struct Mortal<'a> {
    heap: &'a Heap,
    life: &'a Life<'a>,
    held: Held<'a>,
}

impl Mortal<'_> {
    /// Nothing stays behind a release.
    fn store_held(&self) {
        if let Some((heap, word, value)) = self.held.take()
            && self.lives()
        {
            heap.store_release(word, value);
        }
    }

    fn lives(&self) -> bool {
        self.life.lives()
    }

    /// True for both words of the slot of a lane that did not move.
    fn leaves_out(&self, word: Word, value: u64) -> bool {
        if let Word::HeadPosition(_) = word {
            self.life.is_lagging.set(self.heap.load(Word::Head) == value);
        }
        let is_slot = matches!(word, Word::HeadPosition(_) | Word::HeadSequence(_));
        self.life.twin == Twin::LaggingLaneNotWritten && is_slot && self.life.is_lagging.get()
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
        if self.leaves_out(word, value) {
            return;
        }
        if self.life.twin == Twin::GenerationFirst {
            let mut late = self.life.late.take();
            late.push((self.heap, word, value));
            self.life.late.set(late);
        } else if self.lives() {
            self.heap.store(word, value);
        }
    }

    fn store_release(&self, word: Word, value: u64) {
        self.store_held();
        if matches!(word, Word::CheckGeneration | Word::CommitGeneration) {
            self.held.set(Some((self.heap, word, value)));
        } else if self.lives() {
            self.heap.store_release(word, value);
        }
        if self.life.twin != Twin::GenerationFirst {
            return;
        }
        self.store_held();
        for (heap, word, value) in self.life.late.take() {
            if self.lives() {
                heap.store(word, value);
            }
        }
    }

    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.store_held();
        self.lives() && self.heap.replace(word, current, new)
    }

    /// A dead owner gets some number.
    fn add(&self, word: Word, value: u64) -> u64 {
        self.store_held();
        if self.lives() { self.heap.add(word, value) } else { 0 }
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
        self.store_held();
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
        let held = self.held.take();
        self.held.set(held);
        match (self.life.twin, held) {
            (Twin::CheckPointMayBeLate, Some((_, Word::CheckGeneration, _))) => {}
            (Twin::CommitMayBeLate, Some((_, Word::CommitGeneration, _))) => {}
            _ => self.store_held(),
        }
    }
}

/// What owners that may die do.
#[derive(Debug, Clone)]
enum Step {
    /// Messages published in one store; the gap instead, if one is due.
    Batch {
        lane: u8,
        lens: Vec<usize>,
    },
    Drop {
        lane: u8,
    },
    End {
        lane: u8,
    },
    /// Reads so many records, end marks too, of each lane of a set, and commits
    /// them all.
    Consume {
        lanes: u8,
        count: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0usize..24, 0usize..90, 150usize..=232];
    let lane = 0u8..4;
    prop_oneof![
        5 => (lane.clone(), vec(len, 1..4)).prop_map(|(lane, lens)| Step::Batch { lane, lens }),
        1 => lane.clone().prop_map(|lane| Step::Drop { lane }),
        1 => lane.prop_map(|lane| Step::End { lane }),
        4 => (1u8..16, 1usize..6).prop_map(|(lanes, count)| Step::Consume { lanes, count }),
    ]
}

/// Does one step with all owners. Returns the oracle as it is at each instant
/// at which they may have died: before, between and after.
fn do_step<M: Memory>(
    oracle: &Oracle,
    step: &Step,
    writers: &mut [Writer<M>],
    reader: &mut Reader<M>,
) -> Vec<Oracle> {
    let mut instants = vec![oracle.clone()];
    let mut after = oracle.clone();
    let count = writers.len();
    match step {
        Step::Batch { lane, .. } if oracle.lanes[*lane as usize % count].pending > 0 => {
            let lane = *lane as usize % count;
            assert_eq!(writers[lane].publish_gap(0).is_ok(), after.lanes[lane].publish_gap(0));
        }
        Step::Batch { lane, lens } => {
            let lane = *lane as usize % count;
            let writer = &mut writers[lane];
            let first = payload(after.lanes[lane].next_sequence(), lens[0]);
            let is_sent = lens.len() == 1 && writer.send(0, &first);
            if is_sent {
                after.lanes[lane].stage(0, lens[0]);
            }
            for &len in lens.iter().filter(|_| !is_sent).filter(|&&len| len as u64 <= oracle.shape.max_len())
            {
                if writer.claim(len).is_ok() {
                    writer.write(0, &payload(after.lanes[lane].next_sequence(), len));
                    writer.stage(0, len);
                    after.lanes[lane].stage(0, len);
                }
            }
            writer.publish();
            after.publish(lane);
        }
        Step::Drop { lane } => {
            let lane = *lane as usize % count;
            writers[lane].drop_message(Cause::Deadline);
            after.lanes[lane].drop_message(Cause::Deadline);
        }
        Step::End { lane } => {
            let lane = *lane as usize % count;
            writers[lane].end().expect("no damage");
            after.lanes[lane].end_gap();
            instants.push(after.clone());
            after.lanes[lane].end();
        }
        Step::Consume { lanes, count: records } => {
            for lane in (0..count).filter(|lane| lanes & 1 << lane != 0) {
                for _ in 0..*records {
                    if let Some(record) = reader.peek_lane(lane as u32).expect("no damage") {
                        reader.advance(&record);
                        after.advance(lane);
                    }
                }
            }
            reader.commit();
            after.commit();
        }
    }
    instants.push(after);
    instants
}

type Owners<'a> = (Vec<Writer<&'a Heap>>, Reader<&'a Heap>);

fn new_owners(heaps: &[Heap], shape: Shape) -> Option<Owners<'_>> {
    let writers: Result<_, _> = heaps.iter().map(|heap| Writer::take_over(heap, shape)).collect();
    Some((writers.ok()?, read_lanes(heaps, shape).ok()?))
}

/// True if new owners count as `oracle` does.
fn counts_match(heaps: &[Heap], oracle: &Oracle) -> bool {
    let Some((writers, reader)) = new_owners(heaps, oracle.shape) else {
        return false;
    };
    reader.ends() == oracle.ends
        && oracle.lanes.iter().zip(&writers).zip(0..).all(|((lane, writer), index)| {
            let cursor = reader.lane(index);
            (writer.tail(), writer.bytes(), writer.pending_gap()) == (lane.tail, lane.bytes, lane.pending)
                && writer.sequence() == lane.sequence.wrapping_add(lane.pending)
                && Cause::ALL.map(|cause| writer.dropped(cause)) == lane.dropped
                && (cursor.head(), cursor.sequence()) == (lane.head, lane.expected())
        })
}

/// True if new owners find exactly what `oracle` has, and a next message after
/// it in each lane.
fn finds(heaps: &[Heap], oracle: &Oracle) -> bool {
    let Some((mut writers, mut reader)) = new_owners(heaps, oracle.shape) else {
        return false;
    };
    let mut left = oracle.clone();
    (0..heaps.len()).all(|lane| {
        let (writer, oracle) = (&mut writers[lane], &mut left.lanes[lane]);
        if oracle.pending == 0 && oracle.has_room(0) {
            if writer.claim(0).is_err() {
                return false;
            }
            writer.stage(0, 0);
            writer.publish();
            oracle.stage(0, 0);
            oracle.publish(&mut left.tickets);
        }
        let same = oracle.records.iter().all(|&(record, number)| match reader.peek_lane(lane as u32) {
            Ok(Some(found)) => {
                let holds = match found.kind {
                    Kind::Data => bytes_of(&reader, &found) == payload(record.sequence, record.len),
                    Kind::Gap => reader.gap(&found) == number,
                    Kind::End => true,
                };
                reader.advance(&found);
                Kept::of(found) == record && holds
            }
            _ => false,
        });
        same && reader.peek_lane(lane as u32) == Ok(None)
    })
}

/// The lanes of one reader.
fn reader_lanes<'a>(heaps: &'a [Heap], life: &'a Life<'a>) -> Vec<Mortal<'a>> {
    let held = Held::default();
    heaps.iter().map(|heap| Mortal { heap, life, held: held.clone() }).collect()
}

/// Runs the steps with owners that share `stores` until they are dead. True if
/// what new owners find is the region at an instant of the step that was cut.
fn survives_death(start: Start, steps: &[Step], stores: u64, twin: Twin) -> Option<bool> {
    let heaps = start.heaps();
    let life = Life::new(stores, twin);
    let mut oracle = Oracle::new(start);
    let mortal = |heap| Mortal { heap, life: &life, held: Held::default() };
    let (lanes, read): (Vec<_>, _) = (heaps.iter().map(mortal).collect(), reader_lanes(&heaps, &life));
    let writers: Result<Vec<_>, _> = lanes.iter().map(|lane| Writer::take_over(lane, start.shape)).collect();
    let (Ok(mut writers), Ok(mut reader)) = (writers, read_lanes(&read, start.shape)) else {
        panic!("a fresh region");
    };
    if life.is_over() {
        return Some(counts_match(&heaps, &oracle) && finds(&heaps, &oracle));
    }
    for step in steps {
        let instants = do_step(&oracle, step, &mut writers, &mut reader);
        if life.is_over() {
            let found = instants.iter().find(|oracle| counts_match(&heaps, oracle));
            return Some(found.is_some_and(|oracle| finds(&heaps, oracle)));
        }
        oracle.clone_from(instants.last().expect("the last one"));
    }
    None
}

/// The number of stores until the steps survive, or the first death that they don't.
fn all_deaths(start: Start, steps: &[Step], twin: Twin) -> Result<u64, u64> {
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
    #![proptest_config(config(400))]

    #[test]
    fn an_owner_may_die_at_every_store(start in start(), steps in vec(step(), 1..30)) {
        let start = Start { shape: Shape { capacity: 256, ..start.shape }, ..start };
        prop_assert_eq!(all_deaths(start, &steps, Twin::Sound).err(), None);
    }
}

fn two_lanes(prefix: u64) -> Start {
    Start { shape: Shape { capacity: 256, align: 8, prefix }, lanes: 2, position: 0, sequence: 5 }
}

/// The twin of the memory whose slots come after their generation is found.
#[test]
fn a_slot_after_its_generation_is_found() {
    let batch = |lane| Step::Batch { lane, lens: vec![40, 8] };
    let round = [batch(0), batch(1), Step::Consume { lanes: 3, count: 2 }];
    let steps: Vec<_> = (0..6).flat_map(|_| round.clone()).collect();
    for prefix in [0, 8] {
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::Sound).is_ok());
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::GenerationFirst).is_err());
    }
}

/// Commits of both lanes, then of one, then of the other.
#[test]
fn a_lagging_lane_that_is_not_written_is_found() {
    let batch = |lane| Step::Batch { lane, lens: vec![8, 8, 8] };
    let consume = |lanes| Step::Consume { lanes, count: 1 };
    let steps = [batch(0), batch(1), consume(3), consume(1), consume(1), consume(2)];
    for prefix in [0, 8] {
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::Sound).is_ok());
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::LaggingLaneNotWritten).is_err());
    }
}

/// Messages that go round the ring, so that each overwrites older ones.
#[test]
fn a_check_point_that_may_be_late_is_found() {
    let step = [Step::Batch { lane: 0, lens: vec![150] }, Step::Consume { lanes: 1, count: 1 }];
    let steps: Vec<_> = (0..6).flat_map(|_| step.clone()).collect();
    for prefix in [0, 8] {
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::Sound).is_ok());
        assert!(all_deaths(two_lanes(prefix), &steps, Twin::CheckPointMayBeLate).is_err());
    }
}

/// What new owners find after commits of a sink alone, and so many stores: how
/// many commits it was in, in both its parts.
fn sink_after_death(stores: u64, twin: Twin) -> [u64; 2] {
    let start = two_lanes(0);
    let heaps = start.heaps();
    let life = Life::new(stores, twin);
    let lanes = reader_lanes(&heaps, &life);
    let mut reader = read_lanes(&lanes, start.shape).expect("a fresh region");
    for commit in 1..=4 {
        reader.set_sink(Sink { id: [commit; 4], position: commit });
        reader.commit();
    }
    let found = read_lanes(&heaps, start.shape).expect("no damage").sink();
    [found.id[0], found.position]
}

/// Commits that move no lane store no head, whose release would keep them.
#[test]
fn a_commit_that_may_be_late_is_found() {
    let is_whole = |stores, twin| {
        let [id, position] = sink_after_death(stores, twin);
        id == position
    };
    assert!((0..60).all(|stores| is_whole(stores, Twin::Sound)));
    assert_eq!(sink_after_death(60, Twin::Sound), [4, 4]);
    assert!(!(0..60).all(|stores| is_whole(stores, Twin::CommitMayBeLate)));
}

/// A message that runs over the place of the last check point, an eighth of the
/// ring before it: there must be a newer one by then.
#[test]
fn no_message_runs_over_the_check_point_that_counts() {
    for prefix in [0, 8] {
        let shape = Shape { capacity: 1024, align: 8, prefix };
        let start = Start { shape, ..two_lanes(prefix) };
        let small = Step::Batch { lane: 0, lens: vec![96 - prefix as usize] };
        let large = Step::Batch { lane: 0, lens: vec![shape.max_len() as usize] };
        let steps = [small, Step::Consume { lanes: 1, count: 1 }, large];
        assert_eq!(all_deaths(start, &steps, Twin::Sound).err(), None);
    }
}

/// A check point behind the mark is an attach's: of one that died before it was
/// closed it would be told that it came back and died.
#[test]
fn an_end_mark_has_its_check_point_before_it() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    for messages in 0..100 {
        let heap = Heap::new(shape, 0, 0);
        let mut writer = Writer::take_over(&heap, shape).unwrap();
        for _ in 0..messages {
            writer.claim(0).unwrap();
            writer.stage(0, 0);
            writer.publish();
        }
        writer.end().unwrap();
        let mut reader = Reader::take_over(&&heap, shape, 1);
        reader.add(&heap).unwrap();
        for _ in 0..messages {
            let record = reader.peek_lane(0).unwrap().unwrap();
            reader.advance(&record);
        }
        let mark = reader.peek_lane(0).unwrap().unwrap();
        assert_eq!(mark.kind, Kind::End);
        assert!(!reader.lane(0).is_attached_behind(&mark), "after {messages} messages");
    }
}
