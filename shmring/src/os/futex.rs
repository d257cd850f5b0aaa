//! Sleeping on a word that several processes share.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex;

/// Sleeps until woken, or the word is not `expected`, or `at_most` is over, or
/// a signal comes. Which of these it was the caller finds out by looking.
pub(crate) fn wait(word: &AtomicU32, expected: u32, at_most: Duration) {
    // The period is far below the range of a Timespec.
    let at_most =
        futex::Timespec { tv_sec: at_most.as_secs() as i64, tv_nsec: at_most.subsec_nanos() as i64 };
    // Not FUTEX_PRIVATE: the other side is another process.
    let _ = futex::wait(word, futex::Flags::empty(), expected, Some(&at_most));
}

/// Wakes the one sleeper of this word.
pub(crate) fn wake(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), NonZeroU32::MIN.get());
}
