//! An allocator that knows how much a thread has at a time.
#![allow(unsafe_code)] // an allocator

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// What this thread allocated, less what it freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most of that since it was asked for last.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted. Without it as its `global_allocator` a
/// program has a [`peak`] of 0 always.
#[derive(Debug)]
pub struct Counting;

fn count(bytes: isize) {
    // After the thread's end nobody asks any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        // While it moves there are both.
        count(new_len as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(memory, layout, new_len) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The most that `work` had allocated at a time, in this thread.
pub fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    ((MOST.get() - before) as usize, done)
}
