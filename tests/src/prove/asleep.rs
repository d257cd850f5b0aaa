//! The one who sleeps: its system calls are counted, and what it is told is
//! written down.

use std::sync::atomic::Ordering;

use anyhow::{Result, bail, ensure};
use nix::libc;
use shmring::{Consumer, Producer, Read, Region, Wait};

use super::scenario::payload;
use super::trace::{Progress, start};
use super::tracee::Tracee;

/// Payload bytes of what fills the ring.
pub(crate) const FILL: usize = 1000;

/// A message: everybody knows them all.
pub(crate) fn message(lane: u32, sequence: u64, len: usize) -> Vec<u8> {
    payload(sequence, sequence ^ (lane as u64) << 60, len)
}

/// What the sleeper writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// A message of this lane, as it should be.
    Message(u32),
    Died,
    End,
    /// It has sent one.
    Sent,
    /// A message that is another.
    Wrong,
}

impl Told {
    const LANE: u64 = 1 << 8;

    fn encode(self) -> u64 {
        match self {
            Told::Message(lane) => 1 + Told::LANE * lane as u64,
            Told::Died => 2,
            Told::End => 3,
            Told::Sent => 4,
            Told::Wrong => 5,
        }
    }

    fn decode(word: u64) -> Told {
        match word % Told::LANE {
            1 => Told::Message((word / Told::LANE) as u32),
            2 => Told::Died,
            3 => Told::End,
            4 => Told::Sent,
            _ => Told::Wrong,
        }
    }
}

/// The process that sleeps. It stops at every system call.
pub(crate) struct Sleeper {
    pub(crate) child: Tracee,
    progress: Progress,
    /// It is in a system call, perhaps asleep.
    is_inside: bool,
    /// It was let go, and its next stop was not waited for.
    is_gone: bool,
    sleeps: u64,
    /// How many locks it has asked for.
    pub(crate) asks: u64,
}

impl Sleeper {
    /// Starts a producer that fills the ring, or a consumer.
    pub(crate) fn start(region: &Region, sends: bool) -> Result<Sleeper> {
        let progress = Progress::new()?;
        let child = if sends {
            let attach = || Ok(region.producer()?);
            start(&progress, attach, |producer| keep_sending(producer, &progress), |()| Ok(()))?
        } else {
            let attach = || Ok(region.consumer()?);
            start(&progress, attach, |consumer| keep_reading(consumer, &progress), |()| Ok(()))?
        };
        Ok(Sleeper { child, progress, is_inside: false, is_gone: false, sleeps: 0, asks: 0 })
    }

    /// What was written down so far.
    pub(crate) fn log(&self) -> Vec<(Told, u64)> {
        let word = |number| self.progress.note(number).load(Ordering::Acquire);
        let entry = |i: usize| (Told::decode(word(1 + 2 * i)), word(2 + 2 * i));
        (0..word(0) as usize).map(entry).collect()
    }

    /// Counts its sleeps and its questions from now on.
    pub(crate) fn count_anew(&mut self) {
        (self.sleeps, self.asks) = (0, 0);
    }

    /// To its next stop; false if it hangs.
    fn advance(&mut self) -> Result<bool> {
        if !self.is_gone {
            self.child.go()?;
            self.is_gone = true;
        }
        if !self.child.stops(&self.progress)? {
            return Ok(false);
        }
        self.is_gone = false;
        self.is_inside = !self.is_inside;
        if self.is_inside {
            self.sleeps += self.is_at_sleep()? as u64;
            let call = self.child.call()?;
            let asks = call.arguments[1] == libc::F_OFD_GETLK as u64;
            self.asks += (call.number == libc::SYS_fcntl && asks) as u64;
        }
        Ok(true)
    }

    fn is_at_sleep(&self) -> Result<bool> {
        let call = self.child.call()?;
        let command = call.arguments[1] as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        let waits = command == libc::FUTEX_WAIT || command == libc::FUTEX_WAIT_BITSET;
        Ok(call.number == libc::SYS_futex && waits)
    }

    /// Goes on until its log is as wanted; false if more sleeps begin before.
    pub(crate) fn until(&mut self, is_done: impl Fn(&[(Told, u64)]) -> bool, sleeps: u64) -> Result<bool> {
        while !is_done(&self.log()) {
            if self.sleeps > sleeps || !self.advance()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on until it has asked for so many locks, and sleeps again.
    pub(crate) fn until_asked(&mut self, locks: u64) -> Result<bool> {
        while self.asks < locks {
            if !self.advance()? {
                return Ok(false);
            }
        }
        self.until_asleep()
    }

    /// Goes on until it sleeps; false if it hangs before.
    pub(crate) fn until_asleep(&mut self) -> Result<bool> {
        loop {
            if self.is_inside && (self.is_gone || self.is_at_sleep()?) {
                if !self.is_gone {
                    self.child.go()?;
                    self.is_gone = true;
                }
                loop {
                    match self.child.state()? {
                        'S' => return Ok(true),
                        // It did not sleep, or not for long.
                        't' => break,
                        _ => std::thread::yield_now(),
                    }
                }
            }
            if !self.advance()? {
                return Ok(false);
            }
        }
    }
}

fn write_down(progress: &Progress, told: Told, sequence: u64) -> Result<()> {
    let count = progress.note(0).load(Ordering::Relaxed);
    let at = 1 + 2 * count as usize;
    ensure!(at + 2 < Progress::NOTES, "too much to write down");
    progress.note(at).store(told.encode(), Ordering::Relaxed);
    progress.note(at + 1).store(sequence, Ordering::Relaxed);
    progress.note(0).store(count + 1, Ordering::Release);
    Ok(())
}

fn keep_reading(mut consumer: Consumer, progress: &Progress) -> Result<()> {
    // It sleeps at once when there is nothing.
    consumer.set_wait(Wait::Park);
    loop {
        let (told, sequence) = match consumer.read()? {
            Read::Message(found) => {
                let wanted = message(found.lane, found.sequence, found.payload.len());
                let is_right = found.payload == wanted;
                (if is_right { Told::Message(found.lane) } else { Told::Wrong }, found.sequence)
            }
            Read::Died(_) => (Told::Died, 0),
            Read::End => (Told::End, 0),
            other => bail!("a read that waits: {other:?}"),
        };
        consumer.commit();
        write_down(progress, told, sequence)?;
    }
}

fn keep_sending(mut producer: Producer, progress: &Progress) -> Result<()> {
    producer.set_wait(Wait::Park);
    loop {
        let sequence = producer.sequence();
        producer.send(&message(0, sequence, FILL))?;
        write_down(progress, Told::Sent, sequence)?;
    }
}
