//! A region's file as the harness sees it: bytes to compare and to copy, and a
//! `Memory` of its own for the rings with a planted bug.
#![allow(unsafe_code)] // a mapping of memory that another process writes

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use anyhow::{Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use shmring::internals::layout::blocks::lane;
use shmring::internals::layout::{Geometry, Word};
use shmring::internals::ring::Memory;

/// Bytes that are compared at once when something has changed.
const CHUNK: usize = 1024;

/// One lane of a region file, mapped once.
#[derive(Debug)]
pub(crate) struct View {
    map: MmapRaw,
    lane_at: usize,
    data_at: usize,
    capacity: usize,
}

/// A private copy of the lane's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The control block.
    pub(crate) control: Vec<u8>,
    /// The ring.
    pub(crate) data: Vec<u8>,
}

/// What differs from an [`Image`].
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Any word of the control block.
    pub(crate) control: bool,
    /// Offsets of the words of the ring.
    pub(crate) data: Vec<usize>,
}

impl Changes {
    /// True if nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        !self.control && self.data.is_empty()
    }
}

impl View {
    /// Maps lane 0 of a region file.
    pub(crate) fn new(file: &File, geometry: &Geometry) -> Result<View> {
        let len = geometry.file_len() as usize;
        ensure!(file.metadata()?.len() == len as u64, "the file has another length");
        let (lane_at, data_at) = (geometry.lane_offset(0) as usize, geometry.data_offset(0) as usize);
        let capacity = geometry.capacity() as usize;
        ensure!(lane_at.is_multiple_of(8) && data_at.is_multiple_of(8) && capacity.is_power_of_two());
        ensure!(lane_at + lane::STRIDE <= data_at && data_at + capacity <= len && capacity >= 8);
        Ok(View { map: MmapOptions::new().len(len).map_raw(file)?, lane_at, data_at, capacity })
    }

    /// The bytes now. Nobody may be writing: the stepped process is stopped,
    /// and this process's own handles are used only between two scenarios.
    fn bytes(&self) -> (&[u8], &[u8]) {
        // SAFETY: `new` checked that both ranges lie inside the mapping. No
        // byte changes while the slices live: they never leave this module,
        // where every use of them ends before the stepped process goes on.
        unsafe {
            let base = self.map.as_ptr();
            (
                std::slice::from_raw_parts(base.add(self.lane_at), lane::STRIDE),
                std::slice::from_raw_parts(base.add(self.data_at), self.capacity),
            )
        }
    }

    /// A copy of the bytes as they are.
    pub(crate) fn image(&self) -> Image {
        let (control, data) = self.bytes();
        Image { control: control.to_vec(), data: data.to_vec() }
    }

    /// Brings `image` up to date and says what was different.
    pub(crate) fn refresh(&self, image: &mut Image, changes: &mut Changes) {
        let (control, data) = self.bytes();
        changes.control = control != image.control;
        changes.data.clear();
        if changes.control {
            image.control.copy_from_slice(control);
        }
        if data == image.data {
            return;
        }
        for (i, (now, seen)) in data.chunks(CHUNK).zip(image.data.chunks_mut(CHUNK)).enumerate() {
            if now == seen {
                continue;
            }
            let words = now.chunks(8).zip(seen.chunks(8)).enumerate();
            let changed = words.filter(|(_, (now, seen))| now != seen);
            changes.data.extend(changed.map(|(word, _)| i * CHUNK + word * 8));
            seen.copy_from_slice(now);
        }
    }

    /// Makes the lane what it was. Nobody else may be using it.
    pub(crate) fn restore(&self, image: &Image) {
        let (control, data) = (&image.control[..lane::STRIDE], &image.data[..self.capacity]);
        // SAFETY: `new` checked that both ranges lie inside the mapping, and
        // the slices are as long; a private copy does not overlap the mapping.
        unsafe {
            let base = self.map.as_mut_ptr();
            base.add(self.lane_at).copy_from_nonoverlapping(control.as_ptr(), control.len());
            base.add(self.data_at).copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: `new` checked that the lane's block lies inside the mapping,
        // aligned to 8; a word's offset is a multiple of 8 inside the block.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(self.lane_at + word.offset()).cast()) }
    }

    fn data(&self, position: u64) -> &AtomicU64 {
        let at = position as usize & (self.capacity - 1) & !7;
        // SAFETY: `at` is a multiple of 8 below the capacity, a power of two;
        // `new` checked that the ring lies inside the mapping, aligned to 8.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(self.data_at + at).cast()) }
    }
}

/// The word that `image` holds at an offset of the ring.
pub(crate) fn data_word(image: &Image, offset: usize) -> u64 {
    u64::from_le_bytes(image.data[offset..offset + 8].try_into().expect("8 bytes"))
}

/// What `image` holds of a control word.
pub(crate) fn control_word(image: &Image, word: Word) -> u64 {
    let at = word.offset();
    u64::from_le_bytes(image.control[at..at + 8].try_into().expect("8 bytes"))
}

impl Memory for View {
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
    /// Payloads start at a word here; the padding after them is kept.
    fn write(&self, position: u64, bytes: &[u8]) {
        for (i, part) in bytes.chunks(8).enumerate() {
            let word = self.data(position.wrapping_add(8 * i as u64));
            let mut value = word.load(Ordering::Relaxed).to_le_bytes();
            value[..part.len()].copy_from_slice(part);
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        for (i, part) in bytes.chunks_mut(8).enumerate() {
            let value = self.data(position.wrapping_add(8 * i as u64)).load(Ordering::Relaxed).to_le_bytes();
            part.copy_from_slice(&value[..part.len()]);
        }
    }
    fn keep_program_order(&self) {
        compiler_fence(Ordering::SeqCst);
    }
}
