//! The harness of the multi-process tests: a place of their own for rings,
//! programs that are never stale, children that never outlive their test, and
//! a deadline on every wait.

pub mod board;
mod child;
mod descriptor;
pub mod fuzz;
mod lab;
mod numbers;
mod place;
mod programs;
mod random;
mod seccomp;
mod smaps;
pub mod store_buffer;
mod trace;
mod victim;

use std::io::Write;

pub use child::{Child, DEADLINE, Done, until};
pub use descriptor::{hand_over, receive};
pub use lab::Lab;
pub use numbers::{expect_death, expect_end, expect_message, message, read_numbers, send_numbers};
pub use place::{CONSUMER_SLEEP, PRODUCER_SLEEP, on_tmpfs, until_asleep};
pub use programs::{Program, program};
pub use random::Random;
pub use seccomp::fail_call;
pub use smaps::{Mapped, mappings};
pub use trace::{Call, Fate, Traced, clock_ticks};
pub use victim::{Victim, victim};

/// Says that a test did not run, and why.
pub fn skipped(name: &str, why: impl std::fmt::Display) {
    // Not eprintln: what a passing test prints through it is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {why}");
}

/// True if the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
