//! What becomes of the messages.

use shmring::codec::Codec;
use shmring::{Consumer, Flags, Message};
use shmring_grammar::{Exit, Framing, Output, RecordCodec, is_broken_pipe};

use crate::Failure;
use crate::check::{Check, name_of};

/// Output is written when there is so much of it, or nothing more to read.
const WRITE_BYTES: usize = 256 << 10;

pub(crate) enum Target {
    Write { output: Output, framing: Framing, pending: Vec<u8> },
    Check(Check),
}

impl Target {
    pub(crate) fn position(&self) -> Option<u64> {
        match self {
            Target::Write { output, .. } => output.position(),
            Target::Check(_) => None,
        }
    }

    pub(crate) fn start(&mut self, consumer: &mut Consumer) -> anyhow::Result<()> {
        match self {
            Target::Write { output, .. } => output.start(consumer),
            Target::Check(_) => Ok(()),
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, message: Message<'_>, records: bool) -> Result<(), Exit> {
        let record;
        let payload = if records {
            let name = || name_of(message.lane, message.name);
            let broken = |e| anyhow::anyhow!("message {} of {}: {e}", message.sequence, name());
            record = RecordCodec::decode(message.payload).map_err(broken)?;
            &record.payload
        } else {
            message.payload
        };
        match self {
            Target::Write { framing, pending, .. } => {
                framing.append(payload, message.flags.contains(Flags::UNTERMINATED), pending);
            }
            Target::Check(check) => check.tally(message.lane, message.name).take(message.sequence, payload),
        }
        Ok(())
    }

    /// Takes note of messages that were dropped.
    pub(crate) fn skip(&mut self, lane: u32, name: Option<&str>, sequence: u64, count: u64) {
        if let Target::Check(check) = self {
            check.tally(lane, name).skip(sequence, count);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Target::Write { pending, .. } if pending.len() >= WRITE_BYTES)
    }

    pub(crate) fn write(&mut self) -> Result<(), Failure> {
        if let Target::Write { output, pending, .. } = self
            && !pending.is_empty()
        {
            output.write(pending).map_err(|e| match is_broken_pipe(&e) {
                true => Failure::ReaderGone,
                false => anyhow::Error::new(e).context("cannot write the output").into(),
            })?;
            pending.clear();
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), Exit> {
        let Target::Check(check) = self else { return Ok(()) };
        if check.finish() { Ok(()) } else { Err(anyhow::anyhow!("the stream is not whole").into()) }
    }
}
