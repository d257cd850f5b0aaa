//! Runs an operation in a child process one instruction at a time.
//!
//! The child is stopped at every instruction boundary: what shared memory holds
//! there is exactly what a kill there would leave behind. A system call is one
//! instruction; a string instruction stops after every byte.
//!
//! Attaching asks the kernel and formats text for thousands of instructions and
//! touches the lane with few. So an operation may be rehearsed first, from
//! system call to system call, to step later only where the lane changes.
//!
//! At each boundary a copy of the stopped child can go on to its end, while the
//! child itself stays where it is: paused, and resumed.
#![allow(unsafe_code)] // fork, words shared with the child, a system call put into it

use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, raise, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Whence, alarm, fork, getppid, lseek};

/// What the child says of itself, in order.
const IDLE: u64 = 0;
const RUNNING: u64 = 1;
const RETURNED: u64 = 2;
const FAILED: u64 = 3;
/// All that comes after the operation is done too.
const DONE: u64 = 4;

/// The child's exit status when it may not be traced.
const REFUSED: i32 = 77;

/// An operation that takes more instructions than this does not end.
const MAX_STEPS: u64 = 20_000_000;

/// A copy that runs longer than this does not end.
const HANG_SECONDS: u32 = 60;

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

    fn word(&self) -> &AtomicU64 {
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

    fn failure(&self) -> String {
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

/// A child, stopped unless it is let go, killed and reaped when dropped.
#[derive(Debug)]
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
    at_point: impl FnMut(bool) -> Result<()>,
) -> Result<()> {
    let child = start(progress, || Ok(()), |()| operation(), |()| Ok(()))?;
    each_boundary(&child, progress, focus, at_point)
}

/// As [`each_instruction`], with a child that can be resumed at each boundary,
/// as often as wanted: it then returns from `operation`, takes what that made
/// to `sequel`, and returns from there.
pub(crate) fn each_pause<R>(
    progress: &Progress,
    focus: Option<&Focus>,
    operation: impl FnOnce() -> Result<R>,
    sequel: impl FnOnce(R) -> Result<()>,
    mut at_point: impl FnMut(&Paused<'_>) -> Result<()>,
) -> Result<()> {
    let child = start(progress, lose_nothing_in_copies, |()| operation(), sequel)?;
    each_boundary(&child, progress, focus, |_| at_point(&Paused { child: &child, progress }))
}

/// A child that is stopped at an instruction boundary.
pub(crate) struct Paused<'a> {
    child: &'a Tracee,
    progress: &'a Progress,
}

impl Paused<'_> {
    /// Lets it go on, from here to the end of its sequel, where it is still
    /// alive; else, why it did not come there. It is a copy that goes on: the
    /// child stays where it is. The copy shares its open files, and so its locks.
    pub(crate) fn resume(&self) -> Result<Result<Tracee, String>> {
        let word = self.progress.word();
        let before = word.load(Ordering::Relaxed);
        let places = self.child.places()?;
        let copy = self.child.copy()?;
        let done = copy.run_to_end(self.progress)?;
        word.store(before, Ordering::Relaxed);
        for (file, at) in places {
            lseek(file, at, Whence::SeekSet)?;
        }
        Ok(done.map(|()| copy))
    }
}

/// A copy by a bare system call is to be the process itself: no page of it is
/// wiped, not even those that a process asks to have wiped in its children.
fn lose_nothing_in_copies() -> Result<()> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut range = None;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((from, to)) = first.split_once('-') {
            range = Some((usize::from_str_radix(from, 16)?, usize::from_str_radix(to, 16)?));
        } else if first == "VmFlags:" && words.any(|flag| flag == "wf") {
            let (from, to) = range.context("flags of no mapping")?;
            // SAFETY: only what a later copy finds in these pages is changed.
            let kept = unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_KEEPONFORK) };
            Errno::result(kept).context("a page that is wiped in copies")?;
        }
    }
    Ok(())
}

fn each_boundary(
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
    let child = start(progress, || Ok(()), |()| operation(), |()| Ok(()))?;
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

/// What a system call returned that makes a descriptor.
fn own_fd(returned: libc::c_long) -> Result<OwnedFd> {
    let number = Errno::result(returned)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

extern "C" fn look_up(_signal: libc::c_int) {}

/// The instruction that a child executes to become two.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn one_system_call() {
    std::arch::naked_asm!("syscall", "int3")
}

impl Tracee {
    /// A second process in the same state, stopped; this one stays as it is.
    #[cfg(target_arch = "x86_64")]
    fn copy(&self) -> Result<Tracee> {
        // No system call that it was in is to be started again.
        const NO_CALL: u64 = u64::MAX;
        let here = ptrace::getregs(self.0)?;
        let gate = one_system_call as *const () as u64;
        // A child of ours, not of its own: it would be told of the end.
        let flags = libc::CLONE_PARENT | libc::CLONE_PTRACE | libc::SIGCHLD;
        let call = libc::user_regs_struct {
            rip: gate,
            rax: libc::SYS_clone as u64,
            orig_rax: NO_CALL,
            rdi: flags as u64,
            rsi: 0,
            rdx: 0,
            r10: 0,
            r8: 0,
            ..here
        };
        ptrace::setregs(self.0, call)?;
        let mut regs = call;
        // Behind another system call the first trap may be that one's.
        while regs.rip == gate {
            self.step()?;
            regs = ptrace::getregs(self.0)?;
        }
        ptrace::setregs(self.0, here)?;
        if (regs.rax as i64) < 0 {
            return Err(Errno::from_raw(-(regs.rax as i32))).context("clone");
        }
        let copy = Tracee(Pid::from_raw(regs.rax as i32));
        match waitpid(copy.0, None)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => bail!("the copy did not start: {other:?}"),
        }
        ptrace::setregs(copy.0, libc::user_regs_struct { orig_rax: NO_CALL, ..here })?;
        Ok(copy)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn copy(&self) -> Result<Tracee> {
        bail!("this harness does not know how to make a system call on this processor")
    }

    /// How far it has read the files that it has open: a copy reads on in them.
    fn places(&self) -> Result<Vec<(OwnedFd, i64)>> {
        let get = |process: &OwnedFd, number: i32| {
            // SAFETY: takes numbers only.
            unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) }
        };
        // SAFETY: takes numbers only.
        let process = own_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, self.0.as_raw(), 0) })?;
        let mut places = vec![];
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.0))? {
            let number = entry?.file_name().to_string_lossy().parse()?;
            let file = own_fd(get(&process, number))?;
            // Not all have a place.
            if let Ok(at) = lseek(&file, 0, Whence::SeekCur) {
                places.push((file, at));
            }
        }
        Ok(places)
    }

    /// Runs to the end of all that it has to do; else, why not.
    fn run_to_end(&self, progress: &Progress) -> Result<Result<(), String>> {
        loop {
            ptrace::cont(self.0, None)?;
            let Some(status) = self.wait_a_while()? else {
                return Ok(Err("it does not end".into()));
            };
            match (status, progress.word().load(Ordering::Acquire)) {
                (WaitStatus::Stopped(_, Signal::SIGSTOP), DONE) => return Ok(Ok(())),
                (WaitStatus::Stopped(_, Signal::SIGSTOP), _) => {}
                (_, FAILED) => return Ok(Err(progress.failure())),
                (status, _) => return Ok(Err(format!("it ended: {status:?}"))),
            }
        }
    }

    /// Its next stop; `None` if it hangs.
    fn wait_a_while(&self) -> Result<Option<WaitStatus>> {
        static HANDLED: Once = Once::new();
        HANDLED.call_once(|| {
            // Without SA_RESTART: it interrupts the wait.
            let action = SigAction::new(SigHandler::Handler(look_up), SaFlags::empty(), SigSet::empty());
            // SAFETY: the handler does nothing.
            let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
        });
        alarm::set(HANG_SECONDS);
        let status = waitpid(self.0, None);
        alarm::cancel();
        match status {
            Err(Errno::EINTR) => Ok(None),
            status => Ok(Some(status?)),
        }
    }

    /// Goes to the next boundary inside the operation; true if it has returned.
    pub(crate) fn to_boundary(&self, progress: &Progress) -> Result<bool> {
        for _ in 0..MAX_STEPS {
            self.step()?;
            match progress.word().load(Ordering::Acquire) {
                IDLE => {}
                RUNNING => return Ok(false),
                RETURNED => return Ok(true),
                _ => return Err(self.fail(progress)),
            }
        }
        bail!("the operation does not begin")
    }

    /// Lets it go to the next entry of a system call, or to the exit of the one
    /// that it is in.
    pub(crate) fn go(&self) -> Result<()> {
        Ok(ptrace::syscall(self.0, None)?)
    }

    /// Waits until it is there; false if it hangs.
    pub(crate) fn stops(&self, progress: &Progress) -> Result<bool> {
        match self.wait_a_while()? {
            None => Ok(false),
            Some(WaitStatus::PtraceSyscall(_)) => Ok(true),
            Some(other) => bail!("it ended: {} ({other:?})", progress.failure()),
        }
    }

    /// The number of the system call that it is in, and its first two arguments.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn call(&self) -> Result<(libc::c_long, [u64; 2])> {
        let regs = ptrace::getregs(self.0)?;
        Ok((regs.orig_rax as libc::c_long, [regs.rdi, regs.rsi]))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn call(&self) -> Result<(libc::c_long, [u64; 2])> {
        bail!("this harness does not know the registers of this processor")
    }

    /// What the kernel says it does: `S` asleep, `t` stopped for its tracer.
    pub(crate) fn state(&self) -> Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, rest) = stat.rsplit_once(") ").context("a command in brackets")?;
        rest.chars().next().context("a state")
    }

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
    pub(crate) fn is_at_system_call(&self) -> Result<bool> {
        let at = ptrace::getregs(self.0)?.rip;
        let code = ptrace::read(self.0, at as ptrace::AddressType)?;
        Ok(code as u16 == u16::from_le_bytes([0x0F, 0x05]))
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn is_at_system_call(&self) -> Result<bool> {
        bail!("this harness does not know the system call instruction of this processor")
    }

    fn fail(&self, progress: &Progress) -> anyhow::Error {
        let status = ptrace::cont(self.0, None).and_then(|()| waitpid(self.0, None));
        anyhow!("the operation failed: {} ({status:?})", progress.failure())
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
