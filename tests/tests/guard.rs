//! Truncation under a handle: an error with the guard, the process's end
//! without; and every other SIGBUS is what it was.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use nix::libc::{SIGABRT, SIGBUS};
use tests::{CONSUMER_SLEEP, Lab, PRODUCER_SLEEP, Victim, until_asleep, victim};

const DATA: u64 = 0x10000;
const PROGRAM: &str = env!("CARGO_BIN_EXE_victim");
const TRUNCATED: &str = "Err(Truncated)";

/// A region with a guarded user.
fn guarded(lab: &Lab, flags: &[&str]) -> (PathBuf, Victim) {
    let path = lab.path("ring");
    let mut user = victim(lab, PROGRAM, &path, &[&["--guard"], flags].concat());
    user.must(&["create"]);
    (path, user)
}

fn cut(path: &PathBuf, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Everything in the file; from the lane's words on; from the data on; from
/// the second page of data on.
const CUTS: [u64; 4] = [0, 0x2000, DATA, DATA + 0x1000];

#[test]
fn what_did_not_go_into_the_file_is_not_sent() {
    for len in CUTS {
        for verb in ["send 20000", "send-blocking 20000", "batch 20000", "grant 20000"] {
            let lab = Lab::new();
            let (path, mut user) = guarded(&lab, &[]);
            user.must(&["producer", "send 100", "check"]);
            cut(&path, len);
            let answer = user.ask(verb);
            assert!(answer.ends_with(TRUNCATED), "{verb} after a cut to {len}: {answer}");
            for later in ["send 1", "send 1", "check", "send-blocking 1", "grant 1"] {
                assert!(user.ask(later).ends_with("Truncated)") || user.ask(later) == "Truncated", "{later}");
            }
            // Its drop touches the region once more.
            user.must(&["leave"]);
            user.finish().expect(0);
        }
    }
}

#[test]
fn a_full_ring_that_is_cut_is_neither_full_nor_damaged() {
    for (len, consumed) in CUTS.into_iter().flat_map(|len| [(len, 0), (len, 1)]) {
        let lab = Lab::new();
        let (path, mut user) = guarded(&lab, &[]);
        user.must(&["producer", "consumer", "send 1000"]);
        for _ in 0..consumed {
            assert_eq!(user.ask("try-read"), "message 0 of 1000");
            user.must(&["commit"]);
        }
        assert_eq!(user.ask("fill 1000"), "Full");
        cut(&path, len);
        // The words that a full ring is asked for are there, or they are not.
        let expected = if len < DATA { TRUNCATED } else { "Err(Full)" };
        assert_eq!(user.ask("send 1000"), expected, "{consumed} consumed, cut to {len}");
        assert_eq!(user.ask("check"), TRUNCATED);
    }
}

/// The second message is one that one look could take: there is a buffer for it,
/// and its header is there.
#[test]
fn half_a_message_is_not_delivered() {
    for verb in ["try-read", "read"] {
        let lab = Lab::new();
        let (path, mut user) = guarded(&lab, &[]);
        user.must(&["producer", "send 30000", "send 20000", "consumer"]);
        assert_eq!(user.ask("try-read"), "message 0 of 30000");
        cut(&path, DATA + 0x8000);
        assert_eq!(user.ask(verb), TRUNCATED, "{verb}");
    }
}

#[test]
fn what_did_not_come_from_the_file_is_not_delivered() {
    for len in CUTS {
        for verb in ["try-read", "read"] {
            let lab = Lab::new();
            let (path, mut user) = guarded(&lab, &[]);
            user.must(&["producer", "send 20000", "send 30000", "consumer"]);
            cut(&path, len);
            // With one page of data left the header is there, the payload is not.
            assert_eq!(user.ask(verb), TRUNCATED, "{verb} after a cut to {len}");
            for later in ["try-read", "read", "try-read"] {
                assert_eq!(user.ask(later), TRUNCATED);
            }
            assert_eq!(user.ask("available"), "[Err(Truncated)]");
            user.must(&["commit", "leave"]);
            user.finish().expect(0);
        }
    }
}

#[test]
fn sides_that_wait_are_told_of_a_cut() {
    for len in CUTS {
        let lab = Lab::new();
        let (path, mut user) = guarded(&lab, &[]);
        user.must(&["consumer"]);
        user.tell("read");
        until_asleep(&path, CONSUMER_SLEEP);
        cut(&path, len);
        assert_eq!(user.answer().unwrap(), TRUNCATED, "the consumer, after a cut to {len}");

        let lab = Lab::new();
        let (path, mut user) = guarded(&lab, &[]);
        user.must(&["producer"]);
        assert_eq!(user.ask("fill 1000"), "Full");
        user.tell("send-blocking 1000");
        until_asleep(&path, PRODUCER_SLEEP);
        cut(&path, len);
        assert_eq!(user.answer().unwrap(), TRUNCATED, "the producer, after a cut to {len}");
    }
}

#[test]
fn a_guard_outlives_a_region_made_anew() {
    let lab = Lab::new();
    let (path, mut user) = guarded(&lab, &[]);
    user.must(&["producer"]);
    cut(&path, 0);
    assert_eq!(user.ask("send 1"), TRUNCATED);
    user.must(&["leave"]);
    assert!(user.ask("producer").starts_with("Err(Truncated { found: 0"));
    std::fs::remove_file(&path).unwrap();
    user.must(&["create", "producer", "consumer", "send 5"]);
    assert_eq!(user.ask("try-read"), "message 0 of 5");
    cut(&path, 0);
    assert_eq!(user.ask("send 1"), TRUNCATED);
    assert_eq!(user.ask("try-read"), TRUNCATED);
}

#[test]
fn without_a_guard_a_touch_ends_the_process() {
    for (role, verb) in [("producer", "send 1"), ("consumer", "try-read")] {
        let lab = Lab::new();
        let path = lab.path("ring");
        let mut user = victim(&lab, PROGRAM, &path, &[]);
        user.must(&["create", role]);
        cut(&path, 0);
        user.tell(verb);
        assert_eq!(user.answer(), None);
        assert_eq!(user.finish().status.signal(), Some(SIGBUS), "{role}");
    }
    // Nor does somebody else's guard help.
    let lab = Lab::new();
    let (path, mut user) = guarded(&lab, &[]);
    user.must(&["producer", "plain", "open", "consumer"]);
    cut(&path, 0);
    user.tell("try-read");
    assert_eq!(user.answer(), None);
    assert_eq!(user.finish().status.signal(), Some(SIGBUS));
}

#[test]
fn another_sigbus_goes_where_it_went_before() {
    for (before, touched, sent) in [
        ("siginfo", Ok(41), Ok(41)),
        ("plain", Ok(42), Ok(42)),
        // Ignoring a fault is not possible.
        ("ignore", Err(SIGBUS), Ok(0)),
        ("default", Err(SIGBUS), Err(SIGBUS)),
    ] {
        for (verb, end) in [("touch-elsewhere", touched), ("raise", sent)] {
            let lab = Lab::new();
            let (path, mut user) = guarded(&lab, &["--before", before]);
            // The handler has been at work when it passes the signal on.
            user.must(&["producer"]);
            cut(&path, 0);
            assert_eq!(user.ask("send 1"), TRUNCATED);
            user.tell(verb);
            let lives = user.answer().is_some();
            let status = user.finish().status;
            assert_eq!(status.code().ok_or_else(|| status.signal().unwrap()), end, "{before}, {verb}");
            assert_eq!(lives, end == Ok(0));
        }
    }
}

#[test]
fn a_guard_outlives_a_signal_that_was_sent() {
    let lab = Lab::new();
    let (path, mut user) = guarded(&lab, &[]);
    // The language's own handler would give the signal its usual meaning back.
    user.must(&["producer", "raise", "raise"]);
    cut(&path, 0);
    assert_eq!(user.ask("send 1"), TRUNCATED);
}

#[test]
fn the_language_s_own_handlers_stay() {
    let lab = Lab::new();
    let (_, mut user) = guarded(&lab, &[]);
    user.must(&["producer"]);
    user.tell("overflow");
    assert_eq!(user.answer(), None);
    let done = user.finish();
    assert_eq!(done.status.signal(), Some(SIGABRT), "{}", done.stderr);
    assert!(done.stderr.contains("has overflowed its stack"), "{}", done.stderr);
    // And its handler for SIGBUS, which lets the signal end the process.
    let lab = Lab::new();
    let (_, mut user) = guarded(&lab, &[]);
    user.must(&["producer"]);
    user.tell("touch-elsewhere");
    assert_eq!(user.answer(), None);
    assert_eq!(user.finish().status.signal(), Some(SIGBUS));
}

#[test]
fn there_is_room_for_so_many_guards() {
    let lab = Lab::new();
    let (_, mut user) = guarded(&lab, &["--nofile", "4096"]);
    assert_eq!(user.ask("guard-many"), "1024 Lack(Guards { most: 2048 })");
    assert_eq!(user.ask("producer"), "Err(Lack(Guards { most: 2048 }))");
    // A refused attach leaves the role to others, and a handle that goes its place.
    user.must(&["guard-fewer", "producer", "consumer", "send 5"]);
    assert_eq!(user.ask("try-read"), "message 0 of 5");
}
