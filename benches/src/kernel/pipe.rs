use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use bench_kit::{Measure, Plan, Receiver, Sender, Transport, buffer};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe};

/// What a batch holds on either side.
const BATCH: usize = 64 << 10;
/// A write of at most this is in one piece even when others write, as POSIX and
/// Linux have it.
const PIPE_BUF: usize = 4096;

/// A FIFO: one write and one read a message.
pub(crate) struct Pipe;

pub(crate) struct PipeSender(File);

pub(crate) struct PipeReceiver {
    pipe: File,
    message: &'static mut [u8],
}

/// The same FIFO with 64 KiB of buffer on each side, as `BufWriter` and
/// `BufReader` have it. One way it writes when the buffer is full and after the
/// last message, so that a message may wait for as long as it takes to fill it.
/// In round trips, and where the other side sleeps, it writes after each message.
pub(crate) struct BatchedPipe;

pub(crate) struct BatchedSender {
    pipe: BufWriter<File>,
    flush_each: bool,
}

pub(crate) struct BatchedReceiver {
    pipe: BufReader<File>,
    message: &'static mut [u8],
}

impl Pipe {
    /// Refuses what would come in pieces.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(
            plan.settings.senders == 1 || plan.size <= PIPE_BUF,
            "writes of {} bytes, more than {PIPE_BUF}, by several senders would mix",
            plan.size
        );
        Ok(())
    }
}

impl BatchedPipe {
    /// Refuses what would come in pieces.
    pub(crate) fn can(plan: &Plan) -> Result<()> {
        ensure!(plan.settings.senders == 1, "batches of {BATCH} bytes by several senders would mix");
        Ok(())
    }
}

/// The reading end of a new FIFO.
fn make(plan: &Plan, name: &str) -> Result<File> {
    let path = plan.place.join(name);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("{}", path.display()))?;
    // Without waiting for somebody who writes. Later reads do wait.
    let pipe = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    resize(&pipe, plan.settings.capacity)?;
    Ok(pipe)
}

/// Gives a pipe that many bytes, or as many as are allowed, and says how many.
fn resize(pipe: impl AsFd, capacity: u64) -> Result<usize> {
    let wanted = capacity.min(1 << 30) as i32;
    match fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(wanted)) {
        Ok(_) => {}
        Err(Errno::EPERM) => {
            let most = std::fs::read_to_string("/proc/sys/fs/pipe-max-size")?.trim().parse()?;
            match fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(wanted.min(most))) {
                // The user has too many pages in pipes already.
                Ok(_) | Err(Errno::EPERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(fcntl(&pipe, FcntlArg::F_GETPIPE_SZ)? as usize)
}

fn size_of(plan: &Plan) -> Result<String> {
    Ok(format!("FIFO of {} bytes", resize(pipe()?.0, plan.settings.capacity)?))
}

fn open(plan: &Plan, name: &str) -> Result<File> {
    let path = plan.place.join(name);
    File::options().write(true).open(&path).with_context(|| format!("{}", path.display()))
}

impl Transport for Pipe {
    type Sender = PipeSender;
    type Receiver = PipeReceiver;

    fn describe(plan: &Plan) -> String {
        super::words(size_of(plan).map(|pipe| format!("{pipe}, a write and a read for each message")))
    }

    fn receiver(plan: &Plan, name: &str) -> Result<PipeReceiver> {
        Pipe::can(plan)?;
        Ok(PipeReceiver { pipe: make(plan, name)?, message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<PipeSender> {
        Ok(PipeSender(open(plan, name)?))
    }
}

impl Sender for PipeSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.0.write_all(message)?)
    }
}

impl Receiver for PipeReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        // One read for what fits in the pipe; as many as it takes for the rest.
        self.pipe.read_exact(self.message).context("pipe")?;
        Ok(look(self.message))
    }
}

impl Transport for BatchedPipe {
    type Sender = BatchedSender;
    type Receiver = BatchedReceiver;

    fn describe(plan: &Plan) -> String {
        super::words(size_of(plan).map(|pipe| {
            format!(
                "{pipe}, {BATCH} bytes of buffer on each side, written when full and at the end; \
                 round trips and wakes: after each message"
            )
        }))
    }

    fn receiver(plan: &Plan, name: &str) -> Result<BatchedReceiver> {
        BatchedPipe::can(plan)?;
        let pipe = BufReader::with_capacity(BATCH, make(plan, name)?);
        Ok(BatchedReceiver { pipe, message: buffer(plan.size) })
    }

    fn sender(plan: &Plan, name: &str) -> Result<BatchedSender> {
        let flush_each = !matches!(plan.measure, Measure::OneWay { .. });
        Ok(BatchedSender { pipe: BufWriter::with_capacity(BATCH, open(plan, name)?), flush_each })
    }
}

impl Sender for BatchedSender {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.pipe.write_all(message)?;
        if self.flush_each {
            self.pipe.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.pipe.flush()?)
    }
}

impl Receiver for BatchedReceiver {
    #[inline(always)]
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let size = self.message.len();
        // Where it is in the buffer, if all of it is.
        if let Some(message) = self.pipe.buffer().get(..size) {
            let looked = look(message);
            self.pipe.consume(size);
            return Ok(looked);
        }
        self.pipe.read_exact(self.message).context("pipe")?;
        Ok(look(self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{exchange, plan};

    #[test]
    fn messages_come_whole_whatever_their_size() {
        for size in [8, 100, 4096, 65536, 100_000] {
            exchange::<Pipe>(&plan(size, 300, 1));
            exchange::<BatchedPipe>(&plan(size, 300, 1));
        }
        exchange::<BatchedPipe>(&plan(24, 100_003, 64));
    }

    #[test]
    fn several_senders_do_not_mix() {
        let mut several = plan(PIPE_BUF, 2000, 1);
        several.settings.senders = 4;
        several.settings.capacity = 16 << 10;
        exchange::<Pipe>(&several);
        assert!(BatchedPipe::can(&several).is_err());
        several.size += 1;
        assert!(Pipe::can(&several).is_err());
    }
}
