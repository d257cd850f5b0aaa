//! A lane on the heap: for tests, models of a crash, and rings inside a process.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use crate::layout::blocks::{control, lane};
use crate::layout::{Place, Slot, Word};
use crate::ring::{Memory, Shape};

/// A lane's words as ordinary atomics. Safe code throughout, so that Miri can
/// watch the ring at work.
#[derive(Debug)]
pub struct Heap {
    /// The words of the whole region, which lanes share.
    region: Arc<[AtomicU64]>,
    control: Box<[AtomicU64]>,
    data: Box<[AtomicU64]>,
}

fn words(bytes: &[u8]) -> Box<[AtomicU64]> {
    let (words, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "whole words");
    words.iter().map(|w| AtomicU64::new(u64::from_le_bytes(*w))).collect()
}

impl Heap {
    /// A fresh lane whose first record goes to `position` and carries `sequence`.
    pub fn new(shape: Shape, position: u64, sequence: u64) -> Heap {
        let data = vec![0; shape.capacity as usize];
        let heap = Heap::from_image(&[0; control::LEN], &[0; lane::STRIDE], &data);
        heap.refresh(position, sequence)
    }

    /// A further lane of the same region.
    pub fn beside(&self, position: u64, sequence: u64) -> Heap {
        let words = |len: usize| (0..len).map(|_| AtomicU64::new(0)).collect();
        let (control, data) = (words(self.control.len()), words(self.data.len()));
        Heap { region: self.region.clone(), control, data }.refresh(position, sequence)
    }

    fn refresh(self, position: u64, sequence: u64) -> Heap {
        for (word, value) in fresh_lane(position, sequence) {
            self.store(word, value);
        }
        self
    }

    /// The lane that these bytes of a region file hold: the region's control
    /// block of [`control::LEN`] bytes, the lane's of [`lane::STRIDE`] bytes,
    /// and its data, a power of two.
    pub fn from_image(region: &[u8], control: &[u8], data: &[u8]) -> Heap {
        assert!(region.len() == control::LEN && control.len() == lane::STRIDE);
        assert!(data.len().is_power_of_two() && data.len() >= 8);
        Heap { region: words(region).into(), control: words(control), data: words(data) }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        match word.place() {
            Place::Region(at) => &self.region[at / 8],
            Place::Lane(at) => &self.control[at / 8],
        }
    }

    fn data(&self, position: u64) -> &AtomicU64 {
        let words = self.data.len() as u64;
        &self.data[((position / 8) & (words - 1)) as usize]
    }
}

/// The control words of a fresh lane that are not zero.
pub(crate) fn fresh_lane(position: u64, sequence: u64) -> [(Word, u64); 9] {
    use Slot::{A, B};
    [
        (Word::CheckTail(A), position),
        (Word::CheckSequence(A), sequence),
        (Word::TailHint, position),
        (Word::SequenceHint, sequence),
        (Word::Head, position),
        // Whatever the region's generation is when it comes into use.
        (Word::HeadPosition(A), position),
        (Word::HeadSequence(A), sequence),
        (Word::HeadPosition(B), position),
        (Word::HeadSequence(B), sequence),
    ]
}

impl Memory for Heap {
    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }
    fn load_acquire(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }
    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed)
    }
    fn store_release(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.word(word).compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
    fn add(&self, word: Word, value: u64) -> u64 {
        self.word(word).fetch_add(value, Ordering::Release)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        self.data(position).load(Ordering::Acquire)
    }
    fn header(&self, position: u64) -> u64 {
        self.data(position).load(Ordering::Relaxed)
    }
    fn store_header(&self, position: u64, value: u64) {
        self.data(position).store(value, Ordering::Relaxed)
    }
    fn store_header_release(&self, position: u64, value: u64) {
        self.data(position).store(value, Ordering::Release)
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        each_word(position, bytes.len(), |at, inside, part| {
            let word = self.data(at);
            let mut value = word.load(Ordering::Relaxed).to_le_bytes();
            value[inside].copy_from_slice(&bytes[part]);
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        });
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        each_word(position, bytes.len(), |at, inside, part| {
            let value = self.data(at).load(Ordering::Relaxed).to_le_bytes();
            bytes[part].copy_from_slice(&value[inside]);
        });
    }
    fn keep_program_order(&self) {
        compiler_fence(Ordering::SeqCst);
    }
}

/// Calls `touch` for every word that `len` bytes from `position` on lie in:
/// with a position in it, the bytes inside the word and the part of the whole.
fn each_word(position: u64, len: usize, mut touch: impl FnMut(u64, Range<usize>, Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = position.wrapping_add(done as u64);
        let inside = (at % 8) as usize;
        let count = (8 - inside).min(len - done);
        touch(at, inside..inside + count, done..done + count);
        done += count;
    }
}
