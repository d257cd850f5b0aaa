/// Bits of a stamp that count; the ones above say whose message it is.
const COUNT_BITS: u32 = 56;

/// Where cache lines start, and pairs of them that are fetched together.
const LINES: usize = 128;

/// Room for a message, of zeros, that starts where cache lines do. What an
/// allocator gives starts where it may: the length of a contestant's name moved it,
/// and that alone was a quarter of a round trip. It is never freed: a side has a
/// few, and keeps them.
pub fn buffer(size: usize) -> &'static mut [u8] {
    let room = vec![0; size + LINES - 1].leak();
    let start = room.as_ptr().align_offset(LINES);
    &mut room[start..][..size]
}

/// What is sent: messages of one size that carry a stamp at both ends, which is
/// their sender and their number.
#[derive(Debug)]
pub struct Source {
    buffer: &'static mut [u8],
    number: u64,
}

impl Source {
    /// Messages of `size` bytes, at least 8, of that sender.
    pub fn new(size: usize, sender: u32) -> Source {
        assert!(size >= 8, "a message carries its stamp");
        assert!(sender < 256);
        let buffer = buffer(size);
        buffer.fill(0x5a);
        Source { buffer, number: (sender as u64) << COUNT_BITS }
    }

    /// The next message.
    #[inline(always)]
    pub fn next_message(&mut self) -> &[u8] {
        stamp(self.buffer, self.number);
        self.number += 1;
        self.buffer
    }

    /// Writes the next message to `place`, which is as long as it, without
    /// touching anything between its ends: for those who write in place.
    #[inline(always)]
    pub fn stamp(&mut self, place: &mut [u8]) {
        stamp(place, self.number);
        self.number += 1;
    }

    /// The bytes of each message.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }
}

#[inline(always)]
fn stamp(message: &mut [u8], number: u64) {
    let number = number.to_le_bytes();
    message[..8].copy_from_slice(&number);
    let last = message.len() - 8;
    message[last..].copy_from_slice(&number);
}

/// The message in a slot of `N` bytes, at least as many as its own: for queues
/// of things of one type. One of just so many is copied as an array.
#[inline(always)]
pub fn slot<const N: usize>(message: &[u8]) -> [u8; N] {
    match message.try_into() {
        Ok(whole) => whole,
        Err(_) => {
            let mut slot = [0; N];
            slot[..message.len()].copy_from_slice(message);
            slot
        }
    }
}

/// What is wrong with the messages that came.
#[derive(Debug)]
pub struct Check {
    size: usize,
    /// The stamp that each sender's next message has.
    next: Vec<u64>,
    /// Messages that were left out.
    pub lost: u64,
    /// Messages with another length, with two stamps, or with one of before.
    pub wrong: u64,
}

impl Check {
    /// Of messages of `size` bytes from so many senders.
    pub fn new(size: usize, senders: u32) -> Check {
        let next = (0..senders as u64).map(|sender| sender << COUNT_BITS).collect();
        Check { size, next, lost: 0, wrong: 0 }
    }

    /// Looks at the next message.
    #[inline(always)]
    pub fn look(&mut self, message: &[u8]) {
        let stamp = stamp_of(message).filter(|_| message.len() == self.size);
        let next = stamp.and_then(|stamp| self.next.get_mut((stamp >> COUNT_BITS) as usize));
        match (stamp, next) {
            (Some(stamp), Some(next)) if stamp >= *next => {
                self.lost += stamp - *next;
                *next = stamp + 1;
            }
            _ => self.wrong += 1,
        }
    }

    /// Messages that came or were left out, of all senders.
    pub fn seen(&self) -> u64 {
        self.next.iter().map(|next| next & ((1 << COUNT_BITS) - 1)).sum()
    }
}

/// The stamp of a message, if both its ends agree.
#[inline(always)]
fn stamp_of(message: &[u8]) -> Option<u64> {
    let first = u64::from_le_bytes(*message.first_chunk()?);
    let last = u64::from_le_bytes(*message.last_chunk()?);
    (first == last).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_where_cache_lines_do() {
        for size in [0, 8, 100, 4096] {
            let buffer = buffer(size);
            assert_eq!((buffer.len(), buffer.as_ptr().addr() % LINES), (size, 0));
        }
    }

    #[test]
    fn what_is_lost_doubled_or_torn_is_noticed() {
        for size in [8, 16, 100] {
            let [one, two] = [0, 1].map(|sender| {
                let mut source = Source::new(size, sender);
                (0..10).map(|_| source.next_message().to_vec()).collect::<Vec<_>>()
            });
            let mut check = Check::new(size, 2);
            for message in [&one[0], &two[0], &one[1], &one[1], &two[1], &one[4]] {
                check.look(message);
            }
            assert_eq!((check.wrong, check.lost, check.seen()), (1, 2, 7));
            check.look(&one[5][..size - 1]);
            check.look(Source::new(size, 2).next_message());
            assert_eq!((check.wrong, check.lost, check.seen()), (3, 2, 7));
            if size > 8 {
                let mut torn = one[5].clone();
                torn[size - 1] ^= 1;
                check.look(&torn);
                assert_eq!((check.wrong, check.lost, check.seen()), (4, 2, 7));
            }
        }
    }
}
