//! A part of a file, mapped twice back to back.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// `len` bytes of a file at two addresses that are `len` apart, so that what
/// runs over the end of the first goes on at its start.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// All that is unmapped when it is dropped.
    start: NonNull<c_void>,
    mapped: usize,
    /// Where in it the first map begins.
    at: usize,
    len: usize,
}

// SAFETY: whoever gets `base` answers for what it does with it; a mirror itself
// touches nothing of what it maps.
unsafe impl Send for Mirror {}
// SAFETY: as for Send.
unsafe impl Sync for Mirror {}

/// The pages of any processor that this runs on are no larger, but for huge ones.
const LARGEST_PAGE: usize = 64 << 10;

impl Mirror {
    /// Maps `len` bytes from `offset` on, both multiples of `align`, of a file
    /// that is at least so long, at addresses that are multiples of `align`
    /// too if that is the size of a huge page: the file may have such.
    pub(crate) fn new(file: &File, offset: u64, len: usize, align: usize) -> io::Result<Mirror> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let both = len.checked_mul(2).and_then(|both| both.checked_add(align));
        let both = both.and_then(NonZeroUsize::new).ok_or(io::ErrorKind::OutOfMemory)?;
        let len = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        if align <= LARGEST_PAGE
            && let Some(mirror) = Mirror::side_by_side(file, offset, len)?
        {
            return Ok(mirror);
        }
        Mirror::in_reserved(file, offset, len, both, align)
    }

    /// Both maps where the kernel chooses, if the place below the first is free:
    /// it mostly is, for the kernel goes downwards.
    fn side_by_side(file: &File, offset: i64, len: NonZeroUsize) -> io::Result<Option<Mirror>> {
        let flags = MapFlags::MAP_SHARED;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let upper = unsafe { mmap(None, len, ACCESS, flags, file, offset)? };
        let Some(below) = upper.addr().get().checked_sub(len.get()).and_then(NonZeroUsize::new) else {
            // SAFETY: nobody knows of what was just mapped.
            unsafe { munmap(upper, len.get())? };
            return Ok(None);
        };
        let flags = flags | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: a new mapping that replaces none, or there is none. Before
        // Linux 4.17 the place is a wish, and the kernel chooses.
        let lower = unsafe { mmap(Some(below), len, ACCESS, flags, file, offset) };
        if let Ok(start) = lower
            && start.addr() == below
        {
            return Ok(Some(Mirror { start, mapped: 2 * len.get(), at: 0, len: len.get() }));
        }
        for mapped in lower.into_iter().chain([upper]) {
            // SAFETY: as above.
            unsafe { munmap(mapped, len.get())? };
        }
        Ok(None)
    }

    /// Both maps over address space that was reserved for them.
    fn in_reserved(
        file: &File,
        offset: i64,
        len: NonZeroUsize,
        both: NonZeroUsize,
        align: usize,
    ) -> io::Result<Mirror> {
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe { mmap_anonymous(None, both, ProtFlags::PROT_NONE, flags)? };
        let at = start.addr().get().next_multiple_of(align) - start.addr().get();
        let mirror = Mirror { start, mapped: both.get(), at, len: len.get() };
        for alias in 0..2 {
            let address = NonZeroUsize::new(start.addr().get() + at + alias * len.get());
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: at is at most align, so the range [address, address + len)
            // lies inside what was reserved, which this function owns and to
            // which nothing points yet, so the fixed map replaces nobody's memory.
            if let Err(e) = unsafe { mmap(address, len, ACCESS, flags, file, offset) } {
                // The kernel may have left a gap there, which may be another
                // thread's by now: leave the rest mapped.
                std::mem::forget(mirror);
                return Err(e.into());
            }
        }
        Ok(mirror)
    }

    /// The first byte; valid for reads and writes of twice [`Mirror::len`]
    /// bytes while the mirror lives and the file keeps its length.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.start.cast::<u8>().map_addr(|start| start.saturating_add(self.at))
    }

    /// Bytes of one alias.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

const ACCESS: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: it is the mirror's own, and nobody touches it any more.
        let _ = unsafe { munmap(self.start, self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_over_the_end_comes_back_at_the_start() {
        for align in [65536, 2 << 20] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(3 * 65536).unwrap();
            let mirrors = [(); 3].map(|()| Mirror::new(&file, 65536, 65536, align).unwrap());
            for (mirror, byte) in mirrors.iter().zip(7..) {
                let base = mirror.base().as_ptr();
                assert!(align <= LARGEST_PAGE || base.addr().is_multiple_of(align));
                // SAFETY: both bytes are inside the two aliases, which nobody else uses.
                let seen = unsafe {
                    base.add(65536 + 5).write_volatile(byte);
                    base.add(5).read_volatile()
                };
                assert_eq!(seen, byte);
                let mut found = [0];
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 65536 + 5).unwrap();
                assert_eq!(found, [byte]);
            }
        }
    }

    #[test]
    fn without_room_below_the_first_map_space_is_reserved() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(65536).unwrap();
        let len = NonZeroUsize::new(65536).unwrap();
        let mirror =
            Mirror::in_reserved(&file, 0, len, NonZeroUsize::new(3 * 65536).unwrap(), 65536).unwrap();
        assert!(mirror.base().addr().get().is_multiple_of(65536));
        // SAFETY: as above.
        let seen = unsafe {
            mirror.base().as_ptr().add(65536).write_volatile(9);
            mirror.base().as_ptr().read_volatile()
        };
        assert_eq!(seen, 9);
    }
}
