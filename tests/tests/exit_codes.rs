//! Every exit code, by the real programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};
use tests::{Child, Lab, Program::*};

/// A producer that waits for its stdin.
fn piped(lab: &Lab, flags: &[&str]) -> Child {
    let mut command = lab.command(Producer);
    Child::start(command.args(["-v", "ring"]).args(flags).stdin(Stdio::piped())).wait_for("attached")
}

/// What a consumer has written so far, up to `text`.
fn read_text(out: &mut impl Read, text: &str) {
    let mut bytes = vec![0; text.len()];
    out.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[test]
fn zero_for_help_and_version() {
    let lab = Lab::new();
    for which in [Producer, Consumer, Shmring] {
        for flag in ["-h", "--help", "-V", "--version"] {
            let done = lab.run(which, &[flag], b"").expect(0);
            assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{which:?} {flag}");
        }
    }
    assert_eq!(lab.listing(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn one_without_a_ring_when_none_is_to_be_made() {
    let lab = Lab::new();
    for which in [Producer, Consumer] {
        let done = lab.run(which, &["ring", "--no-create"], b"").expect(1);
        assert!(done.stderr.contains("there is no region"), "{}", done.stderr);
    }
    assert!(lab.run(Shmring, &["info", "ring"], b"").expect(1).stderr.contains("there is no region"));
    assert!(!lab.ring("ring").exists());
    lab.run(Shmring, &["create", "ring"], b"").expect(0);
    lab.run(Producer, &["ring", "--no-create"], b"x\n").expect(0);
    assert_eq!(lab.run(Consumer, &["ring", "--no-create"], b"").expect(0).stdout, b"x\n");
}

#[test]
fn one_for_a_second_producer_or_consumer_and_it_says_who_is_there() {
    let lab = Lab::new();
    let producer = piped(&lab, &["--max-producers", "1"]);
    let consumer = lab.start(Consumer, &["-v", "ring"]).wait_for("attached");
    for (which, first) in [(Producer, &producer), (Consumer, &consumer)] {
        let done = lab.run(which, &["ring"], b"").expect(1);
        let name = format!("{which:?}").to_lowercase();
        for word in
            [format!("has a {name} already"), format!("{name} (pid {}", first.pid()), "uid".to_owned()]
        {
            assert!(done.stderr.contains(&word), "no {word:?} in: {}", done.stderr);
        }
    }
    let in_use = lab.run(Shmring, &["rm", "ring"], b"").expect(1).stderr;
    assert!(
        in_use.contains(&producer.pid().to_string()) && in_use.contains(&consumer.pid().to_string()),
        "{in_use}"
    );
    let info = String::from_utf8(lab.run(Shmring, &["info", "ring"], b"").expect(0).stdout).unwrap();
    assert!(info.contains(&format!("producer (pid {}", producer.pid())), "{info}");
    drop((producer, consumer));
    lab.run(Shmring, &["rm", "ring"], b"").expect(0);
    assert!(!lab.ring("ring").exists());
}

#[test]
fn one_when_the_ring_is_full_and_that_is_to_fail() {
    let lab = Lab::new();
    let flags = ["ring", "--capacity", "64KiB", "--on-full", "fail", "--generate", "5000", "--size", "64"];
    let done = lab.run(Producer, &flags, b"").expect(1);
    assert!(done.stderr.contains("full after 818 messages"), "{}", done.stderr);
    // All that was accepted arrives; the producer did not close.
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(3);
    assert!(done.stderr.contains("messages=818 missing=0 duplicated=0 corrupt=0"), "{}", done.stderr);
}

#[test]
fn to_fail_may_take_its_time() {
    let lab = Lab::new();
    let flags = ["ring", "--capacity", "64KiB", "--on-full", "fail", "--generate", "5000", "--size", "64"];
    let with = |timeout| [&flags[..], &["--timeout", timeout]].concat();
    let done = lab.run(Producer, &with("50ms"), b"").expect(1);
    assert!(done.stderr.contains("full after 818 messages"), "{}", done.stderr);
    lab.run(Consumer, &["ring", "--verify"], b"").expect(3);
    let producer = lab.start(Producer, &with("60s"));
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(0);
    assert!(done.stderr.contains("messages=5000 missing=0 duplicated=0 corrupt=0"), "{}", done.stderr);
    producer.finish().expect(0);
}

#[test]
fn three_when_the_producer_was_killed_and_it_is_named() {
    let lab = Lab::new();
    let mut producer = piped(&lab, &[]);
    let pid = producer.pid();
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut stdin = producer.stdin();
    stdin.write_all(b"one\ntwo\nthr").unwrap();
    read_text(&mut consumer.stdout(), "one\ntwo\n");
    producer.kill();
    let done = consumer.finish().expect(3);
    assert!(
        done.stderr.contains("died") && done.stderr.contains(&format!("producer (pid {pid}")),
        "{}",
        done.stderr
    );
    // It is told once: the next consumer waits for the next producer.
    let consumer = lab.start(Consumer, &["ring", "-v"]).wait_for("attached");
    lab.run(Producer, &["ring"], b"three\n").expect(0);
    assert_eq!(consumer.finish().expect(0).stdout, b"three\n");
}

#[test]
fn three_after_follow_if_somebody_died() {
    let lab = Lab::new();
    let mut producer = piped(&lab, &[]);
    let mut consumer = lab.start(Consumer, &["ring", "--follow"]);
    let mut out = BufReader::new(consumer.stdout());
    let mut stdin = producer.stdin();
    stdin.write_all(b"one\n").unwrap();
    read_text(&mut out, "one\n");
    producer.kill();
    let mut notes = BufReader::new(consumer.stderr());
    let mut line = String::new();
    notes.read_line(&mut line).unwrap();
    assert!(line.contains("died"), "{line}");
    lab.run(Producer, &["ring"], b"two\n").expect(0);
    read_text(&mut out, "two\n");
    consumer.signal(SIGINT);
    consumer.finish().expect(3);
}

#[test]
fn four_when_nothing_moves() {
    let lab = Lab::new();
    let done = lab.run(Consumer, &["ring", "--timeout", "100ms"], b"").expect(4);
    assert!(done.stderr.contains("--timeout"), "{}", done.stderr);
    let full = ["ring", "--timeout", "100ms", "--generate", "1000000", "--size", "64"];
    for wait in ["adaptive", "park", "spin"] {
        let done = lab.run(Producer, &[&full[..], &["--wait", wait]].concat(), b"").expect(4);
        assert!(done.stderr.contains("--timeout"), "{}", done.stderr);
    }
    let mut command = lab.command(Producer);
    let mut idle = Child::start(command.args(["other", "--timeout", "100ms"]).stdin(Stdio::piped()));
    let open = idle.stdin();
    assert!(idle.finish().expect(4).stderr.contains("no input"));
    drop(open);
}

/// Sends `signal`; both programs must end in order.
fn in_order(signal: Signal) {
    let lab = Lab::new();
    let mut producer = piped(&lab, &[]);
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut stdin = producer.stdin();
    stdin.write_all(b"one\ntw").unwrap();
    read_text(&mut consumer.stdout(), "one\n");
    producer.signal(signal);
    producer.finish().expect(0);
    consumer.finish().expect(0);
    drop(stdin);

    let consumer = lab.start(Consumer, &["-v", "ring"]).wait_for("attached");
    consumer.signal(signal);
    consumer.finish().expect(0);
    // A producer at a full ring: what was accepted is there.
    let full = ["-v", "ring", "--generate", "1000000", "--size", "64"];
    let producer = lab.start(Producer, &full).wait_for("attached");
    producer.signal(signal);
    producer.finish().expect(0);
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(0);
    assert!(done.stderr.contains("missing=0 duplicated=0 corrupt=0"), "{}", done.stderr);
}

#[test]
fn zero_after_sigint() {
    in_order(SIGINT);
}

#[test]
fn zero_after_sigterm() {
    in_order(SIGTERM);
}

#[test]
fn the_second_signal_ends_it() {
    let lab = Lab::new();
    for signal in [SIGINT, SIGTERM] {
        // Its reader does not read on, so that it cannot end in order.
        let mut consumer = lab.start(Consumer, &["ring"]);
        let mut out = consumer.stdout();
        lab.run(Producer, &["ring"], &[b'x'; 900_000]).expect(0);
        read_text(&mut out, "x");
        consumer.signal(signal);
        consumer.wait_for_delivery();
        consumer.signal(signal);
        assert_eq!(consumer.finish().status.signal(), Some(signal as i32));
        lab.run(Consumer, &["ring", "--output", "/dev/null"], b"").expect(0);
    }
}

#[test]
fn zero_when_the_reader_of_stdout_has_gone() {
    let lab = Lab::new();
    let mut consumer = lab.start(Consumer, &["ring"]);
    drop(consumer.stdout());
    lab.run(Producer, &["ring"], b"one\ntwo\n").expect(0);
    assert_eq!(consumer.finish().expect(0).stderr, "");
    // Nobody got it, so it is still there.
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(0).stdout, b"one\ntwo\n");
    let mut info = lab.start(Shmring, &["info", "ring"]);
    drop(info.stdout());
    info.finish().expect(0);
}

#[test]
fn a_removed_ring_is_noticed() {
    let lab = Lab::new();
    let consumer = lab.start(Consumer, &["-v", "ring"]).wait_for("attached");
    std::fs::remove_file(lab.ring("ring")).unwrap();
    let done = consumer.finish().expect(1);
    assert_eq!(done.stdout, b"");
    assert!(done.stderr.contains("removed while in use"), "{}", done.stderr);
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let lab = Lab::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = lab.command(Producer);
    let flags = ["-v", "ring", "--generate", "10", "--size", "16"];
    Child::start(command.args(flags).stderr(full())).finish().expect(0);
    let mut command = lab.command(Consumer);
    Child::start(command.args(["-v", "ring", "--verify"]).stderr(full())).finish().expect(0);
    let mut command = lab.command(Consumer);
    Child::start(command.args(["ring", "--no-such-flag"]).stderr(full())).finish().expect(2);
}

#[test]
fn a_named_pipe_is_waited_for_as_long_as_asked() {
    let lab = Lab::new();
    let pipe = lab.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let flags = ["ring", "--timeout", "100ms", "--input", pipe.to_str().unwrap()];
    lab.run(Producer, &flags, b"").expect(4);
    // Its writer may come late.
    let producer = lab.start(Producer, &["-v", "ring", "--input", flags[4]]).wait_for("attached");
    std::fs::write(&pipe, b"one\ntwo\n").unwrap();
    producer.finish().expect(0);
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(0).stdout, b"one\ntwo\n");
}
