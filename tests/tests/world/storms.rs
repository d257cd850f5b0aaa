//! Signals without end: no system call is left alone for long.

use nix::errno::Errno;
use nix::libc;
use tests::{CONSUMER_SLEEP, Fate, Lab, PRODUCER_SLEEP, Victim, skipped, until_asleep, victim};

use crate::calls::live;

/// Microseconds from one signal to the next, of the consumer and the producer.
const PERIODS: [&str; 2] = ["70", "50"];

fn both(lab: &Lab) -> [Victim; 2] {
    let path = lab.path("ring");
    PERIODS.map(|period| victim(lab, env!("CARGO_BIN_EXE_victim"), &path, &["--storm", period]))
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    const COUNT: u32 = 300_000;
    let lab = Lab::new();
    let [mut consumer, mut producer] = both(&lab);
    consumer.must(&["create", "consumer"]);
    producer.must(&["open", "producer"]);
    consumer.tell(&format!("read-numbers {COUNT}"));
    producer.must(&[&format!("send-numbers {COUNT}")]);
    assert_eq!(consumer.answer().as_deref(), Some("Ok(())"));

    // Both asleep, and woken.
    for sequence in COUNT..COUNT + 20 {
        consumer.tell("read");
        until_asleep(&lab.path("ring"), CONSUMER_SLEEP);
        producer.must(&["send 8"]);
        assert_eq!(consumer.answer(), Some(format!("message {sequence} of 8")));
    }
    consumer.must(&["commit"]);
    assert_eq!(producer.ask("fill 1000"), "Full");
    for _ in 0..20 {
        producer.tell("send-blocking 1000");
        until_asleep(&lab.path("ring"), PRODUCER_SLEEP);
        assert!(consumer.ask("read").ends_with("of 1000"));
        consumer.must(&["commit"]);
        assert_eq!(producer.answer().as_deref(), Some("Ok(())"));
    }
}

#[test]
fn a_storm_of_signals_makes_no_wait_shorter() {
    let lab = Lab::new();
    let [mut consumer, mut producer] = both(&lab);
    consumer.must(&["create", "consumer"]);
    producer.must(&["open", "producer"]);
    assert_eq!(consumer.ask("read-for 120"), "(Err(TimedOut), true)");
    assert_eq!(producer.ask("fill 1000"), "Full");
    assert_eq!(producer.ask("send-for 120"), "(Err(TimedOut), true)");
}

#[test]
fn a_storm_of_signals_fails_no_attach() {
    let lab = Lab::new();
    let [mut one, mut other] = both(&lab);
    for _ in 0..50 {
        one.must(&["create", "producer", "send 8"]);
        other.must(&["open", "consumer"]);
        assert_eq!(other.ask("read"), "message 0 of 8");
        other.must(&["commit", "leave"]);
        one.must(&["leave", "remove"]);
    }
}

/// Before Linux 6.10 a tmpfs reserves a piece anew if any signal came meanwhile.
#[test]
fn space_is_reserved_however_often_that_is_interrupted() {
    let lab = Lab::new();
    let mut interrupted = 0;
    let lived =
        live(&lab, &lab.path("ring"), &["trap", "plain", "create", "named 0", "named 1"], |(_, call)| {
            let too_long = call.number == libc::SYS_fallocate && call.arguments[3] > 100_000;
            interrupted += too_long as u32;
            assert!(interrupted < 100, "it is tried for ever");
            Some(if too_long { Fate::Fails(Errno::EINTR) } else { Fate::Made })
        });
    match lived {
        Ok(lived) => assert_eq!(lived, (0, vec!["Ok(())".to_owned(); 5])),
        Err(errno) => return skipped("space_is_reserved_however_often_that_is_interrupted", errno),
    }
    assert!(interrupted > 1, "it was one small piece");
}
