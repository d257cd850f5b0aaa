use crate::Result;

/// Bytes that are taken from a stream at once, if so many are there.
const PIECE: usize = 64 << 10;

/// Cuts messages of one size out of a stream of bytes, as whoever reads a stream
/// does: many at once, then one by one.
#[derive(Debug)]
pub struct Cutter {
    buffer: Vec<u8>,
    size: usize,
    start: usize,
    end: usize,
}

impl Cutter {
    /// Of messages of `size` bytes.
    pub fn new(size: usize) -> Cutter {
        Cutter { buffer: vec![0; size.max(PIECE)], size, start: 0, end: 0 }
    }

    /// The next message. `fill` waits for bytes, writes what there is to the
    /// place that it is given, and says how many it wrote.
    #[inline(always)]
    pub fn next_message(&mut self, mut fill: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<&[u8]> {
        if self.end - self.start < self.size {
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if self.start + self.size > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            while self.end - self.start < self.size {
                self.end += fill(&mut self.buffer[self.end..])?;
            }
        }
        let message = &self.buffer[self.start..self.start + self.size];
        self.start += self.size;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_the_bytes_come() {
        for (size, piece) in [(8, 3), (8, PIECE), (100, 7), (100, PIECE), (PIECE + 5, 1000)] {
            let mut bytes = (0..size * 2000).map(|at| (at % 251) as u8);
            let mut cutter = Cutter::new(size);
            for number in 0..size.min(2000) {
                let message = cutter
                    .next_message(|place| {
                        let count = place.len().min(piece);
                        place[..count].fill_with(|| bytes.next().unwrap_or(255));
                        Ok(count)
                    })
                    .unwrap();
                let expected = (size * number..size * (number + 1)).map(|at| (at % 251) as u8);
                assert!(message.iter().copied().eq(expected), "message {number} of {size} bytes");
                if number * size > 4 * PIECE {
                    break;
                }
            }
        }
    }
}
