//! Messages written and read where they are, through the public door.
#![allow(unsafe_code)] // a caller's word

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use shmring::{
    Cause, Flags, InPlaceConsumer, InPlaceProducer, Order, Read, ReadError, Region, RegionOptions, SendError,
    StreamId, Trust,
};

const CAPACITY: u64 = 64 << 10;
const HANG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(60);

fn trust() -> Trust {
    // SAFETY: each test has its regions for itself, and uses them through the
    // handles of this library; the one that writes to the file says what.
    unsafe { Trust::in_peers() }
}

fn small() -> Region {
    RegionOptions::new().capacity(CAPACITY).max_producers(4).create_anonymous().unwrap()
}

fn producer(region: &Region) -> InPlaceProducer {
    region.producer().unwrap().in_place(trust())
}

fn consumer(region: &Region) -> InPlaceConsumer {
    region.consumer().unwrap().in_place(trust())
}

fn both(region: &Region) -> (InPlaceProducer, InPlaceConsumer) {
    (producer(region), consumer(region))
}

/// Bytes that tell the number of their message.
fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (number.wrapping_mul(31) + at * 7 + (at >> 8)) as u8).collect()
}

#[track_caller]
fn send(producer: &mut InPlaceProducer, bytes: &[u8]) {
    let mut loan = producer.try_reserve(bytes.len()).unwrap();
    loan.copy_from_slice(bytes);
    loan.commit(bytes.len());
}

#[track_caller]
fn expect(consumer: &mut InPlaceConsumer, sequence: u64, payload: &[u8]) {
    match consumer.read_timeout(HANG).unwrap() {
        Read::Message(m) => {
            assert_eq!((m.sequence, m.payload.len()), (sequence, payload.len()));
            assert!(m.payload == payload);
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn expect_death_and_end(consumer: &mut InPlaceConsumer) {
    assert!(matches!(consumer.read_timeout(HANG).unwrap(), Read::Died(_)));
    assert_eq!(consumer.read_timeout(HANG), Ok(Read::End));
}

#[test]
fn every_length_comes_back_at_every_place() {
    for (order, align) in [(Order::Fifo, 8), (Order::Fifo, 64), (Order::Total, 16)] {
        let options = RegionOptions::new().capacity(CAPACITY).record_align(align).order(order);
        let region = options.create_anonymous().unwrap();
        let (mut producer, mut consumer) = both(&region);
        let max = region.max_message();
        let small = 0..200;
        let steps = (0..400).map(|i| i * 163 + i % 9);
        let large = max - 20..=max;
        let mut wrapped = 0;
        for (number, len) in (0..).zip(small.chain(steps).chain(large).filter(|&len| len <= max)) {
            let bytes = payload(number, len);
            send(&mut producer, &bytes);
            match consumer.try_read().unwrap() {
                Read::Message(m) => {
                    assert_eq!((m.sequence, m.flags, m.payload.len()), (number, Flags::NONE, len));
                    assert!(m.payload == bytes, "{len}");
                    assert!(m.payload.as_ptr().addr().is_multiple_of(8));
                    let at = m.payload.as_ptr().addr() as u64 % CAPACITY;
                    wrapped += u64::from(at + len as u64 > CAPACITY);
                }
                other => panic!("{other:?}"),
            }
            consumer.commit();
        }
        assert!(wrapped > 50, "{wrapped} ran over the end of the ring");
        let most = producer.try_reserve(max + 1).map(drop);
        assert_eq!(most, Err(SendError::TooLarge { len: max + 1, max }));
    }
}

#[test]
fn those_who_copy_and_those_who_do_not_understand_each_other() {
    let region = small();
    let mut copying = region.producer().unwrap();
    let mut in_place = producer(&region);
    let mut reading = consumer(&region);
    for number in 0..1000 {
        let bytes = payload(number, (number * 61 % 5000) as usize);
        copying.send(&bytes).unwrap();
        expect(&mut reading, number, &bytes);
        reading.commit();
    }
    let mut reading = reading.into_inner();
    for number in 0..1000 {
        let bytes = payload(number, (number * 61 % 5000) as usize);
        send(&mut in_place, &bytes);
        match reading.read_timeout(HANG).unwrap() {
            Read::Message(m) => assert!((m.lane, m.sequence) == (1, number) && m.payload == bytes),
            other => panic!("{other:?}"),
        }
        reading.commit();
    }
}

#[test]
fn a_stream_between_threads_is_whole() {
    for order in [Order::Fifo, Order::Total] {
        let region = RegionOptions::new().capacity(CAPACITY).order(order).create_anonymous().unwrap();
        let len = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as usize;
        const MESSAGES: u64 = 5000;
        let mut consumer = consumer(&region);
        let send_all = || {
            let mut producer = producer(&region);
            for number in 0..MESSAGES {
                // More than is sent, now and then.
                let len = len(number);
                let mut loan = producer.reserve(len + (number % 3) as usize * 100).unwrap();
                loan[..len].fill(number as u8);
                loan.commit(len);
            }
        };
        thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(send_all)));
            let mut next = [0; 2];
            while next != [MESSAGES; 2] {
                match consumer.read_timeout(HANG).unwrap() {
                    Read::Message(m) => {
                        let number = &mut next[m.lane as usize];
                        assert_eq!((m.sequence, m.payload.len()), (*number, len(*number)));
                        assert!(m.payload.iter().all(|&byte| byte == *number as u8), "torn");
                        *number += 1;
                    }
                    // The first came and went before the second.
                    Read::End => continue,
                    other => panic!("{other:?}"),
                }
                if consumer.get_ref().uncommitted() > CAPACITY / 8 {
                    consumer.commit();
                }
            }
        });
    }
}

#[test]
fn what_is_not_committed_leaves_no_trace() {
    let region = small();
    let (mut producer, mut consumer) = both(&region);
    send(&mut producer, b"one");
    let max = region.max_message();
    for _ in 0..3 {
        let mut loan = producer.reserve(max - 100).unwrap();
        // Words that look like headers.
        loan.fill(1);
        drop(loan);
        let mut loan = producer.reserve(100).unwrap();
        loan.fill(2);
    }
    assert_eq!(producer.get_ref().sequence(), 1);
    expect(&mut consumer, 0, b"one");
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    // Room that is lent again has what was written there: some bytes, never none.
    let loan = producer.reserve(100).unwrap();
    assert!(loan.len() == 100 && loan.iter().all(|&byte| byte == 2));
    loan.commit(10);
    expect(&mut consumer, 1, &[2; 10]);
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
}

#[test]
fn a_forgotten_batch_takes_no_room() {
    let region = small();
    let mut producer = region.producer().unwrap();
    let mut batch = producer.batch();
    while batch.try_push(&[1; 1000]).is_ok() {}
    std::mem::forget(batch);
    let mut producer = producer.in_place(trust());
    let deadline = std::time::Instant::now() + SHORT;
    let reserved = producer.reserve_deadline(region.max_message(), Some(deadline));
    reserved.expect("nothing was published").commit(3);
    assert_eq!(producer.get_ref().sequence(), 1);
}

#[test]
fn more_than_was_reserved_is_not_sent() {
    let region = small();
    let (mut producer, mut consumer) = both(&region);
    let loan = producer.reserve(10).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| loan.commit(11))).is_err());
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    send(&mut producer, b"x");
    expect(&mut consumer, 0, b"x");
}

#[test]
fn a_producer_that_dies_with_a_loan_left_what_it_had_committed() {
    let region = small();
    let mut consumer = consumer(&region);
    for round in 0..20 {
        let mut producer = producer(&region);
        send(&mut producer, b"sent");
        let mut loan = producer.reserve(region.max_message() / 2).unwrap();
        loan.fill(1);
        producer.into_inner().abandon();
        expect(&mut consumer, round, b"sent");
        expect_death_and_end(&mut consumer);
        consumer.commit();
    }
}

#[test]
fn what_is_read_and_not_committed_comes_again() {
    let region = small();
    let mut producer = producer(&region);
    let messages: Vec<_> = (0..10).map(|number| payload(number, 4000)).collect();
    messages.iter().for_each(|bytes| send(&mut producer, bytes));
    let mut first = consumer(&region);
    (0..3).for_each(|number| expect(&mut first, number, &messages[number as usize]));
    first.commit();
    (3..8).for_each(|number| expect(&mut first, number, &messages[number as usize]));
    drop(first);
    let mut second = consumer(&region);
    (3..10).for_each(|number| expect(&mut second, number, &messages[number as usize]));
    producer.into_inner().close();
    assert_eq!(second.read_timeout(HANG), Ok(Read::End));
}

#[test]
fn what_is_read_stays_as_it_is_until_it_is_committed() {
    let region = small();
    let (mut producer, mut consumer) = both(&region);
    let bytes = payload(1, region.max_message() / 2);
    send(&mut producer, &bytes);
    let Read::Message(message) = consumer.try_read().unwrap() else { panic!("it is there") };
    let rest = loop {
        match producer.try_reserve(1000) {
            Ok(mut loan) => {
                loan.fill(0xff);
                loan.commit(1000);
            }
            Err(e) => break e,
        }
    };
    assert_eq!(rest, SendError::Full);
    assert!(message.payload == bytes);
    assert_eq!(
        producer.reserve_deadline(1000, Some(std::time::Instant::now() + SHORT)).map(drop),
        Err(SendError::TimedOut)
    );
    consumer.commit();
    let mut waiting = 0;
    while let Read::Message(message) = consumer.try_read().unwrap() {
        assert!(message.payload == [0xff; 1000]);
        waiting += 1;
    }
    assert!(waiting > 10);
    // Both would wait for ever.
    while producer.try_reserve(1000).map(|loan| loan.commit(0)).is_ok() {}
    while matches!(consumer.try_read(), Ok(Read::Message(_))) {}
    thread::scope(|scope| {
        let blocked = scope.spawn(|| producer.reserve(1000).map(|loan| loan.commit(1000)));
        let found = loop {
            match consumer.read_timeout(HANG) {
                Ok(Read::Message(_)) => {}
                found => break found.map(drop),
            }
        };
        assert!(matches!(found, Err(ReadError::Uncommitted { bytes }) if bytes > 0), "{found:?}");
        consumer.commit();
        assert_eq!(blocked.join().unwrap(), Ok(()));
    });
}

#[test]
fn gaps_names_ends_and_time_outs_are_told() {
    let region = small();
    let mut consumer = consumer(&region);
    let named = shmring::ProducerOptions::new().name("camera");
    let mut producer = region.producer_with(&named).unwrap().in_place(trust());
    assert_eq!(consumer.read_timeout(SHORT), Err(ReadError::TimedOut));
    producer.drop_message(Cause::Full).unwrap();
    producer.drop_message(Cause::Full).unwrap();
    send(&mut producer, b"third");
    match consumer.read_timeout(HANG).unwrap() {
        Read::Gap(gap) => assert_eq!((gap.sequence, gap.count, gap.name), (0, 2, Some("camera"))),
        other => panic!("{other:?}"),
    }
    match consumer.read_timeout(HANG).unwrap() {
        Read::Message(m) => assert_eq!((m.sequence, m.name, m.payload), (2, Some("camera"), &b"third"[..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(consumer.check_producers(), Ok(1));
    producer.into_inner().close();
    assert_eq!(consumer.read_timeout(HANG), Ok(Read::End));
    assert_eq!(consumer.check_producers(), Ok(0));
}

#[test]
fn who_sleeps_is_woken() {
    let region = small();
    let (producer, consumer) = both(&region);
    let (mut producer, mut consumer) = (producer.into_inner(), consumer.into_inner());
    producer.set_wait(shmring::Wait::Park);
    consumer.set_wait(shmring::Wait::Park);
    let (mut producer, mut consumer) = (producer.in_place(trust()), consumer.in_place(trust()));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..200 {
                let mut loan = producer.reserve(20_000).unwrap();
                loan[0] = number;
                loan.commit(20_000);
            }
        });
        for number in 0..200 {
            match consumer.read_timeout(HANG).unwrap() {
                Read::Message(m) => assert_eq!((m.payload[0], m.payload.len()), (number, 20_000)),
                other => panic!("{other:?}"),
            }
            consumer.commit();
        }
    });
}

#[test]
fn total_order_holds() {
    let options = RegionOptions::new().capacity(CAPACITY).order(Order::Total).max_producers(3);
    let region = options.create_anonymous().unwrap();
    let mut producers = VecDeque::from([(); 3].map(|()| producer(&region)));
    let mut consumer = consumer(&region);
    for turn in 0..300u32 {
        for number in 0..5 {
            producers.rotate_left((turn as usize + number) % 3);
            send(&mut producers[0], &(turn * 5 + number as u32).to_le_bytes());
        }
        for number in 0..5 {
            match consumer.try_read().unwrap() {
                Read::Message(m) => assert_eq!(m.payload, (turn * 5 + number).to_le_bytes()),
                other => panic!("{other:?}"),
            }
        }
        consumer.commit();
    }
}

#[test]
fn a_position_in_a_sink_is_committed_with_what_was_read() {
    let region = small();
    let file = tempfile::tempfile().unwrap();
    let sink = StreamId::of_file(&file, 0).unwrap();
    let mut producer = producer(&region);
    for number in 0..4 {
        send(&mut producer, &payload(number, 100));
    }
    let mut position = 0;
    for expected in [None, Some(200)] {
        let mut consumer = region.consumer().unwrap();
        assert_eq!(consumer.bind_sink(sink), Ok(expected));
        let mut consumer = consumer.in_place(trust());
        for _ in 0..2 {
            let Read::Message(m) = consumer.try_read().unwrap() else { panic!("it is there") };
            file.write_all_at(m.payload, position).unwrap();
            position += m.payload.len() as u64;
        }
        consumer.commit_at(position);
    }
    let mut bytes = vec![0; 400];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!((0..4).all(|number| bytes[number * 100..][..100] == payload(number as u64, 100)));
}

#[test]
fn headers_are_not_trusted() {
    let region = small();
    let (mut producer, mut consumer) = both(&region);
    send(&mut producer, &[0xa5; 1000]);
    // A length that no ring of this size can hold.
    let file = File::from(std::os::fd::AsFd::as_fd(&region).try_clone_to_owned().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(1000).position(|window| window == [0xa5; 1000]).unwrap() as u64 - 8;
    file.write_all_at(&u32::MAX.to_le_bytes(), at).unwrap();
    let read = consumer.read_timeout(HANG);
    assert!(matches!(read, Err(ReadError::Damaged(damage)) if damage.lane == 0), "{read:?}");
}

#[test]
fn who_guards_does_not_trust() {
    let options = RegionOptions::new().capacity(CAPACITY).guard_truncation(true);
    let region = options.create_anonymous().unwrap();
    let (producer, consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    assert!(catch_unwind(AssertUnwindSafe(|| producer.in_place(trust()))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| consumer.in_place(trust()))).is_err());
}
