//! Framings: how messages are told apart in a stream of bytes.

use std::str::FromStr;

use shmring::Sent;

use crate::units::parse_size;

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each ends with a newline.
    Lines,
    /// Each ends with a zero byte.
    Nul,
    /// Each begins with its length, 4 bytes little-endian.
    Len32,
    /// Blocks of so many bytes; the last one may be shorter.
    Raw(usize),
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Framing, String> {
        let block =
            |size: &str| parse_size(size).ok().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        match text {
            "lines" => Ok(Framing::Lines),
            "nul" => Ok(Framing::Nul),
            "len32" => Ok(Framing::Len32),
            _ => text.strip_prefix("raw:").and_then(block).map(Framing::Raw).ok_or_else(|| {
                "a framing is lines, nul, len32, or raw:N with a block size N above 0".to_owned()
            }),
        }
    }
}

/// Where the first message of some bytes lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Bytes before the payload.
    pub(crate) before: usize,
    /// Bytes of the payload.
    pub(crate) len: usize,
    /// Bytes after the payload.
    pub(crate) after: usize,
}

impl Frame {
    /// Bytes in all.
    pub(crate) fn size(&self) -> usize {
        self.before + self.len + self.after
    }
}

impl Framing {
    /// The first message of `bytes`, if it is whole. `searched` bytes are
    /// known to hold no terminator.
    pub(crate) fn first(self, bytes: &[u8], searched: usize) -> Option<Frame> {
        match self {
            Framing::Lines | Framing::Nul => {
                let len = searched + memchr::memchr(self.terminator()?, &bytes[searched..])?;
                Some(Frame { before: 0, len, after: 1 })
            }
            Framing::Len32 => {
                let len = self.announced(bytes)?;
                (bytes.len() - 4 >= len).then_some(Frame { before: 4, len, after: 0 })
            }
            Framing::Raw(len) => (bytes.len() >= len).then_some(Frame { before: 0, len, after: 0 }),
        }
    }

    /// The least that the first message of `bytes`, not whole yet, must have.
    pub(crate) fn at_least(self, bytes: &[u8]) -> usize {
        match self {
            Framing::Lines | Framing::Nul | Framing::Raw(_) => bytes.len(),
            Framing::Len32 => self.announced(bytes).unwrap_or(0),
        }
    }

    fn announced(self, bytes: &[u8]) -> Option<usize> {
        let (length, _) = bytes.split_first_chunk::<4>()?;
        Some(u32::from_le_bytes(*length) as usize)
    }

    /// Bytes of the stream that holds what was sent of it.
    pub(crate) fn stream_len(self, sent: &Sent) -> u64 {
        let around = match self {
            Framing::Lines | Framing::Nul => sent.messages.wrapping_sub(sent.unterminated),
            Framing::Len32 => sent.messages.wrapping_mul(4),
            Framing::Raw(_) => 0,
        };
        sent.bytes.wrapping_add(around)
    }

    /// A number that tells this framing from every other.
    pub fn number(self) -> u64 {
        match self {
            Framing::Lines => 1,
            Framing::Nul => 2,
            Framing::Len32 => 3,
            Framing::Raw(size) => 4 + ((size as u64) << 3),
        }
    }

    fn terminator(self) -> Option<u8> {
        match self {
            Framing::Lines => Some(b'\n'),
            Framing::Nul => Some(0),
            Framing::Len32 | Framing::Raw(_) => None,
        }
    }

    /// Appends a message as this framing writes it.
    pub fn append(self, payload: &[u8], unterminated: bool, out: &mut Vec<u8>) {
        if self == Framing::Len32 {
            out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        }
        out.extend_from_slice(payload);
        if let Some(terminator) = self.terminator()
            && !unterminated
        {
            out.push(terminator);
        }
    }
}
