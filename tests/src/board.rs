//! Numbers that processes share, besides a region: a file that each maps.
#![allow(unsafe_code)] // a mapping as atomic words

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Producers that a board has room for.
pub const MOST: usize = 16;

/// What a producer and those around it know of it. Numbers count its messages,
/// over all its incarnations.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Tally {
    /// Its process, as the one that mounted /proc sees it.
    pub pid: AtomicU64,
    /// How often it was started, with the present one.
    pub incarnation: AtomicU64,
    /// Numbers below this one may be published.
    pub intent: AtomicU64,
    /// Numbers below this one are: their send has returned.
    pub acked: AtomicU64,
    /// Numbers below this one were delivered and committed.
    pub delivered: AtomicU64,
    /// The incarnation that sent the last one of them.
    pub delivered_of: AtomicU64,
    /// Deaths that the consumer was told of.
    pub deaths: AtomicU64,
}

/// How far a consumer is with one producer.
#[derive(Debug)]
#[repr(C)]
pub struct Reached {
    /// The number that comes next.
    pub next: AtomicU64,
    /// The incarnation that sent the last one.
    pub incarnation: AtomicU64,
    /// Deaths that were told.
    pub deaths: AtomicU64,
}

/// What all of them see. It begins as zeros.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Board {
    /// Not 0: come to an end.
    pub stop: AtomicU64,
    /// The consumer's process, as the one that mounted /proc sees it.
    pub consumer: AtomicU64,
    /// The longest time without a message, in nanoseconds.
    pub stall: AtomicU64,
    /// What the test and a process agreed on.
    pub word: AtomicU64,
    /// One a producer.
    pub tallies: [Tally; MOST],
    /// What a consumer that takes over goes on from: the one with the
    /// committed number, modulo 2.
    pub reached: [[Reached; MOST]; 2],
}

/// A board that is mapped.
#[derive(Debug)]
pub struct Mapped {
    /// Keeps the address.
    map: MmapRaw,
}

impl Mapped {
    /// Makes one.
    pub fn create(path: &Path) -> Mapped {
        let file = File::create_new(path).expect("a file in the temporary folder");
        file.set_len(size_of::<Board>() as u64).expect("room");
        Mapped::open(path)
    }

    /// Maps one that is there.
    pub fn open(path: &Path) -> Mapped {
        let file = File::options().read(true).write(true).open(path).expect("the board is there");
        Mapped { map: MmapOptions::new().len(size_of::<Board>()).map_raw(&file).expect("memory") }
    }
}

impl std::ops::Deref for Mapped {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: mapped as long as `self` lives, as long as a board, at the
        // begin of a page; every word is an atomic, for which any bytes will do.
        unsafe { &*self.map.as_ptr().cast::<Board>() }
    }
}

/// A word that one process writes: what it did before is seen with it.
pub trait Shared {
    /// The number.
    fn get(&self) -> u64;
    /// Another number.
    fn set(&self, value: u64);
}

impl Shared for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn set(&self, value: u64) {
        self.store(value, Ordering::Release)
    }
}

/// The id of this process as whoever mounted /proc sees it: in another pid
/// namespace it has another one.
pub fn pid_outside() -> u64 {
    let link = std::fs::read_link("/proc/self").expect("/proc is mounted");
    link.to_str().and_then(|pid| pid.parse().ok()).expect("a number")
}
