//! What the machine gives: each as bare as it can be, without liveness, waiting
//! or a check of what the other side wrote.

mod cache_line;
mod cas_ring;
mod futex_wake;
mod memcpy;
mod record_ring;
mod shared;
mod u64_ring;

use anyhow::{Result, ensure};
use bench_kit::Plan;

pub(crate) use cache_line::CacheLine;
pub(crate) use cas_ring::CasRing;
pub(crate) use futex_wake::FutexWake;
pub(crate) use memcpy::Memcpy;
pub(crate) use record_ring::RecordRing;
pub(crate) use u64_ring::U64Ring;

/// Refuses a plan with several senders.
fn one_sender(plan: &Plan) -> Result<()> {
    ensure!(plan.settings.senders == 1, "it has one sender, not {}", plan.settings.senders);
    Ok(())
}

/// Refuses a ring that is no power of two, or that a record does not fit in.
fn fits(plan: &Plan, record: u64) -> Result<()> {
    let capacity = plan.settings.capacity;
    ensure!(capacity.is_power_of_two(), "a capacity of {capacity} bytes is no power of two");
    ensure!(record <= capacity, "{} bytes do not fit in a ring of {capacity}", plan.size);
    Ok(())
}
