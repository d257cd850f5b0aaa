//! Shared memory without anything.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::Result;
use memmap2::{MmapOptions, MmapRaw};

/// A file that two processes map.
#[derive(Debug)]
pub(super) struct Shared(MmapRaw);

// SAFETY: not needed by a process each; threads access it through the same
// atomics and copies as processes do.
unsafe impl Sync for Shared {}

impl Shared {
    /// Makes a file of `len` bytes and maps it.
    pub(super) fn create(path: &Path, len: usize) -> Result<Shared> {
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        file.set_len(len as u64)?;
        Ok(Shared(MmapOptions::new().len(len).populate().map_raw(&file)?))
    }

    /// Maps the file that the other side made.
    pub(super) fn open(path: &Path) -> Result<Shared> {
        let file = File::options().read(true).write(true).open(path)?;
        let len = file.metadata()?.len() as usize;
        Ok(Shared(MmapOptions::new().len(len).populate().map_raw(&file)?))
    }

    /// The word at `at`, a multiple of 8.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= self.0.len());
        // SAFETY: inside the map, aligned, and accessed as an atomic or, before
        // it is published and after it is read, by one side only.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(at).cast()) }
    }

    /// The word for futex calls at `at`, a multiple of 4. Its bytes are never part
    /// of a [`word`](Shared::word).
    #[inline(always)]
    pub(super) fn futex(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.0.len());
        // SAFETY: inside the map, aligned, and accessed as this atomic only.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(at).cast()) }
    }

    /// Copies in. Nobody reads these bytes yet.
    #[inline(always)]
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= self.0.len());
        // SAFETY: inside the map; the ring's protocol gives these bytes to the
        // writer alone.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(at), bytes.len()) };
    }

    /// Copies out. Nobody writes these bytes now.
    #[inline(always)]
    pub(super) fn read(&self, at: usize, bytes: &mut [u8]) {
        debug_assert!(at + bytes.len() <= self.0.len());
        // SAFETY: as in `write`, to the reader.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr().add(at), bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Writes zeros. Nobody reads or writes these bytes now.
    #[inline(always)]
    pub(super) fn zero(&self, at: usize, len: usize) {
        debug_assert!(at + len <= self.0.len());
        // SAFETY: as in `write`, to the one who zeroes.
        unsafe { std::ptr::write_bytes(self.0.as_mut_ptr().add(at), 0, len) };
    }

    /// Waits until the word at `at` is `value`, as everybody here does.
    #[inline(always)]
    pub(super) fn wait_for(&self, at: usize, value: u64) -> Result<()> {
        bench_kit::spin_until(|| Ok((self.word(at).load(Ordering::Acquire) == value).then_some(())))
    }
}
