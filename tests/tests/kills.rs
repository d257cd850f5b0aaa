//! Either side killed at random moments and started again: nothing lost, torn
//! or reordered; at most what was not committed is delivered again.

use std::io::Read;
use std::process::ChildStdout;

use shmring::Status;
use tests::{Child, Lab, Program::*, Random};

const KILLS: usize = 60;
const SIZE: usize = 100;
/// A message in len32 framing.
const FRAMED: usize = 4 + SIZE;

/// A consumer at work, and what it has written.
struct Reading {
    child: Child,
    out: ChildStdout,
    bytes: Vec<u8>,
}

impl Reading {
    fn start(lab: &Lab) -> Reading {
        let mut child =
            lab.start(Consumer, &["-v", "ring", "--framing", "len32", "--follow"]).wait_for("attached");
        let out = child.stdout();
        Reading { child, out, bytes: Vec::new() }
    }

    fn read(&mut self, count: u64) {
        let got = Read::by_ref(&mut self.out).take(count).read_to_end(&mut self.bytes).unwrap();
        assert_eq!(got as u64, count, "the consumer ended");
    }

    /// Everything that it wrote before it was killed: the numbers of whole
    /// messages. The last one may be cut off by the kill.
    fn numbers(mut self) -> Vec<u64> {
        self.child.kill();
        self.out.read_to_end(&mut self.bytes).unwrap();
        self.bytes.chunks_exact(FRAMED).map(number).collect()
    }
}

/// Checks a message and says its number.
fn number(framed: &[u8]) -> u64 {
    assert_eq!(framed[..4], (SIZE as u32).to_le_bytes(), "torn");
    let message = &framed[4..];
    let sum = crc32c::crc32c_append(crc32c::crc32c(&message[..8]), &message[12..]);
    assert_eq!(message[8..12], sum.to_le_bytes(), "torn");
    u64::from_le_bytes(message[..8].try_into().unwrap())
}

/// A producer that goes on numbering where the last one was killed.
fn producer(lab: &Lab, count: u64) -> Child {
    let (count, size) = (count.to_string(), SIZE.to_string());
    let flags = ["-v", "ring", "--capacity", "64KiB", "--generate", &count, "--size", &size];
    lab.start(Producer, &flags).wait_for("attached")
}

#[test]
fn either_side_killed_at_random_moments() {
    let lab = Lab::new();
    let mut random = Random::new("either_side_killed_at_random_moments");
    let committed = || Status::of(lab.ring("ring")).unwrap().lanes[0].committed;
    let mut sending = producer(&lab, u64::MAX);
    let mut reading = Reading::start(&lab);
    let mut kills = [0; 2];
    // The first number that no consumer has written whole, and where the
    // present one must begin.
    let (mut unseen, mut begin) = (0, 0);
    while kills[0] + kills[1] < KILLS {
        reading.read(random.among(1..400_000));
        let consumer_next = random.word().is_multiple_of(2);
        kills[consumer_next as usize] += 1;
        if !consumer_next {
            sending.kill();
            sending = producer(&lab, u64::MAX);
            continue;
        }
        let numbers = reading.numbers();
        for (expected, number) in (begin..).zip(&numbers) {
            assert_eq!(*number, expected, "lost, doubled or reordered");
        }
        begin = committed();
        let written = numbers.last().map_or(begin, |last| last + 1);
        unseen = unseen.max(written);
        // What is committed was written; what was written and not committed,
        // at most one ring of it, comes again.
        assert!(begin <= unseen && unseen - begin <= 65536 / FRAMED as u64, "{begin} {unseen}");
        reading = Reading::start(&lab);
    }
    println!("killed {} producers and {} consumers", kills[0], kills[1]);
    assert!(kills.iter().all(|&k| k >= 10), "{kills:?}");
    sending.kill();
    drop(reading);

    // The last producer closes; then every number up to its last is there.
    let last = producer(&lab, 1000);
    let begin = committed();
    let rest = lab.run(Consumer, &["ring", "--framing", "len32"], b"").expect(0).stdout;
    last.finish().expect(0);
    let numbers: Vec<u64> = rest.chunks_exact(FRAMED).map(number).collect();
    assert!(rest.len().is_multiple_of(FRAMED) && numbers.len() >= 1000);
    assert!(numbers.iter().copied().eq(begin..begin + numbers.len() as u64));
    let status = Status::of(lab.ring("ring")).unwrap();
    assert_eq!(status.lanes[0].sent, begin + numbers.len() as u64);
    assert_eq!((status.lanes[0].sent, status.lanes[0].used), (status.lanes[0].committed, 0));
}
