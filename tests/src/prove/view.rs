//! A region's file as the harness sees it: bytes to compare and to copy, and a
//! `Memory` of its own for the rings with a planted bug.
#![allow(unsafe_code)] // a mapping of memory that another process writes

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use anyhow::{Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::blocks::{control, lane};
use shmring::internals::layout::{Geometry, Place, Word};
use shmring::internals::ring::Memory;

/// Bytes that are compared at once when something has changed.
const CHUNK: usize = 1024;

/// The lanes of a region file, mapped once.
#[derive(Debug)]
pub(crate) struct View {
    file: File,
    map: MmapRaw,
    /// Where the control blocks are, the region's and the lanes', one piece.
    control_at: usize,
    control_len: usize,
    lanes_at: usize,
    lanes: usize,
    data_at: usize,
    capacity: usize,
}

/// A private copy of the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The region's control block and those of the lanes.
    control: Vec<u8>,
    /// Where each lane's block is in there.
    lanes_at: usize,
    /// The rings. One that has no space yet is not looked at: zeros.
    data: Vec<Vec<u8>>,
    /// Bytes of disk or memory that the file took when a lane was found to be
    /// ready: before it was looked at, which may take some.
    space: u64,
}

/// What differs from an [`Image`].
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Any word of the control blocks.
    pub(crate) control: bool,
    /// Lanes, and offsets of the words of their rings.
    pub(crate) data: Vec<(usize, usize)>,
}

impl Changes {
    /// True if nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        !self.control && self.data.is_empty()
    }
}

impl Image {
    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.data.len()
    }

    /// What it holds of a control word.
    pub(crate) fn word(&self, lane: usize, word: Word) -> u64 {
        let at = match word.place() {
            Place::Region(at) => at,
            Place::Lane(at) => self.lanes_at + lane * lane::STRIDE + at,
        };
        u64::from_le_bytes(self.control[at..at + 8].try_into().expect("8 bytes"))
    }

    /// The region's control block.
    pub(crate) fn region(&self) -> &[u8] {
        &self.control[..control::LEN]
    }

    /// A lane's control block.
    pub(crate) fn block(&self, lane: usize) -> &[u8] {
        &self.control[self.lanes_at + lane * lane::STRIDE..][..lane::STRIDE]
    }

    /// A lane's ring.
    pub(crate) fn ring(&self, lane: usize) -> &[u8] {
        &self.data[lane]
    }

    /// The word that it holds at an offset of a ring.
    pub(crate) fn data_word(&self, lane: usize, offset: usize) -> u64 {
        u64::from_le_bytes(self.data[lane][offset..offset + 8].try_into().expect("8 bytes"))
    }

    /// Bytes that the file took when a lane became ready.
    pub(crate) fn space(&self) -> u64 {
        self.space
    }

    /// True if the lane's ring is said to have its space.
    pub(crate) fn is_ready(&self, lane: usize) -> bool {
        self.word(lane, Word::Ready) == 1
    }
}

impl View {
    /// Maps a region file.
    pub(crate) fn new(file: File, geometry: &Geometry) -> Result<View> {
        let len = geometry.file_len() as usize;
        ensure!(file.metadata()?.len() == len as u64, "the file has another length");
        let (control_at, lanes_at) = (geometry.control_offset() as usize, geometry.lane_offset(0) as usize);
        let (data_at, capacity) = (geometry.data_offset(0) as usize, geometry.capacity() as usize);
        let lanes = geometry.lane_count() as usize;
        ensure!(lanes_at.is_multiple_of(8) && data_at.is_multiple_of(8) && capacity.is_power_of_two());
        ensure!(control_at.is_multiple_of(8) && control_at + control::LEN <= lanes_at);
        let control_end = lanes_at + lanes * lane::STRIDE;
        ensure!(control_end <= data_at && data_at + lanes * capacity <= len && capacity >= 8);
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        let control_len = control_end - control_at;
        Ok(View { file, map, control_at, control_len, lanes_at, lanes, data_at, capacity })
    }

    /// One of the lanes, to work on.
    pub(crate) fn lane(&self, lane: usize) -> LaneView<'_> {
        assert!(lane < self.lanes);
        LaneView { view: self, lane }
    }

    /// Where a lane's ring is in the file.
    pub(crate) fn ring_at(&self, lane: usize) -> usize {
        self.data_at + lane * self.capacity
    }

    /// Bytes of disk or memory that the file takes.
    pub(crate) fn space(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.blocks() * 512)
    }

    /// The control blocks now. Nobody may be writing: the stepped process is
    /// stopped, and this process's own handles are used only between scenarios.
    fn control(&self) -> &[u8] {
        // SAFETY: `new` checked that the range lies inside the mapping. No byte
        // changes while the slice lives: it never leaves this module, where
        // every use of it ends before the stepped process goes on.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.control_at), self.control_len) }
    }

    /// A lane's ring now; as [`control`](Self::control).
    fn ring(&self, lane: usize) -> &[u8] {
        assert!(lane < self.lanes);
        // SAFETY: as in `control`, with all lanes' rings inside the mapping.
        unsafe {
            let base = self.map.as_ptr().add(self.ring_at(lane));
            std::slice::from_raw_parts(base, self.capacity)
        }
    }

    /// A copy of the bytes as they are.
    pub(crate) fn image(&self) -> Image {
        let control = vec![0; self.control_len];
        let data = vec![vec![0; self.capacity]; self.lanes];
        let mut image = Image { control, lanes_at: self.lanes_at - self.control_at, data, space: 0 };
        self.refresh(&mut image, &mut Changes::default());
        image
    }

    /// Brings `image` up to date and says what was different.
    pub(crate) fn refresh(&self, image: &mut Image, changes: &mut Changes) {
        let control = self.control();
        changes.control = control != image.control;
        changes.data.clear();
        if changes.control {
            let ready = |image: &Image| (0..self.lanes).filter(|&lane| image.is_ready(lane)).count();
            let before = ready(image);
            image.control.copy_from_slice(control);
            if ready(image) > before {
                image.space = self.space();
            }
        }
        for lane in 0..self.lanes {
            if !image.is_ready(lane) {
                continue;
            }
            let (data, seen) = (self.ring(lane), &mut image.data[lane]);
            if data == seen {
                continue;
            }
            for (i, (now, seen)) in data.chunks(CHUNK).zip(seen.chunks_mut(CHUNK)).enumerate() {
                if now == seen {
                    continue;
                }
                let words = now.chunks(8).zip(seen.chunks(8)).enumerate();
                let changed = words.filter(|(_, (now, seen))| now != seen);
                changes.data.extend(changed.map(|(word, _)| (lane, i * CHUNK + word * 8)));
                seen.copy_from_slice(now);
            }
        }
    }

    /// Makes the lanes what they were: one that was not ready has no space.
    /// Nobody else may be using them.
    pub(crate) fn restore(&self, image: &Image) -> Result<()> {
        assert!(image.control.len() == self.control_len && image.lanes() == self.lanes);
        let put = |at: usize, bytes: &[u8]| {
            assert!(at + bytes.len() <= self.map.len());
            // SAFETY: the range was just checked to lie inside the mapping; a
            // private copy does not overlap it.
            unsafe { self.map.as_mut_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        };
        put(self.control_at, &image.control);
        for (lane, data) in image.data.iter().enumerate() {
            let at = self.ring_at(lane);
            if image.is_ready(lane) {
                put(at, data);
            } else {
                let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(&self.file, hole, at as i64, self.capacity as i64)?;
            }
        }
        Ok(())
    }
}

/// A lane of a [`View`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneView<'a> {
    view: &'a View,
    lane: usize,
}

impl<'a> LaneView<'a> {
    fn word(&self, word: Word) -> &'a AtomicU64 {
        let at = match word.place() {
            Place::Region(at) => self.view.control_at + at,
            Place::Lane(at) => self.view.lanes_at + self.lane * lane::STRIDE + at,
        };
        // SAFETY: `View::new` checked that both blocks lie inside the mapping,
        // aligned to 8; a word's offset is a multiple of 8 inside its block.
        unsafe { AtomicU64::from_ptr(self.view.map.as_mut_ptr().add(at).cast()) }
    }

    fn data(&self, position: u64) -> &'a AtomicU64 {
        let ring = self.view.ring_at(self.lane);
        let at = position as usize & (self.view.capacity - 1) & !7;
        // SAFETY: `at` is a multiple of 8 below the capacity, a power of two;
        // `View::new` checked that the rings lie inside the mapping, aligned to 8.
        unsafe { AtomicU64::from_ptr(self.view.map.as_mut_ptr().add(ring + at).cast()) }
    }
}

impl Memory for LaneView<'_> {
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
        self.word(word).fetch_add(value, Ordering::AcqRel)
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
