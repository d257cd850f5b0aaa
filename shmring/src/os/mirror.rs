//! A part of a file, mapped twice back to back.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

/// `len` bytes of a file at two addresses that are `len` apart, so that what
/// runs over the end of the first goes on at its start.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The address space of both maps; unmapped as a whole when dropped.
    reserved: MmapRaw,
    /// Where in it the first map begins.
    at: usize,
    len: usize,
}

impl Mirror {
    /// Maps `len` bytes from `offset` on, both multiples of `align`, of a file
    /// that is at least so long, at addresses that are multiples of `align`
    /// too: the size of the pages that the file may have.
    pub(crate) fn new(file: &File, offset: u64, len: usize, align: usize) -> io::Result<Mirror> {
        let both = len.checked_mul(2).and_then(|both| both.checked_add(align));
        let both = both.ok_or(io::ErrorKind::OutOfMemory)?;
        let reserved: MmapRaw = MmapOptions::new().len(both).no_reserve_swap().map_anon()?.into();
        let at = reserved.as_mut_ptr().addr().next_multiple_of(align) - reserved.as_mut_ptr().addr();
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let len_nonzero = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        for alias in 0..2 {
            let address = reserved.as_mut_ptr().addr() + at + alias * len;
            // SAFETY: at is at most align, so the range [address, address + len)
            // lies inside `reserved`, which this function owns and to which
            // nothing points yet, so the fixed map replaces nobody's memory.
            let mapped = unsafe {
                mmap(
                    NonZeroUsize::new(address),
                    len_nonzero,
                    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                    MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                    file,
                    offset,
                )
            };
            if let Err(e) = mapped {
                // The kernel may have left a gap there, which may be another
                // thread's by now: leave the rest mapped.
                std::mem::forget(reserved);
                return Err(e.into());
            }
        }
        Ok(Mirror { reserved, at, len })
    }

    /// The first byte; valid for reads and writes of twice [`Mirror::len`]
    /// bytes while the mirror lives and the file keeps its length.
    pub(crate) fn base(&self) -> NonNull<u8> {
        NonNull::new(self.reserved.as_mut_ptr().wrapping_add(self.at)).expect("a mapping is not at 0")
    }

    /// Bytes of one alias.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_over_the_end_comes_back_at_the_start() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 65536).unwrap();
        let mirror = Mirror::new(&file, 65536, 65536, 2 << 20).unwrap();
        let base = mirror.base().as_ptr();
        assert!(base.addr().is_multiple_of(2 << 20));
        // SAFETY: both bytes are inside the two aliases, which nobody else uses.
        let seen = unsafe {
            base.add(65536 + 5).write_volatile(7);
            base.add(5).read_volatile()
        };
        assert_eq!(seen, 7);
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 65536 + 5).unwrap();
        assert_eq!(byte, [7]);
    }
}
