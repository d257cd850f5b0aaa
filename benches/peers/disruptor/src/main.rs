//! disruptor: threads to one other.

use anyhow::{Result, bail};
use bench_kit::{Pair, Plan, Receiver, Sender, Source, serve_pair, slot, spin_until};
use disruptor::{
    BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Polling, Producer, SingleConsumerBarrier,
    SingleProducer, SingleProducerBarrier, build_multi_producer, build_single_producer,
};

/// Events that are arrays of `N` bytes: a message is copied in, and looked at
/// where it is.
struct Disruptor<const N: usize>;

/// It has a kind for one sender and one for many.
enum DisruptorSender<const N: usize> {
    Single(SingleProducer<[u8; N], SingleConsumerBarrier>),
    Multi(MultiProducer<[u8; N], SingleConsumerBarrier>),
}

enum Poller<const N: usize> {
    Single(EventPoller<[u8; N], SingleProducerBarrier>),
    Multi(EventPoller<[u8; N], MultiProducerBarrier>),
}

struct DisruptorReceiver<const N: usize> {
    poller: Poller<N>,
    size: usize,
}

/// Messages under way: as many as the capacity holds. The kind for many senders
/// has no fewer than 64.
fn depth<const N: usize>(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / N).next_power_of_two().max(64)
}

impl<const N: usize> Pair for Disruptor<N> {
    type Sender = DisruptorSender<N>;
    type Receiver = DisruptorReceiver<N>;

    fn describe(plan: &Plan) -> String {
        let kind = if plan.settings.senders == 1 { "single" } else { "multi" };
        let depth = depth::<N>(plan);
        format!(
            "disruptor 4, {kind} producer, {depth} arrays of {N} bytes, batches together, an event poller that takes \
             one at a time"
        )
    }

    fn pair(plan: &Plan) -> Result<(Vec<DisruptorSender<N>>, DisruptorReceiver<N>)> {
        let (size, depth, event) = (plan.size, depth::<N>(plan), || [0; N]);
        if plan.settings.senders == 1 {
            let (poller, builder) = build_single_producer(depth, event, BusySpin).new_event_poller();
            let senders = vec![DisruptorSender::Single(builder.build())];
            return Ok((senders, DisruptorReceiver { poller: Poller::Single(poller), size }));
        }
        let (poller, builder) = build_multi_producer(depth, event, BusySpin).new_event_poller();
        let sender = builder.build();
        let senders = (0..plan.settings.senders).map(|_| DisruptorSender::Multi(sender.clone())).collect();
        Ok((senders, DisruptorReceiver { poller: Poller::Multi(poller), size }))
    }
}

impl<const N: usize> Sender for DisruptorSender<N> {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let fill = |event: &mut [u8; N]| *event = slot(message);
        spin_until(|| match self {
            DisruptorSender::Single(producer) => Ok(producer.try_publish(fill).ok()),
            DisruptorSender::Multi(producer) => Ok(producer.try_publish(fill).ok()),
        })?;
        Ok(())
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        let count = count as usize;
        spin_until(|| {
            let sent = match self {
                DisruptorSender::Single(producer) => producer.try_batch_publish(count, |events| {
                    events.for_each(|event| *event = slot(source.next_message()));
                }),
                DisruptorSender::Multi(producer) => producer.try_batch_publish(count, |events| {
                    events.for_each(|event| *event = slot(source.next_message()));
                }),
            };
            Ok(sent.ok())
        })?;
        Ok(())
    }
}

impl<const N: usize> Receiver for DisruptorReceiver<N> {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let (size, mut look) = (self.size, Some(look));
        let mut show = |event: &[u8; N]| look.take().map(|look| look(&event[..size]));
        // The guards that it gives cannot outlive this call, so each has one event.
        spin_until(|| match &mut self.poller {
            Poller::Single(poller) => match poller.take(1) {
                Ok(mut events) => Ok((&mut events).next().and_then(&mut show)),
                Err(Polling::NoEvents) => Ok(None),
                Err(Polling::Shutdown) => bail!("the senders are gone"),
            },
            Poller::Multi(poller) => match poller.take(1) {
                Ok(mut events) => Ok((&mut events).next().and_then(&mut show)),
                Err(Polling::NoEvents) => Ok(None),
                Err(Polling::Shutdown) => bail!("the senders are gone"),
            },
        })
    }
}

fn main() -> Result<()> {
    bench_kit::main(|plan| match plan.size {
        ..=8 => serve_pair::<Disruptor<8>>(plan),
        ..=64 => serve_pair::<Disruptor<64>>(plan),
        ..=256 => serve_pair::<Disruptor<256>>(plan),
        ..=1024 => serve_pair::<Disruptor<1024>>(plan),
        size => bail!("arrays of {size} bytes are not what such queues are for"),
    })
}
