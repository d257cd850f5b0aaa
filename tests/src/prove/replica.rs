//! The survivors' copy of the lanes: what they do to it is taken back.

use std::cell::RefCell;

use shmring::internals::Heap;
use shmring::internals::layout::{Place, Word};
use shmring::internals::ring::Memory;

use super::view::{Changes, Image};

/// Lanes on the heap that follow an image word by word. Loading the whole
/// image at every instruction would cost more than stepping does.
#[derive(Debug)]
pub(crate) struct Replica {
    lanes: Vec<Heap>,
    /// What the survivors overwrote, oldest first.
    log: RefCell<Vec<Old>>,
}

#[derive(Debug, Clone, Copy)]
enum Old {
    Control(usize, Word, u64),
    Data(usize, u64, u64),
}

impl Replica {
    /// A copy of `image`.
    pub(crate) fn new(image: &Image) -> Replica {
        let first = Heap::from_image(image.region(), image.block(0), image.ring(0));
        let further: Vec<_> = (1..image.lanes()).map(|_| first.beside(0, 0)).collect();
        let lanes = std::iter::once(first).chain(further).collect();
        let mut replica = Replica { lanes, log: RefCell::default() };
        let all = |lane| (0..image.ring(lane).len()).step_by(8).map(move |offset| (lane, offset));
        replica.follow(image, &Changes { control: true, data: (1..image.lanes()).flat_map(all).collect() });
        replica
    }

    /// One of the lanes, to work on.
    pub(crate) fn lane(&self, lane: usize) -> LaneCopy<'_> {
        LaneCopy { replica: self, lane, heap: &self.lanes[lane] }
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Follows `image`, which has changed by `changes`.
    pub(crate) fn follow(&mut self, image: &Image, changes: &Changes) {
        self.roll_back();
        if changes.control {
            for (lane, heap) in self.lanes.iter().enumerate() {
                let own = |word: &Word| lane == 0 || matches!(word.place(), Place::Lane(_));
                for word in Word::ALL.into_iter().filter(own) {
                    heap.store(word, image.word(lane, word));
                }
            }
        }
        for &(lane, offset) in &changes.data {
            self.lanes[lane].store_header(offset as u64, image.data_word(lane, offset));
        }
    }

    /// Takes back everything that was done through [`Memory`].
    pub(crate) fn roll_back(&mut self) {
        for old in self.log.get_mut().drain(..).rev() {
            match old {
                Old::Control(lane, word, value) => self.lanes[lane].store(word, value),
                Old::Data(lane, position, value) => self.lanes[lane].store_header(position, value),
            }
        }
    }
}

/// A lane of a [`Replica`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneCopy<'a> {
    replica: &'a Replica,
    lane: usize,
    heap: &'a Heap,
}

impl LaneCopy<'_> {
    fn log_control(&self, word: Word) {
        self.replica.log.borrow_mut().push(Old::Control(self.lane, word, self.heap.load(word)));
    }

    fn log_data(&self, position: u64) {
        let old = Old::Data(self.lane, position, self.heap.header_acquire(position));
        self.replica.log.borrow_mut().push(old);
    }
}

impl Memory for LaneCopy<'_> {
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
    fn add(&self, word: Word, value: u64) -> u64 {
        self.log_control(word);
        self.heap.add(word, value)
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
