use std::sync::atomic::Ordering;

use anyhow::{Result, bail, ensure};
use bench_kit::{Measure, Plan, Receiver, Sender, Transport, buffer};
use rustix::io::Errno;
use rustix::thread::futex;

use super::shared::Shared;

/// The word that the reader sleeps on: how many messages there were.
const COUNT: usize = 0;
const SLOTS: usize = 128;
/// More than one, so that a message which comes while the reader is still on its
/// way out of the kernel overwrites none.
const COUNT_OF_SLOTS: u32 = 256;

/// What a sleep and a wake cost without anything: the sender stores a number and
/// always calls the kernel to wake, the reader always sleeps. It carries the
/// first 8 bytes of a message.
pub(crate) struct FutexWake;

pub(crate) struct WakeSender {
    shared: Shared,
    sent: u32,
}

pub(crate) struct WakeReceiver {
    shared: Shared,
    received: u32,
    message: &'static mut [u8],
}

impl FutexWake {
    /// Refuses what it is not made for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(
            matches!(plan.measure, Measure::Wake { .. } | Measure::Idle { .. }),
            "it has no room for more than a message at a time"
        );
        super::one_sender(plan)
    }
}

impl Transport for FutexWake {
    type Sender = WakeSender;
    type Receiver = WakeReceiver;

    fn describe(_: &Plan) -> String {
        "a u64 and a shared futex word, a call to wake for each message".to_owned()
    }

    fn receiver(plan: &Plan, name: &str) -> Result<WakeReceiver> {
        FutexWake::can(plan)?;
        let shared = Shared::create(&plan.place.join(name), SLOTS + COUNT_OF_SLOTS as usize * 8)?;
        Ok(WakeReceiver { shared, received: 0, message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<WakeSender> {
        Ok(WakeSender { shared: Shared::open(&plan.place.join(name))?, sent: 0 })
    }
}

fn slot(number: u32) -> usize {
    SLOTS + (number % COUNT_OF_SLOTS) as usize * 8
}

impl Sender for WakeSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let value = message.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        self.shared.word(slot(self.sent)).store(value, Ordering::Relaxed);
        self.sent = self.sent.wrapping_add(1);
        let count = self.shared.futex(COUNT);
        count.store(self.sent, Ordering::Release);
        // The flag for one process only is not set: the sides have no memory in
        // common but this.
        futex::wake(count, futex::Flags::empty(), 1)?;
        Ok(())
    }
}

impl Receiver for WakeReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let count = self.shared.futex(COUNT);
        while count.load(Ordering::Acquire) == self.received {
            match futex::wait(count, futex::Flags::empty(), self.received, None) {
                // The value had changed, or a signal came.
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => bail!("futex wait: {error}"),
            }
        }
        let behind = count.load(Ordering::Acquire).wrapping_sub(self.received);
        ensure!(behind < COUNT_OF_SLOTS, "{behind} messages came at once: some are overwritten");
        let value = self.shared.word(slot(self.received)).load(Ordering::Relaxed);
        self.received = self.received.wrapping_add(1);
        self.message[..8].copy_from_slice(&value.to_le_bytes());
        Ok(look(self.message))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::exchange::plan;

    #[test]
    fn a_sleeper_gets_each_number() -> Result<()> {
        let place = tempfile::tempdir()?;
        let mut plan = plan(64, 1, 1);
        plan.measure = Measure::Wake { messages: 300, every: 100 };
        plan.place = place.path().to_owned();
        let mut receiver = FutexWake::receiver(&plan, "there")?;
        let mut sender = FutexWake::sender(&plan, "there")?;
        let sending = thread::spawn(move || {
            (0..300u64).try_for_each(|number| {
                thread::sleep(Duration::from_micros(100));
                sender.send(&number.to_le_bytes())
            })
        });
        for number in 0..300u64 {
            receiver.receive(|message| assert_eq!(message[..8], number.to_le_bytes()))?;
        }
        sending.join().expect("the sender does not panic")
    }

    #[test]
    fn one_way_is_refused() {
        assert!(FutexWake::can(&plan(8, 1, 1)).is_err());
    }
}
