//! A child that is stopped, and let go as far as wanted.
#![allow(unsafe_code)] // a signal's handler

use std::sync::Once;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};
use tests::Call;

use super::trace::{DONE, FAILED, IDLE, MAX_STEPS, Progress, RETURNED, RUNNING};

/// A copy that runs longer than this does not end.
const HANG_SECONDS: u32 = 60;

/// A child, stopped unless it is let go, killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Tracee(pub(super) Pid);

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

extern "C" fn look_up(_signal: libc::c_int) {}

impl Tracee {
    /// Runs to the end of all that it has to do; else, why not.
    pub(super) fn run_to_end(&self, progress: &Progress) -> Result<Result<(), String>> {
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

    /// What the kernel says it does: `S` asleep, `t` stopped for its tracer.
    pub(crate) fn state(&self) -> Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let (_, rest) = stat.rsplit_once(") ").context("a command in brackets")?;
        rest.chars().next().context("a state")
    }

    pub(super) fn step(&self) -> Result<()> {
        ptrace::step(self.0, None)?;
        match waitpid(self.0, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(()),
            other => bail!("a step ended otherwise than by a trap: {other:?}"),
        }
    }

    /// Runs to the entry of the next system call or, from there, to its exit.
    pub(super) fn to_system_call(&self) -> Result<()> {
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

    /// The system call whose entry it is stopped at.
    pub(super) fn call(&self) -> Result<Call> {
        Call::of(self.0).context("stopped elsewhere than before a system call")
    }

    /// A word of its memory.
    pub(crate) fn word(&self, at: u64) -> Result<u64> {
        Ok(ptrace::read(self.0, at as ptrace::AddressType)? as u64)
    }

    /// Changes a word of its memory.
    pub(crate) fn set_word(&self, at: u64, word: u64) -> Result<()> {
        Ok(ptrace::write(self.0, at as ptrace::AddressType, word as libc::c_long)?)
    }

    pub(super) fn fail(&self, progress: &Progress) -> anyhow::Error {
        let status = ptrace::cont(self.0, None).and_then(|()| waitpid(self.0, None));
        anyhow!("the operation failed: {} ({status:?})", progress.failure())
    }
}
