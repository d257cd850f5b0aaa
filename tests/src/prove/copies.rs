//! At each boundary a copy of the stopped child can go on to its end, while the
//! child itself stays where it is: paused, and resumed.
#![allow(unsafe_code)] // a system call put into a child, and its descriptors

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, Whence, lseek};

use super::trace::{Focus, Progress, each_boundary, start};
use super::tracee::Tracee;

/// As [`each_instruction`](super::trace::each_instruction), with a child that can be resumed at each boundary,
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

/// What a system call returned that makes a descriptor.
fn own_fd(returned: libc::c_long) -> Result<OwnedFd> {
    let number = Errno::result(returned)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

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
}
