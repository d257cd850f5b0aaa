//! Counts the system calls of a program, or meddles with them.
#![allow(unsafe_code)] // pre_exec, and a union of the kernel's

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

use crate::DEADLINE;

/// A system call, before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which one.
    pub number: i64,
    /// As the kernel gets them.
    pub arguments: [u64; 6],
}

impl Call {
    /// That of a process that is stopped before it. An error if it is not, or
    /// the kernel does not tell.
    pub fn of(pid: Pid) -> Result<Call, Errno> {
        let info = ptrace::syscall_info(pid)?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Err(Errno::EINVAL);
        }
        // SAFETY: at an entry this is what the kernel has written.
        let entry = unsafe { info.u.entry };
        Ok(Call { number: entry.nr as i64, arguments: entry.args })
    }
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made.
    Made,
    /// It is not made, and fails with this.
    Fails(Errno),
    /// It is made, and said to have failed with this: as close(2) does.
    MadeAndFails(Errno),
    /// It is not made: the program is killed first.
    KilledBefore,
    /// It is made, and the program killed before it learns of it.
    KilledAfter,
}

/// A program that stops at every system call to be counted. Only the thread
/// that started it may use it.
#[derive(Debug)]
pub struct Traced {
    process: std::process::Child,
    pid: Pid,
    calls: u64,
    entering: bool,
}

impl Traced {
    /// Starts a program; `Err` if this machine does not allow tracing.
    pub fn start(command: &mut Command) -> Result<Traced, Errno> {
        // SAFETY: three async-signal-safe system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // Whoever waits for it waits in the kernel.
                alarm::set(DEADLINE.as_secs() as u32);
                Ok(ptrace::traceme()?)
            })
        };
        let process = command.spawn().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        let pid = Pid::from_raw(process.id() as i32);
        // It stops after exec.
        waitpid(pid, None)?;
        ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
        Ok(Traced { process, pid, calls: 0, entering: true })
    }

    /// The process.
    pub fn process(&mut self) -> &mut std::process::Child {
        &mut self.process
    }

    /// Lets it run to its end; its exit code and all its system calls.
    pub fn finish(mut self) -> (i32, u64) {
        loop {
            if let Some(code) = self.step(None) {
                return (code, self.calls);
            }
        }
    }

    /// Lets it run to its end; its exit code, and how many of its system calls
    /// `counts` counts. An error if the kernel does not tell them.
    pub fn finish_counting(mut self, counts: impl Fn(&Call) -> bool) -> Result<(i32, u64), Errno> {
        let mut found = 0;
        loop {
            if let Some(code) = self.step(None) {
                return Ok((code, found));
            }
            if !self.entering {
                found += u64::from(counts(&Call::of(self.pid)?));
            }
        }
    }

    /// Lets it run until it stops itself by SIGTRAP.
    pub fn run_until_trap(&mut self) -> Result<(), Errno> {
        ptrace::cont(self.pid, None)?;
        match waitpid(self.pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    /// Has `fate` decide on each of its system calls from here on, until that
    /// says `None`; its exit code. An error if the kernel does not allow that, or
    /// this does not know how to do it on this processor.
    pub fn finish_meddling(mut self, mut fate: impl FnMut(&Call) -> Option<Fate>) -> Result<i32, Errno> {
        loop {
            if let Some(code) = self.step(None) {
                return Ok(code);
            }
            if self.entering {
                continue;
            }
            let Some(fate) = fate(&Call::of(self.pid)?) else {
                ptrace::detach(self.pid, None)?;
                let status = self.process.wait().expect("it is ours");
                return Ok(status.code().or(status.signal().map(|s| 128 + s)).expect("it ended"));
            };
            if let Fate::Fails(_) = fate {
                registers::forget_call(self.pid)?;
            }
            if !matches!(fate, Fate::Made | Fate::KilledBefore)
                && let Some(code) = self.step(None)
            {
                return Ok(code);
            }
            match fate {
                Fate::Made => {}
                Fate::Fails(errno) | Fate::MadeAndFails(errno) => registers::set_error(self.pid, errno)?,
                Fate::KilledBefore | Fate::KilledAfter => {
                    self.process.kill().expect("it runs");
                    self.process.wait().expect("it is ours");
                    return Ok(128 + Signal::SIGKILL as i32);
                }
            }
        }
    }

    /// Lets it run until `until` says so at a system call; the calls so far.
    pub fn run_until(&mut self, mut until: impl FnMut() -> bool) -> u64 {
        while !until() {
            assert_eq!(self.step(None), None, "it ended");
        }
        self.calls
    }

    /// Lets it run for a time: it has to make system calls meanwhile. The
    /// calls in that time.
    pub fn run_for(&mut self, time: Duration) -> u64 {
        let (before, end) = (self.calls, Instant::now() + time);
        self.run_until(|| Instant::now() >= end) - before
    }

    /// Lets it go without further counting.
    pub fn release(mut self) -> std::process::Child {
        ptrace::detach(self.pid, None).expect("it is stopped");
        // A finished child to leave behind in place of the running one.
        std::mem::replace(&mut self.process, Command::new("true").spawn().expect("true starts"))
    }

    /// Runs to the next stop; the exit code if it ended, as a shell has it: 128
    /// and the signal's number if a signal ended it.
    fn step(&mut self, signal: Option<Signal>) -> Option<i32> {
        ptrace::syscall(self.pid, signal).expect("it is stopped");
        match waitpid(self.pid, None).expect("it is ours") {
            WaitStatus::PtraceSyscall(_) => {
                self.calls += u64::from(self.entering);
                self.entering = !self.entering;
                None
            }
            WaitStatus::Stopped(_, signal) => self.step(Some(signal)),
            WaitStatus::Exited(_, code) => Some(code),
            WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
            other => panic!("{other:?}"),
        }
    }
}

/// Another outcome of a stopped program's system call.
#[cfg(target_arch = "x86_64")]
mod registers {
    use super::{Errno, Pid, ptrace};

    /// To be called at the entry: no call has this number.
    pub(super) fn forget_call(pid: Pid) -> Result<(), Errno> {
        let mut r = ptrace::getregs(pid)?;
        r.orig_rax = u64::MAX;
        ptrace::setregs(pid, r)
    }

    /// To be called at the exit.
    pub(super) fn set_error(pid: Pid, errno: Errno) -> Result<(), Errno> {
        let mut r = ptrace::getregs(pid)?;
        r.rax = -(errno as i64) as u64;
        ptrace::setregs(pid, r)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use super::{Errno, Pid};

    pub(super) fn forget_call(_: Pid) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn set_error(_: Pid, _: Errno) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time that a process has used, in clock ticks (10 ms).
pub fn clock_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a command in brackets");
    fields.split_whitespace().skip(11).take(2).map(|f| f.parse::<u64>().expect("a number")).sum()
}
