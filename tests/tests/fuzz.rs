//! Any bytes, anywhere: the fuzz targets with inputs of their own making.
//!
//! Some thousand inputs each, or as many as fit into `SHMRING_TEST_SECONDS`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use tests::fuzz::{Counting, Outcome, TARGETS, Target, peak};
use tests::{DEADLINE, Random};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Calls a target; says which bytes it was if it fails or does not come back.
fn call(target: Target, bytes: &[u8]) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            println!("the input: {}", hex(bytes));
            resume_unwind(panic)
        }
    }
}

/// Bytes, most of them of no kind, some alike.
fn input(random: &mut Random) -> Vec<u8> {
    let len = random.among(0..1200);
    let few = random.word().is_multiple_of(4);
    (0..len).map(|_| if few { random.among(0..4) as u8 * 85 } else { random.word() as u8 }).collect()
}

/// Calls the target of that name with `count` inputs, or for as long as was asked for.
fn calls(name: &str, count: u64) -> Outcome {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target").1;
    let mut random = Random::new(name);
    let seconds = env::var("SHMRING_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let (begun, mut done, mut outcome) = (Instant::now(), 0, Outcome::default());
    // Whoever does not come back cannot say so.
    let (sender, inputs) = channel::<Vec<u8>>();
    let watch = thread::spawn(move || {
        let mut last = Vec::new();
        loop {
            match inputs.recv_timeout(DEADLINE) {
                Ok(bytes) => last = bytes,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("it does not come back from {}", hex(&last));
                    process::abort();
                }
            }
        }
    });
    while seconds.map_or(done < count, |s| begun.elapsed() < Duration::from_secs(s)) {
        let bytes = input(&mut random);
        sender.send(bytes.clone()).expect("somebody watches");
        outcome += call(target, &bytes);
        done += 1;
    }
    drop(sender);
    watch.join().expect("it only waits");
    println!("{name}: {done} inputs, {outcome:?}");
    outcome
}

#[test]
fn any_region() {
    let outcome = calls("region", 3000);
    assert!(outcome.arrived > 1000 && outcome.told > 100 && outcome.damaged > 100 && outcome.refused > 100);
}

#[test]
fn a_region_that_changes_at_any_moment() {
    let outcome = calls("storm", 1000);
    assert!(outcome.arrived > 1000 && outcome.told > 100 && outcome.damaged > 100 && outcome.refused > 100);
}

#[test]
fn any_payload_header_and_text() {
    let outcome = calls("codec", 30_000);
    assert!(outcome.arrived > 1000 && outcome.damaged > 1000 && outcome.refused > 1000);
}

#[test]
fn any_stream() {
    let outcome = calls("framing", 3000);
    assert!(outcome.arrived > 1000 && outcome.told > 100 && outcome.damaged > 10 && outcome.refused > 100);
}

/// The end of no bytes, and of few.
#[test]
fn short_inputs() {
    for (_, target) in TARGETS {
        for len in 0..40 {
            for byte in [0, 1, 0x80, 0xFF] {
                call(target, &vec![byte; len]);
            }
        }
    }
}

#[test]
fn an_allocation_would_be_counted() {
    let (most, bytes) = peak(|| vec![7u8; 5_000_000]);
    assert!(most >= bytes.len());
    let (most, _) = peak(|| drop(vec![7u8; 100]));
    assert!((100..1000).contains(&most));
}
