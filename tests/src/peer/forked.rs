//! Parent and child of a fork, with handles from before and after it.
//!
//! All but `threads` forks with one thread, so that its children may run any
//! code. None goes back to main from a child.
#![allow(unsafe_code)] // fork

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, pause};
use shmring::{AttachError, Owner, Producer, Read, ReadError, Region, RegionOptions, SendError, Trust};
use tests::{DEADLINE, expect_end, expect_message, fail_call, message, read_numbers, send_numbers};

use super::NotPermitted;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    scenario: Scenario,
    /// A region that is there, for those that do not make their own.
    path: Option<PathBuf>,
    /// As on a kernel that does not wipe pages.
    #[arg(long)]
    old_kernel: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scenario {
    /// The child sends requests, the parent answers.
    Exchange,
    /// What an inherited handle does: nothing.
    Inherited,
    /// A grant, a batch and a loan that were begun before the fork.
    Begun,
    /// Children that end with a loan.
    Lent,
    /// New handles in a child, and in its child.
    Anew,
    /// A process that changes its name.
    Renamed,
    /// A child that no handler was run for.
    RawClone,
    /// Forks while other threads attach and detach.
    Threads,
    /// Holds both roles, and stays with a child that sleeps.
    Sleeper,
    /// The same with a child that executed another program.
    Executed,
    /// The same with a sleeping child that may open no descriptor any more.
    Limited,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.old_kernel {
        // As before Linux 4.14.
        let (call, advice) = (libc::SYS_madvise, libc::MADV_WIPEONFORK as u32);
        fail_call(call, 2, u32::MAX, advice, Errno::EINVAL)
            .map_err(|_| NotPermitted("no filter of system calls can be set"))?;
    }
    let region =
        || -> Result<Region> { Ok(Region::open(options.path.as_ref().context("a path is missing")?)?) };
    match options.scenario {
        Scenario::Exchange => exchange(),
        Scenario::Inherited => inherited(),
        Scenario::Begun => begun(),
        Scenario::Lent => lent(),
        Scenario::Anew => anew(),
        Scenario::Renamed => renamed(),
        Scenario::RawClone => raw_clone(),
        Scenario::Threads => threads(),
        Scenario::Sleeper => stay_with(&region()?, sleeping_child),
        Scenario::Executed => stay_with(&region()?, executed_child),
        Scenario::Limited => stay_with(&region()?, limited_child),
    }
}

/// A child that dies with this process.
struct Child(Pid);

impl Child {
    /// Starts one that does `work`, with `forked` for the system call.
    fn start(
        forked: impl FnOnce() -> nix::Result<ForkResult>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Child> {
        match forked()? {
            ForkResult::Parent { child } => Ok(Child(child)),
            ForkResult::Child => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                let outcome = catch_unwind(AssertUnwindSafe(work));
                if let Ok(Err(error)) = &outcome {
                    eprintln!("peer: in the child: {error:#}");
                }
                exit(i32::from(!matches!(outcome, Ok(Ok(())))))
            }
        }
    }

    fn fork(work: impl FnOnce() -> Result<()>) -> Result<Child> {
        // SAFETY: this process has one thread.
        Child::start(|| unsafe { fork() }, work)
    }

    fn finish(self) -> Result<()> {
        match waitpid(self.0, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => bail!("the child failed: {other:?}"),
        }
    }
}

/// Does `work` in a forked child and waits for it.
fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    Child::fork(work)?.finish()
}

fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

fn small() -> Result<Region> {
    Ok(RegionOptions::new().capacity(64 << 10).max_producers(1).create_anonymous()?)
}

fn image(region: &Region) -> Result<Vec<u8>> {
    let file = File::from(region.as_fd().try_clone_to_owned()?);
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn exchange() -> Result<()> {
    const MESSAGES: u64 = 10_000;
    // As many as the ring has room for.
    const BURST: u64 = 100;
    let (requests, answers) = (small()?, small()?);
    let child = Child::fork(|| {
        let (mut producer, mut consumer) = (requests.producer()?, answers.consumer()?);
        for first in (0..MESSAGES).step_by(BURST as usize) {
            send_numbers(&mut producer, first..first + BURST)?;
            for number in first..first + BURST {
                expect_message(&mut consumer, number, &message(2 * number))?;
                consumer.commit();
            }
        }
        producer.close();
        expect_end(&mut consumer)
    })?;
    let (mut producer, mut consumer) = (answers.producer()?, requests.consumer()?);
    for number in 0..MESSAGES {
        read_numbers(&mut consumer, number..number + 1)?;
        producer.send_timeout(&message(2 * number), DEADLINE)?;
    }
    expect_end(&mut consumer)?;
    producer.close();
    child.finish()
}

fn is_refused(producer: &mut Producer) -> bool {
    producer.try_send(b"x") == Err(SendError::Forked)
}

fn inherited() -> Result<()> {
    let region = small()?;
    let mut producer = Some(region.producer()?);
    let mut consumer = Some(region.consumer()?);
    let (sender, receiver) = (producer.as_mut().expect("made"), consumer.as_mut().expect("made"));
    // What follows the longest one could be taken in one look.
    sender.send_timeout(&message(39), DEADLINE)?;
    send_numbers(sender, 1..3)?;
    expect_message(receiver, 0, &message(39))?;

    let before = image(&region)?;
    in_child(|| {
        let sender = producer.as_mut().expect("made");
        let refused = Err(SendError::Forked);
        ensure!(sender.try_send(b"x") == refused);
        ensure!(sender.send(b"x") == refused);
        ensure!(sender.send_timeout(b"x", DEADLINE) == refused);
        ensure!(sender.try_reserve(1).map(drop) == refused);
        ensure!(sender.reserve_deadline(1, None).map(drop) == refused);
        ensure!(sender.batch().try_push(b"x") == refused);
        let text = SendError::Forked.to_string();
        ensure!(text.contains("attach a new one in this process"), "{text}");

        let receiver = consumer.as_mut().expect("made");
        let refused = Some(ReadError::Forked);
        ensure!(receiver.try_read().err() == refused);
        ensure!(receiver.read().err() == refused);
        ensure!(receiver.read_timeout(DEADLINE).err() == refused);
        ensure!(receiver.check_producers().err() == refused);
        ensure!(receiver.available().next().and_then(Result::err) == refused);
        receiver.commit();

        let me = std::process::id() as u64;
        match region.producer() {
            Err(AttachError::Busy { owner: Some(owner), .. }) => ensure!(owner.pid != me),
            other => bail!("instead of Busy: {other:?}"),
        }
        drop((producer.take(), consumer.take()));
        Ok(())
    })?;
    in_child(|| {
        producer.take().context("made")?.close();
        Ok(())
    })?;
    ensure!(image(&region)? == before, "the child changed the region");

    // The parent's go on as if nothing had been.
    let (sender, receiver) = (producer.as_mut().expect("made"), consumer.as_mut().expect("made"));
    send_numbers(sender, 3..4)?;
    read_numbers(receiver, 1..4)?;
    ensure!(matches!(receiver.try_read()?, Read::Empty), "the child closed the stream");
    drop(producer);
    expect_end(receiver)
}

fn begun() -> Result<()> {
    let region = small()?;
    let (mut producer, mut consumer) = (region.producer()?, region.consumer()?);

    let mut grant = Some(producer.try_reserve(100)?);
    grant.as_mut().expect("made").write_all(b"the parent's ")?;
    let before = image(&region)?;
    in_child(|| {
        let mut grant = grant.take().context("made")?;
        let error = grant.write_all(b"the child's").err().context("the grant took it")?;
        ensure!(error.kind() == ErrorKind::Other && error.to_string() == SendError::Forked.to_string());
        grant.commit();
        Ok(())
    })?;
    ensure!(image(&region)? == before, "the child changed the region");
    ensure!(matches!(consumer.try_read()?, Read::Empty));
    let mut grant = grant.context("made")?;
    grant.write_all(b"words")?;
    grant.commit();
    expect_message(&mut consumer, 0, b"the parent's words")?;

    let mut batch = Some(producer.batch());
    batch.as_mut().expect("made").try_push(b"one")?;
    let before = image(&region)?;
    in_child(|| {
        let mut batch = batch.take().context("made")?;
        ensure!(batch.try_push(b"two") == Err(SendError::Forked));
        batch.publish();
        Ok(())
    })?;
    ensure!(image(&region)? == before, "the child changed the region");
    ensure!(matches!(consumer.try_read()?, Read::Empty));
    batch.context("made")?.publish();
    expect_message(&mut consumer, 1, b"one")?;

    let mut producer = producer.in_place(trust());
    let mut loan = Some(producer.reserve(100)?);
    loan.as_mut().context("made")?.fill(7);
    let before = image(&region)?;
    in_child(|| {
        let mut loan = loan.take().context("made")?;
        ensure!(loan.is_empty() && loan.get_mut(0).is_none());
        loan.commit(50);
        Ok(())
    })?;
    ensure!(image(&region)? == before, "the child changed the region");
    ensure!(matches!(consumer.try_read()?, Read::Empty));
    loan.context("made")?.commit(50);
    expect_message(&mut consumer, 2, &[7; 50])
}

fn trust() -> Trust {
    // SAFETY: the region has no name, and of what was borrowed before a fork no
    // child touches anything but through the loan itself, which refuses.
    unsafe { Trust::in_peers() }
}

/// Each producer ends while it writes into a loan, at some other place.
fn lent() -> Result<()> {
    let region = small()?;
    let mut consumer = region.consumer()?.in_place(trust());
    for number in 0..100 {
        in_child(|| {
            let mut producer = region.producer()?.in_place(trust());
            let mut loan = producer.reserve(number as usize)?;
            loan.fill(number as u8);
            loan.commit(number as usize);
            let mut loan = producer.reserve(region.max_message() / 2 + number as usize)?;
            // Words that look like headers.
            loan[..region.max_message() / 100 * number as usize / 2].fill(1);
            exit(0)
        })?;
        match consumer.read_timeout(DEADLINE)? {
            Read::Message(m) => {
                ensure!(m.sequence == number && m.payload == vec![number as u8; number as usize])
            }
            other => bail!("{other:?}"),
        }
        let died = consumer.read_timeout(DEADLINE)?;
        ensure!(matches!(died, Read::Died(_)), "{died:?}");
        ensure!(consumer.read_timeout(DEADLINE)? == Read::End);
        consumer.commit();
    }
    Ok(())
}

fn anew() -> Result<()> {
    let region = small()?;
    let other = small()?;
    let mut theirs = other.producer()?;
    region.producer()?.send(&message(0))?;
    in_child(|| {
        let mut producer = region.producer()?;
        ensure!(is_refused(&mut theirs), "the child's own attach made the parent's handle its own");
        ensure!(owner_of(&region)?.pid == getpid().as_raw() as u64, "signed as its parent");
        send_numbers(&mut producer, 1..2)?;
        in_child(|| {
            ensure!(is_refused(&mut theirs) && is_refused(&mut producer));
            let mut grandchild = small()?.producer()?;
            ensure!(is_refused(&mut theirs) && is_refused(&mut producer));
            Ok(grandchild.try_send(b"its own")?)
        })?;
        send_numbers(&mut producer, 2..3)
    })?;
    in_child(|| send_numbers(&mut region.producer()?, 3..4))?;
    theirs.try_send(b"still the parent's")?;
    read_numbers(&mut region.consumer()?, 0..4)
}

/// Who has the only lane.
fn owner_of(region: &Region) -> Result<Owner> {
    match region.producer() {
        Err(AttachError::Busy { owner: Some(owner), .. }) => Ok(owner),
        other => bail!("instead of Busy: {other:?}"),
    }
}

/// A process says its name of the moment, whichever of its threads attaches.
fn renamed() -> Result<()> {
    let region = small()?;
    for name in [c"first", c"second"] {
        prctl::set_name(name)?;
        let is_right = || {
            let _producer = region.producer()?;
            let owner = owner_of(&region)?;
            ensure!(owner.command.as_bytes() == name.to_bytes(), "{owner} instead of {name:?}");
            Ok(())
        };
        is_right()?;
        thread::scope(|scope| scope.spawn(is_right).join().expect("it does not panic"))?;
    }
    Ok(())
}

fn raw_clone() -> Result<()> {
    let region = small()?;
    let mut producer = Some(region.producer()?);
    let before = image(&region)?;
    let clone = || {
        // SAFETY: as fork, without the handlers; this process has one thread.
        match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            0 => Ok(ForkResult::Child),
            child if child > 0 => Ok(ForkResult::Parent { child: Pid::from_raw(child as i32) }),
            _ => Err(nix::errno::Errno::last()),
        }
    };
    let child = Child::start(clone, || {
        ensure!(is_refused(producer.as_mut().expect("made")));
        drop(producer.take());
        Ok(())
    })?;
    child.finish()?;
    ensure!(image(&region)? == before, "the child changed the region");
    Ok(producer.context("made")?.try_send(b"x")?)
}

/// No child may keep a role, whatever other threads did as it was forked. The
/// children sleep until all is over.
fn threads() -> Result<()> {
    const FORKS: usize = 300;
    let (sleep, wake) = io::pipe()?;
    let over = AtomicBool::new(false);
    let children = thread::scope(|scope| {
        let works: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let region = small()?;
                    while !over.load(Ordering::Relaxed) {
                        // Who gives up a role frees it, whoever shares its lock.
                        region.producer()?;
                        region.consumer()?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut children = Vec::new();
        for number in 0..FORKS {
            if number % 8 == 0 {
                // Runs no handler, and shares every description until it executes.
                Command::new("true").status()?;
            }
            // SAFETY: the child makes async-signal-safe system calls only.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => children.push(Child(child)),
                ForkResult::Child => {
                    // SAFETY: as above; the descriptors are open, the byte is ours.
                    unsafe {
                        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                        libc::close(wake.as_raw_fd());
                        let mut byte = 0u8;
                        libc::read(sleep.as_raw_fd(), (&raw mut byte).cast(), 1);
                    }
                    exit(0)
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        works.into_iter().try_for_each(|work| work.join().expect("a thread"))?;
        anyhow::Ok(children)
    })?;
    ensure!(children.len() == FORKS);
    drop(wake);
    children.into_iter().try_for_each(Child::finish)
}

/// Holds both roles until it is killed; `child` says when it is ready.
fn stay_with(region: &Region, child: fn() -> Result<()>) -> Result<()> {
    let mut producer = region.producer()?;
    let _consumer = region.consumer()?;
    send_numbers(&mut producer, 0..3)?;
    child()?;
    loop {
        pause();
    }
}

/// Sleeps until the end of its stdin, which it shares with its parent.
fn sleeping_child() -> Result<()> {
    // Not a `Child`: this one outlives its parent.
    // SAFETY: this process has one thread.
    if let ForkResult::Child = unsafe { fork() }? {
        eprintln!("ready");
        let _ = io::stdin().read_to_end(&mut Vec::new());
        println!("{} woke", getpid());
        exit(0);
    }
    Ok(())
}

/// Another program that ends at the end of its stdin.
fn executed_child() -> Result<()> {
    // It says so itself: spawn returns a moment before the descriptors close.
    // Nobody waits for it: it is to be there when this process is not.
    let _ = Command::new("sh").args(["-c", "echo ready >&2; cat"]).spawn()?;
    Ok(())
}

fn limited_child() -> Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 3, 3)?;
    sleeping_child()
}
