//! Runs an operation in a child process one instruction at a time.
//!
//! The child is stopped at every instruction boundary: what shared memory holds
//! there is exactly what a kill there would leave behind. A system call is one
//! instruction; a string instruction stops after every byte.
//!
//! Attaching asks the kernel and formats text for thousands of instructions and
//! touches the lane with few. So an operation may be rehearsed first, from
//! system call to system call, to step later only where the lane changes.
#![allow(unsafe_code)] // fork, one word shared with the child, what the kernel says of its system calls

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// What the child says of itself, in order.
const IDLE: u64 = 0;
const RUNNING: u64 = 1;
const RETURNED: u64 = 2;
const FAILED: u64 = 3;

/// The child's exit status when it may not be traced.
const REFUSED: i32 = 77;

/// An operation that takes more instructions than this does not end.
const MAX_STEPS: u64 = 20_000_000;

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
    page: NonNull<AtomicU64>,
}

const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

impl Progress {
    /// Maps the page.
    pub(crate) fn new() -> Result<Progress> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces
        // nobody's memory.
        let page = unsafe { mmap_anonymous(None, PAGE, access, MapFlags::MAP_SHARED)? };
        Ok(Progress { page: page.cast() })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: `new` mapped the page, zeroed and aligned; it stays mapped as
        // long as `self` lives, and this word is only accessed as AtomicU64.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `new`, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.page.cast(), PAGE.get()) };
    }
}

/// A stopped child, killed and reaped when dropped.
pub(crate) struct Tracee(Pid);

impl Drop for Tracee {
    fn drop(&mut self) {
        if kill(self.0, Signal::SIGKILL).is_ok() {
            while let Ok(status) = waitpid(self.0, None) {
                if !matches!(status, WaitStatus::Stopped(..)) {
                    break;
                }
            }
        }
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
    mut at_point: impl FnMut(bool) -> Result<()>,
) -> Result<()> {
    let child = start(progress, operation)?;
    let mut stretch = 0;
    for _ in 0..MAX_STEPS {
        match progress.word().load(Ordering::Acquire) {
            IDLE => {}
            RUNNING => at_point(false)?,
            RETURNED => return at_point(true),
            _ => return Err(child.fail()),
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
    let child = start(progress, operation)?;
    let mut stretches = vec![];
    loop {
        child.to_system_call()?;
        stretches.push(changed());
        match progress.word().load(Ordering::Acquire) {
            RETURNED => return Ok(Focus(stretches)),
            FAILED => return Err(child.fail()),
            _ => child.to_system_call()?,
        }
    }
}

/// A system call that a stopped child is about to make.
pub(crate) struct Call {
    child: Pid,
    /// Which.
    pub(crate) number: u64,
    /// What it is given.
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// A word of the child's memory.
    pub(crate) fn word(&self, at: u64) -> Result<u64> {
        Ok(ptrace::read(self.child, at as ptrace::AddressType)? as u64)
    }

    /// Changes a word of the child's memory.
    pub(crate) fn set_word(&self, at: u64, word: u64) -> Result<()> {
        Ok(ptrace::write(self.child, at as ptrace::AddressType, word as libc::c_long)?)
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
    mut at_call: impl FnMut(&Call) -> Result<()>,
) -> Result<Tracee> {
    let child = start(progress, operation)?;
    loop {
        child.to_system_call()?;
        match progress.word().load(Ordering::Acquire) {
            RETURNED => return Ok(child),
            FAILED => return Err(child.fail()),
            _ => at_call(&child.call()?)?,
        }
        child.to_system_call()?;
    }
}

impl Tracee {
    fn step(&self) -> Result<()> {
        ptrace::step(self.0, None)?;
        match waitpid(self.0, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(()),
            other => bail!("a step ended otherwise than by a trap: {other:?}"),
        }
    }

    /// Runs to the entry of the next system call or, from there, to its exit.
    fn to_system_call(&self) -> Result<()> {
        ptrace::syscall(self.0, None)?;
        match waitpid(self.0, None)? {
            WaitStatus::PtraceSyscall(_) => Ok(()),
            other => bail!("no system call but {other:?}"),
        }
    }

    /// True if the next instruction is `syscall`.
    #[cfg(target_arch = "x86_64")]
    fn is_at_system_call(&self) -> Result<bool> {
        let at = ptrace::getregs(self.0)?.rip;
        let code = ptrace::read(self.0, at as ptrace::AddressType)?;
        Ok(code as u16 == u16::from_le_bytes([0x0F, 0x05]))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_at_system_call(&self) -> Result<bool> {
        bail!("this harness does not know the system call instruction of this processor")
    }

    /// The system call whose entry it is stopped at.
    fn call(&self) -> Result<Call> {
        let info = ptrace::syscall_info(self.0)?;
        ensure!(info.op == libc::PTRACE_SYSCALL_INFO_ENTRY, "stopped elsewhere than before a system call");
        // SAFETY: at an entry this is what the kernel has written.
        let entry = unsafe { info.u.entry };
        Ok(Call { child: self.0, number: entry.nr, arguments: entry.args })
    }

    fn fail(&self) -> anyhow::Error {
        let status = ptrace::cont(self.0, None).and_then(|()| waitpid(self.0, None));
        anyhow!("the operation failed: {status:?}")
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

fn start(progress: &Progress, operation: impl FnOnce() -> Result<()>) -> Result<Tracee> {
    progress.word().store(IDLE, Ordering::Relaxed);
    // SAFETY: the process has one thread (the caller's promise), so the child
    // finds every lock free and may run any code.
    let child = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => be_stepped(progress, operation),
        ForkResult::Parent { child } => Tracee(child),
    };
    match waitpid(child.0, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, REFUSED) => return Err(NotPermitted(Errno::EPERM).into()),
        other => bail!("the child did not start: {other:?}"),
    }
    let options = ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD;
    match ptrace::setoptions(child.0, options) {
        Ok(()) => Ok(child),
        Err(errno) => Err(NotPermitted(errno).into()),
    }
}

/// The child's side: never comes back, whatever the operation does.
fn be_stepped(progress: &Progress, operation: impl FnOnce() -> Result<()>) -> ! {
    // The operation steps through what the parent attached and leaves alone.
    shmring::internals::use_inherited_handles();
    let run = || -> Result<()> {
        raise(Signal::SIGSTOP)?;
        progress.word().store(RUNNING, Ordering::Release);
        operation()?;
        progress.word().store(RETURNED, Ordering::Release);
        // Killed at the store above; a system call ends its stretch.
        raise(Signal::SIGSTOP)?;
        bail!("went on after its end")
    };
    // The tracer may be gone before it can ask for EXITKILL.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    if ptrace::traceme().is_err() {
        exit(REFUSED);
    }
    let outcome = catch_unwind(AssertUnwindSafe(run));
    progress.word().store(FAILED, Ordering::Release);
    if let Ok(Err(error)) = outcome {
        eprintln!("prove: in the stepped process: {error:#}");
    }
    exit(1)
}

/// Leaves without running what the parent registered for its own exit.
fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}
