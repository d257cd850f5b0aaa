//! Runs an operation in a child process one instruction at a time.
//!
//! The child is stopped at every instruction boundary: what shared memory holds
//! there is exactly what a kill there would leave behind. A system call is one
//! instruction; a string instruction stops after every byte.
//!
//! Attaching asks the kernel and formats text for thousands of instructions and
//! touches the lane with few. So an operation may be rehearsed first, from
//! system call to system call, to step later only where the lane changes.
#![allow(unsafe_code)] // fork, and words shared with the child

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getppid};
use tests::Call;

use super::tracee::Tracee;

/// What the child says of itself, in order.
pub(super) const IDLE: u64 = 0;
pub(super) const RUNNING: u64 = 1;
pub(super) const RETURNED: u64 = 2;
pub(super) const FAILED: u64 = 3;
/// All that comes after the operation is done too.
pub(super) const DONE: u64 = 4;

/// The child's exit status when it may not be traced.
const REFUSED: i32 = 77;

/// An operation that takes more instructions than this does not end.
pub(super) const MAX_STEPS: u64 = 20_000_000;

/// Tracing is not allowed here: nothing was shown, nothing was refuted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotPermitted(pub Errno);

impl std::fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this process may not trace its child: {}", self.0)
    }
}

impl std::error::Error for NotPermitted {}

/// One page that the child shares with its tracer, apart from any region.
#[derive(Debug)]
pub(crate) struct Progress {
    page: NonNull<[AtomicU64; WORDS]>,
}

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
const WORDS: usize = PAGE.get() / size_of::<AtomicU64>();
/// From this word on, why the child failed; before it, what it notes.
const WORDS_OF_FAILURE: usize = WORDS - 40;

impl Progress {
    /// Maps the page.
    pub(crate) fn new() -> Result<Progress> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces
        // nobody's memory.
        let page = unsafe { mmap_anonymous(None, PAGE, access, MapFlags::MAP_SHARED)? };
        Ok(Progress { page: page.cast() })
    }

    fn words(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: `new` mapped the page, zeroed and aligned; it stays mapped as
        // long as `self` lives, and its words are only accessed as AtomicU64.
        unsafe { self.page.as_ref() }
    }

    pub(super) fn word(&self) -> &AtomicU64 {
        &self.words()[0]
    }

    /// A word for what the child notes on its way: [`Progress::NOTES`] of them.
    pub(crate) fn note(&self, number: usize) -> &AtomicU64 {
        assert!(number < Progress::NOTES);
        &self.words()[1 + number]
    }

    /// How many words there are to note something in.
    pub(crate) const NOTES: usize = WORDS_OF_FAILURE - 1;

    fn set_failure(&self, why: &str) {
        let mut bytes = why.bytes().chain(std::iter::repeat(0));
        for word in &self.words()[WORDS_OF_FAILURE..] {
            let part = std::array::from_fn(|_| bytes.next().expect("endless"));
            word.store(u64::from_le_bytes(part), Ordering::Relaxed);
        }
    }

    pub(super) fn failure(&self) -> String {
        let words = self.words()[WORDS_OF_FAILURE..].iter();
        let bytes: Vec<u8> = words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `new`, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.page.cast(), PAGE.get()) };
    }
}

/// Which stretches between two system calls, in order, are worth stepping.
#[derive(Debug)]
pub(crate) struct Focus(Vec<bool>);

impl Focus {
    fn skips(&self, stretch: usize) -> bool {
        self.0.get(stretch) == Some(&false)
    }
}

/// Calls `operation` in a child and `at_point` at each of its instruction
/// boundaries: with false until the operation has returned, then once with
/// true. With a focus, only in the stretches that are worth it. The child is
/// killed then: nothing that `operation` makes is dropped.
///
/// The caller has no other thread.
pub(crate) fn each_instruction(
    progress: &Progress,
    focus: Option<&Focus>,
    operation: impl FnOnce() -> Result<()>,
    at_point: impl FnMut(bool) -> Result<()>,
) -> Result<()> {
    let child = start_alone(progress, operation)?;
    each_boundary(&child, progress, focus, at_point)
}

pub(super) fn each_boundary(
    child: &Tracee,
    progress: &Progress,
    focus: Option<&Focus>,
    mut at_point: impl FnMut(bool) -> Result<()>,
) -> Result<()> {
    let mut stretch = 0;
    for _ in 0..MAX_STEPS {
        match progress.word().load(Ordering::Acquire) {
            IDLE => {}
            RUNNING => at_point(false)?,
            RETURNED => {
                let is_other = |focus: &Focus| stretch + 1 != focus.0.len() && stretch != focus.0.len();
                ensure!(!focus.is_some_and(is_other), "it makes other system calls than were rehearsed");
                return at_point(true);
            }
            _ => return Err(child.fail(progress)),
        }
        match focus {
            Some(focus) if focus.skips(stretch) => {
                // To its entry, then behind it.
                child.to_system_call()?;
                child.to_system_call()?;
                stretch += 1;
            }
            Some(_) => {
                stretch += child.is_at_system_call()? as usize;
                child.step()?;
            }
            None => child.step()?,
        }
    }
    bail!("the operation does not return within {MAX_STEPS} instructions")
}

/// Calls `operation` in a child from system call to system call, and `changed`
/// at each: a stretch is worth stepping if something has changed in it.
///
/// The caller has no other thread.
pub(crate) fn rehearse(
    progress: &Progress,
    operation: impl FnOnce() -> Result<()>,
    mut changed: impl FnMut() -> bool,
) -> Result<Focus> {
    let child = start_alone(progress, operation)?;
    let mut stretches = vec![];
    loop {
        child.to_system_call()?;
        stretches.push(changed());
        match progress.word().load(Ordering::Acquire) {
            RETURNED => return Ok(Focus(stretches)),
            FAILED => return Err(child.fail(progress)),
            _ => child.to_system_call()?,
        }
    }
}

/// Calls `operation` in a child and `at_call` before each of its system calls.
/// The child is stopped when it has returned, and lives until what is returned
/// is dropped.
///
/// The caller has no other thread.
pub(crate) fn until_returned(
    progress: &Progress,
    operation: impl FnOnce() -> Result<()>,
    mut at_call: impl FnMut(&Tracee, &Call) -> Result<()>,
) -> Result<Tracee> {
    let child = start_alone(progress, operation)?;
    loop {
        child.to_system_call()?;
        match progress.word().load(Ordering::Acquire) {
            RETURNED => return Ok(child),
            FAILED => return Err(child.fail(progress)),
            _ => at_call(&child, &child.call()?)?,
        }
        child.to_system_call()?;
    }
}

/// Keeps this process and its children on one processor: two that take turns
/// at every instruction are several times slower on two. No matter if it fails.
pub(crate) fn stay_on_one_processor() {
    // SAFETY: an all-zero set is a valid empty one; the other two functions
    // get a set of our own and a processor number below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let Ok(processor) = usize::try_from(libc::sched_getcpu()) else { return };
        if processor < libc::CPU_SETSIZE as usize {
            libc::CPU_SET(processor, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &set);
        }
    }
}

/// A child that is about to call `operation`, and nothing else.
fn start_alone(progress: &Progress, operation: impl FnOnce() -> Result<()>) -> Result<Tracee> {
    start(progress, || Ok(()), |()| operation(), |()| Ok(()))
}

/// A child that is about to call `operation` with what `prepare` made, and then
/// `sequel`. It is stopped before the first, and at the end.
pub(crate) fn start<H, R>(
    progress: &Progress,
    prepare: impl FnOnce() -> Result<H>,
    operation: impl FnOnce(H) -> Result<R>,
    sequel: impl FnOnce(R) -> Result<()>,
) -> Result<Tracee> {
    progress.word().store(IDLE, Ordering::Relaxed);
    let run = || {
        let made = prepare()?;
        raise(Signal::SIGSTOP)?;
        progress.word().store(RUNNING, Ordering::Release);
        let made = operation(made)?;
        progress.word().store(RETURNED, Ordering::Release);
        // Most are killed at the store above; a system call ends its stretch.
        getppid();
        sequel(made)?;
        progress.word().store(DONE, Ordering::Release);
        raise(Signal::SIGSTOP)?;
        bail!("went on after its end")
    };
    // SAFETY: the process has one thread (the caller's promise), so the child
    // finds every lock free and may run any code.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => be_stepped(progress, run),
        ForkResult::Parent { child } => Tracee(child),
    };
    match waitpid(child.0, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, REFUSED) => return Err(NotPermitted(Errno::EPERM).into()),
        other => bail!("the child did not start: {other:?}: {}", progress.failure()),
    }
    let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
    match ptrace::setoptions(child.0, options) {
        Ok(()) => Ok(child),
        Err(errno) => Err(NotPermitted(errno).into()),
    }
}

/// The child's side: never comes back, whatever it does.
fn be_stepped(progress: &Progress, run: impl FnOnce() -> Result<()>) -> ! {
    // The operation steps through what the parent attached and leaves alone.
    shmring::internals::use_inherited_handles();
    // The tracer may be gone before it can ask for EXITKILL.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    if ptrace::traceme().is_err() {
        exit(REFUSED);
    }
    allocate_without_system_calls();
    progress.set_failure(&match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => "it ended".into(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "a panic".into(),
    });
    progress.word().store(FAILED, Ordering::Release);
    exit(1)
}

/// A focus counts the operation's system calls: those of its allocations would
/// depend on what this process allocated before.
fn allocate_without_system_calls() {
    // SAFETY: the options of this process's own allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 << 20)));
}

/// Leaves without running what the parent registered for its own exit.
fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}
