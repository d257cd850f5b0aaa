//! Waiting: spin, yield, sleep until woken, in one loop for both sides. The
//! blocking forms of [`Producer`](crate::Producer) and
//! [`Consumer`](crate::Consumer) live here, over their try forms.

mod consumer;
mod producer;

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;

use crate::endpoint::{Wait, Waiting};

/// No sleep is longer: then the file is looked at again, and by a consumer the
/// producers.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);
/// How many looks, each after a longer spin, before a sleep: about fifty
/// microseconds, as long as a wake-up takes. With less, two sides that answer
/// each other fall into lockstep: each goes to sleep while the other is woken.
/// Measured at 8 B round trips on two cores: 8 looks (ten microseconds) 0.5 us
/// at the median and 60 to 75 us at the 99th percentile, 24 looks 0.5 and 1.5.
/// A yield follows, and counts when cores are scarce.
const SPINS: u32 = 24;
/// How many times a spinner looks before it reads the clock.
const LOOKS_A_CLOCK: u32 = 1024;

/// One side of the ring that cannot go on.
trait Blocked {
    type Error;
    /// True if it can go on now. Not asked again after that: what it found may
    /// be told only once.
    fn ready(&mut self) -> Result<bool, Self::Error>;
    /// Sleeps until that may have changed, `at_most` so long.
    fn doze(&mut self, at_most: Duration);
    /// Looks whether it can ever go on.
    fn recheck(&mut self) -> Result<(), Self::Error>;
}

/// Why the waiting is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Ready,
    TimedOut,
    Interrupted,
}

/// Waits. `waiting` carries the time of the next re-check from call to call,
/// so that many short waits re-check as often as a long one.
fn wait<B: Blocked>(
    blocked: &mut B,
    waiting: &mut Waiting,
    deadline: Option<Instant>,
) -> Result<Over, B::Error> {
    let backoff = Backoff::new();
    let mut spins = 0;
    loop {
        if blocked.ready()? {
            return Ok(Over::Ready);
        }
        if waiting.interrupted() {
            return Ok(Over::Interrupted);
        }
        match waiting.strategy {
            Wait::Adaptive if spins <= SPINS => {
                if spins < SPINS {
                    backoff.spin()
                } else {
                    thread::yield_now()
                }
                spins += 1;
                continue;
            }
            Wait::Spin => {
                for _ in 0..LOOKS_A_CLOCK {
                    std::hint::spin_loop();
                    if blocked.ready()? {
                        return Ok(Over::Ready);
                    }
                }
            }
            Wait::Adaptive | Wait::Park => {
                let left = deadline.map_or(PERIOD, |d| d.saturating_duration_since(Instant::now()));
                if !left.is_zero() {
                    blocked.doze(left.min(PERIOD));
                }
            }
        }
        let now = Instant::now();
        if waiting.next_check.is_none_or(|at| now >= at) {
            if blocked.ready()? {
                return Ok(Over::Ready);
            }
            waiting.next_check = Some(now + PERIOD);
            blocked.recheck()?;
        }
        if deadline.is_some_and(|d| now >= d) {
            return Ok(if blocked.ready()? { Over::Ready } else { Over::TimedOut });
        }
    }
}
