use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use bench_kit::{Plan, Receiver, Sender, Source, Transport, spin_until};

use super::shared::Shared;

const TAIL: usize = 0;
const HEAD: usize = 128;
const DATA: usize = 256;

/// A ring of numbers for one sender: a store a message, and one of the tail for
/// each batch. The reader publishes the head as the record ring's does. It
/// carries messages of 8 bytes only.
pub(crate) struct U64Ring;

pub(crate) struct NumberSender {
    ring: Shared,
    slots: u64,
    tail: u64,
    head: u64,
}

pub(crate) struct NumberReceiver {
    ring: Shared,
    slots: u64,
    tail: u64,
    head: u64,
    published: u64,
}

impl U64Ring {
    /// Refuses what it is not made for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(plan.size == 8, "it carries 8 bytes, not {}", plan.size);
        super::one_sender(plan)?;
        super::fits(plan, 8)
    }
}

impl Transport for U64Ring {
    type Sender = NumberSender;
    type Receiver = NumberReceiver;

    fn describe(plan: &Plan) -> String {
        format!("{} bytes, slots of 8, tail published after each batch", plan.settings.capacity)
    }

    fn receiver(plan: &Plan, name: &str) -> Result<NumberReceiver> {
        U64Ring::can(plan)?;
        let capacity = plan.settings.capacity;
        let ring = Shared::create(&plan.place.join(name), DATA + capacity as usize)?;
        Ok(NumberReceiver { ring, slots: capacity / 8, tail: 0, head: 0, published: 0 })
    }

    fn sender(plan: &Plan, name: &str) -> Result<NumberSender> {
        let ring = Shared::open(&plan.place.join(name))?;
        Ok(NumberSender { ring, slots: plan.settings.capacity / 8, tail: 0, head: 0 })
    }
}

#[inline(always)]
fn slot(number: u64, slots: u64) -> usize {
    DATA + ((number & (slots - 1)) * 8) as usize
}

impl NumberSender {
    /// Writes a message that the other side does not see yet. If there is no
    /// room, it first publishes what is there.
    #[inline(always)]
    fn put(&mut self, message: &[u8]) -> Result<()> {
        if self.tail - self.head == self.slots {
            self.publish();
            self.head = spin_until(|| {
                let head = self.ring.word(HEAD).load(Ordering::Acquire);
                Ok((self.tail - head < self.slots).then_some(head))
            })?;
        }
        let number = message.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        self.ring.word(slot(self.tail, self.slots)).store(number, Ordering::Relaxed);
        self.tail += 1;
        Ok(())
    }

    #[inline(always)]
    fn publish(&self) {
        self.ring.word(TAIL).store(self.tail, Ordering::Release);
    }
}

impl Sender for NumberSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.put(message)?;
        self.publish();
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        for _ in 0..count {
            self.put(source.next_message())?;
        }
        self.publish();
        Ok(())
    }
}

impl NumberReceiver {
    #[inline(always)]
    fn publish(&mut self) {
        self.ring.word(HEAD).store(self.head, Ordering::Release);
        self.published = self.head;
    }
}

impl Receiver for NumberReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.head == self.tail {
            if self.published != self.head {
                self.publish();
            }
            self.tail = spin_until(|| {
                let tail = self.ring.word(TAIL).load(Ordering::Acquire);
                Ok((self.head != tail).then_some(tail))
            })?;
        }
        let number = self.ring.word(slot(self.head, self.slots)).load(Ordering::Relaxed);
        self.head += 1;
        if self.head - self.published >= self.slots.div_ceil(8) {
            self.publish();
        }
        Ok(look(&number.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    #[test]
    fn numbers_come_in_order_through_rings_of_any_size() {
        for capacity in [8, 16, 64, 4096] {
            for batch in [1, 3, 64] {
                let mut plan = plan(8, 20_000, batch);
                plan.settings.capacity = capacity;
                exchange::<U64Ring>(&plan);
            }
        }
    }

    #[test]
    fn what_it_is_not_made_for_is_refused() {
        assert!(U64Ring::can(&plan(16, 1, 1)).is_err());
        let mut two = plan(8, 1, 1);
        two.settings.senders = 2;
        assert!(U64Ring::can(&two).is_err());
    }
}
