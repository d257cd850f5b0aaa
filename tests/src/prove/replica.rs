//! The survivors' copy of the lane: what they do to it is taken back.

use std::cell::RefCell;

use shmring::internals::Heap;
use shmring::internals::layout::Word;
use shmring::internals::ring::Memory;

use super::view::{Changes, Image, control_word, data_word};

/// A lane on the heap that follows an image word by word. Loading the whole
/// image at every instruction would cost more than stepping does.
#[derive(Debug)]
pub(crate) struct Replica {
    heap: Heap,
    /// What the survivors overwrote, oldest first.
    log: RefCell<Vec<Old>>,
}

#[derive(Debug, Clone, Copy)]
enum Old {
    Control(Word, u64),
    Data(u64, u64),
}

impl Replica {
    /// A copy of `image`.
    pub(crate) fn new(image: &Image) -> Replica {
        Replica { heap: Heap::from_image(&image.control, &image.data), log: RefCell::default() }
    }

    /// Follows `image`, which has changed by `changes`.
    pub(crate) fn follow(&mut self, image: &Image, changes: &Changes) {
        self.roll_back();
        if changes.control {
            for word in Word::ALL {
                self.heap.store(word, control_word(image, word));
            }
        }
        for &offset in &changes.data {
            self.heap.store_header(offset as u64, data_word(image, offset));
        }
    }

    /// Takes back everything that was done through [`Memory`].
    pub(crate) fn roll_back(&mut self) {
        for old in self.log.get_mut().drain(..).rev() {
            match old {
                Old::Control(word, value) => self.heap.store(word, value),
                Old::Data(position, value) => self.heap.store_header(position, value),
            }
        }
    }

    fn log_control(&self, word: Word) {
        self.log.borrow_mut().push(Old::Control(word, self.heap.load(word)));
    }

    fn log_data(&self, position: u64) {
        self.log.borrow_mut().push(Old::Data(position, self.heap.header_acquire(position)));
    }
}

impl Memory for Replica {
    fn load(&self, word: Word) -> u64 {
        self.heap.load(word)
    }
    fn load_acquire(&self, word: Word) -> u64 {
        self.heap.load_acquire(word)
    }
    fn store(&self, word: Word, value: u64) {
        self.log_control(word);
        self.heap.store(word, value)
    }
    fn store_release(&self, word: Word, value: u64) {
        self.log_control(word);
        self.heap.store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.log_control(word);
        self.heap.replace(word, current, new)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        self.heap.header_acquire(position)
    }
    fn store_header(&self, position: u64, value: u64) {
        self.log_data(position);
        self.heap.store_header(position, value)
    }
    fn store_header_release(&self, position: u64, value: u64) {
        self.log_data(position);
        self.heap.store_header_release(position, value)
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        let lead = position % 8;
        let words = (lead + bytes.len() as u64).div_ceil(8);
        (0..words).for_each(|word| self.log_data(position.wrapping_sub(lead).wrapping_add(8 * word)));
        self.heap.write(position, bytes)
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        self.heap.read(position, bytes)
    }
    fn keep_program_order(&self) {
        self.heap.keep_program_order()
    }
}
