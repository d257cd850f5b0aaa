//! One lane of a mapped region.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};

use super::copy::{copy_in, copy_out};
use crate::layout::blocks::{control, lane, owner};
use crate::layout::{Geometry, Word};
use crate::os::advice::{self, MapOptions};
use crate::os::guard::Guard;
use crate::os::mirror::Mirror;
use crate::ring::Memory;

/// A lane's control block and its data, mapped twice back to back.
#[derive(Debug)]
pub struct Mapping {
    /// Dropped before what it guards.
    guard: Option<Guard>,
    /// Everything before the lanes' data.
    control: MmapRaw,
    data: Mirror,
    lane_at: usize,
    control_at: usize,
    capacity: u64,
}

/// One of the region's two sleep words.
#[derive(Debug, Clone, Copy)]
pub enum SleepWord {
    /// All producers wake this one.
    Consumer,
    /// The lane's consumer wakes this one.
    Producer,
}

impl Mapping {
    /// Maps one lane as `options` say. `geometry` has been verified against the
    /// length of `file`.
    pub fn new(file: &File, geometry: &Geometry, lane: u32, options: &MapOptions) -> io::Result<Mapping> {
        let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let control_len = usize::try_from(geometry.data_offset(0)).map_err(too_large)?;
        let capacity = geometry.capacity();
        let mut mapping = Mapping {
            guard: None,
            control: MmapOptions::new().len(control_len).map_raw(file)?,
            data: Mirror::new(
                file,
                geometry.data_offset(lane),
                usize::try_from(capacity).map_err(too_large)?,
                geometry.data_align() as usize,
            )?,
            lane_at: geometry.lane_offset(lane) as usize,
            control_at: geometry.control_offset() as usize,
            capacity,
        };
        // What the accesses below rely on.
        assert!(mapping.lane_at.is_multiple_of(8) && mapping.lane_at + lane::STRIDE <= control_len);
        assert!(mapping.control_at.is_multiple_of(8) && mapping.control_at + control::LEN <= control_len);
        assert!(capacity.is_power_of_two() && capacity >= 8 && mapping.data.len() as u64 == capacity);
        if options.guard {
            // SAFETY: the field is dropped before the two, by their order.
            mapping.guard = Some(unsafe { Guard::new(&mapping.control, &mapping.data)? });
        }
        advice::apply(options, file, &mapping.control, &mapping.data)?;
        Ok(mapping)
    }

    /// True if a touch found that the file had been truncated; only a guarded
    /// mapping lives to tell. What was read or written since the last look may
    /// have been private zeros. Never false again.
    #[inline(always)]
    pub(crate) fn is_cut(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_cut)
    }

    #[inline(always)]
    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: `new` checked that the lane's block lies inside the mapping;
        // every word's offset is a multiple of 8 inside the block (compile-time
        // assert in layout); this word is only ever accessed as AtomicU64.
        unsafe { AtomicU64::from_ptr(self.control.as_mut_ptr().add(self.lane_at + word.offset()).cast()) }
    }

    /// The header word at a position: whole words only, in the first alias.
    #[inline(always)]
    fn header(&self, position: u64) -> &AtomicU64 {
        let at = position & (self.capacity - 1) & !7;
        // SAFETY: `at` is a multiple of 8 below the capacity, a power of two of
        // at least 8, so the word lies inside the first alias, which is
        // page-aligned. Payload bytes there are accessed through `copy` only.
        unsafe { AtomicU64::from_ptr(self.data.base().as_ptr().add(at as usize).cast()) }
    }

    /// Where `len` payload bytes at a position are: they may run into the
    /// second alias. Panics if they are more than the ring has.
    #[inline(always)]
    fn payload(&self, position: u64, len: usize) -> *mut u8 {
        assert!(len as u64 <= self.capacity);
        let at = position & (self.capacity - 1);
        // SAFETY: at < capacity and len <= capacity, so [at, at + len) lies
        // inside the two aliases.
        unsafe { self.data.base().as_ptr().add(at as usize) }
    }

    /// A sleep word.
    #[inline(always)]
    pub fn sleep_word(&self, which: SleepWord) -> &AtomicU32 {
        let at = match which {
            SleepWord::Consumer => self.control_at + control::CONSUMER_SLEEP.offset,
            SleepWord::Producer => self.lane_at + lane::PRODUCER_SLEEP.offset,
        };
        // SAFETY: `new` checked that both blocks lie inside the mapping; both
        // fields are aligned to 4; they are only ever accessed as AtomicU32.
        unsafe { AtomicU32::from_ptr(self.control.as_mut_ptr().add(at).cast()) }
    }

    /// Writes words for people into an owner slot at `offset` of the file.
    pub(crate) fn write_owner(&self, offset: u64, words: [u64; 7]) {
        let at = offset as usize;
        assert!(at.is_multiple_of(8) && at + owner::STRIDE <= self.control.len());
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: 7 words from `at` on lie inside the slot, which was just
            // checked to lie inside the mapping, aligned to 8.
            unsafe { AtomicU64::from_ptr(self.control.as_mut_ptr().add(at).cast::<u64>().add(i)) }
                .store(word, Ordering::Relaxed);
        }
    }
}

impl Memory for Mapping {
    #[inline(always)]
    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn load_acquire(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }
    #[inline(always)]
    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_release(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.word(word).compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
    #[inline(always)]
    fn header_acquire(&self, position: u64) -> u64 {
        self.header(position).load(Ordering::Acquire)
    }
    #[inline(always)]
    fn store_header(&self, position: u64, value: u64) {
        self.header(position).store(value, Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_header_release(&self, position: u64, value: u64) {
        self.header(position).store(value, Ordering::Release)
    }
    #[inline(always)]
    fn write(&self, position: u64, bytes: &[u8]) {
        let shared = self.payload(position, bytes.len());
        // SAFETY: `payload` gives a place of `bytes.len()` valid shared bytes;
        // a slice is valid and nobody changes it.
        unsafe { copy_in(shared, bytes.as_ptr(), bytes.len()) };
        // The words of a short copy went through the second alias, which the
        // compiler takes for other memory than the header that follows.
        compiler_fence(Ordering::Release);
    }
    #[inline(always)]
    fn read(&self, position: u64, bytes: &mut [u8]) {
        let shared = self.payload(position, bytes.len());
        // SAFETY: as in `write`; the slice is ours alone.
        unsafe { copy_out(shared, bytes.as_mut_ptr(), bytes.len()) };
    }
    #[inline(always)]
    fn keep_program_order(&self) {
        compiler_fence(Ordering::SeqCst);
    }
}
