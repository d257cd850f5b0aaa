//! shmem-ipc: `sharedring`, a stream of bytes, one sender.
#![allow(unsafe_code)] // The ring shows its memory as a pointer and a count.

mod descriptors;

use std::{ptr, slice};

use anyhow::Result;
use bench_kit::{Cutter, Measure, Plan, Receiver, Sender, Source, Transport, serve, spin_until};
use shmem_ipc::sharedring;

/// All messages have one size, so nothing is sent beside them.
struct ShmemIpc;

struct RingSender {
    ring: sharedring::Sender<u8>,
    batch: Vec<u8>,
    sleeps: bool,
}

struct RingReceiver {
    ring: sharedring::Receiver<u8>,
    cutter: Cutter,
    sleeps: bool,
}

/// Only they use its eventfds. The others poll, and write nothing to them: its
/// lower level is for that.
fn sleeps(plan: &Plan) -> bool {
    matches!(plan.measure, Measure::Wake { .. } | Measure::Idle { .. })
}

impl Transport for ShmemIpc {
    type Sender = RingSender;
    type Receiver = RingReceiver;

    fn describe(plan: &Plan) -> String {
        format!(
            "shmem-ipc 0.3, sharedring of {} bytes, no framing, batches written at once, reads of up to 64 KiB, {}",
            plan.settings.capacity,
            if sleeps(plan) { "waits by its eventfds" } else { "polls, no eventfd" }
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<RingReceiver> {
        let ring = sharedring::Receiver::new(plan.settings.capacity as usize)?;
        let files = [ring.memfd().as_file(), ring.empty_signal(), ring.full_signal()];
        let [memory, empty, full] = files.map(std::fs::File::try_clone);
        descriptors::offer(&plan.place.join(name), [memory?, empty?, full?])?;
        Ok(RingReceiver { ring, cutter: Cutter::new(plan.size), sleeps: sleeps(plan) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<RingSender> {
        let [memory, empty, full] = descriptors::fetch(&plan.place.join(name))?;
        let ring = sharedring::Sender::open(plan.settings.capacity as usize, memory, empty, full)?;
        Ok(RingSender { ring, batch: Vec::new(), sleeps: sleeps(plan) })
    }
}

#[inline(always)]
fn write(ring: &mut sharedring::Sender<u8>, mut bytes: &[u8], sleeps: bool) -> Result<()> {
    while !bytes.is_empty() {
        let mut count = 0;
        let put = |place: *mut u8, room: usize| {
            count = room.min(bytes.len());
            // SAFETY: the ring gives this side alone `room` bytes at `place`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, count) };
            count
        };
        if sleeps {
            ring.block_until_writable()?;
            ring.send_raw(put)?;
        } else {
            spin_until(|| Ok((ring.sender_mut().write_count()? > 0).then_some(())))?;
            ring.sender_mut().send(put)?;
        }
        bytes = &bytes[count..];
    }
    Ok(())
}

impl Sender for RingSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        write(&mut self.ring, message, self.sleeps)
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        self.batch.clear();
        for _ in 0..count {
            self.batch.extend_from_slice(source.next_message());
        }
        write(&mut self.ring, &self.batch, self.sleeps)
    }
}

impl Receiver for RingReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let (ring, sleeps) = (&mut self.ring, self.sleeps);
        let message = self.cutter.next_message(|buffer| {
            let mut count = 0;
            let take = |found: *const u8, there: usize| {
                count = there.min(buffer.len());
                // SAFETY: the ring gives this side alone `there` bytes at `found`.
                buffer[..count].copy_from_slice(unsafe { slice::from_raw_parts(found, count) });
                count
            };
            if sleeps {
                ring.block_until_readable()?;
                ring.receive_raw(take)?;
            } else {
                spin_until(|| Ok((ring.receiver_mut().read_count()? > 0).then_some(())))?;
                ring.receiver_mut().recv(take)?;
            }
            Ok(count)
        })?;
        Ok(look(message))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<ShmemIpc>)
}
