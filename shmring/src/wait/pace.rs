//! A consumer that is faster than its producer meets each record while it is
//! written: every look takes the line away from the producer, who then waits for
//! it at its next store. One message at a time goes to and fro like a ball, at a
//! tenth of the speed of both.
//!
//! So a consumer that found the ring empty keeps off for a moment, in which some
//! messages gather. Whether that pays it finds out: it tries at times, and keeps
//! off for longer as long as enough is there afterwards. Where two sides answer
//! each other there never is more than one message, so there it does not.

use std::hint::spin_loop;

use crate::endpoint::Pace;

/// What it tries, in pauses; a pause is 10 to 50 nanoseconds.
const FEWEST: u32 = 4;
/// The longest that it keeps off.
const MOST: u32 = 64;
/// It pays if there was a message for so many pauses, and one more.
const PAUSES_A_MESSAGE: u32 = 8;
/// When it did not pay, it is tried again after finding the ring empty so often.
const REST: u32 = 255;

impl Pace {
    /// Keeps off, as long as that has turned out to be good. Called when the
    /// ring is found empty.
    #[inline(always)]
    pub(super) fn keep_off(&mut self) {
        self.learn();
        (0..self.pauses).for_each(|_| spin_loop());
    }

    /// Decides how long it keeps off now, by what came since the last time.
    #[inline(always)]
    fn learn(&mut self) {
        let paid = self.messages > 1 + (self.pauses / PAUSES_A_MESSAGE) as u64;
        self.messages = 0;
        if self.pauses == 0 {
            if self.rest > 0 {
                self.rest -= 1;
            } else {
                self.pauses = FEWEST;
            }
        } else if paid {
            self.pauses = (self.pauses * 2).min(MOST);
        } else if self.pauses > FEWEST {
            self.pauses /= 2;
        } else {
            (self.pauses, self.rest) = (0, REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it keeps off each time, if that finds so many messages.
    fn pauses(times: usize, messages: impl Fn(u32) -> u64) -> Vec<u32> {
        let mut pace = Pace::default();
        (0..times)
            .map(|_| {
                pace.messages = messages(pace.pauses);
                pace.learn();
                pace.pauses
            })
            .collect()
    }

    #[test]
    fn answers_are_not_kept_waiting() {
        let found = pauses(10_000, |_| 1);
        let kept_off = found.iter().filter(|&&pauses| pauses > 0).count();
        assert!((1..=10_000 / REST as usize + 1).contains(&kept_off), "{kept_off}");
        assert_eq!(found.iter().max(), Some(&FEWEST));
    }

    #[test]
    fn it_keeps_off_as_long_as_messages_gather() {
        // One in each pause.
        assert_eq!(pauses(1000, |pauses| 1 + pauses as u64).last(), Some(&MOST));
        // The producer is slow: now and then it is tried, and no longer.
        let slow = pauses(10_000, |pauses| 1 + pauses as u64 / 16);
        assert!(slow.iter().filter(|&&pauses| pauses > 0).count() < 100, "{slow:?}");
        // It stops: half as long each time, then not at all.
        let mut pace = Pace { pauses: MOST, ..Pace::default() };
        let left: Vec<u32> = (0..6).map(|_| (pace.learn(), pace.pauses).1).collect();
        assert_eq!(left, [32, 16, 8, 4, 0, 0]);
    }
}
