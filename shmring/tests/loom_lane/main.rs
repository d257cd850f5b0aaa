//! The lane's orderings, each under a model checker: all interleavings and all
//! values that a relaxed load may return.
//!
//! One short scenario for each race, on rings of 64 or 128 bytes. Each scenario
//! also runs with twins of the memory, or of an endpoint's steps, in which one
//! ordering is weaker, two steps are exchanged or one is left out; every twin
//! must be found, so a model that sees nothing fails.
//!
//! * here: one lane, its producer and its consumer, step by step;
//! * `at_once`: the same with messages that are sent and taken in one go;
//! * `takeover`: a lane that passes from owner to owner;
//! * `commit`: a commit over two lanes;
//! * `attach`: a lane that comes into use, and the end of all: READY, STATE,
//!   ATTACH and WANT. The endpoints' steps are written there once more;
//! * `kept`: a lane and its name: KEPT. Likewise;
//! * `order`: total order over two lanes: TICKET;
//! * `sites`: each ordered call of the ring's code, and that one alone Relaxed.
//!
//! How a twin is found:
//!
//! * PUBLISH, CHECK, COMMIT, STATE, ATTACH, TICKET by content: payload words
//!   are relaxed atomics, and a reader that is too early sees old ones, misses
//!   a lane, or takes messages in another order.
//! * FREE by a race: what has to be excluded is a load that takes effect after
//!   a later store of the same thread. The checker runs loads in program order
//!   and cannot show that, but it knows what happens before what, so each
//!   place also has a cell that is read where payload is read, and written
//!   where anything is written. READY too: a lane has a cell that is written
//!   when it gets its space, and read with every touch of its data.
//!
//! CHECK and COMMIT are read by a new owner only, after the kernel handed it
//! the lock. If that hand-over orders the old owner's stores before the new
//! owner's loads, relaxed accesses would do: `the_lock_alone_is_enough_*` shows
//! it. The pairs matter where it orders nothing, for example because the old
//! owner's lock went away while one of its stores was still on its way; the
//! `unordered_*` models have a hand-over that orders nothing.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use shmring::internals::layout::blocks::{LaneState, Phase};
use shmring::internals::layout::record::Kind;
use shmring::internals::layout::{Cause, Part, Slot, Word};
use shmring::internals::ring::{
    Broken, Claim, Corrupt, Cursor, Fault, Memory, Reader, Record, Shape, Writer,
};

use memory::{Lane, Twin};

const SHAPE: Shape = Shape { capacity: 64, align: 8, prefix: 0 };
/// In total order a ticket follows the header.
const TOTAL: Shape = Shape { capacity: 128, align: 8, prefix: 8 };
/// The first record's position: the position wraps inside every scenario.
const START: u64 = 0u64.wrapping_sub(16);
/// The first message's sequence: its low 24 bits wrap inside every scenario.
const FIRST: u64 = (1 << 24) - 1;

/// The payload of a message: each word tells whose it is. Taken for a header
/// it has no length, an unknown kind and an unknown flag.
fn payload(sequence: u64, words: usize) -> Vec<u8> {
    (0..words as u64).flat_map(|i| (sequence << 40 | (0xF0 + i) << 32).to_le_bytes()).collect()
}

fn stage(writer: &mut Writer<Lane>, words: usize) -> Result<(), Claim> {
    writer.claim(8 * words)?;
    writer.write(0, &payload(writer.sequence() + writer.staged(), words));
    writer.stage(0, 8 * words);
    Ok(())
}

fn send(writer: &mut Writer<Lane>, words: usize) -> Result<(), Claim> {
    stage(writer, words)?;
    writer.publish();
    Ok(())
}

/// The next record of the first lane.
fn peek(reader: &Reader<Lane>) -> Option<Record> {
    reader.peek_lane(0).expect("no damage")
}

/// Steps over the next message, if it is there, and checks every byte.
fn receive(reader: &mut Reader<Lane>, words: usize) -> bool {
    let Some(record) = peek(reader) else {
        return false;
    };
    check(reader, &record, words);
    reader.advance(&record);
    true
}

fn check(reader: &Reader<Lane>, record: &Record, words: usize) {
    assert_eq!((record.kind, record.len), (Kind::Data, 8 * words), "another record than was sent");
    let mut bytes = vec![0; record.len];
    reader.read(record, &mut bytes);
    assert_eq!(bytes, payload(record.sequence, words), "another payload than was sent");
}

fn owners(twin: Twin) -> (Writer<Lane>, Reader<Lane>) {
    let lane = Lane::new(twin, SHAPE, 1);
    let reader = new_reader(lane.share(), 1).expect("a fresh lane");
    (new_writer(lane), reader)
}

fn new_writer(lane: Lane) -> Writer<Lane> {
    let shape = lane.shape();
    Writer::take_over(lane, shape).expect("no damage")
}

/// A new consumer of the first so many lanes.
fn new_reader(lane: Lane, lanes: usize) -> Result<Reader<Lane>, Broken> {
    let mut reader = Reader::take_over(&lane, lane.shape(), lanes);
    for index in 0..lanes {
        reader.add(lane.beside(index))?;
    }
    Ok(reader)
}

/// Every interleaving with so many preemptions at most. Two find every twin;
/// three take half a minute where much is done.
fn model(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// Makes a test of the sound memory, and one of each twin that has to fail.
macro_rules! held_by {
    ($scenario:ident: $($twin:ident $seen:literal),+) => {
        held_by!($scenario, 3: $($twin $seen),+);
    };
    ($scenario:ident, $preemptions:literal: $($twin:ident $seen:literal),+) => {
        mod $scenario {
            #[test]
            fn holds() {
                super::model($preemptions, || super::$scenario(super::Twin::Sound));
            }
            $(
                #[test]
                #[should_panic(expected = $seen)]
                #[allow(non_snake_case)]
                fn $twin() {
                    super::model($preemptions, || super::$scenario(super::Twin::$twin));
                }
            )+
        }
    };
}

/// Two messages: what the reader sees of them is whole and in order, and both
/// are there in the end.
fn messages_are_whole(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        for _ in 0..2 {
            send(&mut writer, 1).expect("room");
        }
    });
    let mut seen = 0;
    for _ in 0..3 {
        seen += receive(&mut reader, 1) as u64;
    }
    producer.join().unwrap();
    while receive(&mut reader, 1) {
        seen += 1;
    }
    assert_eq!((seen, reader.lane(0).sequence()), (2, FIRST + 2));
}

held_by!(messages_are_whole:
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload",
    HeaderBeforePayload "another payload");

/// A batch of two: once the first is there, so is the second, and then nothing.
fn a_batch_is_all_or_nothing(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        stage(&mut writer, 1).expect("room");
        stage(&mut writer, 1).expect("room");
        writer.publish();
    });
    if let Some(first) = peek(&reader) {
        reader.advance(&first);
        let second = peek(&reader).expect("the other half of the batch");
        reader.advance(&second);
        assert_eq!(peek(&reader), None, "more than the batch");
        check(&reader, &first, 1);
        check(&reader, &second, 1);
    }
    producer.join().unwrap();
}

held_by!(a_batch_is_all_or_nothing:
    PublishStoreRelaxed "the other half",
    PublishLoadRelaxed "the other half",
    FirstHeaderFirst "the other half");

/// The ring is full of two messages, and old bytes lie behind them. There is
/// room for a third once the first is committed; the gap and the end mark
/// behind it then lie over the first. The producer writes only what is
/// committed, and the reader never takes old bytes for the next header.
fn only_committed_bytes_are_overwritten(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    for _ in 0..4 {
        send(&mut writer, 1).expect("room");
        assert!(receive(&mut reader, 1));
        reader.commit();
    }
    send(&mut writer, 1).expect("room");
    send(&mut writer, 1).expect("room");
    let producer = thread::spawn(move || {
        let sent = send(&mut writer, 1);
        assert!(matches!(sent, Ok(()) | Err(Claim::Full)), "{sent:?}");
        writer.drop_message(Cause::Full);
        writer.end().expect("no damage");
        sent.is_ok()
    });
    assert!(receive(&mut reader, 1));
    reader.commit();
    assert!(receive(&mut reader, 1));
    let third = peek(&reader).filter(|record| record.kind == Kind::Data);
    if let Some(message) = third {
        check(&reader, &message, 1);
        reader.advance(&message);
        let next = peek(&reader).map(|record| record.kind);
        assert_ne!(next, Some(Kind::Data), "a message that was not sent");
    }
    let sent = producer.join().unwrap();
    assert!(sent || third.is_none(), "a message that was not sent");
    while let Some(record) = peek(&reader) {
        reader.advance(&record);
    }
    assert_eq!(reader.lane(0).sequence(), FIRST + 6 + sent as u64 + 1);
}

held_by!(only_committed_bytes_are_overwritten:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation",
    HeaderBeforeZero "no damage",
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload");

/// A consumer is killed between its commit and the head word. The next one
/// stores that word for it and thereby frees what the first one had read.
fn a_new_consumer_frees_what_the_old_one_read(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 1);
    let mut writer = new_writer(lane.share());
    send(&mut writer, 1).expect("room");
    send(&mut writer, 1).expect("room");
    let mut old = new_reader(lane.share(), 1).expect("no damage");
    old.lane(0).memory().kill_before(Word::Head);
    let consumer = thread::spawn(move || {
        assert!(receive(&mut old, 1));
        old.commit();
        let mut reader = new_reader(lane, 1).expect("no damage");
        assert_eq!(reader.lane(0).sequence(), FIRST + 1);
        assert!(receive(&mut reader, 1));
    });
    let sent = send(&mut writer, 1);
    assert!(matches!(sent, Ok(()) | Err(Claim::Full)), "{sent:?}");
    // Without room for the message this is not over the first one either.
    writer.drop_message(Cause::Full);
    writer.end().expect("no damage");
    consumer.join().unwrap();
}

held_by!(a_new_consumer_frees_what_the_old_one_read:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation");

/// The same room, seen by a new producer when it takes the lane over.
fn a_new_producer_writes_only_what_is_free(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 1);
    let mut dead = new_writer(lane.share());
    send(&mut dead, 1).expect("room");
    send(&mut dead, 1).expect("room");
    let mut reader = new_reader(lane.share(), 1).expect("no damage");
    let consumer = thread::spawn(move || {
        assert!(receive(&mut reader, 1));
        reader.commit();
    });
    let mut writer = new_writer(lane);
    let sent = send(&mut writer, 1);
    assert!(matches!(sent, Ok(()) | Err(Claim::Full)), "{sent:?}");
    writer.drop_message(Cause::Full);
    writer.end().expect("no damage");
    consumer.join().unwrap();
}

held_by!(a_new_producer_writes_only_what_is_free:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation");

/// A producer was killed between a message and its check point. The next one
/// finds the message, although the consumer is already ahead of the check
/// point, and goes on behind it.
///
/// No twin: what a walk reads the dead owner stored, under the lock, and FREE
/// has its twins above. That the head is loaded after the walk is not an
/// ordering but the program's order.
#[test]
fn a_takeover_meets_a_consumer_ahead_of_the_check_point() {
    model(3, || {
        let lane = Lane::new(Twin::Sound, SHAPE, 1);
        let mut reader = new_reader(lane.share(), 1).expect("no damage");
        let mut dead = new_writer(lane.share());
        dead.memory().kill_before(Word::CheckGeneration);
        send(&mut dead, 1).expect("room");
        let producer = thread::spawn(move || {
            let mut writer = new_writer(lane);
            assert_eq!((writer.sequence(), writer.bytes()), (FIRST + 1, 8));
            send(&mut writer, 1).expect("room");
        });
        let mut seen = 0;
        for _ in 0..2 {
            seen += receive(&mut reader, 1) as u64;
            reader.commit();
        }
        producer.join().unwrap();
        while receive(&mut reader, 1) {
            seen += 1;
        }
        assert_eq!(seen, 2);
    });
}

mod at_once;
mod attach;
#[path = "../source/calls.rs"]
mod calls;
mod commit;
mod kept;
mod memory;
mod order;
mod sites;
mod takeover;
