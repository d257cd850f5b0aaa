//! What the kernel is asked to do with a mapping.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use memmap2::MmapRaw;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::mlock;
use nix::sys::resource::Resource;

use super::huge::{self, HugePages};
use super::lack::{Lack, limit};
use super::mirror::Mirror;

/// How a handle maps its region: the caller's wishes.
#[derive(Debug, Clone, Default)]
pub struct MapOptions {
    pub(crate) prefault: bool,
    pub(crate) lock: bool,
    pub(crate) advice: Vec<Advice>,
    pub(crate) huge_pages: Option<HugePages>,
    pub(crate) guard: bool,
}

/// What a process expects of its mapping of a region: madvise(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// MADV_SEQUENTIAL: on a disk, read ahead a lot. No effect on a tmpfs.
    Sequential,
    /// MADV_RANDOM: on a disk, read nothing ahead. No effect on a tmpfs.
    Random,
    /// MADV_DONTDUMP: leave the region out of core dumps, which are smaller
    /// then and hold no messages.
    DontDump,
}

/// One mapped range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) start: NonNull<libc::c_void>,
    pub(super) len: usize,
}

impl Range {
    pub(super) fn end(&self) -> usize {
        self.start.addr().get() + self.len
    }
}

/// What a handle maps in one piece.
pub(crate) enum Part<'a> {
    /// Everything before the rings.
    Control(&'a MmapRaw),
    /// Both aliases of one ring.
    Ring(&'a Mirror),
}

impl Part<'_> {
    pub(super) fn range(&self) -> Range {
        let (start, len) = match self {
            Part::Control(map) => (NonNull::new(map.as_mut_ptr()), map.len()),
            Part::Ring(mirror) => (Some(mirror.base()), 2 * mirror.len()),
        };
        Range { start: start.expect("a mapping is not at 0").cast(), len }
    }
}

/// Has the kernel treat a mapped part of `file` as `options` say. `needed` is
/// what the handle maps with this part, in bytes.
pub(crate) fn apply(options: &MapOptions, file: &File, part: &Part, needed: u64) -> io::Result<()> {
    let range = part.range();
    for advice in &options.advice {
        let advice = match advice {
            Advice::Sequential => libc::MADV_SEQUENTIAL,
            Advice::Random => libc::MADV_RANDOM,
            Advice::DontDump => libc::MADV_DONTDUMP,
        };
        advise(&range, advice)?;
    }
    // Before anything makes small pages of the ring's memory stay.
    if options.huge_pages == Some(HugePages::Transparent) && matches!(part, Part::Ring(_)) {
        huge::make_transparent(file, &range)?;
    }
    if options.prefault {
        populate(&range).map_err(|e| match e {
            Errno::EINVAL => Lack::Prefault.into(),
            Errno::EFAULT | Errno::ENOMEM => Lack::Memory { needed }.into(),
            _ => io::Error::from(e),
        })?;
    }
    if options.lock {
        // SAFETY: the range is mapped; to lock its pages changes nothing in them.
        unsafe { mlock(range.start, range.len) }.map_err(|e| match e {
            Errno::ENOMEM | Errno::EPERM | Errno::EAGAIN => {
                Lack::LockedMemory { needed, limit: limit(Resource::RLIMIT_MEMLOCK) }.into()
            }
            _ => io::Error::from(e),
        })?;
    }
    Ok(())
}

/// Makes page tables for the range, as if every page were written to. What
/// would be a signal at a touch is an error here.
pub(super) fn populate(range: &Range) -> Result<(), Errno> {
    loop {
        match advise(range, libc::MADV_POPULATE_WRITE) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            done => return done,
        }
    }
}

/// madvise(2), with advice that leaves the bytes as they are.
pub(super) fn advise(range: &Range, advice: i32) -> Result<(), Errno> {
    assert!(![libc::MADV_DONTNEED, libc::MADV_REMOVE, libc::MADV_FREE].contains(&advice));
    // SAFETY: the range is that of a living MmapRaw or Mirror, which a `Part`
    // borrows; the advice does not take the memory away.
    Errno::result(unsafe { libc::madvise(range.start.as_ptr(), range.len, advice) }).map(drop)
}
