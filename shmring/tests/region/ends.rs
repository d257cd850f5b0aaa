//! How a stream ends, and who is told.

use super::*;

#[test]
fn an_end_is_told_once_and_only_when_it_is_committed_is_it_gone() {
    let place = Place::new();
    let region = place.small();
    region.producer().unwrap().close();
    // Twice: the first consumer does not commit.
    expect_end(&mut region.consumer().unwrap());
    let mut consumer = region.consumer().unwrap();
    expect_end(&mut consumer);
    expect_nothing(&mut consumer);
    consumer.commit();
    drop(consumer);
    let mut consumer = region.consumer().unwrap();
    expect_nothing(&mut consumer);
    // Streams that follow one another are one for who reads late.
    for text in [b"a", b"b"] {
        region.producer().unwrap().send(text).unwrap();
    }
    expect(&mut consumer, 0, b"a");
    expect(&mut consumer, 1, b"b");
    expect_end(&mut consumer);
}

/// Sets the lane's state word back to "open": the instant between the end
/// mark and the producer's last store.
fn between_end_mark_and_closed(place: &Place) {
    let file = File::options().write(true).open(place.path()).unwrap();
    let state = 1u64 << 32 | 1;
    file.write_all_at(&state.to_le_bytes(), 0x2000 + 0x200).unwrap();
}

#[test]
fn an_end_that_was_not_told_is_not_committed() {
    let place = Place::new();
    let region = place.small();
    region.producer().unwrap().send(b"message").unwrap();
    between_end_mark_and_closed(&place);
    let mut consumer = region.consumer().unwrap();
    expect(&mut consumer, 0, b"message");
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    consumer.commit();
    drop(consumer);
    // The end mark is there, so that the producer died does not matter.
    let mut consumer = region.consumer().unwrap();
    expect_end(&mut consumer);
    consumer.commit();
    drop(consumer);
    expect_nothing(&mut region.consumer().unwrap());
}

#[test]
fn a_death_is_told_once() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    producer.send(b"message").unwrap();
    producer.abandon();
    for _ in 0..2 {
        let mut consumer = region.consumer().unwrap();
        expect(&mut consumer, 0, b"message");
        expect_death(&mut consumer);
        expect_nothing(&mut consumer);
    }
    let mut consumer = region.consumer().unwrap();
    expect(&mut consumer, 0, b"message");
    expect_death(&mut consumer);
    consumer.commit();
    drop(consumer);
    assert_eq!(Status::of(place.path()).unwrap().lanes[0].deaths, 1);
    let mut consumer = region.consumer().unwrap();
    expect_nothing(&mut consumer);
    region.producer().unwrap().send(b"again").unwrap();
    expect(&mut consumer, 1, b"again");
    expect_end(&mut consumer);
    assert_eq!(Status::of(place.path()).unwrap().lanes[0].deaths, 1);
}

#[test]
fn a_producer_that_dies_behind_an_end_mark_has_died() {
    let place = Place::new();
    let region = place.small();
    region.producer().unwrap().send(b"message").unwrap();
    region.producer().unwrap().abandon();
    let mut consumer = region.consumer().unwrap();
    expect(&mut consumer, 0, b"message");
    expect_death(&mut consumer);
}

#[test]
fn a_producer_that_panics_does_not_close() {
    let place = Place::new();
    let region = place.small();
    let mut producer = region.producer().unwrap();
    let panicked = thread::spawn(move || {
        producer.send(b"before").unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let mut consumer = region.consumer().unwrap();
    expect(&mut consumer, 0, b"before");
    expect_death(&mut consumer);
}

#[test]
fn pollers_learn_of_a_death_too() {
    let place = Place::new();
    let region = place.small();
    let mut consumer = region.consumer().unwrap();
    assert_eq!(consumer.check_producers(), Ok(0));
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    let producer = region.producer().unwrap();
    assert_eq!(consumer.check_producers(), Ok(1));
    producer.abandon();
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
    assert_eq!(consumer.check_producers(), Ok(0));
    assert!(matches!(consumer.try_read(), Ok(Read::Died(_))));
    assert_eq!(consumer.try_read(), Ok(Read::End));
    assert_eq!(consumer.try_read(), Ok(Read::Empty));
}

#[test]
fn short_waits_learn_of_a_death_too() {
    for wait in [Wait::Adaptive, Wait::Spin, Wait::Park] {
        let place = Place::new();
        let region = place.small();
        let mut consumer = region.consumer().unwrap();
        consumer.set_wait(wait);
        region.producer().unwrap().abandon();
        let give_up = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match consumer.read_timeout(Duration::from_millis(5)) {
                Ok(Read::Died(_)) => break,
                Err(ReadError::TimedOut) => assert!(std::time::Instant::now() < give_up, "never told"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_available_goes_on_behind_an_end() {
    let place = Place::new();
    let region = place.small();
    for text in [b"a", b"b"] {
        region.producer().unwrap().send(text).unwrap();
    }
    let mut consumer = region.consumer().unwrap();
    assert_eq!(consumer.available().count(), 2);
    expect_end(&mut consumer);
}

/// Waits until the consumer of the region sleeps.
fn until_asleep(place: &Place) {
    let file = File::open(place.path()).unwrap();
    let mut word = [0];
    while word[0] & 1 == 0 {
        file.read_exact_at(&mut word, 0x1000).unwrap();
        thread::yield_now();
    }
}

/// Each way of sending, in one go or step by step, looks whether the consumer
/// sleeps, and takes its bit away.
#[test]
fn whatever_is_sent_wakes_the_sleeper() {
    let place = Place::new();
    let region = place.small();
    let mut producer = Some(region.producer().unwrap());
    let file = File::options().read(true).write(true).open(place.path()).unwrap();
    let ways: [fn(&mut Option<Producer>); 6] = [
        |producer| producer.as_mut().unwrap().try_send(b"in one go").unwrap(),
        |producer| producer.as_mut().unwrap().send(b"in one go").unwrap(),
        |producer| producer.as_mut().unwrap().send(&[7; 20_000]).unwrap(),
        |producer| producer.as_mut().unwrap().try_reserve(1).unwrap().commit(),
        |producer| {
            let mut batch = producer.as_mut().unwrap().batch();
            batch.try_push(b"one").unwrap();
            batch.publish();
        },
        |producer| producer.take().unwrap().close(),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut word = [1];
        file.write_all_at(&word, 0x1000).unwrap();
        way(&mut producer);
        file.read_exact_at(&mut word, 0x1000).unwrap();
        assert_eq!(word[0] & 1, 0, "{number}");
    }
}

#[test]
fn an_end_that_wakes_a_sleeper_is_told() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let place = Place::new();
        let region = place.small();
        for _ in 0..20 {
            let mut consumer = region.consumer().unwrap();
            consumer.set_wait(wait);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let producer = region.producer().unwrap();
                    until_asleep(&place);
                    producer.close();
                });
                expect_end(&mut consumer);
            });
            consumer.commit();
        }
    }
}
