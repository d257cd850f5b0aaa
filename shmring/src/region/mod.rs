//! The seam between the ring's positions and real memory.
//!
//! The second of the two rooms with unsafe code: every access is bounded here,
//! whatever position or length the ring asks for.

mod copy;
mod heap;
mod in_place;
mod mapping;
mod sleep;

pub use heap::Heap;
pub(crate) use heap::fresh_lane;
pub use in_place::Trust;
pub use mapping::{Control, Mapping, SleepWord};
