//! The handshake between one sleeper and whoever wakes it, over one u32 word.
//!
//! ```text
//! waker                              sleeper
//! store what is waited for           store word: asleep
//! fence               <- SLEEP ->    fence, and a barrier
//! look at the word                   look for what is waited for
//! asleep? clear the bit, wake        not there? sleep while the word is the same
//! ```
//!
//! With both fences one of the two sees the other's store: there is no sleep
//! with the message there and no waker. A full fence at every publish costs
//! the waker a good part of its speed, so the sleeper pays for both: its
//! barrier is a full fence in every process that registered for it, and there
//! the waker's own need only keep the program's order. A process that has not
//! registered, or not yet, fences itself. A sleeper whose system has no
//! barrier says so in the word, and registered wakers fence for it: there is
//! no mode that two processes would have to agree on.
//!
//! Bit 0 of the word: asleep. Bit 1, FENCE: the sleeper has no barrier. From
//! bit 2: a counter, so that a waker that was delayed cannot clear a later
//! sleep. Only the owner sets bits 0 and 1; anybody may clear bit 0, so a dead
//! sleeper costs its peers one system call in all.
//!
//! A sleep that timed out leaves the word asleep. As long as nobody clears the
//! bit, every waker still finds it: the sleeper may look again and sleep on as
//! often as it likes.
//!
//! The fences are the handshake: every access to the word is relaxed, and so
//! may be what `worth` loads, which is asked after the fence.

use std::time::Duration;

const ASLEEP: u32 = 1;
const FENCE: u32 = 2;
const ONE: u32 = 4;

/// A word that one process sleeps on. The mapped word implements it, and the
/// models do.
pub trait SleepCell {
    /// Loads the word, Relaxed.
    fn load(&self) -> u32;
    /// Stores the word, Relaxed.
    fn store(&self, value: u32);
    /// Replaces the word if it is `current`, Relaxed; else says what it is.
    fn replace(&self, current: u32, new: u32) -> Result<(), u32>;
    /// The fence SLEEP: SeqCst.
    fn fence(&self);
    /// The waker's fence SLEEP where a sleeper's [`barrier`](Self::barrier)
    /// reaches: keeps the program's order, no more. False, and nothing done,
    /// where it does not reach.
    fn light_fence(&self) -> bool;
    /// A full fence wherever [`light_fence`](Self::light_fence) is true; false
    /// if the system has none.
    fn barrier(&self) -> bool;
    /// Sleeps while the word is `expected`, `at_most` so long; may return early.
    fn wait(&self, expected: u32, at_most: Duration);
    /// Ends the sleep of the one that sleeps.
    fn wake(&self);
}

/// Wakes the sleeper, if it sleeps and `worth` is true. To be called after the
/// store that it waits for.
#[inline]
pub fn wake<C: SleepCell>(cell: &C, worth: impl Fn() -> bool) {
    let light = cell.light_fence(); // SLEEP
    if !light {
        cell.fence(); // SLEEP
    }
    let mut word = cell.load();
    if light && word & FENCE != 0 {
        cell.fence(); // SLEEP
        word = cell.load();
    }
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

/// What a sleeper has announced and not taken back: its word, if nobody has
/// changed it since.
#[derive(Debug, Default)]
pub struct Announced(Option<u32>);

/// Sleeps until woken, a signal, or `at_most`; not at all if `look` is true.
/// Whoever sleeps again after that, because what it waits for is not there,
/// sleeps on: while the word is as it was announced, nobody has seen it, so
/// everybody will, and neither fence nor barrier is due. [`rise`] ends it.
pub fn sleep<C: SleepCell>(cell: &C, announced: &mut Announced, at_most: Duration, look: impl Fn() -> bool) {
    let word = match announced.0 {
        Some(word) if cell.load() == word => word,
        _ => *announced.0.insert(announce(cell)),
    };
    if !look() {
        cell.wait(word, at_most);
    }
}

fn announce<C: SleepCell>(cell: &C) -> u32 {
    let mut word = cell.load().wrapping_add(ONE) | ASLEEP;
    cell.store(word);
    cell.fence(); // SLEEP
    if word & FENCE == 0 && !cell.barrier() {
        word |= FENCE;
        cell.store(word);
        cell.fence(); // SLEEP
    }
    word
}

/// Takes back what is announced, if anything is. Until then whoever supplies
/// what is waited for makes a system call for it. Also to be called when what
/// `worth` goes by is stored anew: the next sleep is announced after that.
pub fn rise<C: SleepCell>(cell: &C, announced: &mut Announced) {
    if let Some(word) = announced.0.take() {
        cell.store(word & !ASLEEP);
    }
}

/// Clears what the word's last owner left, and says whether the new one has a
/// barrier. Called by the new owner, before its first sleep. A registered
/// waker that looked at the word just before it said FENCE may miss the next
/// sleep, which its time-out ends; so too if a barrier fails later.
pub fn reset<C: SleepCell>(cell: &C, has_barrier: bool) {
    let fence = if has_barrier { 0 } else { FENCE };
    cell.store(cell.load() & !(ASLEEP | FENCE) | fence);
}
