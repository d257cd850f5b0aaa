//! The mapped sleep word.

use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};
use std::time::Duration;

use crate::os::{futex, membarrier};
use crate::ring::sleep::SleepCell;

impl SleepCell for AtomicU32 {
    #[inline(always)]
    fn load(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
    fn store(&self, value: u32) {
        self.store(value, Ordering::Relaxed)
    }
    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        self.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed).map(drop)
    }
    #[inline(always)]
    fn fence(&self) {
        fence(Ordering::SeqCst)
    }
    #[inline(always)]
    fn light_fence(&self) -> bool {
        let registered = membarrier::is_registered();
        if registered {
            compiler_fence(Ordering::SeqCst);
        }
        registered
    }
    fn barrier(&self) -> bool {
        membarrier::barrier()
    }
    fn wait(&self, expected: u32, at_most: Duration) {
        futex::wait(self, expected, at_most)
    }
    fn wake(&self) {
        futex::wake(self)
    }
}
