//! Nothing on a message's way needs the kernel: a process that may not call it
//! sends and receives. `strict` does the work: see its help.

use tests::{Child, Lab, skipped};

const NOT_PERMITTED: i32 = 77;

fn assert_works(role: &str) {
    let lab = Lab::new();
    let done = Child::start(lab.prepared(env!("CARGO_BIN_EXE_strict").as_ref()).arg(role)).finish();
    if done.code() == NOT_PERMITTED {
        return skipped(&format!("strict, {role}"), String::from_utf8_lossy(&done.stdout).trim());
    }
    done.expect(0);
}

#[test]
fn a_producer_sends_a_million_messages_without_a_system_call() {
    assert_works("producer");
}

#[test]
fn a_consumer_reads_and_commits_a_million_messages_without_a_system_call() {
    assert_works("consumer");
}

#[test]
fn a_system_call_there_would_be_seen() {
    assert_works("control");
}
