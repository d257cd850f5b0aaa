//! Counters that wrap while processes use them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use shmring::{RegionOptions, Status};
use tests::{CONSUMER_SLEEP, Lab, PRODUCER_SLEEP, Program::*, until_asleep, victim};

fn word(path: &Path, at: u64) -> u32 {
    let mut bytes = [0; 4];
    File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn sleep_words_that_wrap() {
    let lab = Lab::new();
    let path = lab.path("ring");
    RegionOptions::new().capacity(65536).max_producers(1).create(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // Its last owner was asleep, without a barrier. Four sleeps on it wraps.
    let almost = u32::MAX - 4 * 4;
    for at in [CONSUMER_SLEEP, PRODUCER_SLEEP] {
        file.write_all_at(&almost.to_le_bytes(), at).unwrap();
    }
    let [mut consumer, mut producer] =
        [(); 2].map(|()| victim(&lab, env!("CARGO_BIN_EXE_victim"), &path, &[]));
    consumer.must(&["open", "consumer"]);
    producer.must(&["open", "producer"]);
    assert_eq!([CONSUMER_SLEEP, PRODUCER_SLEEP].map(|at| word(&path, at)), [almost & !3; 2], "it goes on");
    for sequence in 0..8 {
        consumer.tell("read");
        until_asleep(&path, CONSUMER_SLEEP);
        producer.must(&["send 8"]);
        assert_eq!(consumer.answer(), Some(format!("message {sequence} of 8")));
    }
    consumer.must(&["commit"]);
    assert_eq!(producer.ask("fill 1000"), "Full");
    for _ in 0..8 {
        producer.tell("send-blocking 1000");
        until_asleep(&path, PRODUCER_SLEEP);
        assert!(consumer.ask("read").ends_with("of 1000"));
        consumer.must(&["commit"]);
        assert_eq!(producer.answer().as_deref(), Some("Ok(())"));
    }
    let words = [CONSUMER_SLEEP, PRODUCER_SLEEP].map(|at| word(&path, at));
    assert!(words.iter().all(|word| *word < almost), "{words:x?}: no wrap");
}

#[test]
fn positions_and_sequences_that_wrap() {
    for order in [shmring::Order::Fifo, shmring::Order::Total] {
        let lab = Lab::new();
        let path = lab.path("ring");
        let ring = path.to_str().unwrap();
        let (position, sequence) = (0u64.wrapping_sub(160_000), 0u64.wrapping_sub(1500));
        let options = RegionOptions::new().capacity(65536).max_producers(2).order(order);
        options.start_at(position, sequence).create(&path).unwrap();
        // Two at a time, and one that goes on after the wrap.
        let checked = lab.start(Consumer, &[ring, "--verify", "--expect", "3"]);
        let send = |name| lab.start(Producer, &[ring, "--name", name, "--generate", "1000", "--size", "100"]);
        let [one, other] = ["one", "other"].map(send);
        one.finish().expect(0);
        other.finish().expect(0);
        send("one").finish().expect(0);
        let report = checked.finish().expect(0).stderr;
        for (name, count) in [("one", 2000), ("other", 1000)] {
            let clean = format!("producer={name} messages={count} missing=0 duplicated=0 corrupt=0");
            assert!(report.contains(&clean), "{report}");
        }
        let lanes = Status::of(&path).unwrap().lanes;
        let ends: Vec<_> = lanes.iter().map(|l| (l.sent, l.committed, l.used)).collect();
        let at = |count: u64| (sequence.wrapping_add(count), sequence.wrapping_add(count), 0);
        assert!(ends == [at(2000), at(1000)] || ends == [at(1000), at(2000)], "{ends:?}");
    }
}
