//! What the machine gives: each as bare as it can be, without liveness, waiting
//! or a check of what the other side wrote.

mod cache_line;
mod memcpy;
mod record_ring;
mod shared;

pub(crate) use cache_line::CacheLine;
pub(crate) use memcpy::Memcpy;
pub(crate) use record_ring::RecordRing;
