use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use bench_kit::{Measure, Plan, Receiver, Sender, Transport, buffer};

use super::shared::Shared;

/// One line each way with a number in it: what two cores need to exchange a
/// cache line, and no less is possible. It carries the number of a message and
/// makes up the rest.
pub(crate) struct CacheLine;

pub(crate) struct LineSender(Shared);

pub(crate) struct LineReceiver {
    line: Shared,
    next: u64,
    message: &'static mut [u8],
}

impl CacheLine {
    /// Refuses what it is not made for.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(
            matches!(plan.measure, Measure::RoundTrip { .. }),
            "a line has room for one message at a time"
        );
        super::one_sender(plan)
    }
}

impl Transport for CacheLine {
    type Sender = LineSender;
    type Receiver = LineReceiver;

    fn describe(_: &Plan) -> String {
        "one line each way, a u64 in it, 100 pauses, then yields".to_owned()
    }

    fn receiver(plan: &Plan, name: &str) -> Result<LineReceiver> {
        CacheLine::can(plan)?;
        let line = Shared::create(&plan.place.join(name), 4096)?;
        Ok(LineReceiver { line, next: 1, message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<LineSender> {
        Ok(LineSender(Shared::open(&plan.place.join(name))?))
    }
}

impl Sender for LineSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let number = message.first_chunk().map_or(0, |at| u64::from_le_bytes(*at));
        self.0.word(0).store(number + 1, Ordering::Release);
        Ok(())
    }
}

impl Receiver for LineReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.line.wait_for(0, self.next)?;
        let number = (self.next - 1).to_le_bytes();
        self.next += 1;
        self.message[..8].copy_from_slice(&number);
        let last = self.message.len() - 8;
        self.message[last..].copy_from_slice(&number);
        Ok(look(self.message))
    }
}
