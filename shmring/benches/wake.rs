//! What the wake-up support costs a stream in which nobody sleeps.
//!
//! One process, two threads, each on a core of its own, the product's mapping:
//! messages of 64 bytes, each published singly; the reader commits every
//! eighth of the ring and whenever it finds the ring empty. Three forms take
//! turns in every round, so that a machine that changes its speed changes it
//! for all of them:
//!
//! * none: the ring alone; nobody could ever sleep;
//! * barrier: `sleep::wake` at every publish and commit, the process being
//!   registered: the sleeper pays for the fence;
//! * fenced: the same with a full fence of its own each time.
//!
//! The ratios are those within one round. A line that two cores pass to and
//! fro is the floor that the machine sets, before and after.
//!
//!     cargo bench -p shmring --bench wake

mod common;

use std::error::Error;
use std::fs::File;
use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{our_cores, pin, print};
use shmring::RegionOptions;
use shmring::internals::layout::{Geometry, Word};
use shmring::internals::ring::sleep::{SleepCell, wake};
use shmring::internals::ring::{Memory, Reader, Shape, Writer};
use shmring::internals::{Control, MapOptions, Mapping, SleepWord};

const LEN: usize = 64;
const MESSAGES: u64 = 300_000;
const ROUNDS: usize = 99;
const BOUNCES: u64 = 200_000;
const CAPACITY: u64 = RegionOptions::DEFAULT_CAPACITY;
const ALIGN: u64 = RegionOptions::DEFAULT_RECORD_ALIGN;

/// A sleep word whose wakers are not registered.
struct Fenced<'a>(&'a AtomicU32);

impl SleepCell for Fenced<'_> {
    #[inline(always)]
    fn load(&self) -> u32 {
        SleepCell::load(self.0)
    }
    fn store(&self, value: u32) {
        SleepCell::store(self.0, value)
    }
    fn replace(&self, current: u32, new: u32) -> Result<(), u32> {
        self.0.replace(current, new)
    }
    #[inline(always)]
    fn fence(&self) {
        self.0.fence()
    }
    #[inline(always)]
    fn light_fence(&self) -> bool {
        false
    }
    fn barrier(&self) -> bool {
        self.0.barrier()
    }
    fn wait(&self, expected: u32, at_most: Duration) {
        SleepCell::wait(self.0, expected, at_most)
    }
    fn wake(&self) {
        self.0.wake()
    }
}

/// How a side tells the other that there is something new.
trait Notice: Copy + Sync {
    fn give(self, lane: &Mapping, to: SleepWord, worth: impl Fn() -> bool);
}

#[derive(Clone, Copy)]
struct Silent;
#[derive(Clone, Copy)]
struct ByBarrier;
#[derive(Clone, Copy)]
struct ByFence;

impl Notice for Silent {
    #[inline(always)]
    fn give(self, _: &Mapping, _: SleepWord, _: impl Fn() -> bool) {}
}

impl Notice for ByBarrier {
    #[inline(always)]
    fn give(self, lane: &Mapping, to: SleepWord, worth: impl Fn() -> bool) {
        wake(lane.sleep_word(to), worth);
    }
}

impl Notice for ByFence {
    #[inline(always)]
    fn give(self, lane: &Mapping, to: SleepWord, worth: impl Fn() -> bool) {
        wake(&Fenced(lane.sleep_word(to)), worth);
    }
}

fn write(lane: &Mapping, shape: Shape, notice: impl Notice, start: &Barrier) {
    let mut writer = Writer::take_over(lane, shape).expect("a sound lane");
    let mut payload = [0u8; LEN];
    start.wait();
    for number in 0..MESSAGES {
        payload[..8].copy_from_slice(&number.to_le_bytes());
        while writer.claim(LEN).is_err() {
            spin_loop();
        }
        writer.write(0, &payload);
        writer.stage(0, LEN);
        writer.publish();
        notice.give(lane, SleepWord::Consumer, || true);
    }
}

/// The time it took.
fn read(lane: &Mapping, shape: Shape, notice: impl Notice, start: &Barrier) -> Duration {
    let mut reader = Reader::take_over(&lane, shape, 1);
    reader.add(lane).expect("a sound lane");
    let mut payload = [0u8; LEN];
    start.wait();
    let begun = Instant::now();
    let mut number = 0;
    while number < MESSAGES {
        // Whose turn it is, is no part of what is measured.
        let record = reader.peek_lane(0).expect("a sound lane");
        if let Some(record) = &record {
            reader.read(record, &mut payload);
            assert_eq!(payload[..8], u64::to_le_bytes(number));
            reader.advance(record);
            number += 1;
        } else {
            spin_loop();
        }
        let due = if record.is_none() { 1 } else { shape.capacity / 8 };
        if reader.uncommitted() >= due {
            reader.commit();
            let wanted =
                || lane.load_acquire(Word::WantedHead).wrapping_sub(reader.lane(0).head()) as i64 <= 0;
            notice.give(lane, SleepWord::Producer, wanted);
        }
    }
    reader.commit();
    begun.elapsed()
}

/// Messages a second, in millions.
fn speed(lanes: &[Mapping; 2], shape: Shape, cores: [usize; 2], notice: impl Notice) -> f64 {
    let start = Barrier::new(2);
    let time = thread::scope(|scope| {
        scope.spawn(|| {
            pin(cores[0]);
            write(&lanes[0], shape, notice, &start);
        });
        let reader = scope.spawn(|| {
            pin(cores[1]);
            read(&lanes[1], shape, notice, &start)
        });
        reader.join().expect("the reader's own assertions")
    });
    MESSAGES as f64 / time.as_secs_f64() / 1e6
}

/// Nanoseconds for a line to go from one core to the other.
fn ping_pong(cores: [usize; 2]) -> f64 {
    #[repr(align(128))]
    struct Line(AtomicU64);
    let line = Line(AtomicU64::new(0));
    let start = Barrier::new(2);
    let bounce = |core, side| {
        pin(core);
        start.wait();
        let begun = Instant::now();
        for turn in (side..2 * BOUNCES).step_by(2) {
            while line.0.load(Ordering::Acquire) != turn {
                spin_loop();
            }
            line.0.store(turn + 1, Ordering::Release);
        }
        begun.elapsed()
    };
    let time = thread::scope(|scope| {
        scope.spawn(|| bounce(cores[0], 0));
        scope.spawn(|| bounce(cores[1], 1)).join().expect("it only counts")
    });
    time.as_nanos() as f64 / (2 * BOUNCES) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(cores) = our_cores() else {
        println!("skipped: wake: needs two cores");
        return Ok(());
    };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let path = folder.path().join("ring");
    let region = RegionOptions::new().max_producers(1).create(&path)?;
    // An attach registers the process; the lane's words stay as they are.
    region.producer()?.abandon();
    let file = File::options().read(true).write(true).open(&path)?;
    let geometry = Geometry::plan(CAPACITY, ALIGN, 1)?;
    let shape = Shape { capacity: CAPACITY, align: ALIGN, prefix: 0 };
    let map = || Mapping::new(&Control::new(&file, &geometry, &MapOptions::default())?, &file, 0);
    let lanes = [map()?, map()?];
    if !lanes[0].sleep_word(SleepWord::Consumer).light_fence() {
        println!("skipped: wake: this system has no membarrier");
        return Ok(());
    }

    println!("{MESSAGES} messages of {LEN} bytes a run, {ROUNDS} rounds, cores {cores:?}");
    println!("a line from core to core: {:.0} ns", ping_pong(cores));
    let mut runs = Vec::new();
    for round in 0..=ROUNDS {
        let run = [
            speed(&lanes, shape, cores, Silent),
            speed(&lanes, shape, cores, ByBarrier),
            speed(&lanes, shape, cores, ByFence),
        ];
        // The first touches every page.
        if round > 0 {
            runs.push(run);
        }
    }
    println!("a line from core to core: {:.0} ns", ping_pong(cores));
    println!("  {:<24} {:>7}   quarters          all", "", "median");
    let of = |value: fn(&[f64; 3]) -> f64| runs.iter().map(value).collect::<Vec<_>>();
    print("none, M/s", of(|run| run[0]));
    print("barrier, M/s", of(|run| run[1]));
    print("fenced, M/s", of(|run| run[2]));
    print("barrier / none", of(|run| run[1] / run[0]));
    print("fenced / none", of(|run| run[2] / run[0]));
    Ok(())
}
