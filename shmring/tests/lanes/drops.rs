//! What is dropped on purpose, and is told.

use std::time::Instant;

use super::*;

#[test]
fn dropped_messages_are_a_gap_with_its_size() {
    for order in [Order::Fifo, Order::Total] {
        for align in [8, 16, 64] {
            let place = Place::new();
            let options = RegionOptions::new().capacity(CAPACITY).order(order).record_align(align);
            let region = options.create(place.path()).unwrap();
            let mut consumer = region.consumer().unwrap();
            let mut producer = region.producer().unwrap();
            let mut sent = 0;
            while producer.send_or_drop(&[7; 100], Flags::NONE, None).unwrap() {
                sent += 1;
            }
            let soon = std::time::Instant::now();
            for _ in 0..4 {
                assert_eq!(producer.send_or_drop(&[7; 100], Flags::NONE, Some(soon)), Ok(false));
            }
            assert_eq!((producer.dropped(Cause::Full), producer.dropped(Cause::Deadline)), (1, 4));
            assert_eq!((producer.sequence(), producer.sent().messages), (sent + 5, sent));
            // Killed now, it leaves to the next one what it has dropped.
            producer.abandon();
            let lane = &Status::of(place.path()).unwrap().lanes[0];
            assert_eq!((lane.sent, lane.dropped), (sent + 5, [(Cause::Full, 1), (Cause::Deadline, 4)]));
            let mut producer = region.producer().unwrap();
            assert_eq!(producer.sequence(), sent + 5);
            assert_eq!(producer.try_send(&[8; 100]), Err(SendError::Full));
            producer.drop_message(Cause::Full).unwrap();
            let all = told(&mut consumer);
            assert_eq!(
                (all.len() as u64, all.last().map(String::as_str)),
                (sent + 1, Some("lane0 died, dropped 0"))
            );
            consumer.commit();
            producer.try_send(b"behind").unwrap();
            let behind = [format!("gap in lane0 at {sent} of 6"), format!("lane0 {}: behind", sent + 6)];
            assert_eq!(told(&mut consumer), behind);
            // What was dropped last comes before the end.
            producer.drop_message(Cause::Full).unwrap();
            producer.close();
            assert_eq!(told(&mut consumer), [format!("gap in lane0 at {} of 1", sent + 7), "end".to_owned()]);
            consumer.commit();
            assert_eq!(region.producer().unwrap().sequence(), sent + 8);
        }
    }
}

#[test]
fn the_largest_message_fits_behind_a_gap() {
    for align in [8, 16, 64] {
        let place = Place::new();
        let options = RegionOptions::new().capacity(CAPACITY).record_align(align).order(Order::Total);
        let region = options.create(place.path()).unwrap();
        let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
        producer.drop_message(Cause::Full).unwrap();
        assert!(matches!(producer.try_reserve(usize::MAX), Err(SendError::TooLarge { .. })));
        let largest = vec![b'x'; region.max_message()];
        assert!(largest.len() as u64 >= CAPACITY - 256);
        thread::scope(|scope| {
            scope.spawn(|| producer.send(&largest).unwrap());
            assert!(matches!(consumer.read_timeout(HANG), Ok(Read::Gap(gap)) if gap.count == 1));
            consumer.commit();
            assert!(matches!(consumer.read_timeout(HANG), Ok(Read::Message(m)) if m.payload == largest));
        });
    }
}

#[test]
fn a_gap_that_went_ahead_alone_can_hold_up_its_message() {
    let place = Place::new();
    let region = place.region(1);
    let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    while producer.send_or_drop(b"12345678", Flags::NONE, None).unwrap() {}
    let largest = vec![b'x'; region.max_message()];
    thread::scope(|scope| {
        scope.spawn(|| producer.send(&largest).unwrap());
        while matches!(consumer.read_timeout(HANG), Ok(Read::Message(_))) {
            consumer.commit();
        }
        // It waits for the gap's room, and so the consumer does not for ever.
        let waits = consumer.read_timeout(HANG).map(drop);
        consumer.commit();
        assert!(matches!(waits, Err(ReadError::Uncommitted { .. })), "{waits:?}");
        assert!(matches!(consumer.read_timeout(HANG), Ok(Read::Message(m)) if m.payload == largest));
    });
}

#[test]
fn whoever_dies_after_dropping_says_how_many() {
    let place = Place::new();
    let region = place.region(2);
    let mut consumer = region.consumer().unwrap();
    let mut producer = region.producer().unwrap();
    producer.send(b"x").unwrap();
    (0..3).for_each(|_| producer.drop_message(Cause::Full).unwrap());
    producer.abandon();
    assert_eq!(consumer.check_producers(), Ok(0));
    assert_eq!(told(&mut consumer), ["lane0 0: x", "lane0 died, dropped 3", "end"]);
    consumer.commit();
    region.producer().unwrap().send(b"y").unwrap();
    assert_eq!(told(&mut consumer), ["gap in lane0 at 1 of 3", "lane0 4: y", "end"]);
}

#[test]
fn a_batch_can_drop_too() {
    let place = Place::new();
    let region = place.region(1);
    let mut consumer = region.consumer().unwrap();
    let mut producer = region.producer().unwrap();
    let mut batch = producer.batch();
    batch.try_push(b"one").unwrap();
    batch.drop_message(Cause::Full).unwrap();
    assert!(batch.is_empty());
    batch.try_push(b"two").unwrap();
    batch.publish();
    assert_eq!(told(&mut consumer), ["lane0 0: one", "gap in lane0 at 1 of 1", "lane0 2: two"]);
}

/// Else producer and consumer would wait for each other.
#[test]
fn a_batch_that_waits_is_published_up_to_there() {
    let place = Place::new();
    let region = place.region(1);
    let mut producer = region.producer().unwrap();
    let mut batch = producer.batch();
    let long = [7; CAPACITY as usize / 2];
    batch.push(b"first", Flags::NONE, None).unwrap();
    batch.push(&long, Flags::NONE, None).unwrap();
    let now = Some(Instant::now());
    assert_eq!(batch.push(&long, Flags::NONE, now), Err(SendError::TimedOut));
    // It dies where it waits.
    drop(batch);
    producer.abandon();
    let mut consumer = region.consumer().unwrap();
    assert_eq!(consumer.check_producers(), Ok(0));
    let told = told(&mut consumer);
    assert_eq!((told.len(), &told[0][..]), (4, "lane0 0: first"));
    assert!(told[1].starts_with("lane0 1: ") && told[2..] == ["lane0 died, dropped 0", "end"]);
}
