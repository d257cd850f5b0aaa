//! How streams and producers end, and what becomes of the others.

use super::*;

#[test]
fn the_end_comes_when_all_have_ended() {
    let place = Place::new();
    let region = place.region(4);
    let mut consumer = region.consumer().unwrap();
    let (mut first, mut second) = (region.producer().unwrap(), region.producer().unwrap());
    first.send(b"1").unwrap();
    first.close();
    second.send(b"2").unwrap();
    assert_eq!(told(&mut consumer).len(), 2);
    consumer.commit();
    assert_eq!(consumer.read_timeout(Duration::from_millis(60)), Err(ReadError::TimedOut));
    // A consumer that comes later knows too that one ended.
    drop(consumer);
    let mut consumer = region.consumer().unwrap();
    assert_eq!(told(&mut consumer), [""; 0]);
    second.close();
    assert_eq!(consumer.read_timeout(HANG), Ok(Read::End));
    consumer.commit();
    assert_eq!(told(&mut consumer), [""; 0]);
    drop(consumer);
    assert_eq!(told(&mut region.consumer().unwrap()), [""; 0]);
}

#[test]
fn so_many_streams_as_are_expected_end() {
    let place = Place::new();
    let region = place.region(4);
    let attach = || {
        let mut consumer = region.consumer().unwrap();
        consumer.expect_streams(3);
        consumer
    };
    let mut consumer = attach();
    // One after the other in the same lane, and one that dies.
    for text in [b"1", b"2"] {
        region.producer().unwrap().send(text).unwrap();
        assert_eq!(told(&mut consumer).len(), 1);
        consumer.commit();
        drop(consumer);
        consumer = attach();
    }
    let third = region.producer().unwrap();
    third.abandon();
    assert_eq!(consumer.check_producers(), Ok(0));
    assert_eq!(told(&mut consumer), ["lane0 died, dropped 0", "end"]);
    consumer.commit();
    // The next three are counted anew.
    region.producer().unwrap().close();
    assert_eq!(told(&mut consumer), [""; 0]);
    drop(consumer);
    assert_eq!(told(&mut region.consumer().unwrap()), ["end"]);
}

#[test]
fn a_death_is_told_while_others_go_on() {
    let place = Place::new();
    let region = place.region(4);
    let mut consumer = region.consumer().unwrap();
    let mut living = region.producer().unwrap();
    let mut dying = named(&region, "dying").unwrap();
    dying.send(b"last words").unwrap();
    dying.abandon();
    living.send(b"1").unwrap();
    assert_eq!(consumer.check_producers(), Ok(1));
    let mut all = told(&mut consumer);
    all.sort();
    assert_eq!(all, ["dying 0: last words", "lane0 0: 1", "lane1 died, dropped 0"]);
    living.send(b"2").unwrap();
    assert_eq!(told(&mut consumer), ["lane0 1: 2"]);
    consumer.commit();
    let mut again = named(&region, "dying").unwrap();
    again.send(b"back").unwrap();
    assert_eq!(told(&mut consumer), ["dying 1: back"]);
    drop((again, living));
    assert_eq!(told(&mut consumer), ["end"]);
    assert_eq!(Status::of(place.path()).unwrap().lanes[1].deaths, 1);
}

/// Its reads always find something, for longer than a sleep lasts.
#[test]
fn who_never_waits_is_told_of_a_death_too() {
    let place = Place::new();
    let region = place.region(2);
    let mut consumer = region.consumer().unwrap();
    let mut living = region.producer().unwrap();
    let mut dying = Some(region.producer().unwrap());
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < HANG, "no death is told");
        if started.elapsed() > Duration::from_millis(120)
            && let Some(dying) = dying.take()
        {
            dying.abandon();
        }
        living.send(b"x").unwrap();
        match consumer.read().unwrap() {
            Read::Message(_) => consumer.commit(),
            Read::Died(death) => break assert_eq!((death.lane, dying.is_none()), (1, true)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_death_is_told_with_a_commit_or_not_at_all() {
    let place = Place::new();
    let region = place.region(2);
    let file = File::options().write(true).open(place.path()).unwrap();
    let mut first = region.producer().unwrap();
    let second = region.producer().unwrap();
    first.send(b"1").unwrap();
    first.abandon();
    let open = 1u64 << 32 | 1;
    for is_committed in [false, true] {
        let mut consumer = region.consumer().unwrap();
        assert_eq!(consumer.check_producers(), Ok(1));
        assert_eq!(told(&mut consumer), ["lane0 0: 1", "lane0 died, dropped 0"]);
        if is_committed {
            consumer.commit();
        }
    }
    // Killed right after the commit, it has not stored the state yet.
    file.write_all_at(&open.to_le_bytes(), 0x2000 + 0x200).unwrap();
    let mut consumer = region.consumer().unwrap();
    assert_eq!(consumer.check_producers(), Ok(1));
    assert_eq!(told(&mut consumer), [""; 0]);
    assert_eq!(Status::of(place.path()).unwrap().lanes[0].deaths, 1);
    // One that dies later is another.
    region.producer().unwrap().abandon();
    assert_eq!(consumer.check_producers(), Ok(1));
    assert_eq!(told(&mut consumer), ["lane0 died, dropped 0"]);
    consumer.commit();
    second.close();
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn a_death_is_told_though_another_has_taken_the_lane() {
    let place = Place::new();
    let region = place.region(2);
    let mut consumer = region.consumer().unwrap();
    consumer.expect_streams(3);
    for text in [b"1", b"2"] {
        let mut dying = region.producer().unwrap();
        dying.send(text).unwrap();
        dying.abandon();
    }
    region.producer().unwrap().send(b"3").unwrap();
    let died = "lane0 died, dropped 0";
    assert_eq!(told(&mut consumer), ["lane0 0: 1", "lane0 1: 2", "lane0 2: 3", died, died, "end"]);
    consumer.commit();
    drop(consumer);
    let mut consumer = region.consumer().unwrap();
    assert_eq!(told(&mut consumer), [""; 0]);
    region.producer().unwrap().close();
    assert_eq!(told(&mut consumer), ["end"]);
    // Whoever comes back by its name has not died for good.
    named(&region, "a").unwrap().abandon();
    named(&region, "a").unwrap().close();
    assert_eq!(told(&mut consumer), ["end"]);
}

/// That it holds up the end was found out before, and it has sent nothing since.
#[test]
fn a_death_is_told_though_another_has_taken_the_lane_and_is_silent() {
    let place = Place::new();
    let region = place.region(1);
    let mut consumer = region.consumer().unwrap();
    let dying = region.producer().unwrap();
    assert_eq!(told(&mut consumer), [""; 0]);
    dying.abandon();
    let next = region.producer().unwrap();
    assert_eq!(told(&mut consumer), ["lane0 died, dropped 0"]);
    next.close();
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn a_damaged_lane_stops_nobody_else() {
    for order in [Order::Fifo, Order::Total] {
        let place = Place::new();
        let options = RegionOptions::new().capacity(CAPACITY).max_producers(2).order(order);
        let region = options.create(place.path()).unwrap();
        let mut consumer = region.consumer().unwrap();
        let (mut good, mut bad) = (region.producer().unwrap(), region.producer().unwrap());
        good.send(b"1").unwrap();
        bad.send(b"2").unwrap();
        let file = File::options().write(true).open(place.path()).unwrap();
        file.write_all_at(&u64::MAX.to_le_bytes(), 0x10000 + CAPACITY).unwrap();
        let mut messages = 0;
        let mut damages = 0;
        loop {
            match consumer.try_read() {
                Ok(Read::Message(m)) => {
                    assert_eq!((m.lane, m.payload), (0, &b"1"[..]));
                    messages += 1;
                }
                Err(ReadError::Damaged(damage)) => {
                    assert_eq!(damage.lane, 1);
                    damages += 1;
                }
                Ok(Read::Empty) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((messages, damages), (1, 1), "{order}");
        consumer.commit();
        good.send(b"again").unwrap();
        assert_eq!(told(&mut consumer), ["lane0 1: again"]);
        good.close();
        drop(consumer);
        // Whoever comes next is told too.
        let mut consumer = region.consumer().unwrap();
        // Beside what was read and not committed.
        let is_told = (0..2).any(|_| {
            let read = consumer.read_timeout(HANG);
            matches!(read, Err(ReadError::Damaged(damage)) if damage.lane == 1)
        });
        assert!(is_told);
        drop(bad);
    }
}

#[test]
fn a_damaged_lane_holds_up_no_end() {
    let place = Place::new();
    let region = place.region(2);
    let mut consumer = region.consumer().unwrap();
    let (_bad, good) = (region.producer().unwrap(), region.producer().unwrap());
    // It has been the one that held up the end.
    assert_eq!(told(&mut consumer), [""; 0]);
    let file = File::options().write(true).open(place.path()).unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), 0x10000).unwrap();
    assert!(matches!(consumer.try_read(), Err(ReadError::Damaged(damage)) if damage.lane == 0));
    assert_eq!(told(&mut consumer), [""; 0]);
    good.close();
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn a_damaged_lane_is_left_to_nobody_while_another_is_free() {
    let place = Place::new();
    let region = place.region(3);
    region.producer().unwrap().send(b"x").unwrap();
    let file = File::options().write(true).open(place.path()).unwrap();
    // Its state, then a head that no consumer stores.
    for (offset, value) in [(0x200, 77u64), (0x100, 1 << 40)] {
        file.write_all_at(&value.to_le_bytes(), 0x2000 + offset).unwrap();
        let producers = [(); 2].map(|()| region.producer().unwrap());
        assert_eq!(producers.each_ref().map(Producer::lane), [1, 2]);
        assert!(matches!(region.producer(), Err(AttachError::Damaged(damage)) if damage.lane == 0));
        file.write_all_at(&0u64.to_le_bytes(), 0x2000 + 0x200).unwrap();
    }
}

#[test]
fn a_commit_is_of_all_lanes_or_of_none() {
    let place = Place::new();
    let region = place.region(3);
    let mut producers = [(); 3].map(|()| region.producer().unwrap());
    let mut taken = 0;
    for round in 0..50u64 {
        for (lane, producer) in producers.iter_mut().enumerate() {
            if !(round as usize + lane).is_multiple_of(3) {
                producer.send(&round.to_le_bytes()).unwrap();
            }
        }
        let mut consumer = region.consumer().unwrap();
        let all = told(&mut consumer);
        if round % 2 == 0 {
            // Not committed: all of it comes again.
            drop(consumer);
            consumer = region.consumer().unwrap();
            let mut again = told(&mut consumer);
            let mut all = all;
            again.sort();
            all.sort();
            assert_eq!(again, all);
        }
        taken += 2;
        consumer.commit();
        let committed = Status::of(place.path()).unwrap().lanes.iter().map(|l| l.committed).sum::<u64>();
        assert_eq!(committed, taken);
    }
}

#[test]
fn no_region_is_removed_while_one_lane_is_taken() {
    const LANES: u32 = 20;
    let place = Place::new();
    let region = place.region(LANES);
    for kept in 0..LANES {
        let mut producers: Vec<_> = (0..LANES).map(|_| region.producer().unwrap()).collect();
        producers.retain(|producer| producer.lane() == kept);
        assert_eq!(producers.len(), 1);
        assert!(matches!(Region::remove(place.path()), Err(RemoveError::InUse { .. })), "lane {kept}");
    }
    Region::remove(place.path()).unwrap();
}
