use std::sync::atomic::Ordering;

use anyhow::Result;
use bench_kit::{Plan, Receiver, Sender, Transport, buffer, spin_until};

use super::shared::Shared;

const TAIL: usize = 0;
const HEAD: usize = 128;
const DATA: usize = 256;
/// A length that says: the next record is at the ring's start.
const WRAP: u64 = u64::MAX;

/// The ring that one writes by hand on a good day: a word of length, the bytes,
/// the tail published after each record; each side keeps a copy of the other's
/// position and looks at the true one only when it must. The reader copies out,
/// and publishes the head when it has read all that it knows of or an eighth.
///
/// Tried and not better: the head published after each message; only when all is
/// read (no faster, and the sender of a full ring waits for longer); a look for
/// more before it is published; records at 16 or 64 bytes (slower at 8 and at 64
/// bytes of message); a copy by size instead of `memcpy` (some percent faster at
/// 8 bytes, slower at 64, one way and in round trips).
pub(crate) struct RecordRing;

pub(crate) struct RingSender {
    ring: Shared,
    capacity: u64,
    tail: u64,
    head: u64,
}

pub(crate) struct RingReceiver {
    ring: Shared,
    capacity: u64,
    tail: u64,
    head: u64,
    published: u64,
    message: &'static mut [u8],
}

fn record(len: usize) -> u64 {
    (8 + len as u64).next_multiple_of(8)
}

impl RecordRing {
    /// Refuses what it is not made for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        super::one_sender(plan)?;
        super::fits(plan, record(plan.size))
    }
}

impl Transport for RecordRing {
    type Sender = RingSender;
    type Receiver = RingReceiver;

    fn describe(plan: &Plan) -> String {
        format!("{} bytes, records at 8, tail published after each", plan.settings.capacity)
    }

    fn receiver(plan: &Plan, name: &str) -> Result<RingReceiver> {
        RecordRing::can(plan)?;
        let capacity = plan.settings.capacity;
        let ring = Shared::create(&plan.place.join(name), DATA + capacity as usize)?;
        let message = buffer(plan.size);
        Ok(RingReceiver { ring, capacity, tail: 0, head: 0, published: 0, message })
    }

    fn sender(plan: &Plan, name: &str) -> Result<RingSender> {
        let ring = Shared::open(&plan.place.join(name))?;
        Ok(RingSender { ring, capacity: plan.settings.capacity, tail: 0, head: 0 })
    }
}

impl RingSender {
    #[inline(always)]
    fn wait_for(&mut self, bytes: u64) -> Result<()> {
        if self.tail + bytes - self.head <= self.capacity {
            return Ok(());
        }
        spin_until(|| {
            self.head = self.ring.word(HEAD).load(Ordering::Acquire);
            Ok((self.tail + bytes - self.head <= self.capacity).then_some(()))
        })
    }
}

impl RingSender {
    /// Leaves out what is left at the ring's end, and says so to the reader, which
    /// gives it back before the record needs it: one as long as the ring fits too.
    #[cold]
    fn wrap(&mut self, left: u64) -> Result<()> {
        self.wait_for(left)?;
        self.ring.word(DATA + (self.tail & (self.capacity - 1)) as usize).store(WRAP, Ordering::Relaxed);
        self.tail += left;
        self.ring.word(TAIL).store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl Sender for RingSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let size = record(message.len());
        let left = self.capacity - (self.tail & (self.capacity - 1));
        if size > left {
            self.wrap(left)?;
        }
        self.wait_for(size)?;
        let at = DATA + (self.tail & (self.capacity - 1)) as usize;
        self.ring.word(at).store(message.len() as u64, Ordering::Relaxed);
        self.ring.write(at + 8, message);
        self.tail += size;
        self.ring.word(TAIL).store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl RingReceiver {
    #[inline(always)]
    fn publish(&mut self) {
        self.ring.word(HEAD).store(self.head, Ordering::Release);
        self.published = self.head;
    }

    /// The length of the next record; [`WRAP`]: go on at the ring's start.
    #[inline(always)]
    fn length(&mut self) -> Result<u64> {
        if self.head == self.tail {
            if self.published != self.head {
                self.publish();
            }
            self.tail = spin_until(|| {
                let tail = self.ring.word(TAIL).load(Ordering::Acquire);
                Ok((self.head != tail).then_some(tail))
            })?;
        }
        Ok(self.ring.word(DATA + (self.head & (self.capacity - 1)) as usize).load(Ordering::Relaxed))
    }
}

impl Receiver for RingReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let mut len = self.length()?;
        if len == WRAP {
            self.head += self.capacity - (self.head & (self.capacity - 1));
            len = self.length()?;
        }
        let at = DATA + (self.head & (self.capacity - 1)) as usize;
        let len = len as usize;
        self.ring.read(at + 8, &mut self.message[..len]);
        self.head += record(len);
        if self.head - self.published >= self.capacity / 8 {
            self.publish();
        }
        Ok(look(&self.message[..len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    #[test]
    fn records_wrap_and_may_be_as_long_as_the_ring() {
        for (size, capacity) in
            [(8, 16), (8, 4096), (20, 64), (56, 64), (100, 256), (1000, 4096), (4088, 4096)]
        {
            let mut plan = plan(size, 5000, 1);
            plan.settings.capacity = capacity;
            exchange::<RecordRing>(&plan);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut plan = plan(64, 1, 1);
        plan.settings.capacity = 64;
        assert!(RecordRing::can(&plan).is_err());
    }
}
