//! The header word of a record.
//!
//! ```text
//!  63            40 39   36 35   32 31                              0
//! +----------------+-------+-------+---------------------------------+
//! | sequence, low  | flags | kind  | payload length + 1; 0 = nothing |
//! +----------------+-------+-------+---------------------------------+
//! ```

const KIND_SHIFT: u32 = 32;
const FLAGS_SHIFT: u32 = 36;
const SEQUENCE_SHIFT: u32 = 40;
const NIBBLE: u64 = 0xF;

/// How many low bits of the sequence a header word carries.
pub const SEQUENCE_BITS: u32 = 64 - SEQUENCE_SHIFT;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

/// Bytes of the header word; also of the zero word after the last record.
pub const HEADER_BYTES: u64 = 8;

/// The flag bits that a record may carry in format 1.0.
pub const KNOWN_FLAGS: u8 = 0b0111;
/// Flag: the input ended without the terminator that the framing asks for.
pub const UNTERMINATED: u8 = 0b0001;

/// Bytes of the ticket that follows the header word in a region of total order.
pub const TICKET_BYTES: u64 = 8;
/// Payload bytes of a gap: how many messages were dropped.
pub const GAP_BYTES: u64 = 8;

/// What a record is. The number 3 (switch) is taken by a later minor version;
/// a reader that meets one it does not know refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message. It takes a sequence number.
    Data = 0,
    /// The producer closed the stream. Empty, and takes no sequence number.
    End = 1,
    /// Messages were dropped here, as many as the payload says. It takes their
    /// sequence numbers.
    Gap = 2,
}

/// A header word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the record is.
    pub kind: Kind,
    /// Flag bits, all known.
    pub flags: u8,
    /// Payload bytes.
    pub len: u32,
    /// The low [`SEQUENCE_BITS`] of the sequence.
    pub sequence_low: u64,
}

/// Builds the word that publishes a record. Never 0.
///
/// `len` is at most `u32::MAX - 1`: a lane's ceiling is checked before.
#[inline(always)]
pub fn encode(kind: Kind, flags: u8, len: u32, sequence: u64) -> u64 {
    (len as u64 + 1)
        | (kind as u64) << KIND_SHIFT
        | (flags as u64 & NIBBLE) << FLAGS_SHIFT
        | sequence << SEQUENCE_SHIFT
}

/// Takes a word that is not 0 apart. `None` if no 1.0 producer writes such a
/// word: no length, an unknown kind, an unknown flag, an end mark with a
/// payload, a gap without a number.
#[inline(always)]
pub fn decode(word: u64) -> Option<Head> {
    let len = (word as u32).checked_sub(1)?;
    let flags = (word >> FLAGS_SHIFT & NIBBLE) as u8;
    let kind = match word >> KIND_SHIFT & NIBBLE {
        0 => Kind::Data,
        1 if len == 0 => Kind::End,
        2 if len as u64 == GAP_BYTES => Kind::Gap,
        _ => return None,
    };
    (flags & !KNOWN_FLAGS == 0).then_some(Head { kind, flags, len, sequence_low: word >> SEQUENCE_SHIFT })
}

/// True if a word is that of the next message, whose sequence is `sequence`.
/// What else it may be, [`decode`] finds out.
#[inline(always)]
pub fn is_message(word: u64, sequence: u64) -> bool {
    let rest = word >> KIND_SHIFT & !((KNOWN_FLAGS as u64) << (FLAGS_SHIFT - KIND_SHIFT));
    let is_next = rest == (sequence & SEQUENCE_MASK) << (SEQUENCE_SHIFT - KIND_SHIFT);
    is_next && word as u32 != 0
}

/// True if a word may be an end mark's: not that of a message or of a gap.
#[inline(always)]
pub fn may_be_end(word: u64) -> bool {
    word >> KIND_SHIFT & NIBBLE == Kind::End as u64
}

/// The flags and the payload length of a word that [`is_message`].
#[inline(always)]
pub fn message(word: u64) -> (u8, u32) {
    ((word >> FLAGS_SHIFT) as u8 & KNOWN_FLAGS, (word as u32).wrapping_sub(1))
}

/// True if `sequence` may be the one whose low bits are `low`.
#[inline(always)]
pub fn carries(low: u64, sequence: u64) -> bool {
    low == sequence & SEQUENCE_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_comes_back_as_it_went_in() {
        for kind in [Kind::Data, Kind::End, Kind::Gap] {
            for flags in 0..=KNOWN_FLAGS {
                for len in [0, 1, 8, 0xFFFF_FFFE] {
                    for sequence in [0, 1, SEQUENCE_MASK, SEQUENCE_MASK + 1, u64::MAX] {
                        let len = match kind {
                            Kind::Data => len,
                            Kind::End => 0,
                            Kind::Gap => GAP_BYTES as u32,
                        };
                        let word = encode(kind, flags, len, sequence);
                        assert_ne!(word, 0);
                        let head = decode(word).unwrap();
                        assert_eq!((head.kind, head.flags, head.len), (kind, flags, len));
                        assert!(carries(head.sequence_low, sequence));
                        assert!(!carries(head.sequence_low, sequence.wrapping_add(1)));
                        assert_eq!(is_message(word, sequence), kind == Kind::Data);
                        assert_eq!(may_be_end(word), kind == Kind::End);
                        assert!(!is_message(word, sequence.wrapping_add(1)));
                        assert_eq!(message(word), (flags, len));
                    }
                }
            }
        }
    }

    #[test]
    fn words_that_nobody_writes_are_refused() {
        assert_eq!(decode(1 << KIND_SHIFT), None, "no length");
        for kind in 3..=15u64 {
            assert_eq!(decode(1 | kind << KIND_SHIFT), None, "kind {kind}");
        }
        assert_eq!(decode(1 | 0b1000 << FLAGS_SHIFT), None, "the reserved flag");
        assert!(!is_message(1 | 0b1000 << FLAGS_SHIFT, 0), "the reserved flag");
        assert!(!is_message(0, 0) && !is_message(0b1 << FLAGS_SHIFT, 0), "no length");
        assert_eq!(decode(2 | 1 << KIND_SHIFT), None, "an end mark with a payload");
        assert_eq!(decode(1 | 2 << KIND_SHIFT), None, "a gap without a number");
    }
}
