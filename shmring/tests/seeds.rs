//! Writers and a reader of rings on the heap, in threads, small enough for Miri
//! to run with many seeds: each seed is another schedule, and other old values
//! that a load which is not ordered may still see. See `.ci/miri`. Without Miri
//! these are quick tests of the same.
#![allow(unsafe_code)] // a planted race

use std::cell::UnsafeCell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shmring::internals::Heap;
use shmring::internals::layout::Cause;
use shmring::internals::layout::record::Kind;
use shmring::internals::ring::{Broken, Claim, Memory, Reader, Record, Shape, Sink, Writer};

/// About two laps of a ring, or many.
const MESSAGES: u64 = if cfg!(miri) { 16 } else { 600 };
/// So many laps before positions start again at 0, and sequences in their low bits.
const START: (u64, u64) = (0u64.wrapping_sub(256), (1 << 24) - 7);

fn shape(prefix: u64) -> Shape {
    Shape { capacity: 256, align: 16, prefix }
}

/// Bytes of no two messages are alike.
fn payload(number: u64) -> Vec<u8> {
    (0..number * 7 % 41).map(|i| (number * 37 + i * 11) as u8 | 1).collect()
}

/// Somebody failed: the others wait for nothing.
static FAILED: AtomicBool = AtomicBool::new(false);

struct Failing;

impl Drop for Failing {
    fn drop(&mut self) {
        if thread::panicking() {
            FAILED.store(true, Ordering::Relaxed);
        }
    }
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let _failing = Failing;
    loop {
        assert!(!FAILED.load(Ordering::Relaxed), "another thread failed");
        match look() {
            Some(found) => return found,
            None => thread::yield_now(),
        }
    }
}

fn claim(writer: &mut Writer<&Heap>, len: usize) {
    until(|| {
        let claimed = writer.claim(len);
        (claimed != Err(Claim::Full)).then_some(claimed)
    })
    .unwrap();
}

/// Sends the messages of these numbers, up to `batch` of them at a time.
fn send(writer: &mut Writer<&Heap>, numbers: impl Iterator<Item = u64>, batch: u64) {
    let _failing = Failing;
    for number in numbers {
        let payload = payload(number);
        if batch == 1 && writer.send(0, &payload) {
            continue;
        }
        if writer.claim(payload.len()) == Err(Claim::Full) {
            // Who reads would wait for these.
            writer.publish();
            claim(writer, payload.len());
        }
        writer.write(0, &payload);
        writer.stage(0, payload.len());
        if writer.staged() >= batch {
            writer.publish();
        }
    }
    writer.publish();
}

fn reader<'a>(lanes: &[&'a Heap], prefix: u64) -> Reader<&'a Heap> {
    let mut reader = Reader::take_over(&lanes[0], shape(prefix), lanes.len());
    lanes.iter().for_each(|lane| reader.add(lane).unwrap());
    reader
}

fn find<M: Memory>(reader: &mut Reader<M>) -> Result<Option<Record>, Broken> {
    if let Some(record) = reader.peek()? {
        return Ok(Some(record));
    }
    reader.begin();
    reader.scan(true)
}

/// Takes the next message, which must be the whole one of that number in its lane:
/// at once if it can be, as those who wait do, else step by step.
fn take(reader: &mut Reader<&Heap>) -> (u32, u64) {
    let _failing = Failing;
    let mut buffer = [0; 32];
    let taken = reader.take(&mut buffer);
    let taken = taken.or_else(|| if reader.glance() { reader.take(&mut buffer) } else { None });
    if let Some(record) = taken {
        let number = record.sequence.wrapping_sub(START.1);
        assert_eq!(buffer[..record.len], payload(number), "message {number}");
        return (record.lane, number);
    }
    let record = until(|| find(reader).unwrap());
    assert_eq!(record.kind, Kind::Data);
    let number = record.sequence.wrapping_sub(START.1);
    let mut bytes = vec![0; record.len];
    reader.read(&record, &mut bytes);
    assert_eq!(bytes, payload(number), "message {number}");
    reader.advance(&record);
    (record.lane, number)
}

fn heap(prefix: u64) -> Heap {
    Heap::new(shape(prefix), START.0, START.1)
}

#[test]
fn every_message_arrives_whole() {
    for batch in [1, 3] {
        let heap = heap(0);
        thread::scope(|scope| {
            scope.spawn(|| send(&mut Writer::take_over(&heap, shape(0)).unwrap(), 0..MESSAGES, batch));
            let mut reader = reader(&[&heap], 0);
            for number in 0..MESSAGES {
                assert_eq!(take(&mut reader), (0, number));
                if number % 2 == 0 {
                    reader.commit();
                }
            }
        });
    }
}

/// One writer stops within a batch, and the next goes on at the exact message.
#[test]
fn a_writer_takes_over_while_the_reader_reads() {
    let heap = heap(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut first = Writer::take_over(&heap, shape(0)).unwrap();
            send(&mut first, 0..MESSAGES / 2, 2);
            claim(&mut first, 20);
            first.write(0, &[0xEE; 20]);
            first.stage(0, 20);
            // What the lock does for the next owner, the begin of its thread does here.
            scope.spawn(|| {
                let mut next = Writer::take_over(&heap, shape(0)).unwrap();
                assert_eq!(next.sequence(), START.1.wrapping_add(MESSAGES / 2));
                send(&mut next, MESSAGES / 2..MESSAGES, 2);
                next.end().unwrap();
            });
        });
        let mut reader = reader(&[&heap], 0);
        for number in 0..MESSAGES {
            assert_eq!(take(&mut reader), (0, number));
            reader.commit();
        }
        let end = until(|| reader.peek_lane(0).unwrap());
        assert!(end.is_end());
    });
}

/// One reader stops between two commits: the next begins behind the last commit,
/// with the sink's position of the same commit.
#[test]
fn a_reader_takes_over_while_the_writer_writes() {
    let heap = heap(0);
    thread::scope(|scope| {
        scope.spawn(|| send(&mut Writer::take_over(&heap, shape(0)).unwrap(), 0..MESSAGES, 1));
        let mut first = reader(&[&heap], 0);
        for number in 0..7 {
            assert_eq!(take(&mut first), (0, number));
            if number < 5 {
                first.set_sink(Sink { id: [1; 4], position: number });
                first.commit();
            }
        }
        scope.spawn(|| {
            let mut next = reader(&[&heap], 0);
            assert_eq!(next.sink(), Sink { id: [1; 4], position: 4 });
            for number in 5..MESSAGES {
                assert_eq!(take(&mut next), (0, number));
                next.commit();
            }
        });
    });
}

/// Dropped ones are told in their place, with their number.
#[test]
fn a_gap_is_told_where_it_is() {
    let heap = heap(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::take_over(&heap, shape(0)).unwrap();
            for number in (0..MESSAGES).step_by(3) {
                send(&mut writer, number..number + 1, 1);
                writer.drop_message(Cause::Full);
                writer.drop_message(Cause::Deadline);
                until(|| writer.publish_gap(40).ok());
            }
        });
        let mut reader = reader(&[&heap], 0);
        for number in (0..MESSAGES).step_by(3) {
            assert_eq!(take(&mut reader), (0, number));
            let gap = until(|| find(&mut reader).unwrap());
            assert_eq!((gap.kind, reader.gap(&gap)), (Kind::Gap, 2));
            assert_eq!(gap.sequence, START.1.wrapping_add(number + 1));
            reader.advance(&gap);
            reader.commit();
        }
    });
}

/// Two lanes, one consumer, in both orders. In total order a message that was
/// sent after another one was known to be there comes after it.
#[test]
fn two_writers_and_a_reader() {
    for prefix in [0, 8] {
        let first = heap(prefix);
        let second = first.beside(START.0, START.1);
        let both = [&first, &second];
        thread::scope(|scope| {
            for lane in both {
                scope.spawn(move || {
                    send(&mut Writer::take_over(lane, shape(prefix)).unwrap(), 0..MESSAGES / 2, 2)
                });
            }
            let mut reader = reader(&both, prefix);
            let mut next = [0; 2];
            for _ in 0..MESSAGES {
                let (lane, number) = take(&mut reader);
                assert_eq!(number, next[lane as usize]);
                next[lane as usize] += 1;
                reader.commit();
            }
        });
        if prefix > 0 {
            one_after_the_other(&both);
        }
    }
}

/// The second lane's message is sent when the first one's is known to be there.
fn one_after_the_other(both: &[&Heap; 2]) {
    let mut reader = reader(both, 8);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writers = both.map(|lane| Writer::take_over(lane, shape(8)).unwrap());
            send(&mut writers[0], MESSAGES / 2..MESSAGES / 2 + 1, 1);
            let [_, mut other] = writers;
            scope.spawn(move || send(&mut other, MESSAGES / 2..MESSAGES / 2 + 1, 1));
        });
        assert_eq!([take(&mut reader).0, take(&mut reader).0], [0, 1]);
    });
}

struct Unguarded(UnsafeCell<u64>);

// SAFETY: it is not safe: see `a_planted_race`.
unsafe impl Sync for Unguarded {}

/// Miri and ThreadSanitizer must fail here.
#[test]
#[ignore = "a planted race: .ci/miri and .ci/sanitizers run it, and must find it"]
fn a_planted_race() {
    let word = Unguarded(UnsafeCell::new(0));
    let (word, both) = (&word, &Barrier::new(2));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                both.wait();
                for _ in 0..1000 {
                    let at = word.0.get();
                    // SAFETY: none: both threads write the word. Volatile, or an
                    // optimizer makes one store of them.
                    unsafe { at.write_volatile(at.read_volatile() + 1) };
                }
            });
        }
    });
    // SAFETY: the threads have ended.
    assert!(unsafe { *word.0.get() } > 0);
}
