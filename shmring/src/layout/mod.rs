//! Where each word of a region is, and what its first page says.
//!
//! Layout only: nothing here touches shared memory. FORMAT.md is the same in
//! prose and is held against these constants by a test.
//!
//! ```text
//! 0x0000  header        written once at create, then only read
//! 0x1000  control       region-wide: the consumer's sleep word and commit, attaches, tickets
//! 0x2000  lanes         one control block of 2 KiB a lane
//!   ...   owners        who holds which role, for people
//!   ...   activity      one byte a lane, a hint for the consumer's scan
//!   ...   extents       where each lane's data lies in the file
//! 64 KiB  data          the lanes' rings, a multiple of 64 KiB each; on huge pages 2 MiB, both
//! ```

pub mod blocks;
pub mod field;
pub mod geometry;
pub mod header;
pub mod record;

pub use blocks::{Cause, Part, Place, Slot, Word};
pub use field::Field;
pub use geometry::{Geometry, GeometryError};
pub use header::{CodecId, Header, Order, Refusal};

#[cfg(not(all(target_endian = "little", target_has_atomic = "64")))]
compile_error!("a region is little-endian and needs 64-bit atomics");
