//! Waiting costs next to nothing, and streaming makes next to no system calls.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use shmring::Status;
use tests::{Lab, Program::*, Traced, clock_ticks, skipped};

const MESSAGES: u64 = 5_000_000;

#[test]
fn an_idle_consumer_sleeps_and_still_delivers_at_once() {
    let lab = Lab::new();
    let mut consumer = match Traced::start(lab.command(Consumer).arg("ring")) {
        Ok(traced) => traced,
        Err(e) => return skipped("an_idle_consumer_sleeps", format!("tracing is not allowed: {e}")),
    };
    let attached = || Status::of(lab.ring("ring")).is_ok_and(|s| s.consumer.flatten().is_some());
    consumer.run_until(attached);
    // The last steps of attaching and the first spin.
    consumer.run_for(Duration::from_millis(200));

    let pid = consumer.process().id() as i32;
    let before = clock_ticks(pid);
    let calls = consumer.run_for(Duration::from_secs(1));
    let ticks = clock_ticks(pid) - before;
    println!("an idle second: {calls} system calls, {ticks} clock ticks");
    assert!((1..=100).contains(&calls), "{calls} system calls in an idle second");
    assert!(ticks <= 3, "{ticks} clock ticks in an idle second");

    let mut consumer = consumer.release();
    lab.run(Producer, &["ring"], b"now\n").expect(0);
    let mut line = String::new();
    BufReader::new(consumer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "now\n");
    assert!(consumer.wait().unwrap().success());
}

#[test]
fn streaming_makes_less_than_one_system_call_per_thousand_messages() {
    let lab = Lab::new();
    let count = MESSAGES.to_string();
    let run = |which, flags: &[&str]| {
        let mut command = lab.command(which);
        Traced::start(command.arg("ring").args(flags)).map(Traced::finish)
    };
    let (consumed, produced) = thread::scope(|scope| {
        let consumer = scope.spawn(|| run(Consumer, &["--output", "/dev/null"]));
        let produced = run(Producer, &["--generate", &count, "--size", "64"]);
        (consumer.join().unwrap(), produced)
    });
    let (Ok((0, consumed)), Ok((0, produced))) = (&consumed, &produced) else {
        return match (consumed, produced) {
            (Err(e), _) | (_, Err(e)) => skipped("streaming", format!("tracing is not allowed: {e}")),
            codes => panic!("{codes:?}"),
        };
    };
    println!("{MESSAGES} messages: producer {produced}, consumer {consumed} system calls");
    assert!(*produced < MESSAGES / 1000, "producer: {produced} system calls");
    assert!(*consumed < MESSAGES / 1000, "consumer: {consumed} system calls");
}
