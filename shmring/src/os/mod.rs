//! What Linux gives: files that appear whole, memory without a name, mappings
//! and what is asked of them, locks, what a fork must not copy, a place to
//! sleep, and who a process is. Knows nothing of rings.
//!
//! The first of the two rooms with unsafe code; every block says why it holds.

pub(crate) mod advice;
pub(crate) mod file;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod guard;
pub(crate) mod huge;
pub(crate) mod identity;
pub(crate) mod lack;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod memfd;
pub(crate) mod mirror;

#[cfg(not(target_os = "linux"))]
compile_error!("shmring needs Linux: open file description locks, futex, O_TMPFILE");
