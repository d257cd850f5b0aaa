use anyhow::{Result, ensure};
use bench_kit::{Measure, Plan, Receiver, Sender, Transport};

/// What copying out costs: from a buffer as large as the ring to one that holds
/// a message, by the receiver alone. Nothing goes from one core to the other; it
/// makes up the stamps.
pub(crate) struct Memcpy;

pub(crate) struct NoSender;

pub(crate) struct Copier {
    buffer: Vec<u8>,
    at: usize,
    number: u64,
    message: Vec<u8>,
}

impl Memcpy {
    /// One way from one sender.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(matches!(plan.measure, Measure::OneWay { .. }), "it goes one way, and waits for nobody");
        super::one_sender(plan)
    }
}

impl Transport for Memcpy {
    type Sender = NoSender;
    type Receiver = Copier;

    fn describe(plan: &Plan) -> String {
        format!("one copy of each message, out of {} bytes, on one core", plan.settings.capacity)
    }

    fn receiver(plan: &Plan, _: &str) -> Result<Copier> {
        Memcpy::can(plan)?;
        let len = (plan.settings.capacity as usize).max(plan.size);
        Ok(Copier { buffer: vec![0x5a; len], at: 0, number: 0, message: vec![0; plan.size] })
    }

    fn sender(_: &Plan, _: &str) -> Result<NoSender> {
        Ok(NoSender)
    }
}

impl Sender for NoSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        std::hint::black_box(message);
        Ok(())
    }
}

impl Receiver for Copier {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let size = self.message.len();
        if self.at + size > self.buffer.len() {
            self.at = 0;
        }
        self.message.copy_from_slice(&self.buffer[self.at..self.at + size]);
        self.at += size.next_multiple_of(8);
        let number = self.number.to_le_bytes();
        self.number += 1;
        self.message[..8].copy_from_slice(&number);
        self.message[size - 8..].copy_from_slice(&number);
        // The copy is to be made, though only its ends are looked at.
        Ok(look(std::hint::black_box(&self.message)))
    }
}
