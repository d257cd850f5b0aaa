//! Allocations on a message's way, counted. Not counting costs a relaxed load
//! an allocation.
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::child::{Side, tell};
use super::syscalls::{MESSAGES, Passage, READS, options};
use super::{place, result, series};
use crate::report::{CaseResult, Kind};

pub(super) const SIDE: &str = "allocs";

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// Of all threads: the side that counts has one.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[inline(always)]
fn count() {
    // Both are read by the thread that wrote them.
    if IS_COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(memory, layout, new_len) }
    }
    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often `work` allocates.
fn allocations(work: impl FnOnce() -> Result<()>) -> Result<u64> {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    IS_COUNTING.store(true, Ordering::Relaxed);
    let done = work();
    IS_COUNTING.store(false, Ordering::Relaxed);
    done?;
    Ok(ALLOCATIONS.load(Ordering::Relaxed))
}

/// In a process of its own, where no other thread allocates.
pub(super) fn measure(_quick: bool) -> Result<Vec<CaseResult>> {
    let row = |read: &str| {
        let place = place()?;
        let folder = place.path().to_str().context("a path of ours")?;
        let count: u64 = Side::start(SIDE, &[folder, read].map(str::to_owned))?.line()?.parse()?;
        let ours = series("ours", Kind::Ours, vec![count as f64]);
        Ok(result("fast_path_allocs", options(read), "allocations", vec![ours]))
    };
    READS.into_iter().map(row).collect()
}

pub(super) fn play(arguments: &[String]) -> Result<()> {
    let would_be_seen = allocations(|| {
        drop(black_box(Box::new(7)));
        drop(black_box(vec![0; 100]));
        Ok(())
    })?;
    ensure!(would_be_seen == 2, "{would_be_seen} of 2 allocations were counted");
    let [place, read] = arguments else { bail!("where and how, not {arguments:?}") };
    let mut passage = Passage::new(place, read)?;
    tell(&allocations(|| passage.pass(MESSAGES))?.to_string())
}
