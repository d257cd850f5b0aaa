//! A process that may no longer make system calls sends or receives a million
//! messages: nothing on their way needs the kernel.
//!
//! The child attaches, then enters seccomp's strict mode: the kernel kills it
//! at any system call but read, write, exit and sigreturn. The parent never
//! sleeps, because a sleeper costs its peer a call to wake it.
//!
//! Exit status: 0 all messages were right and the child ended by itself; 1
//! otherwise; 77 strict mode is not to be had here.
#![allow(unsafe_code)] // fork, prctl, and the raw exit

use std::fmt;
use std::fs;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use shmring::{Consumer, Producer, Read, Region, SendError};

const NOT_PERMITTED: u8 = 77;
const MESSAGES: u64 = 1_000_000;
const LEN: usize = 64;

/// The child's exit statuses.
const DONE: i32 = 0;
const WRONG: i32 = 1;
const REFUSED: i32 = 2;

/// What the child does in strict mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Sends all messages.
    Producer,
    /// Receives all messages and commits each.
    Consumer,
    /// Makes a system call, as a control; is killed.
    Control,
}

/// Sends or receives a million messages without a system call.
#[derive(Debug, Parser)]
struct Options {
    /// What the child does in strict mode.
    role: Role,
}

/// One end of the ring.
enum End {
    Sends(Box<Producer>),
    Receives(Box<Consumer>),
}

impl End {
    /// Sends or takes message `number` if that can be done now; true if so.
    fn pass(&mut self, number: u64) -> Result<bool> {
        match self {
            End::Sends(producer) => match producer.try_send(&message(number)) {
                Err(SendError::Full) => return Ok(false),
                sent => sent?,
            },
            End::Receives(consumer) => {
                match consumer.try_read()? {
                    Read::Message(m) => {
                        ensure!(m.sequence == number && m.payload == message(number), "not {number}: {m:?}");
                    }
                    Read::Empty => return Ok(false),
                    other => bail!("instead of message {number}: {other:?}"),
                }
                consumer.commit();
            }
        }
        Ok(true)
    }
}

fn message(number: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *word = number.wrapping_mul(i as u64 + 1).to_le_bytes();
    }
    bytes
}

/// In the child. Message 0 goes before: it is the one that buffers grow for.
fn prepare(role: Role, region: &Region) -> Result<Option<End>> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut end = match role {
        Role::Producer => End::Sends(Box::new(region.producer()?)),
        Role::Consumer => End::Receives(Box::new(region.consumer()?)),
        Role::Control => return Ok(None),
    };
    while !end.pass(0)? {
        thread::yield_now();
    }
    Ok(Some(end))
}

/// In the child, which ends here.
fn work_strictly(mut end: Option<End>) -> ! {
    // SAFETY: changes only what this thread may ask the kernel for.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) } != 0 {
        exit(REFUSED);
    }
    let Some(end) = &mut end else {
        // SAFETY: asks who the parent is; the kernel kills this process for it.
        unsafe { libc::syscall(libc::SYS_getppid) };
        exit(DONE);
    };
    for number in 1..=MESSAGES {
        loop {
            match end.pass(number) {
                Ok(true) => break,
                Ok(false) => spin_loop(),
                Err(_) => exit(WRONG),
            }
        }
    }
    exit(DONE)
}

/// The one way to end in strict mode: libc's own is another system call.
fn exit(status: i32) -> ! {
    // SAFETY: ends this thread, the only one of its process.
    unsafe { libc::syscall(libc::SYS_exit, status) };
    unreachable!("it has ended")
}

/// In the parent: passes all messages, and looks in the middle of them whether
/// the child is in strict mode.
fn accompany(mut end: End, child: Pid) -> Result<()> {
    let mut ended = None;
    for number in 0..=MESSAGES {
        let mut turns = 0;
        while !end.pass(number)? {
            if let Some(status) = ended {
                ensure!(status != WaitStatus::Exited(child, REFUSED), NotHere);
                bail!("at message {number} the child had ended: {status:?}");
            }
            turns += 1;
            if turns % 4096 == 0 {
                thread::yield_now();
                // It may have sent something just before.
                let status = waitpid(child, Some(WaitPidFlag::WNOHANG))?;
                ended = (status != WaitStatus::StillAlive).then_some(status);
            }
        }
        if number == MESSAGES / 2 {
            let status = fs::read_to_string(format!("/proc/{child}/status"))?;
            ensure!(status.contains("\nSeccomp:\t1\n"), "the child is not in strict mode");
        }
    }
    let status = ended.map_or_else(|| waitpid(child, None), Ok)?;
    ensure!(status == WaitStatus::Exited(child, DONE), "the child ended so: {status:?}");
    Ok(())
}

/// In the parent: the child must be killed.
fn watch_control(child: Pid) -> Result<()> {
    match waitpid(child, None)? {
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(()),
        WaitStatus::Exited(_, REFUSED) => Err(NotHere.into()),
        status => bail!("a system call in strict mode, and the child ended so: {status:?}"),
    }
}

/// Strict mode is not to be had here.
#[derive(Debug)]
struct NotHere;

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seccomp's strict mode is refused")
    }
}

impl std::error::Error for NotHere {}

fn run(role: Role) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let region = Region::create(folder.path().join("ring"))?;
    // SAFETY: this process has no other thread.
    let child = match unsafe { fork()? } {
        ForkResult::Parent { child } => child,
        ForkResult::Child => match prepare(role, &region) {
            Ok(end) => work_strictly(end),
            Err(error) => {
                eprintln!("strict: the child: {error:#}");
                exit(WRONG)
            }
        },
    };
    // If it has not ended by then, the child dies with this process.
    match role {
        Role::Producer => accompany(End::Receives(Box::new(region.consumer()?)), child),
        Role::Consumer => accompany(End::Sends(Box::new(region.producer()?)), child),
        Role::Control => watch_control(child),
    }
}

fn main() -> ExitCode {
    match run(Options::parse().role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<NotHere>() => {
            println!("skipped: {error}");
            ExitCode::from(NOT_PERMITTED)
        }
        Err(error) => {
            eprintln!("strict: {error:#}");
            ExitCode::FAILURE
        }
    }
}
