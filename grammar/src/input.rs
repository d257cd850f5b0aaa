//! A stream of bytes as a stream of messages.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use nix::fcntl::OFlag;
use shmring::{Sent, StreamId};

use crate::frame::{Frame, Framing};
use crate::stop::{Ready, Stop};

/// How much is read at a time, at most.
const CHUNK: usize = 1 << 20;

/// Splits a file or stdin into messages.
#[derive(Debug)]
pub struct Input {
    source: File,
    /// It was named; else it is stdin.
    named: bool,
    framing: Framing,
    /// The longest message that may come, in bytes.
    max_len: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    used: usize,
    /// Bytes of the buffer that were read; the rest is room.
    filled: usize,
    /// Bytes after these that are known to hold no terminator.
    searched: usize,
    at_end: bool,
    /// Messages handed out.
    count: u64,
}

/// What [`Input::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A message, and whether the input ended without its terminator.
    Message(&'a [u8], bool),
    /// None is whole: [`Input::fill`] first.
    More,
    /// The input has ended.
    End,
}

/// An input that cannot be split into messages.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A message is longer than the ring takes.
    #[error(
        "message {number} of the input has {at_least} bytes or more, and this ring takes at most \
         {max} a message; create one with a larger --capacity"
    )]
    TooLarge {
        /// Counted from 1.
        number: u64,
        /// Bytes seen so far.
        at_least: usize,
        /// The most that a message may have.
        max: usize,
    },
    /// Less is there than was sent of it.
    #[error(
        "the input has {len} bytes, but {sent} of them were sent already: it was cut, or is another one \
         by now; use a ring of its own for it"
    )]
    Shorter {
        /// Bytes of the input.
        len: u64,
        /// Bytes of it that were sent.
        sent: u64,
    },
    /// The input ends inside a message.
    #[error("the input ends inside message {number}: {bytes} bytes are left over; is it in len32 framing?")]
    CutOff {
        /// Counted from 1.
        number: u64,
        /// Bytes that are left.
        bytes: usize,
    },
}

impl Input {
    /// Opens `path`; `None` and `-` are stdin.
    ///
    /// # Errors
    /// With the path, for people.
    pub fn open(path: Option<&PathBuf>, framing: Framing) -> anyhow::Result<Input> {
        let path = path.filter(|p| *p != Path::new("-"));
        let named = path.is_some();
        let source = match path {
            Some(path) => {
                let cannot = || format!("cannot read {}", path.display());
                // Without waiting for the other end of a named pipe: `fill` does.
                let flags = OFlag::O_NONBLOCK.bits();
                let file = File::options().read(true).custom_flags(flags).open(path).with_context(cannot)?;
                if file.metadata().with_context(cannot)?.is_dir() {
                    anyhow::bail!("cannot read {}: it is a directory", path.display());
                }
                file
            }
            None => File::from(io::stdin().as_fd().try_clone_to_owned().context("cannot read stdin")?),
        };
        Ok(Input { named, ..Input::new(source, framing) })
    }

    fn new(source: File, framing: Framing) -> Input {
        Input {
            source,
            named: false,
            framing,
            max_len: usize::MAX,
            buffer: Vec::new(),
            used: 0,
            filled: 0,
            searched: 0,
            at_end: false,
            count: 0,
        }
    }

    /// What a ring calls this input; `None` if it is stdin or not a
    /// regular file: only such a file can be gone on with.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn id(&self) -> io::Result<Option<StreamId>> {
        let is_file = self.named && self.source.metadata()?.is_file();
        is_file.then(|| StreamId::of_file(&self.source, self.framing.number())).transpose()
    }

    /// Goes on behind what was sent; the input is not read before that.
    ///
    /// # Errors
    /// [`InputError::Shorter`], or what the operating system says.
    pub fn resume(&mut self, sent: &Sent) -> anyhow::Result<()> {
        let (len, at) = (self.source.metadata()?.len(), self.framing.stream_len(sent));
        if len < at {
            return Err(InputError::Shorter { len, sent: at }.into());
        }
        self.source.seek(SeekFrom::Start(at))?;
        self.count = sent.messages;
        Ok(())
    }

    /// Refuses messages longer than this.
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    /// True once everything has been read.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// The next message that is here already.
    ///
    /// # Errors
    /// [`InputError`]; the input is no use any more.
    #[expect(clippy::should_implement_trait, reason = "it lends the message")]
    pub fn next(&mut self) -> Result<Step<'_>, InputError> {
        let left = &self.buffer[self.used..self.filled];
        // A hostile ring says how many there were.
        let number = self.count.wrapping_add(1);
        let (frame, unterminated) = match self.framing.first(left, self.searched) {
            Some(frame) => (frame, false),
            None if self.at_end && left.is_empty() => return Ok(Step::End),
            None if self.at_end && self.framing == Framing::Len32 => {
                return Err(InputError::CutOff { number, bytes: left.len() });
            }
            None if self.at_end => (Frame { before: 0, len: left.len(), after: 0 }, true),
            None => {
                let at_least = self.framing.at_least(left);
                if at_least > self.max_len {
                    return Err(InputError::TooLarge { number, at_least, max: self.max_len });
                }
                self.searched = left.len();
                return Ok(Step::More);
            }
        };
        if frame.len > self.max_len {
            return Err(InputError::TooLarge { number, at_least: frame.len, max: self.max_len });
        }
        let start = self.used + frame.before;
        self.used += frame.size();
        self.searched = 0;
        self.count = number;
        Ok(Step::Message(&self.buffer[start..start + frame.len], unterminated))
    }

    /// Reads what there is, waiting for it until the program should stop or
    /// the deadline passes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn fill(&mut self, stop: &Stop, deadline: Option<Instant>) -> io::Result<Ready> {
        let ready = stop.wait_readable(self.source.as_fd(), deadline)?;
        if ready == Ready::Readable {
            if self.used > 0 {
                self.buffer.copy_within(self.used..self.filled, 0);
                self.filled -= self.used;
                self.used = 0;
            }
            if self.buffer.len() < self.filled + CHUNK {
                self.buffer.resize(self.filled + CHUNK, 0);
            }
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.filled += count,
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits `bytes`, coming in pieces of `step`, and puts them together again.
    fn through(framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>), InputError> {
        let mut input = Input::new(File::open("/dev/null").unwrap(), framing);
        input.set_max_len(10);
        let (mut messages, mut out) = (Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(step);
        loop {
            match input.next()? {
                Step::Message(payload, unterminated) => {
                    messages.push(payload.to_vec());
                    framing.append(payload, unterminated, &mut out);
                }
                Step::More => match pieces.next() {
                    Some(piece) => {
                        input.buffer.extend_from_slice(piece);
                        input.filled += piece.len();
                    }
                    None => input.at_end = true,
                },
                Step::End => return Ok((messages, out)),
            }
        }
    }

    #[test]
    fn what_goes_in_comes_out_in_every_framing() {
        let len32 = b"\x00\x00\x00\x00\x03\x00\x00\x00abc\x01\x00\x00\x00\n";
        for (framing, bytes, count) in [
            (Framing::Lines, &b"a\n\nb\r\n\xff\n"[..], 4),
            (Framing::Lines, b"a\nb", 2),
            (Framing::Lines, b"", 0),
            (Framing::Lines, b"\n", 1),
            (Framing::Nul, b"a\n\0\0b", 3),
            (Framing::Len32, len32, 3),
            (Framing::Raw(4), b"0123456789", 3),
            (Framing::Raw(5), b"0123456789", 2),
        ] {
            for step in 1..=bytes.len().max(1) {
                let (messages, out) = through(framing, bytes, step).unwrap();
                assert_eq!((messages.len(), &out[..]), (count, bytes), "{framing:?} by {step}");
            }
        }
    }

    #[test]
    fn too_long_and_cut_off_messages_are_named() {
        for step in 1..12 {
            let long = through(Framing::Lines, b"a\n0123456789a\n", step);
            assert!(matches!(long, Err(InputError::TooLarge { number: 2, max: 10, .. })), "{long:?}");
            let long = through(Framing::Len32, b"\xff\xff\xff\xffabc", step);
            assert!(matches!(long, Err(InputError::TooLarge { number: 1, .. })), "{long:?}");
            let cut = through(Framing::Len32, b"\x01\x00\x00\x00a\x02\x00\x00\x00b", step);
            assert!(matches!(cut, Err(InputError::CutOff { number: 2, bytes: 5 })), "{cut:?}");
        }
    }
}
