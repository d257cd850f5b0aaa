//! What goes into `producer` comes out of `consumer`, byte for byte.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::{Child, Lab, Program::*};

/// Bytes of the real file.
const REAL: u64 = 100_000_000;

/// A file of more than [`REAL`] bytes made of what is on this machine: the
/// project's own build and sources, and system files.
fn real_file(lab: &Lab) -> PathBuf {
    let path = lab.path("real");
    let mut out = File::create(&path).unwrap();
    let mut folders =
        vec![concat!(env!("CARGO_MANIFEST_DIR"), "/..").into(), "/usr/lib".into(), "/usr/share".into()];
    let mut left = REAL;
    while left > 0 {
        let folder: PathBuf = folders.remove(0);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && left > 0
                && let Ok(file) = File::open(entry.path())
            {
                left -= std::io::copy(&mut file.take(left), &mut out).unwrap_or(0);
            }
        }
    }
    path
}

fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}

fn start(lab: &Lab, which: tests::Program, flags: &[&str], file: &Path) -> Child {
    let file_flag = if which == Producer { "--input" } else { "--output" };
    let mut command = lab.command(which);
    command.args(["-v", "again", "--capacity", "16MiB"]).args(flags).arg(file_flag).arg(file);
    Child::start(&mut command)
}

#[test]
fn a_real_file_arrives_in_every_framing_and_either_order() {
    let lab = Lab::new();
    let real = real_file(&lab);
    // len32 input is made by translation, which is a test of that too.
    let len32 = lab.path("len32");
    let translate = start(&lab, Consumer, &["--framing", "len32"], &len32);
    start(&lab, Producer, &["--framing", "lines"], &real).finish().expect(0);
    translate.finish().expect(0);
    assert!(fs::metadata(&len32).unwrap().len() > REAL);

    let out = lab.path("out");
    for (framing, input) in
        [("lines", &real), ("nul", &real), ("len32", &len32), ("raw:1000", &real), ("raw:8MiB", &real)]
    {
        let flags = ["--framing", framing];
        for first in [Consumer, Producer] {
            let _ = fs::remove_file(&out);
            let (one, other, second) = match first {
                Consumer => (&out, input, Producer),
                _ => (input, &out, Consumer),
            };
            let one = start(&lab, first, &flags, one).wait_for("attached");
            let other = start(&lab, second, &flags, other);
            other.finish().expect(0);
            one.finish().expect(0);
            assert!(same(input, &out), "{framing}, {first:?} first");
        }
    }
    // And back: what was made by translation holds all of it.
    let back = lab.path("back");
    let consumer = start(&lab, Consumer, &["--framing", "lines"], &back);
    start(&lab, Producer, &["--framing", "len32"], &len32).finish().expect(0);
    consumer.finish().expect(0);
    let mut real = fs::read(&real).unwrap();
    if !real.ends_with(b"\n") {
        real.push(b'\n');
    }
    assert!(real == fs::read(back).unwrap());
}

#[test]
fn odd_inputs_arrive_as_they_are() {
    let lab = Lab::new();
    let largest = vec![b'x'; 65536 - 56];
    let inputs: [&[u8]; 8] =
        [b"", b"\n", b"\n\n\n", b"a\r\n\r\nb\r\n", b"\xff\xfe\0\n\x80", b"no newline", b"\0\0", &largest];
    for framing in ["lines", "nul", "raw:3"] {
        for input in inputs {
            let flags = ["ring", "--capacity", "64KiB", "--framing", framing];
            let consumer = lab.start(Consumer, &flags);
            // Its output is read meanwhile: a pipe holds less than the ring sends.
            let consumer = std::thread::spawn(|| consumer.finish());
            lab.run(Producer, &flags, input).expect(0);
            let done = consumer.join().unwrap().expect(0);
            assert!(done.stdout == input, "{framing} {:?}", &input[..input.len().min(20)]);
            assert_eq!(done.stderr, "");
        }
    }
}

#[test]
fn a_record_carries_its_message() {
    let lab = Lab::new();
    let consumer = lab.start(Consumer, &["-v", "records", "--output", "-"]).wait_for("attached");
    // The consumer made a ring of bytes.
    let differs = lab.run(Producer, &["records", "--codec", "bincode"], b"").expect(1);
    assert!(
        differs.stderr.contains("codec bytes") && differs.stderr.contains("bincode"),
        "{}",
        differs.stderr
    );
    drop(consumer);
    let producer = lab.run(Producer, &["other", "--codec", "bincode"], b"one\n\ntwo").expect(0);
    assert_eq!(producer.stderr, "");
    // The consumer takes the codec from the region.
    assert_eq!(lab.run(Consumer, &["other"], b"").expect(0).stdout, b"one\n\ntwo");
    assert_eq!(lab.run(Consumer, &["other", "--no-create", "--timeout", "1ms"], b"").code(), 4);
}

#[test]
fn the_next_consumer_goes_on_at_the_exact_message() {
    let lab = Lab::new();
    let text: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    lab.run(Producer, &["ring"], text.as_bytes()).expect(0);
    assert_eq!(lab.run(Consumer, &["ring", "--count", "3"], b"").expect(0).stdout, b"1\n2\n3\n");
    assert_eq!(lab.run(Consumer, &["ring", "--count", "1"], b"").expect(0).stdout, b"4\n");
    let rest = lab.run(Consumer, &["ring"], b"").expect(0).stdout;
    assert!(rest.starts_with(b"5\n6\n") && rest.ends_with(b"999\n1000\n"));
    assert_eq!(lab.run(Consumer, &["ring", "--count", "0"], b"").expect(0).stdout, b"");
}

#[test]
fn a_ring_is_used_again_and_again() {
    let lab = Lab::new();
    for round in 0..20 {
        let text = format!("round {round}\n");
        // Once closed and read, a stream ends nobody again.
        let consumer = lab.start(Consumer, &["-v", "ring"]).wait_for("attached");
        lab.run(Producer, &["ring"], text.as_bytes()).expect(0);
        assert_eq!(consumer.finish().expect(0).stdout, text.as_bytes());
    }
    // Several streams before anybody reads.
    for round in 0..3 {
        lab.run(Producer, &["ring"], format!("{round}\n").as_bytes()).expect(0);
    }
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(0).stdout, b"0\n1\n2\n");
}

#[test]
fn a_line_on_a_pipe_is_delivered_at_once() {
    let lab = Lab::new();
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut lines = BufReader::new(consumer.stdout());
    let mut command = lab.command(Producer);
    let mut producer = Child::start(command.arg("ring").stdin(Stdio::piped()));
    let mut stdin = producer.stdin();
    for number in 0..100 {
        writeln!(stdin, "line {number}").unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, format!("line {number}\n"));
    }
    drop(stdin);
    producer.finish().expect(0);
    consumer.finish().expect(0);
}

#[test]
fn follow_goes_on_after_a_close() {
    let lab = Lab::new();
    let mut consumer = lab.start(Consumer, &["ring", "--follow"]);
    let mut lines = BufReader::new(consumer.stdout());
    for text in ["one\n", "two\n", "three\n"] {
        lab.run(Producer, &["ring"], text.as_bytes()).expect(0);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    }
    consumer.signal(nix::sys::signal::Signal::SIGTERM);
    consumer.finish().expect(0);
}

#[test]
fn generated_messages_are_verified() {
    let lab = Lab::new();
    for (size, wait) in [("16", "adaptive"), ("64", "spin"), ("1000", "park"), ("1000000", "adaptive")] {
        let consumer = lab.start(Consumer, &["ring", "--verify", "--wait", wait]);
        lab.run(Producer, &["ring", "--generate", "5000", "--size", size, "--wait", wait], b"").expect(0);
        let done = consumer.finish().expect(0);
        assert_eq!(done.stderr, "verify: producer=lane0 messages=5000 missing=0 duplicated=0 corrupt=0\n");
        assert_eq!(done.stdout, b"");
    }
    // Anything else is corrupt.
    lab.run(Producer, &["ring"], b"not generated\n").expect(0);
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(1);
    assert!(done.stderr.contains("messages=1 missing=0 duplicated=0 corrupt=1\n"), "{}", done.stderr);
}
