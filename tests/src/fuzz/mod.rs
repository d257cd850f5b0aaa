//! Hostile bytes, of the whole product: plain functions of some bytes, which
//! become a region and what happens to it, a payload and its codec, or a stream
//! and its framing. Whatever the bytes: Ok, Empty, Full or a typed error, within
//! bounds, and no more memory than [`MEMORY`]. They panic where that is not so.
//!
//! `tests/tests/fuzz.rs` calls them with bytes of its own, the targets in `fuzz/`
//! with those of cargo-fuzz.

mod codec;
mod framing;
mod image;
mod memory;
mod region;
mod storm;

pub use codec::codec;
pub use framing::framing;
pub use memory::{Counting, peak};
pub use region::region;
pub use storm::storm;

/// What a target may have allocated at a time, in bytes. The rings have 64 KiB
/// each, and a buffer may be twice as long as what has to go in.
pub const MEMORY: usize = 1 << 20;

/// What came of an input: how often each. A test holds that inputs get as far
/// as that.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Messages, values or frames that arrived.
    pub arrived: u64,
    /// Gaps, deaths and ends that were told.
    pub told: u64,
    /// Typed errors that name damage, or bytes that are none of ours.
    pub damaged: u64,
    /// Other typed errors.
    pub refused: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Outcome) {
        self.arrived += other.arrived;
        self.told += other.told;
        self.damaged += other.damaged;
        self.refused += other.refused;
    }
}

/// What is called with any bytes.
pub type Target = fn(&[u8]) -> Outcome;

/// All targets, by their names.
pub const TARGETS: [(&str, Target); 4] =
    [("region", region), ("storm", storm), ("codec", codec), ("framing", framing)];
