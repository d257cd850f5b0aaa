//! The library, as a user would use it.

use anyhow::{Result, bail, ensure};
use bench_kit::{Plan, Receiver, Sender, Source, Transport};
use shmring::{Consumer, Flags, Order, Producer, Read, Region, RegionOptions};

/// One region, a lane for each sender.
pub(crate) struct Ours;

pub(crate) struct OurSender(Producer);

pub(crate) struct OurReceiver {
    consumer: Consumer,
    /// What is read is committed in such pieces.
    piece: u64,
    /// They hold their lanes and send nothing.
    _idle: Vec<Producer>,
}

impl Ours {
    /// Refuses what the region would refuse.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        let settings = &plan.settings;
        let options = RegionOptions::new().capacity(settings.capacity).record_align(settings.align);
        let most = options.create_anonymous()?.max_message();
        ensure!(plan.size <= most, "{} bytes are more than {most}, the most with this capacity", plan.size);
        Ok(())
    }
}

impl Transport for Ours {
    type Sender = OurSender;
    type Receiver = OurReceiver;

    fn describe(plan: &Plan) -> String {
        let settings = &plan.settings;
        format!(
            "shmring {}, {} bytes a lane, records at {}, commits every eighth",
            env!("CARGO_PKG_VERSION"),
            settings.capacity,
            settings.align
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<OurReceiver> {
        let settings = &plan.settings;
        let order = if settings.total_order { Order::Total } else { Order::Fifo };
        let lanes = settings.senders + settings.idle_lanes;
        let options = RegionOptions::new()
            .capacity(settings.capacity)
            .record_align(settings.align)
            .max_producers(lanes.max(RegionOptions::DEFAULT_MAX_PRODUCERS))
            .order(order);
        let region = options.create(plan.place.join(name))?;
        // A ring of few messages must be free for the next one.
        let piece = if plan.size as u64 > settings.capacity / 4 { 1 } else { settings.capacity / 8 };
        let idle = (0..settings.idle_lanes).map(|_| region.producer()).collect::<Result<_, _>>()?;
        Ok(OurReceiver { consumer: region.consumer()?, piece, _idle: idle })
    }

    fn sender(plan: &Plan, name: &str) -> Result<OurSender> {
        Ok(OurSender(Region::open(plan.place.join(name))?.producer()?))
    }
}

impl Sender for OurSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.0.send(message)?)
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        let mut batch = self.0.batch();
        for _ in 0..count {
            batch.push(source.next_message(), Flags::NONE, None)?;
        }
        batch.publish();
        Ok(())
    }
}

impl Receiver for OurReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.consumer.uncommitted() >= self.piece {
            self.consumer.commit();
        }
        match self.consumer.read()? {
            Read::Message(message) => Ok(look(message.payload)),
            other => bail!("a message was expected, not {other:?}"),
        }
    }
}
