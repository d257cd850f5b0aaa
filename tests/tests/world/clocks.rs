//! Processes whose clocks differ by years.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shmring::Status;
use tests::{CONSUMER_SLEEP, Child, Lab, Program, Program::*, is_root, program, skipped, until_asleep};

/// Seconds that the clocks of the two sides are ahead.
const AHEAD: [&str; 2] = ["100000000", "500000000"];

/// A program whose monotonic clocks are `ahead`.
fn ahead(lab: &Lab, ahead: &str, which: Program, arguments: &[&str]) -> Command {
    let mut command = lab.prepared("unshare".as_ref());
    command.args(["--time", "--monotonic", ahead, "--boottime", ahead]).arg(program(which)).args(arguments);
    command
}

/// Whether there are such clocks; says so if not.
fn can_differ(lab: &Lab, test: &str) -> bool {
    let mut command = lab.prepared("unshare".as_ref());
    command.args(["--time", "--boottime", AHEAD[0], "cat", "/proc/uptime"]);
    let done = is_root().then(|| Child::start(&mut command).finish());
    let there = done.is_some_and(|done| String::from_utf8_lossy(&done.stdout).starts_with("1000"));
    if !there {
        skipped(test, "no time namespace can be made");
    }
    there
}

#[test]
fn messages_pass_between_clocks_and_the_dead_are_told() {
    let lab = Lab::new();
    if !can_differ(&lab, "messages_pass_between_clocks_and_the_dead_are_told") {
        return;
    }
    lab.run(Shmring, &["create", "ring", "--capacity", "64KiB"], b"").expect(0);
    let generate = ["ring", "--generate", "20000", "--size", "100"];
    let checked = Child::start(&mut ahead(&lab, AHEAD[0], Consumer, &["ring", "--verify"]));
    Child::start(&mut ahead(&lab, AHEAD[1], Producer, &generate)).finish().expect(0);
    let report = checked.finish().expect(0).stderr;
    assert!(report.contains("messages=20000 missing=0 duplicated=0 corrupt=0"), "{report}");

    // Asleep and woken, and then the producer dies.
    let mut command = ahead(&lab, AHEAD[1], Producer, &["-v", "ring"]);
    let mut sending = Child::start(command.stdin(Stdio::piped()));
    let mut stdin = sending.stdin();
    let mut sending = sending.wait_for("attached");
    let mut reading = Child::start(&mut ahead(&lab, AHEAD[0], Consumer, &["ring"]));
    let mut lines = BufReader::new(reading.stdout()).lines();
    for line in ["one", "two", "three"] {
        until_asleep(&lab.ring("ring"), CONSUMER_SLEEP);
        writeln!(stdin, "{line}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    let status = Status::of(lab.ring("ring")).unwrap();
    let owner = status.lanes[0].producer.clone().unwrap().unwrap();
    assert_eq!((owner.pid, owner.command.as_str()), (sending.pid().as_raw() as u64, "producer"));
    assert_eq!((status.lanes[0].sent, status.lanes[0].stream), (20003, "open"));
    sending.kill();
    let done = reading.finish().expect(3);
    assert!(done.stderr.contains(&format!("pid {}", owner.pid)), "{}", done.stderr);
}

#[test]
fn timeouts_go_by_one_s_own_clock() {
    let lab = Lab::new();
    if !can_differ(&lab, "timeouts_go_by_one_s_own_clock") {
        return;
    }
    lab.run(Shmring, &["create", "ring", "--capacity", "64KiB"], b"").expect(0);
    let timeout = ["--timeout", "200ms"];
    let generate = [&["ring", "--generate", "100000", "--size", "100"][..], &timeout].concat();
    // Nobody reads; then there is nothing more, and nobody who sends.
    let started = Instant::now();
    Child::start(&mut ahead(&lab, AHEAD[1], Producer, &generate)).finish().expect(4);
    let reading = [&["ring", "--follow"][..], &timeout].concat();
    let read = Child::start(&mut ahead(&lab, AHEAD[0], Consumer, &reading)).finish().expect(4);
    assert!(started.elapsed() >= 2 * Duration::from_millis(200));
    let status = Status::of(lab.ring("ring")).unwrap();
    assert_eq!(read.stdout.len() as u64, status.lanes[0].sent * 101);
    assert_eq!((status.lanes[0].used, status.lanes[0].committed), (0, status.lanes[0].sent));
}
