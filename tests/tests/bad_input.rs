//! What cannot work is refused with a sentence that says what to do, the right
//! exit code, no change to what is not ours, and nothing left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use shmring::Status;
use tests::{Child, Lab, Program, Program::*, is_root, program, skipped};

/// The commands that open a region, and their flags.
const OPENERS: [(Program, &[&str]); 3] = [(Producer, &[]), (Consumer, &[]), (Shmring, &["info"])];

/// Runs every program that opens a region on `path`: each must fail with 1 and
/// a sentence with `words`, and leave everything as it was.
#[track_caller]
fn refused(lab: &Lab, path: &PathBuf, words: &[&str]) {
    let bytes = || path.is_file().then(|| fs::read(path).unwrap());
    let before = (lab.listing(), bytes());
    for (which, flags) in OPENERS {
        let mut command = lab.command(which);
        let done = Child::start(command.args(flags).arg(path)).finish().expect(1);
        for word in words {
            assert!(done.stderr.contains(word), "{which:?}: no {word:?} in: {}", done.stderr);
        }
        assert!(done.stderr.lines().count() == 1 && done.stdout.is_empty(), "{which:?}: {}", done.stderr);
    }
    assert!((lab.listing(), bytes()) == before);
}

#[test]
fn files_that_are_no_regions() {
    let lab = Lab::new();
    refused(&lab, &lab.file("empty", b""), &["empty", "not a shmring region", "remove it"]);
    refused(&lab, &lab.file("zeros", &[0; 10000]), &["zeros", "not a shmring region"]);
    refused(&lab, &lab.file("text", b"#!/bin/sh\nexit\n"), &["not a shmring region", "choose another path"]);
    refused(&lab, &lab.file("other", b"RMHS\0\0\0\0\0\0\0\0"), &["another project", "RMHS"]);
    refused(&lab, &lab.file("short", b"\x89SHMRING\x01"), &["truncated", "4096"]);
    let folder = lab.path("folder");
    fs::create_dir(&folder).unwrap();
    refused(&lab, &folder, &["not a regular file"]);
    let pipe = lab.path("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    refused(&lab, &pipe, &["not a regular file"]);
}

#[test]
fn links_are_not_followed() {
    let lab = Lab::new();
    let ring = lab.path("ring");
    let mut create = lab.command(Shmring);
    Child::start(create.arg("create").arg(&ring)).finish().expect(0);
    let link = lab.path("link");
    std::os::unix::fs::symlink(&ring, &link).unwrap();
    refused(&lab, &link, &["not a regular file"]);
}

#[test]
fn regions_that_cannot_be_used() {
    let lab = Lab::new();
    let mut create = lab.command(Shmring);
    Child::start(create.arg("create").arg(lab.path("good")).args(["--capacity", "64KiB"])).finish().expect(0);
    let good = fs::read(lab.path("good")).unwrap();

    let mut foreign = good.clone();
    foreign[8] = 7;
    refused(&lab, &lab.file("foreign", &foreign), &["7.0", "1.0", "version"]);
    let mut feature = good.clone();
    feature[0x18] = 4;
    refused(&lab, &lab.file("feature", &feature), &["features", "0x4", "newer"]);
    let mut damaged = good.clone();
    damaged[0x60] ^= 1;
    refused(&lab, &lab.file("damaged", &damaged), &["damaged", "check sum"]);
    refused(&lab, &lab.file("cut", &good[..good.len() - 1]), &["truncated", "1114112", "1114111"]);
    refused(&lab, &lab.file("long", &[&good[..], b"x"].concat()), &["1114113"]);
}

#[test]
fn no_permission() {
    let lab = Lab::new();
    lab.run(Shmring, &["create", lab.path("ring").to_str().unwrap()], b"").expect(0);
    let before = fs::read(lab.path("ring")).unwrap();
    for (which, flags) in OPENERS {
        // The programs' own folder may be closed to others. Copied by another
        // process: a file that this one had open for writing might still be
        // open in a child of another test, and then does not start.
        let copy = lab.path("program");
        let mut cp = lab.prepared("cp".as_ref());
        Child::start(cp.arg(program(which)).arg(&copy)).finish().expect(0);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = lab.prepared(&copy);
        if is_root() {
            command.uid(65534).gid(65534);
        } else {
            fs::set_permissions(lab.path("ring"), fs::Permissions::from_mode(0o000)).unwrap();
        }
        let done = Child::start(command.args(flags).arg(lab.path("ring"))).finish().expect(1);
        assert!(done.stderr.contains("no permission"), "{}", done.stderr);
        fs::remove_file(copy).unwrap();
    }
    fs::set_permissions(lab.path("ring"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(fs::read(lab.path("ring")).unwrap() == before);
}

#[test]
fn a_folder_for_names_that_others_can_write_to() {
    let lab = Lab::new();
    let folder = lab.path("rings");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let done = lab.run(Producer, &["ring"], b"x\n").expect(1);
    assert!(
        done.stderr.contains("other users may write") && done.stderr.contains("SHMRING_DIR"),
        "{}",
        done.stderr
    );
    assert_eq!(lab.listing(), [folder]);
}

/// A shell with a file system of 64 KiB at `small`, where that can be had.
fn with_small_tmpfs(lab: &Lab, test: &str, script: &str) -> Option<tests::Done> {
    if !is_root() {
        skipped(test, "mounting needs root");
        return None;
    }
    fs::create_dir(lab.path("small")).unwrap();
    let mount = format!("mount -t tmpfs -o size=64k,mode=0700 none small || exit 99; {script}");
    let mut command = lab.prepared("unshare".as_ref());
    command.current_dir(lab.path("")).args(["-m", "sh", "-c", &mount]);
    command.env("PRODUCER", program(Producer)).env("CONSUMER", program(Consumer));
    let done = Child::start(&mut command).finish();
    if done.status.code() == Some(99) {
        skipped(test, done.stderr);
        return None;
    }
    Some(done)
}

#[test]
fn a_file_system_without_room() {
    let lab = Lab::new();
    let script =
        "\"$PRODUCER\" ./small/ring </dev/null; echo $?; \"$CONSUMER\" ./small/ring; echo $?; ls -A small";
    let Some(done) = with_small_tmpfs(&lab, "a_file_system_without_room", script) else { return };
    assert_eq!(String::from_utf8_lossy(&done.stdout), "1\n1\n", "{}", done.stderr);
    assert_eq!(done.stderr.matches("no room for 1114112 bytes").count(), 2, "{}", done.stderr);
    assert!(done.stderr.contains("--shm-size") && done.stderr.contains("smaller capacity"));
}

#[test]
fn inputs_and_outputs_that_cannot_be_used() {
    let lab = Lab::new();
    let ring = lab.path("ring").to_str().unwrap().to_owned();
    let file = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    for (input, word) in [(file("missing"), "No such file"), (file(""), "directory")] {
        let done = lab.run(Producer, &[&ring, "--input", &input], b"").expect(1);
        assert!(done.stderr.contains("cannot read") && done.stderr.contains(word), "{}", done.stderr);
    }
    let output = file("no/such/folder");
    let done = lab.run(Consumer, &[&ring, "--output", &output], b"").expect(1);
    assert!(done.stderr.contains("cannot write to"), "{}", done.stderr);
    assert_eq!(lab.listing(), [] as [PathBuf; 0]);

    // A start that fails does not touch the output.
    lab.file("precious", b"precious");
    lab.file("notring", b"text");
    lab.run(Consumer, &[&file("notring"), "--output", &file("precious")], b"").expect(1);
    lab.run(Consumer, &[&file("notring"), "--output", &file("new")], b"").expect(1);
    assert_eq!(fs::read(lab.path("precious")).unwrap(), b"precious");
    assert_eq!(lab.listing(), [lab.path("notring"), lab.path("precious")]);

    // The ring itself is no output.
    lab.run(Producer, &[&ring], b"message\n").expect(0);
    let done = lab.run(Consumer, &[&ring, "--output", &ring], b"").expect(1);
    assert!(done.stderr.contains("is the ring itself"), "{}", done.stderr);
    assert_eq!(lab.run(Consumer, &[&ring], b"").expect(0).stdout, b"message\n");

    let done = lab.run(Producer, &[&ring, "--framing", "len32"], b"\x05\0\0\0abc").expect(1);
    assert!(done.stderr.contains("ends inside message 1"), "{}", done.stderr);
}

#[test]
fn a_message_that_is_too_large() {
    let lab = Lab::new();
    let text = [b"fits\n".as_slice(), &[b'x'; 65481], b"\nafter\n"].concat();
    let done = lab.run(Producer, &["ring", "--capacity", "64KiB"], &text).expect(1);
    for word in ["message 2", "65481", "at most 65480", "--capacity"] {
        assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
    // What came before it arrives, and that the producer failed is known.
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(3).stdout, b"fits\n");
    let done = lab.run(Producer, &["ring", "--generate", "1", "--size", "65481"], b"").expect(1);
    assert!(done.stderr.contains("at most 65480"), "{}", done.stderr);
}

#[test]
fn command_lines_that_ask_for_the_impossible() {
    let lab = Lab::new();
    let cases: &[(Program, &[&str])] = &[
        (Producer, &[]),
        (Producer, &["ring", "--unknown"]),
        (Producer, &["ring", "--capacity", "0"]),
        (Producer, &["ring", "--capacity", "banana"]),
        (Producer, &["ring", "--capacity", "3MiB"]),
        (Producer, &["ring", "--capacity", "4KiB"]),
        (Producer, &["ring", "--capacity", "2TiB"]),
        (Producer, &["ring", "--capacity", "16EiB"]),
        (Producer, &["ring", "--framing", "words"]),
        (Producer, &["ring", "--framing", "raw:0"]),
        (Producer, &["ring", "--framing", "raw:"]),
        (Producer, &["ring", "--on-full", "explode"]),
        (Producer, &["ring", "--on-full", "drop", "--resume", "--input", "/dev/null"]),
        (Producer, &["ring", "--max-producers", "0"]),
        (Producer, &["ring", "--max-producers", "1025"]),
        (Producer, &["ring", "--max-producers", "many"]),
        (Producer, &["ring", "--order", "alphabetical"]),
        (Producer, &["ring", "--name", ""]),
        (Producer, &["ring", "--name", "a b"]),
        (Producer, &["ring", "--name", ".a"]),
        (Producer, &["ring", "--name", "123456789012345678901234567890123"]),
        (Producer, &["ring", "--wait", "patiently"]),
        (Producer, &["ring", "--timeout", "5"]),
        (Producer, &["ring", "--codec", "morse"]),
        (Producer, &["ring", "--generate", "5"]),
        (Producer, &["ring", "--generate", "5", "--size", "15"]),
        (Producer, &["ring", "--generate", "5", "--size", "16", "--input", "x"]),
        (Producer, &[".."]),
        (Producer, &["a b"]),
        (Producer, &["-"]),
        (Consumer, &["ring", "--count", "-1"]),
        (Consumer, &["ring", "--expect", "0"]),
        (Consumer, &["ring", "--expect", "all"]),
        (Consumer, &["ring", "--max-producers", "2"]),
        (Consumer, &["ring", "--verify", "--output", "x"]),
        (Consumer, &["ring", "--capacity", "0"]),
        (Shmring, &[]),
        (Shmring, &["explode"]),
        (Shmring, &["create", "ring", "--capacity", "0"]),
        (Shmring, &["create", "ring", "--align", "7"]),
        (Shmring, &["create", "ring", "--max-producers", "0"]),
        (Shmring, &["create", "ring", "--max-producers", "2000"]),
        (Shmring, &["create", "ring", "--order", "none"]),
        (Shmring, &["create"]),
        (Shmring, &["rm", ".."]),
    ];
    for (which, flags) in cases {
        let done = lab.run(*which, flags, b"").expect(2);
        assert!(!done.stderr.is_empty() && done.stdout.is_empty(), "{which:?} {flags:?}");
    }
    let rings: Vec<_> = lab.listing().into_iter().filter(|p| p != &lab.path("rings")).collect();
    assert!(rings.is_empty(), "left behind: {rings:?}");
}

#[test]
fn an_option_that_the_region_does_not_have() {
    let lab = Lab::new();
    lab.run(Shmring, &["create", "ring", "--capacity", "2MiB"], b"").expect(0);
    for which in [Producer, Consumer] {
        let done = lab.run(which, &["ring", "--capacity", "1MiB"], b"").expect(1);
        assert!(done.stderr.contains("2097152") && done.stderr.contains("1048576"), "{}", done.stderr);
    }
    for (option, value, words) in [
        ("--max-producers", "3", ["maximum of producers 16", "3 was asked for"]),
        ("--order", "total", ["order fifo", "total was asked for"]),
    ] {
        let done = lab.run(Producer, &["ring", option, value], b"").expect(1);
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{}", done.stderr);
    }
    lab.run(Producer, &["ring", "--max-producers", "16", "--order", "fifo"], b"").expect(0);
    let again = lab.run(Shmring, &["create", "ring"], b"").expect(1);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

#[test]
fn what_is_not_a_ring_is_not_removed() {
    let lab = Lab::new();
    let path = lab.file("text", b"text").to_str().unwrap().to_owned();
    assert!(lab.run(Shmring, &["rm", &path], b"").expect(1).stderr.contains("left alone"));
    assert!(lab.run(Shmring, &["rm", "ring"], b"").expect(1).stderr.contains("no region"));
    assert!(lab.path("text").exists());
    // A damaged one is ours, and can go.
    lab.run(Shmring, &["create", "ring"], b"").expect(0);
    let mut damaged = fs::read(lab.ring("ring")).unwrap();
    damaged.truncate(5000);
    fs::write(lab.ring("ring"), damaged).unwrap();
    lab.run(Shmring, &["rm", "ring"], b"").expect(0);
    assert!(!lab.ring("ring").exists());
}

#[test]
fn a_start_that_fails_leaves_links_and_rings_as_they_were() {
    let lab = Lab::new();
    let link = lab.path("link");
    std::os::unix::fs::symlink(lab.path("target"), &link).unwrap();
    let before = lab.listing();
    let flags = ["./none/ring", "--no-create", "--output", link.to_str().unwrap()];
    lab.run(Consumer, &flags, b"").expect(1);
    assert_eq!(lab.listing(), before);
    // A ring that was made for a start that failed goes with it.
    let ring = lab.path("ring").to_str().unwrap().to_owned();
    let done = lab.run(Producer, &[&ring, "--generate", "1", "--size", "10MiB"], b"").expect(1);
    assert!(done.stderr.contains("too large"), "{}", done.stderr);
    assert_eq!(lab.listing(), before);
    // One that was there stays.
    lab.run(Shmring, &["create", &ring], b"").expect(0);
    lab.run(Producer, &[&ring, "--generate", "1", "--size", "10MiB"], b"").expect(1);
    assert!(lab.path("ring").exists());
}

#[test]
fn a_limit_on_the_size_of_files() {
    let lab = Lab::new();
    let mut command = lab.prepared("sh".as_ref());
    command.args(["-c", "ulimit -f 10; exec \"$0\" ring </dev/null"]).arg(program(Producer));
    let done = Child::start(&mut command).finish().expect(1);
    assert!(done.stderr.contains("16842752 bytes") && done.stderr.contains("ulimit -f"), "{}", done.stderr);
    assert!(!lab.ring("ring").exists());
}

#[test]
fn a_cause_is_told_once() {
    let lab = Lab::new();
    lab.file("folder", b"a file");
    let done = lab.run(Producer, &[lab.path("folder/ring").to_str().unwrap()], b"").expect(1);
    assert_eq!(done.stderr.matches("os error").count(), 1, "{}", done.stderr);
}

#[test]
fn what_came_before_damage_is_delivered() {
    let lab = Lab::new();
    lab.run(Producer, &["ring"], b"one\ntwo\nthree\n").expect(0);
    // The third record: each has 8 bytes of header and up to 8 of payload.
    let file = fs::File::options().write(true).open(lab.ring("ring")).unwrap();
    file.write_all_at(&u64::MAX.to_le_bytes(), 0x10000 + 2 * 16).unwrap();
    let done = lab.run(Consumer, &["ring"], b"").expect(1);
    assert_eq!(done.stdout, b"one\ntwo\n");
    let last = done.stderr.lines().last().unwrap();
    assert!(last.contains("lane 0") && last.matches("that no producer writes").count() == 1, "{last}");
    // Once, not again by the next one.
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(1).stdout, b"");
}

#[test]
fn a_damaged_lane_leaves_the_others_alone() {
    let lab = Lab::new();
    for (name, text) in [("bad", "one\ntwo\n"), ("good", "three\nfour\n")] {
        lab.run(Producer, &["ring", "--name", name], text.as_bytes()).expect(0);
    }
    let file = fs::File::options().write(true).open(lab.ring("ring")).unwrap();
    let first = Status::of(lab.ring("ring")).unwrap().file_len - 16 * (1 << 20);
    file.write_all_at(&u64::MAX.to_le_bytes(), first).unwrap();
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut out = BufReader::new(consumer.stdout());
    let mut line = String::new();
    while !line.ends_with("four\n") {
        assert!(out.read_line(&mut line).unwrap() > 0, "{line}");
    }
    let done = consumer.finish().expect(1);
    assert_eq!(line, "three\nfour\n");
    assert!(done.stderr.contains("lane 0") && done.stderr.contains("go on"), "{}", done.stderr);
    // The lane stays as it is; the other one can be used.
    lab.run(Producer, &["ring", "--name", "good"], b"five\n").expect(0);
    assert_eq!(lab.run(Consumer, &["ring"], b"").expect(1).stdout, b"five\n");
}
