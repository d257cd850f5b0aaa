//! Many producers through the public door: who gets which lane, and how their
//! messages come together.

mod drops;
mod ends;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::blocks::lane;
use shmring::internals::layout::{self, Part, Word};
use shmring::{
    AttachError, Cause, Consumer, Flags, Order, Producer, ProducerOptions, Read, ReadError, Region,
    RegionOptions, RemoveError, SendError, Status, Wait,
};
use tempfile::TempDir;

const HANG: Duration = Duration::from_secs(60);
const CAPACITY: u64 = 64 << 10;

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("ring")
    }

    fn region(&self, lanes: u32) -> Region {
        RegionOptions::new().capacity(CAPACITY).max_producers(lanes).create(self.path()).unwrap()
    }
}

fn named(region: &Region, name: &str) -> Result<Producer, AttachError> {
    region.producer_with(&ProducerOptions::new().name(name))
}

/// What the next reads tell, in words, up to `Empty`.
fn told(consumer: &mut Consumer) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        told.push(match consumer.try_read().unwrap() {
            Read::Message(m) => {
                let text = String::from_utf8_lossy(m.payload);
                format!("{} {}: {text}", m.name.map_or(format!("lane{}", m.lane), str::to_owned), m.sequence)
            }
            Read::Gap(gap) => format!("gap in lane{} at {} of {}", gap.lane, gap.sequence, gap.count),
            Read::Died(death) => format!("lane{} died, dropped {}", death.lane, death.dropped),
            Read::End => "end".to_owned(),
            Read::Empty => return told,
        });
    }
}

#[test]
fn each_producer_has_a_lane_of_its_own() {
    let place = Place::new();
    let region = place.region(3);
    assert_eq!((region.max_producers(), region.order()), (3, Order::Fifo));
    let mut consumer = region.consumer().unwrap();
    let mut producers = [(); 3].map(|()| region.producer().unwrap());
    assert_eq!(producers.each_ref().map(Producer::lane), [0, 1, 2]);
    match region.producer() {
        Err(e @ AttachError::NoLane { lanes: 3, kept: 0 }) => {
            assert!(e.to_string().contains("of 3"), "{e}")
        }
        other => panic!("{other:?}"),
    }
    for (number, producer) in producers.iter_mut().enumerate() {
        producer.send(format!("from {number}").as_bytes()).unwrap();
    }
    let mut all = told(&mut consumer);
    all.sort();
    assert_eq!(all, ["lane0 0: from 0", "lane1 0: from 1", "lane2 0: from 2"]);
    // A lane that is free again is taken again, and its sequence goes on.
    let [first, second, third] = producers;
    drop(second);
    let mut again = region.producer().unwrap();
    assert_eq!((again.lane(), again.sequence()), (1, 1));
    again.send(b"again").unwrap();
    assert_eq!(told(&mut consumer), ["lane1 1: again"]);
    drop((first, third, again));
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn a_lane_takes_its_space_when_it_is_taken() {
    let place = Place::new();
    let region = place.region(1024);
    let blocks = || fs::metadata(place.path()).unwrap().blocks() * 512;
    let before = blocks();
    assert!(before < 4 << 20, "{before}");
    let producers = [(); 3].map(|()| region.producer().unwrap());
    // Lane 0 had it from the start.
    assert_eq!(blocks(), before + 2 * CAPACITY);
    drop(producers);
    let _again = [(); 3].map(|()| region.producer().unwrap());
    assert_eq!(blocks(), before + 2 * CAPACITY);
}

#[test]
fn space_that_a_lane_got_in_part_may_go_again() {
    // Only there is it looked after.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("ring");
    let region = RegionOptions::new().capacity(CAPACITY).max_producers(2).create(&path).unwrap();
    let consumer = region.consumer().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let part = (file.metadata().unwrap().len() - CAPACITY) as i64;
    let (take, half) = (FallocateFlags::FALLOC_FL_KEEP_SIZE, CAPACITY as i64 / 2);
    fallocate(&file, take, part, half).unwrap();
    assert_eq!(consumer.check_region(), Ok(()));
    // As the kernel does when whoever takes the lane is killed.
    fallocate(&file, take | FallocateFlags::FALLOC_FL_PUNCH_HOLE, part, half).unwrap();
    assert_eq!(consumer.check_region(), Ok(()));
    // What was given it may not take back.
    let _producers = [(); 2].map(|()| region.producer().unwrap());
    assert_eq!(consumer.check_region(), Ok(()));
    fallocate(&file, take | FallocateFlags::FALLOC_FL_PUNCH_HOLE, part, half).unwrap();
    assert_eq!(consumer.check_region(), Err(ReadError::Punched));
}

#[test]
fn a_name_keeps_its_lane_and_its_sequence() {
    let place = Place::new();
    let region = place.region(2);
    for round in 0..3 {
        let mut producer = named(&region, "till-3").unwrap();
        assert_eq!((producer.lane(), producer.sequence()), (0, round));
        producer.send(b"x").unwrap();
        match named(&region, "till-3") {
            Err(AttachError::Busy { owner: Some(owner), .. }) => {
                assert_eq!(owner.pid, std::process::id() as u64)
            }
            other => panic!("{other:?}"),
        }
        if round == 1 {
            producer.abandon();
        }
    }
    // It is kept while nobody is there: the others share what is left.
    let unnamed = region.producer().unwrap();
    assert_eq!(unnamed.lane(), 1);
    match region.producer() {
        Err(AttachError::NoLane { lanes: 2, kept: 1 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(named(&region, "other"), Err(AttachError::NoLane { .. })));
    let mut consumer = region.consumer().unwrap();
    assert_eq!(told(&mut consumer), ["till-3 0: x", "till-3 1: x", "till-3 2: x"]);
    drop(unnamed);
    assert_eq!(told(&mut consumer), ["end"]);
    assert_eq!(Status::of(place.path()).unwrap().lanes[0].name.as_deref(), Some("till-3"));
}

#[test]
fn two_that_come_at_once_with_a_new_name_have_one_lane() {
    const ROUNDS: u32 = 300;
    let place = Place::new();
    let region = place.region(ROUNDS + 1);
    let start = Barrier::new(2);
    for round in 0..ROUNDS {
        let name = format!("till-{round}");
        let attach = || {
            start.wait();
            named(&region, &name)
        };
        let found = thread::scope(|scope| {
            let other = scope.spawn(attach);
            [attach(), other.join().unwrap()]
        });
        let [one, busy] = if found[0].is_ok() {
            found
        } else {
            let [a, b] = found;
            [b, a]
        };
        assert!(one.is_ok() && matches!(busy, Err(AttachError::Busy { .. })), "{one:?} and {busy:?}");
    }
    let lanes = Status::of(place.path()).unwrap().lanes;
    assert_eq!(lanes.iter().filter(|lane| lane.name.is_some()).count(), ROUNDS as usize);
}

/// One of two that came at once with a new name was killed as it gave its lane
/// back.
#[test]
fn of_two_lanes_with_a_name_the_used_one_is_taken() {
    let place = Place::new();
    let region = place.region(3);
    named(&region, "a").unwrap().send(b"1").unwrap();
    let file = File::options().read(true).write(true).open(place.path()).unwrap();
    for word in Part::ALL.map(Word::Name).into_iter().chain([Word::Named]) {
        let layout::Place::Lane(at) = word.place() else { panic!("{word:?}") };
        let [from, to] = [0, 1].map(|number| (0x2000 + number * lane::STRIDE + at) as u64);
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, from).unwrap();
        file.write_all_at(&bytes, to).unwrap();
    }
    for round in 1..3 {
        let producer = named(&region, "a").unwrap();
        assert_eq!((producer.lane(), producer.sequence()), (0, 1));
        assert!(matches!(named(&region, "a"), Err(AttachError::Busy { .. })), "round {round}");
    }
    // The other one is kept, and nobody's.
    let _third = region.producer().unwrap();
    assert!(matches!(region.producer(), Err(AttachError::NoLane { lanes: 3, kept: 2 })));
}

#[test]
fn a_name_is_given_to_a_used_lane_only_when_it_is_drained() {
    let place = Place::new();
    let region = place.region(1);
    region.producer().unwrap().send(b"nobody's").unwrap();
    assert!(matches!(named(&region, "a"), Err(AttachError::NoLane { .. })));
    let mut consumer = region.consumer().unwrap();
    assert_eq!(told(&mut consumer), ["lane0 0: nobody's", "end"]);
    assert!(matches!(named(&region, "a"), Err(AttachError::NoLane { .. })), "read and not committed");
    consumer.commit();
    let mut producer = named(&region, "a").unwrap();
    producer.send(b"a's").unwrap();
    assert_eq!(told(&mut consumer), ["a 1: a's"]);
}

#[test]
fn a_lane_that_gets_its_name_later_has_it_with_the_first_message() {
    let place = Place::new();
    let region = place.region(1);
    let mut consumer = region.consumer().unwrap();
    let nobody = region.producer().unwrap();
    assert_eq!(told(&mut consumer), [""; 0]);
    drop(nobody);
    // Nothing was told of it, and nothing is committed.
    let mut producer = named(&region, "a").unwrap();
    producer.send(b"a's").unwrap();
    assert_eq!(told(&mut consumer), ["a 0: a's"]);
}

#[test]
fn end_marks_keep_no_name_from_a_lane() {
    let place = Place::new();
    let region = place.region(2);
    let mut consumer = region.consumer().unwrap();
    let mut living = region.producer().unwrap();
    region.producer().unwrap().send(b"nobody's").unwrap();
    assert!(matches!(named(&region, "a"), Err(AttachError::NoLane { .. })));
    // The end is not told while one lives, so its mark stays.
    assert_eq!(told(&mut consumer), ["lane1 0: nobody's"]);
    consumer.commit();
    let mut producer = named(&region, "a").unwrap();
    assert_eq!((producer.lane(), producer.sequence()), (1, 1));
    producer.send(b"a's").unwrap();
    living.send(b"living").unwrap();
    let mut all = told(&mut consumer);
    all.sort();
    assert_eq!(all, ["a 1: a's", "lane0 0: living"]);
    drop((producer, living));
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn names_that_are_none_are_refused() {
    let place = Place::new();
    let region = place.region(2);
    for name in ["", ".a", "-a", "a b", "a/b", "\u{e4}", "a\n", &"x".repeat(33)] {
        assert!(matches!(named(&region, name), Err(AttachError::Name { .. })), "{name:?}");
    }
    for name in ["a", &"x".repeat(32)] {
        named(&region, name).unwrap().send(name.as_bytes()).unwrap();
    }
    let long = "x".repeat(32);
    let mut all = told(&mut region.consumer().unwrap());
    all.sort();
    assert_eq!(all, ["a 0: a".to_owned(), "end".to_owned(), format!("{long} 0: {long}")]);
}

/// However it reads: with a try form, waiting, or waiting in vain at times.
#[test]
fn lanes_that_are_never_empty_take_turns() {
    let ways: [fn(&mut Consumer) -> u32; 3] = [
        |consumer| lane_of(consumer.try_read()),
        |consumer| lane_of(consumer.read()),
        |consumer| lane_of(consumer.read_timeout(HANG)),
    ];
    for way in ways {
        let place = Place::new();
        let region = place.region(3);
        let mut consumer = region.consumer().unwrap();
        let mut producers = [(); 3].map(|()| region.producer().unwrap());
        let mut lanes = Vec::new();
        for _ in 0..64 * 9 {
            producers.iter_mut().for_each(|producer| while producer.try_send(&[7; 100]).is_ok() {});
            lanes.push(way(&mut consumer));
            consumer.commit();
        }
        let runs: Vec<_> = lanes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        let expected: Vec<_> = [0, 1, 2].repeat(3).into_iter().map(|lane| (lane, 64)).collect();
        assert_eq!(runs, expected);
    }
}

fn lane_of(read: Result<Read<'_>, ReadError>) -> u32 {
    match read {
        Ok(Read::Message(message)) => message.lane,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_lane_starves_and_none_is_out_of_order() {
    let place = Place::new();
    let region = place.region(8);
    let mut consumer = region.consumer().unwrap();
    let mut producers: Vec<_> = (0..8).map(|_| region.producer().unwrap()).collect();
    let fill = |producer: &mut Producer, next: &mut u64| {
        while producer.try_send(&next.to_le_bytes()).is_ok() {
            *next += 1;
        }
    };
    let mut sent = [0; 8];
    let mut seen = [0u64; 8];
    let mut since = [0; 8];
    for _ in 0..20_000 {
        for (producer, next) in producers.iter_mut().zip(&mut sent) {
            fill(producer, next);
        }
        let Read::Message(m) = consumer.try_read().unwrap() else { panic!("all are full") };
        let lane = m.lane as usize;
        assert_eq!((m.sequence, m.payload), (seen[lane], &seen[lane].to_le_bytes()[..]));
        seen[lane] += 1;
        since.iter_mut().for_each(|count| *count += 1);
        since[lane] = 0;
        consumer.commit();
        assert!(since.iter().all(|&count| count <= 7 * 64), "a lane waits: {since:?}");
    }
}

#[test]
fn messages_of_all_wake_one_sleeper() {
    let place = Place::new();
    let region = place.region(4);
    let mut consumer = region.consumer().unwrap();
    consumer.set_wait(Wait::Park);
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut producer = region.producer().unwrap();
            producer.set_wait(Wait::Park);
            scope.spawn(move || {
                for number in 0..5000u64 {
                    producer.send(&number.to_le_bytes()).unwrap();
                }
            });
        }
        let mut next = [0u64; 4];
        loop {
            match consumer.read_timeout(HANG).unwrap() {
                Read::Message(m) => {
                    assert_eq!(m.payload, next[m.lane as usize].to_le_bytes());
                    next[m.lane as usize] += 1;
                    consumer.commit();
                }
                Read::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next, [5000; 4]);
    });
}

#[test]
fn in_total_order_messages_come_in_the_order_of_their_sends() {
    let place = Place::new();
    let options = RegionOptions::new().capacity(CAPACITY).max_producers(5).order(Order::Total);
    let region = options.create(place.path()).unwrap();
    let mut consumer = region.consumer().unwrap();
    let mut producers: Vec<_> = (0..5).map(|_| region.producer().unwrap()).collect();
    let mut sent = 0u64;
    for round in 0..300usize {
        for i in 0..(round % 13) {
            let producer = &mut producers[(round * 7 + i * i) % 5];
            if i % 3 == 0 {
                let mut batch = producer.batch();
                for _ in 0..3 {
                    batch.try_push(&sent.to_le_bytes()).unwrap();
                    sent += 1;
                }
                batch.publish();
            } else {
                producer.send(&sent.to_le_bytes()).unwrap();
                sent += 1;
            }
        }
        let mut next = sent;
        for message in consumer.available() {
            let number = u64::from_le_bytes(message.unwrap().payload.try_into().unwrap());
            next = next.min(number);
            assert_eq!(number, next);
            next += 1;
        }
        assert_eq!(next, sent);
        consumer.commit();
    }
    drop(producers);
    assert_eq!(told(&mut consumer), ["end"]);
}

#[test]
fn a_batch_has_its_place_in_the_total_order_when_it_is_published() {
    let place = Place::new();
    let options = RegionOptions::new().capacity(CAPACITY).max_producers(2).order(Order::Total);
    let region = options.create(place.path()).unwrap();
    let mut consumer = region.consumer().unwrap();
    let [mut slow, mut fast] = [(); 2].map(|()| region.producer().unwrap());
    let mut batch = slow.batch();
    batch.try_push(b"second").unwrap();
    fast.send(b"first").unwrap();
    batch.publish();
    assert_eq!(told(&mut consumer), ["lane1 0: first", "lane0 0: second"]);
}
