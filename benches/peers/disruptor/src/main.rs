//! disruptor: threads to one other.

use anyhow::{Result, bail};
use bench_kit::{Pair, Plan, Receiver, Sender, Source, serve_pair, slot, spin_until};
use disruptor::{
    BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Polling, Producer, SingleConsumerBarrier,
    SingleProducer, SingleProducerBarrier, build_multi_producer, build_single_producer,
};

/// Events that are arrays of `N` bytes, so that a message is copied in and out.
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
    taken: Vec<[u8; N]>,
    next: usize,
    size: usize,
}

/// Messages under way: as many as the capacity holds. The kind for many senders
/// has no fewer than 64.
fn depth<const N: usize>(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / N).next_power_of_two().max(64)
}

fn receiver<const N: usize>(poller: Poller<N>, plan: &Plan) -> DisruptorReceiver<N> {
    DisruptorReceiver { poller, taken: Vec::new(), next: 0, size: plan.size }
}

impl<const N: usize> Pair for Disruptor<N> {
    type Sender = DisruptorSender<N>;
    type Receiver = DisruptorReceiver<N>;

    fn describe(plan: &Plan) -> String {
        let kind = if plan.settings.senders == 1 { "single" } else { "multi" };
        let depth = depth::<N>(plan);
        format!(
            "disruptor 4, {kind} producer, {depth} arrays of {N} bytes, batches together, an event poller of which \
             the events are copied"
        )
    }

    fn pair(plan: &Plan) -> Result<(Vec<DisruptorSender<N>>, DisruptorReceiver<N>)> {
        let (depth, event) = (depth::<N>(plan), || [0; N]);
        if plan.settings.senders == 1 {
            let (poller, builder) = build_single_producer(depth, event, BusySpin).new_event_poller();
            let senders = vec![DisruptorSender::Single(builder.build())];
            return Ok((senders, receiver(Poller::Single(poller), plan)));
        }
        let (poller, builder) = build_multi_producer(depth, event, BusySpin).new_event_poller();
        let sender = builder.build();
        let senders = (0..plan.settings.senders).map(|_| DisruptorSender::Multi(sender.clone())).collect();
        Ok((senders, receiver(Poller::Multi(poller), plan)))
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

impl<const N: usize> DisruptorReceiver<N> {
    /// The guards that a poller gives cannot outlive a call, so what they show is
    /// copied: of many senders all that there is, as it looks for the end of that
    /// each time.
    fn take(&mut self) -> Result<()> {
        self.taken.clear();
        self.next = 0;
        let taken = &mut self.taken;
        spin_until(|| {
            let polled = match &mut self.poller {
                Poller::Single(poller) => poller.take(64).map(|mut events| taken.extend(&mut events)),
                Poller::Multi(poller) => poller.poll().map(|mut events| taken.extend(&mut events)),
            };
            match polled {
                Ok(()) => Ok(Some(())),
                Err(Polling::NoEvents) => Ok(None),
                Err(Polling::Shutdown) => bail!("the senders are gone"),
            }
        })
    }
}

impl<const N: usize> Receiver for DisruptorReceiver<N> {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.next == self.taken.len() {
            self.take()?;
        }
        let message = &self.taken[self.next];
        self.next += 1;
        Ok(look(&message[..self.size]))
    }
}

fn main() -> Result<()> {
    bench_kit::main(|plan| match plan.size {
        ..=8 => serve_pair::<Disruptor<8>>(plan),
        9..=64 => serve_pair::<Disruptor<64>>(plan),
        65..=256 => serve_pair::<Disruptor<256>>(plan),
        257..=1024 => serve_pair::<Disruptor<1024>>(plan),
        size => bail!("arrays of {size} bytes are not what such queues are for"),
    })
}
