//! A memory fence in other processes, paid by the one who asks for it.
//!
//! `membarrier(2)`: when GLOBAL_EXPEDITED returns, every running thread of
//! every registered process has gone through a full fence.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

const FRESH: u8 = 0;
const BEGUN: u8 = 1;
const DONE: u8 = 2;

/// Whether this process is registered. A child made by fork is what its parent
/// was, as the kernel has it; one that is still `BEGUN` merely stays slower.
/// Alone in its line: every publish and every commit loads it.
static REGISTERED: CachePadded<AtomicU8> = CachePadded::new(AtomicU8::new(FRESH));

/// Registers this process, once. In a process of several threads that takes
/// the kernel some milliseconds, so a thread of its own waits for it.
pub(crate) fn register() {
    if REGISTERED.compare_exchange(FRESH, BEGUN, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    let register = || {
        if membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok() {
            REGISTERED.store(DONE, Ordering::Release); // REGISTERED
        }
    };
    if is_single_threaded() {
        register();
    } else {
        // Without the thread, this process goes on as an unregistered one.
        let _ = thread::Builder::new().name("shmring-register".to_owned()).spawn(register);
    }
}

fn is_single_threaded() -> bool {
    // A folder for each thread, and two entries more.
    fs::metadata("/proc/self/task").is_ok_and(|found| found.nlink() == 3)
}

/// True once [`barrier`] reaches this process: what is loaded after this is
/// loaded after any barrier that did not.
#[inline(always)]
pub(crate) fn is_registered() -> bool {
    REGISTERED.load(Ordering::Acquire) == DONE // REGISTERED
}

/// True if this kernel has [`barrier`]. A yes is asked for once: should this
/// process lose the right to it later, its [`barrier`] fails.
pub(crate) fn is_possible() -> bool {
    static POSSIBLE: AtomicBool = AtomicBool::new(false);
    // No OnceLock: a child may be forked while another thread asks.
    if !POSSIBLE.load(Ordering::Relaxed) {
        let possible = membarrier_query().contains(MembarrierQuery::GLOBAL_EXPEDITED);
        POSSIBLE.store(possible, Ordering::Relaxed);
    }
    POSSIBLE.load(Ordering::Relaxed)
}

/// A full fence in every registered process; false if the system refuses it.
pub(crate) fn barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
