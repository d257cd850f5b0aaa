//! A touch of a truncated file that is noticed instead of ending the process.
//!
//! The kernel answers a touch of a page that the file does not have any more
//! with SIGBUS. For ranges in a table, the handler here puts private zero
//! pages in the place of the whole mapping and marks it as cut: the touch
//! succeeds, and whoever touched looks at the mark afterwards. Every other
//! SIGBUS goes to whoever handled it before.
//!
//! The handler takes no lock, allocates nothing and calls only munlock, mmap,
//! sigaction and raise, which are plain system calls on Linux.
//!
//! What it cannot see is a cut that leaves the touched page: the kernel zeroes
//! the rest of the last page that remains, and a file that is made longer again
//! before a touch has zeros there. Those are like holes.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence, fence};

use memmap2::MmapRaw;
use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};

use super::lack::Lack;
use super::mirror::Mirror;
use super::{advice, fork};

/// The most guarded handles of a process.
const MOST: usize = 256;

/// What `Entry::generation` says in its low two bits.
const FREE: usize = 0;
const FILLED: usize = 1;
const LIVE: usize = 2;
const NEXT: usize = 4;

/// The ranges of one handle. Its holder writes them; the handler, in any
/// thread, reads them like a sequence lock: between two equal generations.
struct Entry {
    generation: AtomicUsize,
    starts: [AtomicUsize; 2],
    lens: [AtomicUsize; 2],
    /// Its pages are private zeros now.
    cut: AtomicBool,
}

static TABLE: [Entry; MOST] = [const {
    Entry {
        generation: AtomicUsize::new(FREE),
        starts: [const { AtomicUsize::new(0) }; 2],
        lens: [const { AtomicUsize::new(0) }; 2],
        cut: AtomicBool::new(false),
    }
}; MOST];

/// A handle's place in the table.
pub(crate) struct Guard {
    entry: &'static Entry,
}

impl Guard {
    /// Guards a handle's mapping.
    ///
    /// # Safety
    /// The guard is dropped before `control` and `data` are.
    pub(crate) unsafe fn new(control: &MmapRaw, data: &Mirror) -> io::Result<Guard> {
        install()?;
        let entry = TABLE.iter().find(|entry| {
            let seen = entry.generation.load(Ordering::Relaxed);
            let take = || {
                let filled = seen.wrapping_add(FILLED);
                // Acquire: with the Release store of its last holder's drop.
                entry.generation.compare_exchange(seen, filled, Ordering::Acquire, Ordering::Relaxed)
            };
            seen % NEXT == FREE && take().is_ok()
        });
        let entry = entry.ok_or(Lack::Guards { most: MOST })?;
        // Whoever sees a range of ours sees that the generation changed: with
        // the Acquire fence in `ranges`.
        fence(Ordering::Release);
        let ranges = advice::ranges(control, data);
        for (i, range) in ranges.iter().enumerate() {
            entry.starts[i].store(range.start.addr().get(), Ordering::Relaxed);
            entry.lens[i].store(range.len, Ordering::Relaxed);
        }
        entry.cut.store(false, Ordering::Relaxed);
        let filled = entry.generation.load(Ordering::Relaxed);
        // With the Acquire load in `ranges`.
        entry.generation.store(filled - FILLED + LIVE, Ordering::Release);
        // No touch of the mapping comes before that.
        compiler_fence(Ordering::SeqCst);
        Ok(Guard { entry })
    }

    /// True if a touch found no page: what was read or written since the last
    /// look may have been private zeros. Never false again.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        // The handler ran in this thread, at the touch: it is enough that the
        // compiler keeps the touches before this load.
        compiler_fence(Ordering::SeqCst);
        self.entry.cut.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("cut", &self.is_cut()).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let live = self.entry.generation.load(Ordering::Relaxed);
        self.entry.generation.store(live.wrapping_add(NEXT - LIVE), Ordering::Release);
    }
}

impl Entry {
    /// The ranges, if the entry is in use and they are whole.
    fn ranges(&self) -> Option<[(usize, usize); 2]> {
        let before = self.generation.load(Ordering::Acquire);
        let ranges =
            [0, 1].map(|i| (self.starts[i].load(Ordering::Relaxed), self.lens[i].load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        let after = self.generation.load(Ordering::Relaxed);
        (before % NEXT == LIVE && before == after).then_some(ranges)
    }
}

/// Who handled SIGBUS before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once in a process.
fn install() -> io::Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    // A child must not find it half installed, for nobody would finish it.
    fork::without_forks(|| {
        if INSTALLED.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only asks; the place for the answer is valid.
        Errno::result(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) })?;
        // SAFETY: the kernel has filled it; zeros are valid too. Known before
        // the handler is, which needs it.
        BEFORE.get_or_init(|| unsafe { before.assume_init() });
        take_signal()?;
        INSTALLED.store(true, Ordering::Relaxed);
        Ok(())
    })?
}

/// Makes `on_sigbus` the handler.
fn take_signal() -> io::Result<()> {
    // SAFETY: a sigaction of zeros is valid: no flags, an empty mask.
    let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    ours.sa_sigaction = on_sigbus as *const () as usize;
    // On the stack that Rust gives each thread for the overflow of its own.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_sigbus` is a handler as SA_SIGINFO asks for, does only
    // what a handler may do, and lives as long as the program.
    Errno::result(unsafe { libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) })?;
    Ok(())
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel gives a valid siginfo to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code != libc::BUS_ADRERR || !strike(address) {
        pass_on(signal, code, info, context);
    }
    Errno::set_raw(errno);
}

/// Puts zero pages in the place of the mapping that `address` is in, if it is
/// guarded. The entry is whole: its handle is being used by this thread.
fn strike(address: usize) -> bool {
    for entry in &TABLE {
        let Some(ranges) = entry.ranges() else { continue };
        if !ranges.iter().any(|(start, len)| address.wrapping_sub(*start) < *len) {
            continue;
        }
        entry.cut.store(true, Ordering::Relaxed);
        return ranges.iter().all(|&(start, len)| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let start = ptr::without_provenance_mut(start);
            // Locked memory (mlockall) would count twice, and may be too much.
            // SAFETY: to unlock pages changes nothing in them.
            unsafe { libc::munlock(start, len) };
            // SAFETY: the range is a guarded handle's own mapping, which lives
            // as long as its entry; all of it is readable and writable before
            // and after, and its bytes may change at any time anyway.
            let new = unsafe { libc::mmap(start, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
            new != libc::MAP_FAILED
        });
    }
    false
}

/// Does what would have been done without this handler.
fn pass_on(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    // What a touch caused strikes again after the return; what was sent does not.
    let sent = code <= 0;
    match before.sa_sigaction {
        libc::SIG_IGN if sent => {}
        // An ignored fault ends the process too.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: a sigaction of zeros is valid, and SIG_DFL is 0.
            let usual: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            // SAFETY: gives the signal its usual meaning back; raise is
            // delivered when this handler returns.
            unsafe {
                libc::sigaction(signal, &usual, ptr::null_mut());
                if sent {
                    libc::raise(signal);
                }
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: it was installed as a handler of this kind, and gets
            // what the kernel would have given it.
            unsafe {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(handler as *const ());
                handler(signal, info, context);
            }
            stay(sent);
        }
        handler => {
            // SAFETY: it was installed as a handler of one argument.
            unsafe {
                let handler: extern "C" fn(c_int) = std::mem::transmute(handler as *const ());
                handler(signal);
            }
            stay(sent);
        }
    }
}

/// The language's own handler gives every signal that is no stack overflow its
/// usual meaning back: after one that was merely sent, ours stays. A fault has
/// to strike again and end the process.
fn stay(sent: bool) {
    if sent {
        let _ = take_signal();
    }
}
