//! rtrb: one thread to one other.

use anyhow::{Result, bail};
use bench_kit::{Pair, Plan, Receiver, Sender, Source, serve_pair, slot, spin_until};

/// A queue of arrays of `N` bytes, so that a message is copied in and out.
struct Rtrb<const N: usize>;

struct RtrbSender<const N: usize>(rtrb::Producer<[u8; N]>);

struct RtrbReceiver<const N: usize> {
    queue: rtrb::Consumer<[u8; N]>,
    size: usize,
}

impl<const N: usize> Pair for Rtrb<N> {
    type Sender = RtrbSender<N>;
    type Receiver = RtrbReceiver<N>;

    fn describe(plan: &Plan) -> String {
        let depth = depth::<N>(plan);
        format!("rtrb 0.4, {depth} arrays of {N} bytes, push and pop, batches as chunks, polls")
    }

    fn pair(plan: &Plan) -> Result<(Vec<RtrbSender<N>>, RtrbReceiver<N>)> {
        anyhow::ensure!(plan.settings.senders == 1, "rtrb has one sender");
        let (sender, queue) = rtrb::RingBuffer::new(depth::<N>(plan));
        Ok((vec![RtrbSender(sender)], RtrbReceiver { queue, size: plan.size }))
    }
}

/// Messages under way: as many as the capacity holds.
fn depth<const N: usize>(plan: &Plan) -> usize {
    (plan.settings.capacity as usize / N).max(4)
}

impl<const N: usize> Sender for RtrbSender<N> {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let message = slot(message);
        spin_until(|| Ok(self.0.push(message).ok()))
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        let mut left = count as usize;
        while left > 0 {
            let room = spin_until(|| Ok(Some(self.0.slots()).filter(|room| *room > 0)))?;
            let chunk = self.0.write_chunk_uninit(left.min(room))?;
            left -= chunk.fill_from_iter(std::iter::repeat_with(|| slot(source.next_message())));
        }
        Ok(())
    }
}

impl<const N: usize> Receiver for RtrbReceiver<N> {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let message = spin_until(|| Ok(self.queue.pop().ok()))?;
        Ok(look(&message[..self.size]))
    }
}

fn main() -> Result<()> {
    bench_kit::main(|plan| match plan.size {
        ..=8 => serve_pair::<Rtrb<8>>(plan),
        ..=64 => serve_pair::<Rtrb<64>>(plan),
        ..=256 => serve_pair::<Rtrb<256>>(plan),
        ..=1024 => serve_pair::<Rtrb<1024>>(plan),
        size => bail!("arrays of {size} bytes are not what such queues are for"),
    })
}
