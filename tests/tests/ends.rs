//! Who was killed in its sleep costs its peers one system call in all. A full
//! ring whose consumer died: every producer does what it was told to do then,
//! and the next consumer goes on at the first message that was not committed.
//! And a death is told however busy the others are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use shmring::{Cause, Consumer, Flags, Producer, Read, Region, RegionOptions, SendError};
use tests::{CONSUMER_SLEEP, Call, Child, DEADLINE, Lab, PRODUCER_SLEEP, Traced, skipped, until_asleep};

fn many(lab: &Lab, arguments: &[&str]) -> std::process::Command {
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_many").as_ref());
    command.arg(arguments[0]).arg(lab.path("region")).args(&arguments[1..]);
    command
}

/// Its rings have room for all that a few producers send to nobody.
fn region(lab: &Lab) -> Region {
    RegionOptions::new().capacity(1 << 20).create(lab.path("region")).unwrap()
}

/// Starts one and kills it while it sleeps.
fn kill_asleep(lab: &Lab, role: &str, word: u64) {
    let is_asleep = |path: &Path| {
        let mut byte = [0];
        File::open(path).unwrap().read_exact_at(&mut byte, word).unwrap();
        byte[0] & 1 == 1
    };
    // It wakes for a moment from time to time.
    loop {
        let mut sleeper = Child::start(&mut many(lab, &[role]));
        until_asleep(&lab.path("region"), word);
        sleeper.kill();
        if is_asleep(&lab.path("region")) {
            return;
        }
    }
}

/// Runs it to its end: how often it woke somebody; `None` if this machine does
/// not allow tracing.
fn wakes(lab: &Lab, arguments: &[&str]) -> Option<u64> {
    let traced = Traced::start(&mut many(lab, arguments)).ok()?;
    let is_wake = |call: &Call| {
        call.number == libc::SYS_futex && call.arguments[1] as i32 & libc::FUTEX_CMD_MASK == libc::FUTEX_WAKE
    };
    let (code, wakes) = traced.finish_counting(is_wake).ok()?;
    assert_eq!(code, 0);
    Some(wakes)
}

#[test]
fn a_consumer_that_died_asleep_costs_all_producers_one_call() {
    let lab = Lab::new();
    region(&lab);
    kill_asleep(&lab, "sleep-as-consumer", CONSUMER_SLEEP);
    let found: Option<Vec<_>> = thread::scope(|scope| {
        let works: Vec<_> = (0..8).map(|_| scope.spawn(|| wakes(&lab, &["once", "2000"]))).collect();
        works.into_iter().map(|work| work.join().unwrap()).collect()
    });
    let Some(found) = found else { return skipped("a dead consumer's sleep", "tracing is not allowed") };
    assert_eq!(found.iter().sum::<u64>(), 1, "{found:?}");
}

#[test]
fn a_producer_that_died_asleep_costs_the_consumer_one_call() {
    let lab = Lab::new();
    let region = region(&lab);
    kill_asleep(&lab, "sleep-as-producer", PRODUCER_SLEEP);
    // Another one's messages are committed too.
    let mut other = region.producer_with(&shmring::ProducerOptions::new().name("other")).unwrap();
    (0..1000u64).for_each(|number| other.send(&number.to_le_bytes()).unwrap());
    other.close();
    let Some(found) = wakes(&lab, &["drain"]) else {
        return skipped("a dead producer's sleep", "tracing is not allowed");
    };
    assert_eq!(found, 1);
}

/// A message.
const LONG: [u8; 80] = [7; 80];

/// Sends until there is no room for another one; how many.
fn fill(producer: &mut Producer) -> u64 {
    for number in 0u64.. {
        if let Err(e) = producer.try_send(&LONG) {
            assert_eq!(e, SendError::Full);
            return number;
        }
    }
    unreachable!("a ring has an end")
}

/// What was received of three lanes.
struct Tally {
    next: [u64; 3],
    gaps: [u64; 3],
}

impl Tally {
    /// Receives so many messages, and the gaps before them.
    fn take(&mut self, consumer: &mut Consumer, count: u64) {
        let mut messages = 0;
        while messages < count {
            let (lane, sequence, dropped) = match consumer.read_timeout(DEADLINE).unwrap() {
                Read::Message(message) => (message.lane as usize, message.sequence, 0),
                Read::Gap(gap) => (gap.lane as usize, gap.sequence, gap.count),
                other => panic!("{other:?}"),
            };
            assert_eq!(sequence, self.next[lane]);
            self.next[lane] += if dropped > 0 { dropped } else { 1 };
            self.gaps[lane] += dropped;
            messages += u64::from(dropped == 0);
            consumer.commit();
        }
    }
}

#[test]
fn a_full_ring_and_a_dead_consumer() {
    let lab = Lab::new();
    let region = region(&lab);
    let mut consumer = Child::start(&mut many(&lab, &["hold", "10", "5"]));
    let mut producers: Vec<_> = (0..3).map(|_| region.producer().unwrap()).collect();
    (0..15u64).for_each(|number| producers[0].send(&number.to_le_bytes()).unwrap());
    consumer = consumer.wait_for("holds");
    let filled: Vec<_> = producers.iter_mut().map(fill).collect();
    consumer.kill();

    let soon = || Some(Instant::now() + Duration::from_millis(20));
    for producer in &mut producers {
        assert_eq!(producer.try_send(&LONG), Err(SendError::Full));
        assert_eq!(producer.send_deadline(&LONG, Flags::NONE, soon()), Err(SendError::TimedOut));
    }
    let [ref mut blocks, ref mut drops, ref mut tries] = producers[..] else { unreachable!() };
    assert_eq!(drops.send_or_drop(&LONG, Flags::NONE, None), Ok(false));
    assert_eq!(drops.send_or_drop(&LONG, Flags::NONE, soon()), Ok(false));
    assert_eq!((drops.dropped(Cause::Full), drops.dropped(Cause::Deadline)), (1, 1));
    thread::scope(|scope| {
        let blocked = scope.spawn(|| blocks.send(&LONG));
        until_asleep(&lab.path("region"), PRODUCER_SLEEP);
        let mut next = region.consumer().unwrap();
        // What was read and not committed comes again, in its place.
        let mut tally = Tally { next: [10, 0, 0], gaps: [0; 3] };
        tally.take(&mut next, (15 - 10) + filled.iter().sum::<u64>() + 1);
        blocked.join().unwrap().unwrap();
        drops.try_send(&LONG).unwrap();
        tally.take(&mut next, 1);
        assert_eq!(tally.next, [15 + filled[0] + 1, filled[1] + 2 + 1, filled[2]]);
        assert_eq!(tally.gaps, [0, 2, 0]);
        tries.try_send(b"there is room").unwrap();
    });
}

/// Reads while another one always has something more; how many messages came
/// before the death was told.
fn messages_before_death(mut read: impl FnMut(&mut Consumer) -> bool) -> u64 {
    let lab = Lab::new();
    let region = region(&lab);
    let (mut dies, mut lives) = (region.producer().unwrap(), region.producer().unwrap());
    let mut consumer = region.consumer().unwrap();
    dies.send(b"last").unwrap();
    dies.abandon();
    (0..100).for_each(|_| lives.send(b"more").unwrap());
    let begun = Instant::now();
    let mut messages = 0;
    while !read(&mut consumer) {
        messages += 1;
        lives.send(b"more").unwrap();
        consumer.commit();
        assert!(begun.elapsed() < DEADLINE, "{messages} messages, and no death");
    }
    messages
}

/// True if it is a death.
fn is_death(read: &Read<'_>) -> bool {
    match read {
        Read::Message(_) => false,
        Read::Died(_) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_death_is_told_while_others_send() {
    let messages = messages_before_death(|consumer| is_death(&consumer.read_timeout(DEADLINE).unwrap()));
    println!("told after {messages} messages, by read");
    let messages = messages_before_death(|consumer| {
        assert_eq!(consumer.check_producers(), Ok(1));
        is_death(&consumer.try_read().unwrap())
    });
    // A turn of each, and one more for the news.
    assert!(messages < 1000, "told after {messages} messages, by try_read");
}
