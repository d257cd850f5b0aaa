//! The `shmring` that the registry has: a stream of bytes, one sender.

use std::fs;
use std::io::{Read, Write};

use anyhow::{Context, Result};
use bench_kit::{Cutter, Measure, Plan, Receiver, Sender, Source, Transport, serve, spin_until};
use gofsd_shmring::backend::ShmStorage;
use gofsd_shmring::{Options, Reader, Writer};

/// All messages have one size, so nothing is sent beside them.
struct Gofsd;

struct GofsdSender {
    writer: Writer<ShmStorage>,
    batch: Vec<u8>,
    sleeps: bool,
}

struct GofsdReceiver {
    name: String,
    capacity: u64,
    /// The writer makes the ring, so there is none before the first message.
    reader: Option<Reader<ShmStorage>>,
    cutter: Cutter,
    sleeps: bool,
}

/// Only they wait by its futex: polling is faster.
fn sleeps(plan: &Plan) -> bool {
    matches!(plan.measure, Measure::Wake { .. } | Measure::Idle { .. })
}

/// Below `/dev/shm`, as it will have it, named after the plan's folder.
fn shm_name(plan: &Plan, name: &str) -> Result<String> {
    let folder = plan.place.file_name().and_then(|name| name.to_str()).context("the folder has a name")?;
    Ok(format!("{folder}.{name}"))
}

impl Transport for Gofsd {
    type Sender = GofsdSender;
    type Receiver = GofsdReceiver;

    fn describe(plan: &Plan) -> String {
        format!(
            "shmring 0.4.1 of the registry, {} bytes, no framing, batches written at once, reads of up to 64 KiB, {}",
            plan.settings.capacity,
            if sleeps(plan) { "waits by its futex" } else { "polls" }
        )
    }

    fn receiver(plan: &Plan, name: &str) -> Result<GofsdReceiver> {
        Ok(GofsdReceiver {
            name: shm_name(plan, name)?,
            capacity: plan.settings.capacity,
            reader: None,
            cutter: Cutter::new(plan.size),
            sleeps: sleeps(plan),
        })
    }

    fn sender(plan: &Plan, name: &str) -> Result<GofsdSender> {
        let name = shm_name(plan, name)?;
        let writer = gofsd_shmring::create_shm(&name, plan.settings.capacity, Options::default())?;
        Ok(GofsdSender { writer, batch: Vec::new(), sleeps: sleeps(plan) })
    }
}

#[inline(always)]
fn write(writer: &mut Writer<ShmStorage>, mut bytes: &[u8], sleeps: bool) -> Result<()> {
    if sleeps {
        return Ok(writer.write_all(bytes)?);
    }
    while !bytes.is_empty() {
        let count = spin_until(|| Ok(Some(writer.try_write(bytes)?).filter(|count| *count > 0)))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

impl Sender for GofsdSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        write(&mut self.writer, message, self.sleeps)
    }

    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        self.batch.clear();
        for _ in 0..count {
            self.batch.extend_from_slice(source.next_message());
        }
        write(&mut self.writer, &self.batch, self.sleeps)
    }
}

impl GofsdReceiver {
    #[cold]
    fn open(&mut self) -> Result<()> {
        let reader = gofsd_shmring::open_shm(&self.name, self.capacity, Options::default())?;
        // Both have it; its name is for nobody else.
        fs::remove_file(std::path::Path::new("/dev/shm").join(&self.name))?;
        self.reader = Some(reader);
        Ok(())
    }
}

impl Receiver for GofsdReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if self.reader.is_none() {
            self.open()?;
        }
        let reader = self.reader.as_mut().context("it was just opened")?;
        let sleeps = self.sleeps;
        let message = self.cutter.next_message(|place| match sleeps {
            true => Ok(reader.read(place)?),
            false => spin_until(|| Ok(Some(reader.try_read(place)?).filter(|count| *count > 0))),
        })?;
        Ok(look(message))
    }
}

fn main() -> Result<()> {
    bench_kit::main(serve::<Gofsd>)
}
