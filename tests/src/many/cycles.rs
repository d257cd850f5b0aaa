//! Attaches, sends and closes, over and over.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use shmring::{Consumer, Read, Region, RegionOptions, Status};
use tests::DEADLINE;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    region: PathBuf,
    /// How often.
    count: usize,
    /// How many at once.
    #[arg(default_value_t = 1)]
    threads: usize,
}

/// What a process has of the kernel's and of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    maps: usize,
    /// Blocks of 512 bytes of the region's file.
    blocks: u64,
    /// In its folder.
    files: usize,
    lanes: usize,
    attached: usize,
    rss_kib: u64,
}

impl Held {
    fn now(options: &Options) -> Result<Held> {
        use std::fs;
        use std::os::unix::fs::MetadataExt;
        let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
        let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or("0");
        let lanes = Status::of(&options.region)?.lanes;
        Ok(Held {
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            maps: fs::read_to_string("/proc/self/maps")?.lines().count(),
            blocks: fs::metadata(&options.region)?.blocks(),
            files: fs::read_dir(options.region.parent().expect("in a folder"))?.count(),
            lanes: lanes.len(),
            attached: lanes.iter().filter(|lane| lane.producer.is_some()).count(),
            rss_kib: rss.trim().trim_end_matches("kB").trim().parse()?,
        })
    }
}

/// Allocators keep some. (Not Pss: that changes with who shares the program.)
const NOISE_KIB: u64 = 512;

/// Many cycles in this process, which also receives: what it holds afterwards
/// is what it held after the first few.
pub(crate) fn run(options: &Options) -> Result<()> {
    // Every page of every lane is there from the start.
    let region = RegionOptions::new().prefault(true).open(&options.region)?;
    let mut consumer = region.consumer()?;
    let all = (0..options.threads).map(|_| region.producer()).collect::<Result<Vec<_>, _>>()?;
    drop(all);
    let cycles = |count: usize, consumer: &mut Consumer| -> Result<()> {
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            let works: Vec<_> = (0..options.threads)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        while begun.fetch_add(1, Ordering::Relaxed) < count {
                            let mut producer = region.producer()?;
                            producer.send_timeout(b"one", DEADLINE)?;
                            producer.close();
                        }
                        Ok(())
                    })
                })
                .collect();
            for _ in 0..count {
                loop {
                    match consumer.read_timeout(DEADLINE)? {
                        Read::Message(message) => break ensure!(message.payload == b"one"),
                        Read::End => {}
                        other => ensure!(false, "{other:?}"),
                    }
                }
                consumer.commit();
            }
            works.into_iter().try_for_each(|work| work.join().expect("a thread"))
        })?;
        // Nobody is left.
        loop {
            match consumer.read_timeout(DEADLINE)? {
                Read::End => break,
                other => ensure!(false, "{other:?}"),
            }
        }
        consumer.commit();
        Ok(())
    };
    cycles(options.count / 20, &mut consumer)?;
    let before = Held::now(options)?;
    cycles(options.count, &mut consumer)?;
    let after = Held::now(options)?;
    println!("{before:?}\n{after:?}");
    ensure!(after.rss_kib <= before.rss_kib + NOISE_KIB, "memory grew");
    ensure!(Held { rss_kib: 0, ..before } == Held { rss_kib: 0, ..after }, "something is left");
    ensure!(after.attached == 0 && after.lanes <= options.threads);
    let sent: u64 = Status::of(&options.region)?.lanes.iter().map(|lane| lane.sent).sum();
    ensure!(sent == (options.count + options.count / 20) as u64, "{sent} were sent");
    Ok(())
}

/// One cycle, in a process of its own.
pub(crate) fn once(options: &Options) -> Result<()> {
    let mut producer = Region::open(&options.region)?.producer()?;
    for number in 0..options.count as u64 {
        producer.send_timeout(&number.to_le_bytes(), DEADLINE)?;
    }
    Ok(())
}
