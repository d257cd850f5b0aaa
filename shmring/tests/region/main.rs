//! Regions, producers and consumers through the public door.

mod ends;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shmring::{
    AttachError, CodecId, Consumer, CreateError, Flags, OpenError, Order, Producer, Read, ReadError, Region,
    RegionOptions, RemoveError, Role, Schema, SendError, Status, Wait,
};
use tempfile::TempDir;

const SHORT: Duration = Duration::from_millis(60);

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ring")
    }

    fn small(&self) -> Region {
        RegionOptions::new().capacity(64 << 10).max_producers(1).create(self.path()).unwrap()
    }
}

#[track_caller]
fn expect(consumer: &mut Consumer, sequence: u64, payload: &[u8]) {
    match consumer.read_timeout(Duration::from_secs(30)).unwrap() {
        Read::Message(m) => assert_eq!((m.sequence, m.payload), (sequence, payload)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn expect_end(consumer: &mut Consumer) {
    assert_eq!(consumer.read_timeout(Duration::from_secs(30)), Ok(Read::End));
}

/// Of this process's own producer.
#[track_caller]
fn expect_death(consumer: &mut Consumer) {
    match consumer.read_timeout(Duration::from_secs(30)).unwrap() {
        Read::Died(death) => {
            assert_eq!((death.lane, death.producer.as_ref().unwrap().pid), (0, std::process::id() as u64));
        }
        other => panic!("{other:?}"),
    }
    expect_end(consumer);
}

#[track_caller]
fn expect_nothing(consumer: &mut Consumer) {
    assert_eq!(consumer.read_timeout(SHORT), Err(ReadError::TimedOut));
}

#[test]
fn many_creators_make_one_region() {
    let place = Place::new();
    for _ in 0..50 {
        let created: usize = thread::scope(|scope| {
            let tasks: Vec<_> =
                (0..4).map(|_| scope.spawn(|| Region::create(place.path()).is_ok())).collect();
            tasks.into_iter().map(|t| usize::from(t.join().unwrap())).sum()
        });
        assert_eq!(created, 1);
        // While others open or create it, it comes and goes.
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| Region::open_or_create(place.path()).unwrap());
            }
            scope.spawn(|| Region::remove(place.path()));
        });
        let _ = Region::remove(place.path());
    }
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0);
}

#[test]
fn of_two_who_remove_it_one_does_and_the_other_is_told_so() {
    let place = Place::new();
    for _ in 0..2000 {
        let removed = AtomicU32::new(0);
        place.small();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| match Region::remove(place.path()) {
                    Ok(()) => drop(removed.fetch_add(1, Ordering::Relaxed)),
                    Err(RemoveError::NotFound { .. } | RemoveError::InUse { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                });
            }
        });
        assert_eq!(removed.into_inner(), 1);
    }
}

#[test]
fn what_differs_is_refused_with_both_values() {
    let place = Place::new();
    let made = RegionOptions::new().capacity(64 << 10).record_align(64).schema(Schema::new("orders", 3));
    made.create(place.path()).unwrap();
    made.open(place.path()).unwrap();
    Region::open(place.path()).unwrap();
    let options = RegionOptions::new();
    for (other, asked, found) in [
        (options.clone().capacity(1 << 20), "1048576", "65536"),
        (options.clone().record_align(8), "8", "64"),
        (options.clone().max_producers(7), "7", "16"),
        (options.clone().order(Order::Total), "total", "fifo"),
        (options.clone().codec(CodecId::BINCODE), "bincode", "bytes"),
        (options.clone().schema(Schema::new("orders", 4)), "orders version 4", "orders version 3"),
        (options.clone().schema(Schema::new("trades", 3)), "trades", "orders"),
        (options.clone().schema(Schema::default()), "(none)", "orders version 3"),
    ] {
        match other.open(place.path()) {
            Err(OpenError::Differs { asked: a, found: f, .. }) => {
                assert!(a.starts_with(asked) && f.starts_with(found), "{a} {f}");
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }
    let long = RegionOptions::new().schema(Schema::new("x".repeat(65), 1));
    assert!(matches!(long.create(place.path()), Err(CreateError::SchemaName { .. })));
    let odd = RegionOptions::new().start_at(8, 0);
    assert!(matches!(odd.open_or_create(place.path()), Err(OpenError::Create(CreateError::Geometry(_)))));
}

#[test]
fn a_role_has_one_holder_who_is_named() {
    let place = Place::new();
    let region = place.small();
    let producer = region.producer().unwrap();
    let consumer = region.consumer().unwrap();
    for (result, role) in
        [(region.producer().map(drop), Role::Producer(0)), (region.consumer().map(drop), Role::Consumer)]
    {
        match result {
            Err(AttachError::Busy { role: r, owner: Some(owner) }) => {
                assert_eq!((r, owner.pid), (role, std::process::id() as u64));
                assert!(owner.same_namespace && owner.attached_ns > 0 && !owner.command.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
    match Region::remove(place.path()) {
        Err(RemoveError::InUse { users, .. }) => assert_eq!(users.len(), 2),
        other => panic!("{other:?}"),
    }
    drop((producer, consumer));
    let unused = region;
    Region::remove(place.path()).unwrap();
    assert!(matches!(unused.producer(), Err(AttachError::Removed)));
    assert!(matches!(Region::remove(place.path()), Err(RemoveError::NotFound { .. })));
}

#[test]
fn messages_keep_their_sequence_across_handles() {
    let place = Place::new();
    let region = RegionOptions::new()
        .capacity(64 << 10)
        .start_at(u64::MAX - 0xFFF, (1 << 24) - 5)
        .create(place.path())
        .unwrap();
    let first = (1 << 24) - 5;
    for round in 0..1000 {
        let mut producer = region.producer().unwrap();
        assert_eq!(producer.sequence(), first + round);
        producer.send(&round.to_le_bytes()).unwrap();
        drop(producer);
        let mut consumer = region.consumer().unwrap();
        expect(&mut consumer, first + round, &round.to_le_bytes());
        expect_end(&mut consumer);
        consumer.commit();
    }
}

#[test]
fn what_is_not_committed_comes_again() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    for number in 0..10u8 {
        producer.send(&[number]).unwrap();
    }
    let mut consumer = region.consumer().unwrap();
    expect(&mut consumer, 0, &[0]);
    expect(&mut consumer, 1, &[1]);
    consumer.commit();
    expect(&mut consumer, 2, &[2]);
    assert!(consumer.uncommitted() > 0);
    drop(consumer);
    let mut consumer = region.consumer().unwrap();
    let rest: Vec<_> = consumer.available().map(|m| m.unwrap().sequence).collect();
    assert_eq!(rest, (2..10).collect::<Vec<_>>());
    consumer.commit();
    assert_eq!(consumer.uncommitted(), 0);
    drop(consumer);
    assert_eq!(region.consumer().unwrap().try_read(), Ok(Read::Empty));
}

#[test]
fn a_batch_and_a_grant_are_all_or_nothing() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();

    let mut batch = producer.batch();
    batch.try_push(b"lost").unwrap();
    assert_eq!((batch.len(), batch.is_empty()), (1, false));
    drop(batch);
    let mut batch = producer.batch();
    batch.try_push(b"one").unwrap();
    batch.try_push_with(b"two", Flags::UNTERMINATED).unwrap();
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    batch.publish();
    expect(&mut consumer, 0, b"one");
    match consumer.try_read().unwrap() {
        Read::Message(m) => assert!(m.payload == b"two" && m.flags.contains(Flags::UNTERMINATED)),
        other => panic!("{other:?}"),
    }

    // Leaked instead of dropped.
    let mut batch = producer.batch();
    batch.try_push(b"ghost").unwrap();
    std::mem::forget(batch);
    drop(producer.try_reserve(1000).unwrap());
    let mut grant = producer.try_reserve(10).unwrap();
    assert!(grant.is_empty());
    grant.write_all(b"abc").unwrap();
    grant.write_all(b"defgh").unwrap();
    assert_eq!((grant.len(), grant.remaining()), (8, 2));
    assert!(grant.write_all(b"xyz").is_err());
    grant.commit();
    expect(&mut consumer, 2, b"abcdefghxy");
    assert!(matches!(producer.try_reserve(1 << 20), Err(SendError::TooLarge { .. })));
}

fn fill(producer: &mut Producer) -> u64 {
    let mut count = 0;
    while producer.try_send(&[7; 100]).is_ok() {
        count += 1;
    }
    assert_eq!(producer.try_send(&[7; 100]), Err(SendError::Full));
    count
}

#[test]
fn a_full_ring_takes_the_end_and_nothing_else() {
    let place = Place::new();
    for align in [8, 16, 64] {
        let region =
            RegionOptions::new().capacity(64 << 10).record_align(align).create(place.path()).unwrap();
        // Room for a gap, an end mark and the zero word stays.
        let kept = 16u64.next_multiple_of(align) + align + 8;
        assert_eq!(region.max_message() as u64, (region.capacity() - kept) / align * align - 8);
        assert!(region.max_message() as u64 >= region.capacity() - 256);
        let mut producer = region.producer().unwrap();
        let count = fill(&mut producer);
        // Exactly full, then closed again and again without a message.
        while producer.try_send(b"").is_ok() {}
        producer.close();
        for _ in 0..3 {
            region.producer().unwrap().close();
        }
        let mut consumer = region.consumer().unwrap();
        for sequence in 0..count {
            expect(&mut consumer, sequence, &[7; 100]);
        }
        while let Read::Message(m) = consumer.read().unwrap() {
            assert_eq!(m.payload, b"");
        }
        consumer.commit();
        expect_nothing(&mut consumer);
        // The largest message, alone.
        let largest = vec![9; region.max_message()];
        region.producer().unwrap().try_send(&largest).unwrap();
        match consumer.try_read().unwrap() {
            Read::Message(m) => assert!(m.payload == largest),
            other => panic!("{other:?}"),
        }
        drop(consumer);
        Region::remove(place.path()).unwrap();
    }
}

#[test]
fn waiting_ends_by_deadline_interrupt_or_room() {
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Park] {
        let place = Place::new();
        let region = place.small();
        let mut producer = region.producer().unwrap();
        let mut consumer = region.consumer().unwrap();
        producer.set_wait(wait);
        consumer.set_wait(wait);
        expect_nothing(&mut consumer);
        fill(&mut producer);
        assert_eq!(producer.send_timeout(&[1; 100], SHORT), Err(SendError::TimedOut));
        assert!(matches!(
            producer.reserve_deadline(100, Some(std::time::Instant::now())),
            Err(SendError::TimedOut)
        ));

        let flag = Arc::new(AtomicBool::new(true));
        producer.set_interrupt(Arc::clone(&flag));
        assert_eq!(producer.send(&[1; 100]), Err(SendError::Interrupted));
        flag.store(false, Ordering::Relaxed);
        // Both at work: every message comes, whoever has to wait.
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..20_000u64 {
                    producer.send(&number.to_le_bytes()).unwrap();
                }
            });
            let mut next = 0u64;
            loop {
                match consumer.read().unwrap() {
                    Read::Message(m) if m.payload.len() == 8 => {
                        assert_eq!(m.payload, next.to_le_bytes());
                        next += 1;
                    }
                    Read::Message(_) => {}
                    Read::End => break,
                    other => panic!("{other:?}"),
                }
                consumer.commit();
            }
            assert_eq!(next, 20_000);
        });
    }
}

#[test]
fn waiting_with_everything_uncommitted_is_an_error() {
    // Also where the positions begin anew between the two.
    for start in [0, 0u64.wrapping_sub(32 << 10)] {
        let place = Place::new();
        let options = RegionOptions::new().capacity(64 << 10).max_producers(1).start_at(start, 0);
        let region = options.create(place.path()).unwrap();
        let mut producer = region.producer().unwrap();
        let mut consumer = region.consumer().unwrap();
        // What is read and not committed begins just before.
        let skipped = if start == 0 { 0 } else { 32 * 1024 / 128 - 1 };
        for sequence in 0..skipped {
            producer.send(&[7; 100]).unwrap();
            expect(&mut consumer, sequence, &[7; 100]);
            consumer.commit();
        }
        let behind = skipped + fill(&mut producer);
        thread::scope(|scope| {
            scope.spawn(move || producer.send_timeout(&[7; 100], Duration::from_secs(60)).unwrap());
            for sequence in skipped..behind {
                expect(&mut consumer, sequence, &[7; 100]);
            }
            match consumer.read_timeout(Duration::from_secs(30)) {
                Err(ReadError::Uncommitted { bytes }) => assert!(bytes > 60_000),
                other => panic!("{other:?}"),
            }
            consumer.commit();
            expect(&mut consumer, behind, &[7; 100]);
        });
    }
}

#[test]
fn impossible_words_are_damage_for_good() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    let file = File::options().write(true).open(place.path()).unwrap();
    producer.send(b"message").unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), 0x10000).unwrap();
    for _ in 0..2 {
        assert!(matches!(consumer.try_read(), Err(ReadError::Damaged(d)) if d.lane == 0));
        assert!(matches!(consumer.read(), Err(ReadError::Damaged(_))));
    }
    assert_eq!(consumer.available().count(), 1, "the error once, then the end");
    // A head beyond the tail, seen when the ring seems full.
    file.write_all_at(&(1u64 << 40).to_le_bytes(), 0x2000 + 0x100).unwrap();
    let error = loop {
        match producer.try_send(&[7; 100]) {
            Ok(()) => {}
            Err(e) => break e,
        }
    };
    assert!(matches!(error, SendError::Damaged(_)), "{error:?}");
    assert!(matches!(producer.try_send(b""), Err(SendError::Damaged(_))));
    drop((producer, consumer));
    assert!(matches!(region.producer(), Err(AttachError::Damaged(_))));
}

#[test]
fn damage_that_a_batch_meets_is_for_good() {
    for publish in [false, true] {
        let place = Place::new();
        let region = place.small();
        let mut producer = region.producer().unwrap();
        let file = File::options().write(true).open(place.path()).unwrap();
        file.write_all_at(&(1u64 << 40).to_le_bytes(), 0x2000 + 0x100).unwrap();
        let mut batch = producer.batch();
        let error = loop {
            if let Err(e) = batch.try_push(&[7; 1000]) {
                break e;
            }
        };
        assert!(matches!(error, SendError::Damaged(_)), "{error:?}");
        if publish {
            batch.publish();
        } else {
            drop(batch);
        }
        assert!(matches!(producer.try_send(b""), Err(SendError::Damaged(_))));
        assert!(matches!(producer.try_reserve(0), Err(SendError::Damaged(_))));
        assert!(matches!(producer.batch().try_push(b""), Err(SendError::Damaged(_))));
    }
}

#[test]
fn a_batch_that_was_forgotten_takes_no_room() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    type Way = fn(&mut Producer) -> Result<(), SendError>;
    let ways: [Way; 4] = [
        |producer| producer.send_timeout(b"message", SHORT),
        |producer| {
            let mut grant = producer.reserve_deadline(9000, Some(Instant::now() + SHORT))?;
            grant.write_all(b"message").unwrap();
            grant.commit();
            Ok(())
        },
        |producer| {
            let mut grant = producer.try_reserve(9000)?;
            grant.write_all(b"message").unwrap();
            grant.commit();
            Ok(())
        },
        |producer| {
            let mut batch = producer.batch();
            batch.try_push(b"message")?;
            batch.publish();
            Ok(())
        },
    ];
    for (sequence, way) in ways.into_iter().enumerate() {
        let mut batch = producer.batch();
        while batch.try_push(&[7; 1000]).is_ok() {}
        std::mem::forget(batch);
        way(&mut producer).unwrap();
        expect(&mut consumer, sequence as u64, b"message");
        assert_eq!(consumer.try_read(), Ok(Read::Empty));
        consumer.commit();
    }
}

#[test]
fn what_becomes_of_the_file_is_noticed() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    fill(&mut producer);
    fs::remove_file(place.path()).unwrap();
    assert_eq!(producer.send(&[7; 100]), Err(SendError::Removed));
    consumer.available().for_each(drop);
    assert_eq!(consumer.read(), Err(ReadError::Removed));
    assert!(matches!(region.consumer(), Err(AttachError::Busy { .. })));
    drop(consumer);
    assert!(matches!(region.consumer(), Err(AttachError::Removed)));

    let region = place.small();
    let file = File::options().write(true).open(place.path()).unwrap();
    file.set_len(70_000).unwrap();
    assert!(matches!(region.consumer(), Err(AttachError::Truncated { found: 70_000 })));
}

#[test]
fn the_status_tells_what_is_there() {
    let place = Place::new();
    let region = place.small();
    let fresh = Status::of(place.path()).unwrap();
    assert_eq!((fresh.lanes.len(), fresh.consumer.is_none(), fresh.capacity), (0, true, 65536));
    assert_eq!((fresh.max_producers, fresh.order), (1, Order::Fifo));
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    for _ in 0..5 {
        producer.send(b"message").unwrap();
    }
    expect(&mut consumer, 0, b"message");
    consumer.commit();
    let busy = Status::of(place.path()).unwrap();
    let lane = &busy.lanes[0];
    assert_eq!((lane.stream, lane.sent, lane.committed, lane.used), ("open", 5, 1, 64));
    assert!(busy.consumer.unwrap().is_some() && lane.producer.as_ref().unwrap().is_some());
    producer.abandon();
    assert_eq!(Status::of(place.path()).unwrap().lanes[0].stream, "its producer died");
}

#[test]
fn what_a_peer_wrote_for_people_is_shown_in_printable_letters() {
    let place = Place::new();
    let schema = Schema::new("\x1b[2Jconsumer\nroot", 1);
    RegionOptions::new().schema(schema).create(place.path()).unwrap();
    let shown = Status::of(place.path()).unwrap().schema.to_string();
    assert!(shown.chars().all(|c| !c.is_control()) && shown.contains("consumer"), "{shown:?}");
}
