use std::sync::atomic::Ordering;

use anyhow::Result;
use bench_kit::{Plan, Receiver, Sender, Transport, spin_until};

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
    message: Vec<u8>,
}

fn record(len: usize) -> u64 {
    (8 + len as u64).next_multiple_of(8)
}

impl Transport for RecordRing {
    type Sender = RingSender;
    type Receiver = RingReceiver;

    fn describe(plan: &Plan) -> String {
        format!("{} bytes, records at 8, tail published after each", plan.settings.capacity)
    }

    fn receiver(plan: &Plan, name: &str) -> Result<RingReceiver> {
        let capacity = plan.settings.capacity;
        let ring = Shared::create(&plan.place.join(name), DATA + capacity as usize)?;
        let message = vec![0; plan.size];
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

impl Sender for RingSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let size = record(message.len());
        let left = self.capacity - (self.tail & (self.capacity - 1));
        let mut at = DATA + (self.tail & (self.capacity - 1)) as usize;
        let mut skipped = 0;
        if size > left {
            skipped = left;
            self.wait_for(left + size)?;
            self.ring.word(at).store(WRAP, Ordering::Relaxed);
            at = DATA;
        } else {
            self.wait_for(size)?;
        }
        self.ring.word(at).store(message.len() as u64, Ordering::Relaxed);
        self.ring.write(at + 8, message);
        self.tail += skipped + size;
        self.ring.word(TAIL).store(self.tail, Ordering::Release);
        Ok(())
    }
}

impl Receiver for RingReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.head == self.tail {
            if self.published != self.head {
                self.ring.word(HEAD).store(self.head, Ordering::Release);
                self.published = self.head;
            }
            spin_until(|| {
                self.tail = self.ring.word(TAIL).load(Ordering::Acquire);
                Ok((self.head != self.tail).then_some(()))
            })?;
        }
        let mut at = DATA + (self.head & (self.capacity - 1)) as usize;
        let mut len = self.ring.word(at).load(Ordering::Relaxed);
        if len == WRAP {
            self.head += self.capacity - (self.head & (self.capacity - 1));
            at = DATA;
            len = self.ring.word(at).load(Ordering::Relaxed);
        }
        let message = &mut self.message[..len as usize];
        self.ring.read(at + 8, message);
        self.head += record(len as usize);
        if self.head - self.published >= self.capacity / 8 {
            self.ring.word(HEAD).store(self.head, Ordering::Release);
            self.published = self.head;
        }
        Ok(look(message))
    }
}
