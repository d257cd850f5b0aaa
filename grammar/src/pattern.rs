//! Messages that can be checked by themselves: `--generate` and `--verify`.
//!
//! ```text
//! 0         8           12                      size
//! | number | CRC32C    | filler made of the number |
//! ```
//!
//! The check sum is over the number and the filler.

use std::fmt;

/// The shortest message that can be checked, in bytes.
pub const MIN_SIZE: usize = 16;

/// Makes messages of one size.
#[derive(Debug)]
pub struct Pattern {
    message: Vec<u8>,
}

impl Pattern {
    /// Messages of `size` bytes, at least [`MIN_SIZE`].
    pub fn new(size: usize) -> Pattern {
        assert!(size >= MIN_SIZE);
        Pattern { message: vec![0; size] }
    }

    /// The message of this number.
    pub fn message(&mut self, number: u64) -> &[u8] {
        let (head, filler) = self.message.split_at_mut(12);
        head[..8].copy_from_slice(&number.to_le_bytes());
        let mut word = number;
        for chunk in filler.chunks_mut(8) {
            word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ 0x5851_F42D;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        let sum = check_sum(&self.message);
        self.message[8..12].copy_from_slice(&sum.to_le_bytes());
        &self.message
    }
}

fn check_sum(message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&message[..8]), &message[12..])
}

/// Counts what is wrong with a stream of such messages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    messages: u64,
    missing: u64,
    duplicated: u64,
    corrupt: u64,
    expected: Option<u64>,
}

impl Tally {
    /// Takes a message that came with this sequence.
    pub fn take(&mut self, sequence: u64, message: &[u8]) {
        self.messages += 1;
        let number = message.first_chunk().map(|n| u64::from_le_bytes(*n));
        let whole = message.len() >= MIN_SIZE && message[8..12] == check_sum(message).to_le_bytes();
        if !whole || number != Some(sequence) {
            self.corrupt += 1;
            return;
        }
        let expected = self.expected.unwrap_or(sequence);
        match sequence.wrapping_sub(expected) as i64 {
            ahead @ 0.. => {
                self.missing += ahead as u64;
                self.expected = Some(sequence.wrapping_add(1));
            }
            _ => self.duplicated += 1,
        }
    }

    /// Takes note that `count` messages from this sequence on were dropped:
    /// those that were not told before are missing.
    pub fn skip(&mut self, sequence: u64, count: u64) {
        let expected = self.expected.unwrap_or(sequence);
        let after = sequence.wrapping_add(count);
        if let ahead @ 0.. = after.wrapping_sub(expected) as i64 {
            self.missing += ahead as u64;
            self.expected = Some(after);
        }
    }

    /// A tally of what comes behind.
    pub fn next(&self) -> Tally {
        Tally { expected: self.expected, ..Tally::default() }
    }

    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        (self.missing, self.duplicated, self.corrupt) == (0, 0, 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { messages, missing, duplicated, corrupt, .. } = self;
        write!(f, "messages={messages} missing={missing} duplicated={duplicated} corrupt={corrupt}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        for size in [16, 17, 64, 1000] {
            let mut pattern = Pattern::new(size);
            let mut tally = Tally::default();
            for number in [5, 6, 7, 9, 8, 10] {
                tally.take(number, pattern.message(number));
            }
            assert!(!tally.is_clean());
            assert_eq!(tally.to_string(), "messages=6 missing=1 duplicated=1 corrupt=0");
            for at in 0..size {
                let mut bad = pattern.message(11).to_vec();
                bad[at] ^= 1;
                tally.take(11, &bad);
            }
            tally.take(11, pattern.message(12));
            tally.take(11, b"");
            assert_eq!(tally.corrupt, size as u64 + 2);
        }
    }

    #[test]
    fn what_was_dropped_is_missing_once() {
        let mut pattern = Pattern::new(MIN_SIZE);
        let mut tally = Tally::default();
        tally.skip(3, 2);
        tally.take(5, pattern.message(5));
        // Told at a death, and again with what its successor dropped.
        tally.skip(6, 3);
        tally.skip(6, 5);
        tally.take(11, pattern.message(11));
        // Lost before the gap.
        tally.skip(13, 1);
        assert_eq!(tally.to_string(), "messages=2 missing=9 duplicated=0 corrupt=0");
    }
}
