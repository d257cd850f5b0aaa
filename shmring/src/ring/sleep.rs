//! The handshake between one sleeper and whoever wakes it, over one u32 word.
//!
//! ```text
//! waker                              sleeper
//! store what is waited for           store word: asleep
//! fence(SeqCst)       <- SLEEP ->    fence(SeqCst)
//! look at the word                   look for what is waited for
//! asleep? clear the bit, wake        not there? sleep while the word is the same
//! ```
//!
//! With both fences one of the two sees the other's store: there is no sleep
//! with the message there and no waker. Bit 0 of the word: asleep. Bit 1: the
//! sleeper relies on the wakers' fence (always so in this version). From bit
//! 2: a counter, so that a waker that was delayed cannot clear a later sleep.
//! Only the owner sets bit 0; anybody may clear it, so a dead sleeper costs
//! its peers one system call in all.
//!
//! The two fences are the handshake: it holds with every access to the word
//! relaxed (a model shows it), as long as `worth` is asked after the fence.

use std::time::Duration;

const ASLEEP: u32 = 1;
const FENCE: u32 = 2;
const ONE: u32 = 4;

/// A word that one process sleeps on. The mapped word implements it, and the
/// models do.
pub trait SleepCell {
    /// Loads the word, Acquire.
    fn load(&self) -> u32;
    /// Stores the word, Release.
    fn store(&self, value: u32);
    /// Replaces the word if it is `current`, AcqRel; else says what it is.
    fn replace(&self, current: u32, new: u32) -> Result<(), u32>;
    /// The fence SLEEP: SeqCst.
    fn fence(&self);
    /// Sleeps while the word is `expected`, `at_most` so long; may return early.
    fn wait(&self, expected: u32, at_most: Duration);
    /// Ends the sleep of the one that sleeps.
    fn wake(&self);
}

/// Wakes the sleeper, if it sleeps and `worth` is true. To be called after the
/// store that it waits for.
#[inline]
pub fn wake<C: SleepCell>(cell: &C, worth: impl Fn() -> bool) {
    cell.fence(); // SLEEP
    let word = cell.load();
    if word & ASLEEP != 0 && worth() {
        wake_sleeper(cell, word);
    }
}

#[cold]
fn wake_sleeper<C: SleepCell>(cell: &C, mut word: u32) {
    // A hostile peer may change the word for ever.
    for _ in 0..3 {
        if word & ASLEEP == 0 {
            return;
        }
        match cell.replace(word, word & !ASLEEP) {
            Ok(()) => return cell.wake(),
            Err(seen) => word = seen,
        }
    }
}

/// Sleeps until woken, a signal, or `at_most`; not at all if `look` is true.
pub fn sleep<C: SleepCell>(cell: &C, at_most: Duration, look: impl Fn() -> bool) {
    let announced = cell.load().wrapping_add(ONE) | ASLEEP | FENCE;
    cell.store(announced);
    cell.fence(); // SLEEP
    if !look() {
        cell.wait(announced, at_most);
    }
    cell.store(announced & !ASLEEP);
}

/// Clears what a dead sleeper left. Called by the word's new owner.
pub(crate) fn reset<C: SleepCell>(cell: &C) {
    cell.store((cell.load() & !ASLEEP) | FENCE);
}
