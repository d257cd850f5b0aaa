//! A touch of a truncated file that is noticed instead of ending the process.
//!
//! The kernel answers a touch of a page that the file does not have any more
//! with SIGBUS. For ranges in a table, the handler here puts private zero
//! pages in the place of everything that the handle maps and marks it as cut:
//! the touch succeeds, and whoever touched looks at the mark afterwards. Every
//! other SIGBUS goes to whoever handled it before.
//!
//! A handle has one entry for what is before the rings, its leader, which has
//! the mark, and one for each ring that it maps. It takes more while it lives
//! and gives them back all together, when nobody can touch any of them any
//! more. So a handler finds every entry of the handle that its thread touched
//! either in use or still being written; what others take and give back
//! meanwhile it tells apart by the leader.
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

use nix::errno::Errno;
use nix::libc::{self, c_int, c_void, siginfo_t};

use super::advice::Part;
use super::fork;
use super::lack::Lack;

/// The most guarded ranges of a process: a handle that maps every lane a region
/// can have takes 1025 of them.
const MOST: usize = 2048;

/// What `Entry::generation` says in its low two bits.
const FREE: usize = 0;
const FILLED: usize = 1;
const LIVE: usize = 2;
const NEXT: usize = 4;

/// One range of a handle. Its holder writes it; the handler, in any thread,
/// reads it like a sequence lock: between two equal generations.
struct Entry {
    generation: AtomicUsize,
    start: AtomicUsize,
    len: AtomicUsize,
    /// The place of the handle's leader in the table; its own if it is that.
    leader: AtomicUsize,
    /// In a leader: the handle's pages are private zeros now.
    cut: AtomicBool,
}

static TABLE: [Entry; MOST] = [const {
    Entry {
        generation: AtomicUsize::new(FREE),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        leader: AtomicUsize::new(0),
        cut: AtomicBool::new(false),
    }
}; MOST];

/// A place in the table, for one range of a handle.
pub(crate) struct Guard {
    at: usize,
}

/// Where a handle is marked as cut. Means nothing once its guards are dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(&'static AtomicBool);

impl Guard {
    /// Guards the first part that a handle maps: this is its leader.
    ///
    /// # Safety
    /// The guard is dropped before the part is unmapped, and after all those
    /// that it [leads](Guard::lead).
    pub(crate) unsafe fn new(part: &Part) -> io::Result<Guard> {
        install()?;
        Guard::take(part, None)
    }

    /// Guards a further part of the handle that `self` is the leader of.
    ///
    /// # Safety
    /// The guard stays, and then the part stays mapped, until nobody can touch
    /// any part of the handle any more.
    pub(crate) unsafe fn lead(&self, part: &Part) -> io::Result<Guard> {
        Guard::take(part, Some(self.at))
    }

    fn take(part: &Part, leader: Option<usize>) -> io::Result<Guard> {
        let at = TABLE.iter().position(|entry| {
            let seen = entry.generation.load(Ordering::Relaxed);
            let take = || {
                let filled = seen.wrapping_add(FILLED);
                // Acquire: with the Release store of its last holder's drop.
                entry.generation.compare_exchange(seen, filled, Ordering::Acquire, Ordering::Relaxed)
            };
            seen % NEXT == FREE && take().is_ok()
        });
        let at = at.ok_or(Lack::Guards { most: MOST })?;
        let (entry, range) = (&TABLE[at], part.range());
        // Whoever sees a word of ours sees that the generation changed: with
        // the Acquire fence in `whole`.
        fence(Ordering::Release);
        entry.start.store(range.start.addr().get(), Ordering::Relaxed);
        entry.len.store(range.len, Ordering::Relaxed);
        entry.leader.store(leader.unwrap_or(at), Ordering::Relaxed);
        entry.cut.store(false, Ordering::Relaxed);
        let filled = entry.generation.load(Ordering::Relaxed);
        // With the Acquire load in `whole`.
        entry.generation.store(filled - FILLED + LIVE, Ordering::Release);
        // No touch of the part comes before that.
        compiler_fence(Ordering::SeqCst);
        Ok(Guard { at })
    }

    /// Puts zero pages in the part's place if the handle has been cut already.
    /// To be called once for every part but the first, before anybody touches it.
    pub(crate) fn catch_up(&self) -> io::Result<()> {
        let entry = &TABLE[self.at];
        let leader = &TABLE[entry.leader.load(Ordering::Relaxed)];
        // With the fence in `strike`: the handler, if it is at work in another
        // thread, sees this entry, or its mark is seen here.
        fence(Ordering::SeqCst);
        if !leader.cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (start, len) = (entry.start.load(Ordering::Relaxed), entry.len.load(Ordering::Relaxed));
        if wipe(start, len) { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The mark of the handle that this is the leader of.
    pub(crate) fn mark(&self) -> Mark {
        Mark(&TABLE[self.at].cut)
    }
}

impl Mark {
    /// True if a touch found no page: what was read or written since the last
    /// look may have been private zeros. Never false again.
    #[inline(always)]
    pub(crate) fn is_cut(self) -> bool {
        // The handler ran in this thread, at the touch: it is enough that the
        // compiler keeps the touches before this load.
        compiler_fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("at", &self.at).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let generation = &TABLE[self.at].generation;
        let live = generation.load(Ordering::Relaxed);
        generation.store(live.wrapping_add(NEXT - LIVE), Ordering::Release);
    }
}

/// What a whole entry says.
struct Whole {
    start: usize,
    len: usize,
    leader: usize,
}

impl Entry {
    /// What it says, if it is in use and whole.
    fn whole(&self) -> Option<Whole> {
        let before = self.generation.load(Ordering::Acquire);
        let whole = Whole {
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            leader: self.leader.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let after = self.generation.load(Ordering::Relaxed);
        (before % NEXT == LIVE && before == after).then_some(whole)
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

/// Puts zero pages in the place of all that the handle maps whose part
/// `address` is in, if it is guarded. That part's entry and its leader's are
/// whole: the handle is being used by this thread.
fn strike(address: usize) -> bool {
    let struck =
        TABLE.iter().filter_map(Entry::whole).find(|part| address.wrapping_sub(part.start) < part.len);
    let Some(Whole { leader, .. }) = struck else { return false };
    TABLE[leader].cut.store(true, Ordering::Relaxed);
    // With the fence in `catch_up`, for a part that is being mapped.
    fence(Ordering::SeqCst);
    // Who had the leader's place before gave back all of its entries first: with
    // the Acquire in `take`, none of those is seen in use here.
    let ours = TABLE.iter().filter_map(Entry::whole).filter(|part| part.leader == leader);
    // All of them, even if one fails.
    ours.filter(|part| !wipe(part.start, part.len)).count() == 0
}

/// Puts zero pages in the place of a part that is guarded; false if the kernel
/// refuses.
fn wipe(start: usize, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let start = ptr::without_provenance_mut(start);
    // Locked memory (mlockall) would count twice, and may be too much.
    // SAFETY: to unlock pages changes nothing in them.
    unsafe { libc::munlock(start, len) };
    // SAFETY: the range is a part of a handle that is being used: `new` and
    // `lead` were promised that it stays mapped meanwhile. All of it is readable
    // and writable before and after, and its bytes may change at any time anyway.
    let new = unsafe { libc::mmap(start, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    new != libc::MAP_FAILED
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
