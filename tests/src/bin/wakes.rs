//! Two processes wake each other over and over, through the real futex and the
//! real membarrier, at moments around each other's going to sleep; no wake-up
//! is lost. (A control in which nobody fences loses one within seconds.)
//!
//! They take turns, so that both sleep and both wake, and meet before each
//! turn: then one goes to sleep while the other publishes. A sleep counts if
//! the futex was called. It is lost if it ends by its long time-out with what
//! it waited for there.
//!
//! Exit status: 0 nothing was lost and there were sleeps enough; 1 otherwise;
//! 77 the form is not to be had here.
#![allow(unsafe_code)] // fork, and memory shared with the child

use std::cell::Cell;
use std::fmt;
use std::hint::{black_box, spin_loop};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use shmring::Region;
use shmring::internals::ring::sleep::{Announced, SleepCell, reset, rise, sleep, wake};
use tests::Random;

const NOT_PERMITTED: u8 = 77;
/// Longer than a waker is ever stopped between its publish and its wake.
const LONG: Duration = Duration::from_secs(5);
/// In the place of a number: there is none any more.
const STOP: u64 = u64::MAX;
/// Two to this power looks at most before a sleep: less than a microsecond.
const SHORT_LOG2: u64 = 9;
/// The same before a message: longer than going to sleep takes, with its barrier.
const LONGEST_LOG2: u64 = 17;

/// Who fences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The sleeper, in both processes, which are registered.
    Barrier,
    /// The wakers, which are not registered.
    Fenced,
    /// The wakers, which are registered and are told to.
    NoBarrier,
    /// Nobody, as a control: the wakers rely on a barrier that the sleeper
    /// leaves out. Loses wake-ups.
    Nobody,
}

/// Two processes wake each other; no wake-up may be lost.
#[derive(Debug, Parser)]
struct Options {
    /// Sleeps that must have happened, on both sides together.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    count: u64,
    /// Who fences.
    #[arg(long, value_enum, default_value = "barrier")]
    form: Form,
}

/// Cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// What one process sleeps on and waits for, and what it counted.
#[derive(Debug, Default)]
struct Side {
    word: Line<AtomicU32>,
    published: Line<AtomicU64>,
    /// The number that it has come to.
    met: Line<AtomicU64>,
    sleeps: Line<AtomicU64>,
    /// Waits that ended because the look after the announcement found it.
    found: AtomicU64,
    lost: AtomicU64,
    /// Calls of the kernel to end this side's sleep.
    wakes: Line<AtomicU64>,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A side's sleep word: the product's own, watched.
struct Watched<'a> {
    side: &'a Side,
    form: Form,
    /// What is waited for, on the sleeper's side.
    number: Cell<u64>,
}

impl Watched<'_> {
    fn is_there(&self) -> bool {
        self.side.published.0.load(Ordering::Acquire) >= self.number.get()
    }

    /// True if nobody ended it.
    fn sleep_out(&self, expected: u32, at_most: Duration) -> bool {
        let begun = Instant::now();
        SleepCell::wait(&self.side.word.0, expected, at_most);
        begun.elapsed() >= at_most
    }
}

impl SleepCell for Watched<'_> {
    fn load(&self) -> u32 {
        SleepCell::load(&self.side.word.0)
    }
    fn store(&self, value: u32) {
        SleepCell::store(&self.side.word.0, value)
    }
    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        self.side.word.0.replace(current, new)
    }
    fn fence(&self) {
        self.side.word.0.fence()
    }
    fn light_fence(&self) -> bool {
        self.form == Form::Nobody || self.side.word.0.light_fence()
    }
    fn barrier(&self) -> bool {
        assert!(self.form != Form::NoBarrier, "asks for a barrier that it said it does not have");
        self.form == Form::Nobody || self.side.word.0.barrier()
    }
    fn wait(&self, expected: u32, at_most: Duration) {
        count(&self.side.sleeps.0);
        if self.sleep_out(expected, at_most) && self.is_there() {
            count(&self.side.lost);
        }
    }
    fn wake(&self) {
        count(&self.side.wakes.0);
        self.side.word.0.wake()
    }
}

/// What both processes see.
type Board = [Side; 2];

fn total(board: &Board, of: fn(&Side) -> &AtomicU64) -> u64 {
    board.iter().map(|side| of(side).load(Ordering::Relaxed)).sum()
}

fn shared_board() -> Result<&'static Board> {
    let len = NonZeroUsize::new(size_of::<Board>()).context("a size")?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses replaces
    // nobody's memory.
    let page = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_SHARED)? };
    // SAFETY: it begins a page, is long enough, never unmapped, and zero, which
    // is a value of every word in it; all of them are atomics.
    Ok(unsafe { page.cast::<Board>().as_ref() })
}

/// One process.
struct Player {
    board: &'static Board,
    form: Form,
    own: usize,
    random: Random,
    /// The other one, for its parent.
    child: Option<Pid>,
}

impl Player {
    fn watched(&self, which: usize) -> Watched<'static> {
        Watched { side: &self.board[which], form: self.form, number: Cell::new(0) }
    }

    /// Lets a while pass, short times as likely as long ones. Looks at what the
    /// other one is about to write, so that this process has it at hand: its
    /// own store then takes longest to get out.
    fn linger<T>(&mut self, most_log2: u64, watch: impl Fn() -> T) {
        let most = 1 << self.random.among(0..most_log2 + 1);
        for _ in 0..self.random.among(0..most) {
            black_box(watch());
        }
    }

    fn publish(&mut self, number: u64) {
        let other = self.watched(1 - self.own);
        self.linger(LONGEST_LOG2, || SleepCell::load(&other));
        other.side.published.0.store(number, Ordering::Release);
        wake(&other, || true);
    }

    fn wait_for(&mut self, number: u64) -> Result<()> {
        let own = self.watched(self.own);
        own.number.set(number);
        self.linger(SHORT_LOG2, || own.is_there());
        let mut announced = Announced::default();
        while !own.is_there() {
            sleep(&own, &mut announced, LONG, || {
                let found = own.is_there();
                if found {
                    count(&own.side.found);
                }
                found
            });
            self.check_child()?;
        }
        rise(&own, &mut announced);
        Ok(())
    }

    /// Spins until both are awake and here; false if the other one has stopped.
    fn meet(&mut self, number: u64) -> Result<bool> {
        self.board[self.own].met.0.store(number, Ordering::Release);
        let other = &self.board[1 - self.own].met.0;
        for turn in 1.. {
            match other.load(Ordering::Acquire) {
                STOP => return Ok(false),
                met if met >= number => return Ok(true),
                _ if turn % 4096 == 0 => {
                    self.check_child()?;
                    thread::yield_now();
                }
                _ => spin_loop(),
            }
        }
        unreachable!("the turns have no end")
    }

    fn check_child(&self) -> Result<()> {
        if let Some(child) = self.child {
            let status = waitpid(child, Some(WaitPidFlag::WNOHANG))?;
            ensure!(status == WaitStatus::StillAlive, "the other process has ended: {status:?}");
        }
        Ok(())
    }

    /// Sleeps and wakes by turns, until `is_over`.
    fn play(&mut self, is_over: impl Fn() -> bool) -> Result<()> {
        for number in 1.. {
            if is_over() {
                self.board[self.own].met.0.store(STOP, Ordering::Release);
                break;
            }
            if !self.meet(number)? {
                break;
            }
            if number % 2 == self.own as u64 { self.wait_for(number)? } else { self.publish(number) }
        }
        Ok(())
    }

    /// That the wakers of this process are what the form says.
    fn check_form(&self) -> Result<()> {
        let is_light = self.watched(self.own).light_fence();
        match self.form {
            Form::Fenced => ensure!(!is_light, "registered without an attach"),
            Form::Barrier | Form::NoBarrier => ensure!(is_light, NotHere),
            Form::Nobody => {}
        }
        Ok(())
    }
}

/// Why a form is not to be had here.
#[derive(Debug)]
struct NotHere;

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this system has no membarrier, or does not allow it")
    }
}

impl std::error::Error for NotHere {}

/// In the child, which attaches as the consumer.
fn follow(mut player: Player, region: &Region) -> Result<()> {
    let _consumer =
        matches!(player.form, Form::Barrier | Form::NoBarrier).then(|| region.consumer()).transpose()?;
    player.check_form()?;
    player.play(|| false)
}

/// In the parent, which attaches as the producer.
fn lead(mut player: Player, region: &Region, enough: u64) -> Result<()> {
    // Without other threads, an attach that returns has registered the process.
    let _producer =
        matches!(player.form, Form::Barrier | Form::NoBarrier).then(|| region.producer()).transpose()?;
    player.check_form()?;
    ensure!(player.form != Form::Barrier || player.watched(0).barrier(), NotHere);
    let board = player.board;
    player.play(|| total(board, |s| &s.sleeps.0) >= enough || total(board, |s| &s.lost) > 0)
}

/// True if nothing was lost and there were sleeps enough.
fn run(options: &Options) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let region = Region::create(folder.path().join("ring"))?;
    let board = shared_board()?;
    for side in board {
        reset(&side.word.0, options.form != Form::NoBarrier);
    }
    let mut random = Random::new("wakes");
    let begun = Instant::now();
    // SAFETY: this process has no other thread.
    let child = match unsafe { fork()? } {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // Not the moments of the other side.
            random.word();
            let player = Player { board, form: options.form, own: 1, random, child: None };
            let status = catch_unwind(AssertUnwindSafe(|| {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                follow(player, &region)
            }));
            if let Ok(Err(error)) = &status {
                eprintln!("wakes: {error:#}");
            }
            // SAFETY: ends the process at once: what is dropped at an exit
            // belongs to the parent.
            unsafe { libc::_exit(i32::from(!matches!(status, Ok(Ok(()))))) }
        }
    };
    let player = Player { board, form: options.form, own: 0, random, child: Some(child) };
    let led = lead(player, &region, options.count);
    if led.is_err() {
        let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
    }
    let ended = waitpid(child, None);
    led?;
    ensure!(ended? == WaitStatus::Exited(child, 0), "the other process failed");

    let of = |of| total(board, of);
    let (sleeps, lost) = (of(|s| &s.sleeps.0), of(|s| &s.lost));
    let (wakes, found, seconds) = (of(|s| &s.wakes.0), of(|s| &s.found), begun.elapsed().as_secs_f64());
    println!("sleeps {sleeps}, wakes {wakes}, found before sleeping {found}, lost {lost}, {seconds:.1} s");
    Ok(lost == 0 && sleeps >= options.count)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<NotHere>() => {
            println!("skipped: {error}");
            ExitCode::from(NOT_PERMITTED)
        }
        Err(error) => {
            eprintln!("wakes: {error:#}");
            ExitCode::FAILURE
        }
    }
}
