//! Messages that say who sent them, and show if they are torn.

use anyhow::{Context, Result, ensure};

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) producer: u32,
    pub(crate) incarnation: u32,
    /// Its number among its producer's.
    pub(crate) number: u64,
}

/// Bytes of a message with nothing else in it.
pub(crate) const LEAST: usize = 20;

impl Words {
    /// A message of `len` bytes.
    pub(crate) fn write(self, bytes: &mut Vec<u8>, len: usize) {
        bytes.clear();
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.incarnation.to_le_bytes());
        bytes.extend(self.producer.to_le_bytes());
        bytes.resize(len.max(LEAST) - 4, self.number as u8);
        bytes.extend(crc32c::crc32c(bytes).to_le_bytes());
    }

    /// Fails if the message is torn.
    pub(crate) fn read(bytes: &[u8]) -> Result<Words> {
        let (body, sum) = bytes.split_last_chunk::<4>().context("a short message")?;
        ensure!(bytes.len() >= LEAST && *sum == crc32c::crc32c(body).to_le_bytes(), "torn: {bytes:?}");
        let half = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes"));
        let number = u64::from_le_bytes(body[..8].try_into().expect("eight bytes"));
        Ok(Words { producer: half(12), incarnation: half(8), number })
    }
}
