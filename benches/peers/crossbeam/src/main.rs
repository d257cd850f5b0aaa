//! crossbeam-channel: threads to one other.

use anyhow::{Context, Result, bail};
use bench_kit::{Measure, Pair, Plan, Receiver, Sender, serve_pair, slot, spin_until};
use crossbeam_channel::{TryRecvError, TrySendError};

/// A bounded channel of arrays of `N` bytes, so that a message is copied in and
/// out.
struct Crossbeam<const N: usize>;

struct ChannelSender<const N: usize> {
    channel: crossbeam_channel::Sender<[u8; N]>,
    sleeps: bool,
}

struct ChannelReceiver<const N: usize> {
    channel: crossbeam_channel::Receiver<[u8; N]>,
    size: usize,
    sleeps: bool,
}

/// Only they wait inside the channel: polling is faster.
fn sleeps(plan: &Plan) -> bool {
    matches!(plan.measure, Measure::Wake { .. } | Measure::Idle { .. })
}

/// Messages under way: as many as the capacity holds.
fn depth<const N: usize>(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / N).max(4)
}

impl<const N: usize> Pair for Crossbeam<N> {
    type Sender = ChannelSender<N>;
    type Receiver = ChannelReceiver<N>;

    fn describe(plan: &Plan) -> String {
        format!(
            "crossbeam-channel 0.5, bounded, {} arrays of {N} bytes, {}",
            depth::<N>(plan),
            if sleeps(plan) { "send and recv" } else { "try_send and try_recv" }
        )
    }

    fn pair(plan: &Plan) -> Result<(Vec<ChannelSender<N>>, ChannelReceiver<N>)> {
        let sleeps = sleeps(plan);
        let (sender, channel) = crossbeam_channel::bounded(depth::<N>(plan));
        let senders =
            (0..plan.settings.senders).map(|_| ChannelSender { channel: sender.clone(), sleeps }).collect();
        Ok((senders, ChannelReceiver { channel, size: plan.size, sleeps }))
    }
}

impl<const N: usize> Sender for ChannelSender<N> {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let message = slot(message);
        if self.sleeps {
            return self.channel.send(message).ok().context("the receiver is gone");
        }
        spin_until(|| match self.channel.try_send(message) {
            Ok(()) => Ok(Some(())),
            Err(TrySendError::Full(_)) => Ok(None),
            Err(TrySendError::Disconnected(_)) => bail!("the receiver is gone"),
        })
    }
}

impl<const N: usize> Receiver for ChannelReceiver<N> {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let message = if self.sleeps {
            self.channel.recv()?
        } else {
            spin_until(|| match self.channel.try_recv() {
                Ok(message) => Ok(Some(message)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => bail!("the senders are gone"),
            })?
        };
        Ok(look(&message[..self.size]))
    }
}

fn main() -> Result<()> {
    bench_kit::main(|plan| match plan.size {
        ..=8 => serve_pair::<Crossbeam<8>>(plan),
        ..=64 => serve_pair::<Crossbeam<64>>(plan),
        ..=256 => serve_pair::<Crossbeam<256>>(plan),
        ..=1024 => serve_pair::<Crossbeam<1024>>(plan),
        size => bail!("arrays of {size} bytes are not what such queues are for"),
    })
}
