//! `shmring demo`, as the README has it, also where there is little room.

use std::fs;
use std::io::{BufRead, BufReader};

use nix::sys::signal::Signal;
use tests::{Child, Done, Lab, Program::*, is_root, program, skipped};

fn check(lab: &Lab, done: Done) {
    let text = String::from_utf8_lossy(&done.stdout);
    for word in
        ["byte for byte the same", "none missing, none doubled", "messages/s", "GB/s", "99.9 % within"]
    {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
    // It leaves nothing behind.
    let left: Vec<_> = lab.listing().into_iter().filter(|p| p.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_shows_what_a_ring_does() {
    let lab = Lab::new();
    check(&lab, lab.run(Shmring, &["demo"], b"").expect(0));
}

#[test]
fn it_fits_into_64_megabytes() {
    let test = "it_fits_into_64_megabytes";
    if !is_root() {
        return skipped(test, "mounting needs root");
    }
    let lab = Lab::new();
    fs::create_dir(lab.path("rings")).unwrap();
    let mut command = lab.prepared("unshare".as_ref());
    let script = "mount -t tmpfs -o size=64m,mode=0700 none \"$SHMRING_DIR\" || exit 99; exec \"$0\" demo";
    let done = Child::start(command.args(["-m", "sh", "-c", script]).arg(program(Shmring))).finish();
    match done.status.code() {
        Some(99) => skipped(test, done.stderr),
        _ => check(&lab, done.expect(0)),
    }
}

#[test]
fn its_reader_may_leave_at_any_line() {
    let lab = Lab::new();
    let mut demo = lab.start(Shmring, &["demo"]);
    drop(demo.stdout());
    demo.finish().expect(0);
    let left: Vec<_> = lab.listing().into_iter().filter(|p| p.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    let lab = Lab::new();
    let mut demo = lab.start(Shmring, &["demo"]);
    let mut line = String::new();
    let mut out = BufReader::new(demo.stdout());
    while !line.contains("A real file") {
        line.clear();
        out.read_line(&mut line).unwrap();
    }
    demo.signal(Signal::SIGTERM);
    let done = demo.finish().expect(1);
    assert!(done.stderr.contains("interrupted"), "{}", done.stderr);
    let left: Vec<_> = lab.listing().into_iter().filter(|p| p.is_file()).collect();
    assert!(left.is_empty(), "{left:?}");
}
