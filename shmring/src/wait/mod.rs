//! Waiting: spin, yield, sleep until woken, in one loop for both sides. The
//! blocking forms of [`Producer`](crate::Producer) and
//! [`Consumer`](crate::Consumer) live here, over their try forms.

mod consumer;
mod in_place;
mod pace;
mod producer;

use std::thread;
use std::time::{Duration, Instant};

use crate::endpoint::{Wait, Waiting};

/// No sleep is longer: then the file is looked at again, and by a consumer the
/// producers.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);
/// How long to look out before a sleep: as long as a wake-up takes. With less,
/// two sides that answer each other fall into lockstep: each goes to sleep while
/// the other is woken. Measured at 8 B round trips on two cores: ten microseconds
/// 0.5 us at the median and 60 to 75 us at the 99th percentile, fifty 0.5 and 1.5.
const LOOK_OUT: Duration = Duration::from_micros(50);
/// Glances from one full look to the next, with a pause after each: some
/// microseconds.
const GLANCES: u32 = 64;
/// After so many sleeps in a row it hardly looks out any more: cores are scarce,
/// or the other side is slow. It yields before the sleep, which is all that it
/// takes where both sides share a core.
const IN_VAIN: u32 = 2;
/// Every so often it looks out all the same: two sides that wake each other each
/// time would else do so for ever.
const NOT_IN_VAIN: u32 = 8;

/// One side of the ring that cannot go on.
trait Blocked {
    type Error;
    /// True if it can go on now. Not asked again after that: what it found may
    /// be told only once.
    fn ready(&mut self) -> Result<bool, Self::Error>;
    /// True if it may be ready: a look at no more than the words that most often
    /// say so.
    fn glance(&mut self) -> bool;
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

/// The time before a sleep, in which what is waited for is seen at once.
#[derive(Debug, Default)]
struct Lookout {
    since: Option<Instant>,
    has_yielded: bool,
}

impl Lookout {
    /// Glances for a while, or yields in the end. False when that is done too.
    /// `in_vain` is how many sleeps came in a row.
    fn stand(&mut self, blocked: &mut impl Blocked, in_vain: u32) -> bool {
        let is_brief = in_vain >= IN_VAIN && !in_vain.is_multiple_of(NOT_IN_VAIN);
        match self.since {
            // The first glances come before the first look at the clock.
            None => {
                glance(blocked);
                self.since = Some(Instant::now());
            }
            Some(since) if !is_brief && since.elapsed() < LOOK_OUT => glance(blocked),
            Some(_) if !self.has_yielded => {
                self.has_yielded = true;
                thread::yield_now();
            }
            Some(_) => return false,
        }
        true
    }
}

fn glance(blocked: &mut impl Blocked) {
    for _ in 0..GLANCES {
        if blocked.glance() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// Waits. `waiting` carries the time of the next re-check from call to call,
/// so that many short waits re-check as often as a long one.
fn wait<B: Blocked>(
    blocked: &mut B,
    waiting: &mut Waiting,
    deadline: Option<Instant>,
) -> Result<Over, B::Error> {
    let mut lookout = Lookout::default();
    loop {
        if blocked.ready()? {
            if !lookout.has_yielded {
                waiting.in_vain = 0;
            }
            return Ok(Over::Ready);
        }
        if waiting.interrupted() {
            return Ok(Over::Interrupted);
        }
        match waiting.strategy {
            Wait::Adaptive if lookout.stand(blocked, waiting.in_vain) => continue,
            Wait::Spin => glance(blocked),
            Wait::Adaptive | Wait::Park => {
                let left = deadline.map_or(PERIOD, |d| d.saturating_duration_since(Instant::now()));
                if !left.is_zero() {
                    waiting.in_vain = waiting.in_vain.wrapping_add(1);
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
