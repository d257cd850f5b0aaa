//! What a forked child must not have: its parent's handles and its locks.
//!
//! A fork copies the mapping and shares every description. Two processes
//! would then be one producer, and a child that sleeps would keep the role of
//! a parent that was killed. So a handle knows the process that made it, by a
//! word that the kernel wipes in a child; and in a child another description
//! takes the place of each that may hold a lock.
//!
//! Until its handler has run, for microseconds to milliseconds, a child has the
//! locks all the same; who gives up a role therefore unlocks it, and does not
//! only close. A raw clone(2), or `_Fork`, runs no handler: its child keeps
//! them. So may one whose fork began before its parent first attached. A fork
//! from a signal handler that interrupted an attach or a detach waits for ever.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io::{self, PipeReader};
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{identity, lock};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

/// A description that is this process's alone: a forked child has the number,
/// but not the description, and with it no lock. Knows whether it was inherited.
#[derive(Debug)]
pub(crate) struct OwnFile {
    file: ManuallyDrop<File>,
    word: &'static AtomicU64,
    /// What `word` was when it was opened, and is in no other process.
    generation: u64,
}

impl OwnFile {
    /// Opens one, and says what `open` found it to be. `open` must not wait: a
    /// fork waits for it.
    pub(crate) fn open(
        open: impl FnOnce() -> io::Result<(File, Metadata)>,
    ) -> io::Result<(OwnFile, Metadata)> {
        handle_forks()?;
        let mut registry = registry();
        if registry.stand_in.is_none() {
            registry.stand_in = Some(io::pipe()?.0);
        }
        let word = *registry.word.get_or_insert_with(new_word);
        if word.load(Ordering::Relaxed) == 0 {
            registry.generations += 1;
            word.store(registry.generations, Ordering::Relaxed);
        }
        // With the registry locked no fork comes between opening and noting.
        let (file, found) = open()?;
        registry.open.push(file.as_raw_fd());
        let generation = word.load(Ordering::Relaxed);
        Ok((OwnFile { file: ManuallyDrop::new(file), word, generation }, found))
    }

    /// A number for the process that opened it, other than those of all that it
    /// descends from.
    pub(crate) fn process(&self) -> u64 {
        self.generation
    }

    /// True in a child that was forked after it was opened. One load, of a
    /// word that only this process's own attaches write.
    #[inline(always)]
    pub(crate) fn is_inherited(&self) -> bool {
        self.word.load(Ordering::Relaxed) != self.generation
    }
}

impl Deref for OwnFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // Closed with the registry locked: a number that is noted is ours.
        let mut registry = registry();
        if !self.is_inherited() {
            // A child that is being made shares the description for a while.
            lock::release(&self.file);
        }
        let number = self.file.as_raw_fd();
        let Some(at) = registry.open.iter().position(|&open| open == number) else {
            // Closed by the handler of a fork.
            return;
        };
        registry.open.swap_remove(at);
        // SAFETY: nobody uses the field after this, its owner's last act.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

/// Does what no child may find half done: no fork comes between.
pub(super) fn without_forks<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    handle_forks()?;
    let _registry = registry();
    Ok(work())
}

/// Makes the handles that were made before the fork this process's own. For
/// proofs that step through a child; the parent must leave its handles alone.
pub fn use_inherited_handles() {
    identity::forget();
    let registry = registry();
    if let Some(word) = registry.word {
        word.store(registry.generations, Ordering::Relaxed);
    }
}

struct Registry {
    /// 0 until this process opens its first description.
    word: Option<&'static AtomicU64>,
    /// How many there were, among the processes that this one descends from
    /// too: a generation is never the same as one that was inherited.
    generations: u64,
    /// Takes a description's place in a child: the end of a dead pipe.
    stand_in: Option<PipeReader>,
    /// The numbers of all that are open.
    open: Vec<RawFd>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { word: None, generations: 0, stand_in: None, open: Vec::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word that is 0 in a forked child.
fn new_word() -> &'static AtomicU64 {
    // Where the kernel does not wipe (before 4.14), the child's handler does.
    static PLAIN: AtomicU64 = AtomicU64::new(0);
    wiped_word().unwrap_or(&PLAIN)
}

fn wiped_word() -> nix::Result<&'static AtomicU64> {
    let len = NonZeroUsize::new(size_of::<AtomicU64>()).expect("not 0");
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let page = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_PRIVATE)? };
    // SAFETY: the page was just made, and nothing is in it to be wiped.
    unsafe { madvise(page, len.get(), MmapAdvise::MADV_WIPEONFORK)? };
    // SAFETY: a zeroed word at the start of a page that is never unmapped and
    // to which nothing else points.
    Ok(unsafe { page.cast::<AtomicU64>().as_ref() })
}

/// Has the handlers below run around each fork.
fn handle_forks() -> io::Result<()> {
    static HANDLED: AtomicBool = AtomicBool::new(false);
    // Two threads may both come here first; twice registered does no harm.
    // A lock would be one that a child can find taken.
    if HANDLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: the handlers are functions of this program. That of the child
    // locks and allocates nothing and makes system calls only.
    match unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) } {
        0 => HANDLED.store(true, Ordering::Release),
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    Ok(())
}

thread_local! {
    /// The registry, while this thread forks. Without a destructor, so that
    /// it is there to a thread's very end.
    static FORKING: Cell<Option<ManuallyDrop<MutexGuard<'static, Registry>>>> = const { Cell::new(None) };
}

extern "C" fn before() {
    let locked = FORKING.take().unwrap_or_else(|| ManuallyDrop::new(registry()));
    FORKING.set(Some(locked));
}

extern "C" fn in_parent() {
    FORKING.take().map(ManuallyDrop::into_inner);
}

extern "C" fn in_child() {
    let Some(mut registry) = FORKING.take().map(ManuallyDrop::into_inner) else { return };
    if let Some(word) = registry.word {
        word.store(0, Ordering::Relaxed);
    }
    let registry = &mut *registry;
    if let Some(stand_in) = &registry.stand_in {
        registry.open.retain(|&number| {
            loop {
                // SAFETY: the number belongs to an OwnFile, which goes on owning
                // it: it is not closed, only what it stands for is replaced.
                if unsafe { libc::dup3(stand_in.as_raw_fd(), number, libc::O_CLOEXEC) } >= 0 {
                    return true;
                }
                if !matches!(Errno::last(), Errno::EINTR | Errno::EBUSY) {
                    break;
                }
            }
            // Numbers may be limited to fewer by now.
            // SAFETY: its OwnFile does not close a number that is not noted.
            unsafe { libc::close(number) };
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_noted_while_it_is_open() {
        let file = || tempfile::tempfile().and_then(|file| file.metadata().map(|found| (file, found)));
        let open = || OwnFile::open(file).unwrap().0;
        let (first, second) = (open(), open());
        let number = first.as_raw_fd();
        assert!(registry().open.contains(&number) && registry().open.contains(&second.as_raw_fd()));
        assert!(!first.is_inherited() && first.generation == second.generation);
        drop(first);
        assert!(registry().open.contains(&second.as_raw_fd()));
        assert!(OwnFile::open(|| Err(io::ErrorKind::NotFound.into())).is_err());
    }
}
