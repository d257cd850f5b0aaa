use std::sync::atomic::Ordering;

use anyhow::Result;
use bench_kit::{Plan, Receiver, Sender, Transport, buffer, spin_until};

use super::shared::Shared;

const TAIL: usize = 0;
const HEAD: usize = 128;
const DATA: usize = 256;
/// Of a length: nothing is in this record, the next one is at the ring's start.
const PADDING: u64 = 1 << 63;

/// The usual ring for many senders, as Agrona's `ManyToOneRingBuffer`: each moves
/// the one tail by compare-and-swap, copies, and commits by storing its record's
/// length. The reader goes from length to length; what it has read it fills with
/// zeros, so that no old length is ever found, and then publishes the head, when
/// there is no more or at an eighth of the ring. A sender that dies between claim
/// and commit stops it for ever: nothing is done about that.
pub(crate) struct CasRing;

pub(crate) struct CasSender {
    ring: Shared,
    capacity: u64,
    /// The head when it was looked at last.
    head: u64,
}

pub(crate) struct CasReceiver {
    ring: Shared,
    capacity: u64,
    head: u64,
    published: u64,
    message: &'static mut [u8],
}

fn record(len: usize) -> u64 {
    (8 + len as u64).next_multiple_of(8)
}

impl CasRing {
    /// Refuses what it is not made for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        super::fits(plan, record(plan.size))
    }
}

impl Transport for CasRing {
    type Sender = CasSender;
    type Receiver = CasReceiver;

    fn describe(plan: &Plan) -> String {
        format!("{} bytes for all senders, records at 8, each claimed by CAS", plan.settings.capacity)
    }

    fn receiver(plan: &Plan, name: &str) -> Result<CasReceiver> {
        CasRing::can(plan)?;
        let capacity = plan.settings.capacity;
        let ring = Shared::create(&plan.place.join(name), DATA + capacity as usize)?;
        Ok(CasReceiver { ring, capacity, head: 0, published: 0, message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<CasSender> {
        let ring = Shared::open(&plan.place.join(name))?;
        Ok(CasSender { ring, capacity: plan.settings.capacity, head: 0 })
    }
}

impl CasSender {
    /// Claims `size` bytes in one piece, and says where; `None`: there is no room.
    /// What is left at the ring's end, if it is too little, it claims and pads
    /// first.
    #[inline(always)]
    fn claim(&mut self, size: u64) -> Option<usize> {
        let mut tail = self.ring.word(TAIL).load(Ordering::Relaxed);
        loop {
            let offset = tail & (self.capacity - 1);
            let claimed = size.min(self.capacity - offset);
            if tail + claimed - self.head > self.capacity {
                // Acquire: what the reader zeroed before it published this head
                // stays before what is written there now.
                self.head = self.ring.word(HEAD).load(Ordering::Acquire);
                // The head may be ahead of a tail that is old by now.
                tail = self.ring.word(TAIL).load(Ordering::Relaxed);
                if tail + size.min(self.capacity - (tail & (self.capacity - 1))) - self.head > self.capacity {
                    return None;
                }
                continue;
            }
            // Only the lengths hand anything over, so the tail orders nothing.
            let next = tail + claimed;
            let word = self.ring.word(TAIL);
            match word.compare_exchange_weak(tail, next, Ordering::Relaxed, Ordering::Relaxed) {
                Err(found) => tail = found,
                Ok(_) if claimed == size => return Some(DATA + offset as usize),
                Ok(_) => {
                    self.ring.word(DATA + offset as usize).store(PADDING | claimed, Ordering::Release);
                    tail = next;
                }
            }
        }
    }
}

impl Sender for CasSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let at = spin_until(|| Ok(self.claim(record(message.len()))))?;
        self.ring.write(at + 8, message);
        self.ring.word(at).store(message.len() as u64, Ordering::Release);
        Ok(())
    }
}

impl CasReceiver {
    /// Zeroes what was read and gives it back.
    #[inline(always)]
    fn give_back(&mut self) {
        let offset = self.published & (self.capacity - 1);
        let len = self.head - self.published;
        // A padding or a record ends at the ring's end, so that two parts are
        // there only when more than one was read.
        let first = len.min(self.capacity - offset);
        self.ring.zero(DATA + offset as usize, first as usize);
        self.ring.zero(DATA, (len - first) as usize);
        self.ring.word(HEAD).store(self.head, Ordering::Release);
        self.published = self.head;
    }

    #[inline(always)]
    fn go_on(&mut self, bytes: u64) {
        self.head += bytes;
        if self.head - self.published >= self.capacity / 8 {
            self.give_back();
        }
    }
}

impl Receiver for CasReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        loop {
            let at = DATA + (self.head & (self.capacity - 1)) as usize;
            let mut len = self.ring.word(at).load(Ordering::Acquire);
            if len == 0 {
                if self.published != self.head {
                    self.give_back();
                }
                len = spin_until(|| {
                    let len = self.ring.word(at).load(Ordering::Acquire);
                    Ok((len != 0).then_some(len))
                })?;
            }
            if len & PADDING != 0 {
                self.go_on(len & !PADDING);
                continue;
            }
            self.ring.read(at + 8, &mut self.message[..len as usize]);
            self.go_on(record(len as usize));
            return Ok(look(&self.message[..len as usize]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    #[test]
    fn records_wrap_with_one_sender_and_with_many() {
        for (size, capacity) in [(8, 16), (8, 4096), (20, 64), (56, 64), (100, 256), (1000, 4096)] {
            for senders in [1, 2, 3, 8] {
                let mut plan = plan(size, 4000 / senders as u64, 1);
                plan.settings.capacity = capacity;
                plan.settings.senders = senders;
                exchange::<CasRing>(&plan);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut plan = plan(64, 1, 1);
        plan.settings.capacity = 64;
        assert!(CasRing::can(&plan).is_err());
    }
}
