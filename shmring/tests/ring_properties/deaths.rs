//! Owners that are killed at any store: the next ones find the lane as it was
//! before the step that was cut, or after it.

use super::*;

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
