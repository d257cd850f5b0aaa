//! Handles and locks after a fork. `peer` forks: the test runner has threads.

use std::io::Read;
use std::process::Stdio;

use shmring::RegionOptions;
use tests::{Child, Lab, expect_death, expect_end, read_numbers, send_numbers};

fn peer(arguments: &[&str]) {
    let lab = Lab::new();
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_peer").as_ref());
    let done = Child::start(command.arg("fork").args(arguments)).finish();
    if done.status.code() == Some(77) {
        return tests::skipped(&arguments.join(" "), String::from_utf8_lossy(&done.stdout).trim());
    }
    done.expect(0);
}

#[test]
fn a_child_and_its_parent_exchange_messages() {
    peer(&["exchange"]);
}

#[test]
fn an_inherited_handle_is_refused_and_changes_nothing() {
    peer(&["inherited"]);
}

#[test]
fn what_was_begun_before_the_fork_is_the_parents() {
    peer(&["begun"]);
}

#[test]
fn who_dies_with_a_loan_leaves_what_it_had_committed() {
    peer(&["lent"]);
}

#[test]
fn a_child_attaches_anew_and_so_does_its_child() {
    peer(&["anew"]);
}

#[test]
fn a_process_attaches_under_its_name_of_the_moment() {
    peer(&["renamed"]);
}

#[test]
fn a_kernel_that_does_not_wipe_pages_makes_no_difference() {
    for scenario in ["exchange", "inherited", "begun", "anew"] {
        peer(&[scenario, "--old-kernel"]);
    }
}

#[test]
fn a_raw_clone_cannot_use_its_parents_handles() {
    peer(&["raw-clone"]);
}

#[test]
fn no_fork_takes_a_role_along_whatever_other_threads_do() {
    peer(&["threads"]);
}

/// A process that holds both roles is killed and leaves a child, which ends
/// with its stdin.
fn leave_a_child(scenario: &str, last_words: &str) {
    let lab = Lab::new();
    let path = lab.path("ring");
    let region = RegionOptions::new().max_producers(1).create(&path).unwrap();
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_peer").as_ref());
    command.args(["fork", scenario]).arg(&path).stdin(Stdio::piped());
    let mut parent = Child::start(&mut command).wait_for("ready");
    let (stdin, mut stdout) = (parent.stdin(), parent.stdout());
    let pid = parent.pid();
    parent.kill();

    let mut consumer = region.consumer().unwrap();
    read_numbers(&mut consumer, 0..3).unwrap();
    expect_death(&mut consumer, pid.as_raw()).unwrap();
    expect_end(&mut consumer).unwrap();
    let mut producer = region.producer().unwrap();
    send_numbers(&mut producer, 3..10).unwrap();
    producer.close();
    read_numbers(&mut consumer, 3..10).unwrap();
    expect_end(&mut consumer).unwrap();

    // All the while it was there, and slept.
    drop(stdin);
    let mut words = String::new();
    stdout.read_to_string(&mut words).unwrap();
    assert!(words.ends_with(last_words), "{words}");
}

#[test]
fn a_sleeping_child_does_not_keep_the_role_of_a_killed_parent() {
    leave_a_child("sleeper", "woke\n");
}

#[test]
fn nor_does_one_that_may_open_no_descriptor() {
    leave_a_child("limited", "woke\n");
}

#[test]
fn nor_does_one_that_executed_another_program() {
    leave_a_child("executed", "");
}
