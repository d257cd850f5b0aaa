//! A lane on the heap: for tests, models of a crash, and rings inside a process.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use crate::layout::Word;
use crate::layout::blocks::lane;
use crate::ring::{Memory, Shape};

/// A lane's words as ordinary atomics. Safe code throughout, so that Miri can
/// watch the ring at work.
#[derive(Debug)]
pub struct Heap {
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
        let heap = Heap::from_image(&[0; lane::STRIDE], &vec![0; shape.capacity as usize]);
        for (word, value) in fresh_lane(position, sequence) {
            heap.store(word, value);
        }
        heap
    }

    /// The lane that these bytes of a region file hold: its control block of
    /// [`lane::STRIDE`] bytes and its data, a power of two.
    pub fn from_image(control: &[u8], data: &[u8]) -> Heap {
        assert!(control.len() == lane::STRIDE && data.len().is_power_of_two() && data.len() >= 8);
        Heap { control: words(control), data: words(data) }
    }

    /// Overwrites the lane with these bytes, sized as [`Heap::from_image`] was.
    pub fn load_image(&mut self, control: &[u8], data: &[u8]) {
        for (to, from) in [(&mut self.control, control), (&mut self.data, data)] {
            let (words, _) = from.as_chunks::<8>();
            assert_eq!(to.len(), words.len());
            to.iter_mut().zip(words).for_each(|(to, from)| *to.get_mut() = u64::from_le_bytes(*from));
        }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        &self.control[word.offset() / 8]
    }

    fn data(&self, position: u64) -> &AtomicU64 {
        let words = self.data.len() as u64;
        &self.data[((position / 8) & (words - 1)) as usize]
    }
}

/// The control words of a fresh lane that are not zero.
pub(crate) fn fresh_lane(position: u64, sequence: u64) -> [(Word, u64); 7] {
    use crate::layout::Slot::A;
    [
        (Word::CheckTail(A), position),
        (Word::CheckSequence(A), sequence),
        (Word::TailHint, position),
        (Word::SequenceHint, sequence),
        (Word::Head, position),
        (Word::HeadPosition(A), position),
        (Word::HeadSequence(A), sequence),
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
    fn header_acquire(&self, position: u64) -> u64 {
        self.data(position).load(Ordering::Acquire)
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
