//! A region without a name, handed to another process as a descriptor.
#![allow(unsafe_code)] // pre_exec

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use shmring::{AttachError, Region, RegionOptions};
use tests::{Child, Lab, expect_death, expect_end, hand_over, is_root, read_numbers, send_numbers};

const MESSAGES: u64 = 10_000;

/// Starts a process that knows of the region only what comes over a socket.
fn stranger(descriptor: BorrowedFd<'_>, arguments: &[&str]) -> Child {
    let lab = Lab::new();
    let socket = lab.path("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_peer").as_ref());
    command.arg("attach").args(arguments).arg("--socket").arg(&socket).stdin(Stdio::piped());
    let child = Child::start(&mut command);
    hand_over(&listener, descriptor).unwrap();
    child
}

fn count() -> String {
    MESSAGES.to_string()
}

#[test]
fn a_stranger_sends_and_another_reads() {
    let region = Region::create_anonymous().unwrap();
    let sender = stranger(region.as_fd(), &["produce", &count()]);
    let mut consumer = region.consumer().unwrap();
    read_numbers(&mut consumer, 0..MESSAGES).unwrap();
    expect_end(&mut consumer).unwrap();
    sender.finish().expect(0);

    let region = Region::create_anonymous().unwrap();
    let receiver = stranger(region.as_fd(), &["consume", &count()]);
    let mut producer = region.producer().unwrap();
    send_numbers(&mut producer, 0..MESSAGES).unwrap();
    producer.close();
    receiver.finish().expect(0);

    // Between two strangers, with nobody else there.
    let region = Region::create_anonymous().unwrap();
    let both = [["produce", &count()], ["consume", &count()]].map(|a| stranger(region.as_fd(), &a));
    drop(region);
    both.into_iter().for_each(|child| drop(child.finish().expect(0)));
}

#[test]
fn roles_are_exclusive_and_a_killed_stranger_is_told() {
    let region = RegionOptions::new().max_producers(1).create_anonymous().unwrap();
    let mut sender = stranger(region.as_fd(), &["produce", "10", "--stay"]).wait_for("done");
    match region.producer() {
        Err(AttachError::Busy { owner: Some(owner), .. }) => {
            assert_eq!(owner.pid, sender.pid().as_raw() as u64);
        }
        unexpected => panic!("{unexpected:?}"),
    }
    let mut consumer = region.consumer().unwrap();
    let second = stranger(region.as_fd(), &["consume"]).finish().expect(1);
    assert!(second.stderr.contains("has a consumer already"), "{}", second.stderr);

    read_numbers(&mut consumer, 0..5).unwrap();
    let pid = sender.pid();
    sender.kill();
    read_numbers(&mut consumer, 5..10).unwrap();
    expect_death(&mut consumer, pid.as_raw()).unwrap();
    expect_end(&mut consumer).unwrap();
    send_numbers(&mut region.producer().unwrap(), 10..20).unwrap();
    read_numbers(&mut consumer, 10..20).unwrap();
    expect_end(&mut consumer).unwrap();
}

#[test]
fn a_killed_consumer_leaves_its_role_and_its_place() {
    let region = Region::create_anonymous().unwrap();
    let reader = stranger(region.as_fd(), &["consume", "10", "--stay"]);
    let mut producer = region.producer().unwrap();
    send_numbers(&mut producer, 0..20).unwrap();
    let mut reader = reader.wait_for("done");
    assert!(matches!(region.consumer(), Err(AttachError::Busy { .. })));
    reader.kill();
    read_numbers(&mut region.consumer().unwrap(), 10..20).unwrap();
}

#[test]
fn another_user_attaches() {
    if !is_root() {
        return tests::skipped("another_user_attaches", "only root can become another user");
    }
    let region = Region::create_anonymous().unwrap();
    let done = stranger(region.as_fd(), &["produce", "100", "--uid", "65534"]).finish();
    if done.status.code() == Some(77) {
        let why = String::from_utf8_lossy(&done.stdout);
        return tests::skipped("another_user_attaches", why.trim());
    }
    done.expect(0);
    let mut consumer = region.consumer().unwrap();
    read_numbers(&mut consumer, 0..100).unwrap();
    expect_end(&mut consumer).unwrap();

    // Not if the mode says otherwise.
    let region = RegionOptions::new().mode(0o600).create_anonymous().unwrap();
    let refused = stranger(region.as_fd(), &["produce", "100", "--uid", "65534"]).finish();
    assert!(refused.stderr.contains("no permission to attach"), "{refused:?}");
}

#[test]
fn an_executed_child_inherits_the_descriptor() {
    let lab = Lab::new();
    let region = Region::create_anonymous().unwrap();
    let descriptor: OwnedFd = region.as_fd().try_clone_to_owned().unwrap();
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_peer").as_ref());
    let number = descriptor.as_raw_fd();
    command.args(["attach", "produce", &count(), "--fd", &number.to_string()]);
    let keep = move || {
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: one async-signal-safe system call between fork and exec.
    unsafe { command.pre_exec(keep) };
    // Roles from before must not matter to it.
    let mut consumer = region.consumer().unwrap();
    let child = Child::start(&mut command);
    read_numbers(&mut consumer, 0..MESSAGES).unwrap();
    expect_end(&mut consumer).unwrap();
    child.finish().expect(0);
}

#[test]
fn a_receiver_cannot_change_the_length() {
    let region = Region::create_anonymous().unwrap();
    stranger(region.as_fd(), &["cut"]).finish().expect(0);
}

#[test]
fn a_receiver_refuses_memory_that_could_be_cut() {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut unsealed = std::fs::File::from(memfd_create("theirs", flags).unwrap());
    let region = Region::create_anonymous().unwrap();
    let mut whole = std::fs::File::from(region.as_fd().try_clone_to_owned().unwrap());
    std::io::copy(&mut whole, &mut unsealed).unwrap();
    unsealed.flush().unwrap();
    let done = stranger(unsealed.as_fd(), &["consume"]).finish().expect(1);
    assert!(done.stderr.contains("not sealed"), "{}", done.stderr);
}
