//! System calls on a message's way, counted by who traces the process.
#![allow(unsafe_code)] // a union of the kernel's

use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getppid};
use shmring::{Consumer, Producer, Read, RegionOptions};

use super::{child, place, result, series, skipped};
use crate::report::{CaseResult, Kind};

pub(super) const SIDE: &str = "syscalls";
/// Counted between the markers.
pub(super) const MESSAGES: u64 = 100_000;
/// A message.
const SIZE: usize = 64;
/// As often a control makes a system call.
const CALLS_OF_CONTROL: u64 = 100;
/// A marker is getpgid(2) of this process, which there is not: the kernel has
/// no numbers so high.
const MARK: i32 = 0x7e57_ab1e;

/// Both ends of a region of one's own.
pub(super) struct Passage {
    producer: Producer,
    consumer: Consumer,
    number: u64,
    blocks: bool,
}

impl Passage {
    /// In that folder, reading by that call. One message is passed: it is the
    /// one that buffers grow for.
    pub(super) fn new(place: &str, read: &str) -> Result<Passage> {
        let blocks = match read {
            "read" => true,
            "try_read" => false,
            read => bail!("nothing here is called {read:?}"),
        };
        let region = RegionOptions::new().create(Path::new(place).join("ring"))?;
        let (producer, consumer) = (region.producer()?, region.consumer()?);
        let mut passage = Passage { producer, consumer, number: 0, blocks };
        passage.pass(1)?;
        Ok(passage)
    }

    /// Sends, reads and commits so many messages, in runs of 1 to 64.
    pub(super) fn pass(&mut self, count: u64) -> Result<()> {
        let (mut left, mut run) = (count, 0);
        while left > 0 {
            run = left.min(run % 64 + 1);
            let mut message = [0x5a; SIZE];
            for number in self.number..self.number + run {
                message[..8].copy_from_slice(&number.to_le_bytes());
                self.producer.send(&message)?;
            }
            for number in self.number..self.number + run {
                message[..8].copy_from_slice(&number.to_le_bytes());
                let read = if self.blocks { self.consumer.read() } else { self.consumer.try_read() };
                match read? {
                    Read::Message(found) if found.payload == message => {}
                    other => bail!("not message {number}: {other:?}"),
                }
            }
            self.consumer.commit();
            self.number += run;
            left -= run;
        }
        Ok(())
    }
}

/// By the call that asks the kernel for nothing, and by the one that looks once
/// in 50 ms whether the file and the producers are still there: that look counts.
pub(super) const READS: [&str; 2] = ["try_read", "read"];

pub(super) fn measure(_quick: bool) -> Result<Vec<CaseResult>> {
    let row = |read: &str| {
        let ours = match count("control", read).and_then(|control| Ok((control, count("messages", read)?))) {
            Ok((control, calls)) => {
                ensure!(control == CALLS_OF_CONTROL, "{control} of {CALLS_OF_CONTROL} calls were counted");
                series("ours", Kind::Ours, vec![calls as f64])
            }
            Err(e) => match e.downcast_ref::<Errno>() {
                Some(errno) => skipped("ours", Kind::Ours, format!("it cannot be traced here: {errno}")),
                None => return Err(e),
            },
        };
        Ok(result("fast_path_syscalls", options(read), "calls", vec![ours]))
    };
    READS.into_iter().map(row).collect()
}

/// What is counted, in words.
pub(super) fn options(read: &str) -> String {
    format!("{MESSAGES} messages of {SIZE} B, send and {read}")
}

/// The system calls of a side between its two marks.
fn count(work: &str, read: &str) -> Result<u64> {
    let place = place()?;
    let folder = place.path().to_str().context("a path of ours")?;
    let mut command = child::command(SIDE, &[work, folder, read].map(str::to_owned))?;
    let mut traced = Traced(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let pid = Pid::from_raw(traced.0.id() as i32);
    // It stops itself when it is traced; a refusal ends it.
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, code) => {
            return Err(anyhow::Error::new(Errno::from_raw(code)).context("it may not be traced"));
        }
        other => bail!("a stop was expected, not {other:?}"),
    }
    ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
    let (mut marks, mut calls) = (0, 0);
    let mut signal = None;
    loop {
        ptrace::syscall(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => match entry(pid)? {
                Some(call) if is_mark(&call) => marks += 1,
                Some(_) if marks == 1 => calls += 1,
                _ => {}
            },
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, 0) => break,
            other => bail!("an end was expected, not {other:?}"),
        }
    }
    // It is waited for; the other one is to find that out.
    let _ = traced.0.try_wait();
    ensure!(marks == 2, "{marks} of 2 marks were seen");
    Ok(calls)
}

/// Is gone when nobody looks any more.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // One that was waited for already is not touched.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Number and first argument of the call that a process is about to make.
fn entry(pid: Pid) -> Result<Option<(i64, i32)>, Errno> {
    let info = ptrace::syscall_info(pid)?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Ok(None);
    }
    // SAFETY: at an entry this is what the kernel has written.
    let entry = unsafe { info.u.entry };
    Ok(Some((entry.nr as i64, entry.args[0] as i32)))
}

fn is_mark(&(number, argument): &(i64, i32)) -> bool {
    number == libc::SYS_getpgid && argument == MARK
}

pub(super) fn play(arguments: &[String]) -> Result<()> {
    if let Err(errno) = ptrace::traceme() {
        std::process::exit(errno as i32);
    }
    raise(Signal::SIGSTOP)?;
    let [work, place, read] = arguments else { bail!("what, where and how, not {arguments:?}") };
    let mut passage = Passage::new(place, read)?;
    mark();
    match work.as_str() {
        "messages" => passage.pass(MESSAGES)?,
        "control" => (0..CALLS_OF_CONTROL).for_each(|_| {
            getppid();
        }),
        other => bail!("nothing here is called {other:?}"),
    }
    mark();
    Ok(())
}

fn mark() {
    // That there is no such process is what it is for.
    let _ = getpgid(Some(Pid::from_raw(MARK)));
}
