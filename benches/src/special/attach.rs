//! How long it takes to be there: to open a region that exists and attach to
//! it, beside the same file opened and mapped.
//!
//! All space of a region's first lane is reserved at create; a lane that nobody
//! took is a hole of the file, which both sides map or leave alone for the same
//! price. So what is larger than memory gives is many lanes.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use memmap2::MmapOptions;
use shmring::{Read, Region, RegionOptions};

use super::{bytes, middle, place, result, series, skipped, spare_bytes};
use crate::report::{CaseResult, Kind};

/// Of all lanes together.
const SIZES: [u64; 5] = [1 << 20, 64 << 20, 1 << 30, 8 << 30, 64 << 30];
/// Of one lane, where there is room.
const LARGEST_LANE: u64 = 1 << 30;
const MAX_LANES: u64 = 1024;
const FLOOR: &str = "bare open+mmap";

/// Until it is attached, and until it has left again.
type Visit = [Duration; 2];

/// Those with a row in the table of targets.
pub(super) fn one_gib(quick: bool) -> Result<Vec<CaseResult>> {
    of_size("attach_1gib", 1 << 30, quick)
}

/// All sizes.
pub(super) fn by_size(quick: bool) -> Result<Vec<CaseResult>> {
    let all: Result<Vec<_>> = SIZES.iter().map(|&size| of_size("attach", size, quick)).collect();
    Ok(all?.concat())
}

fn of_size(case: &str, size: u64, quick: bool) -> Result<Vec<CaseResult>> {
    let place = place()?;
    let path = place.path().join("ring");
    let spare = spare_bytes(place.path())?;
    // The largest power of two that there is room for.
    let lane = size.min(LARGEST_LANE).min((spare + 1).next_power_of_two() / 2);
    let lanes = size / lane.max(1);
    let name = format!("{}: {lanes} x {}", bytes(size), bytes(lane));
    if lanes > MAX_LANES || lane < 1 << 16 {
        let why = format!("{} may be taken here, and a region has {MAX_LANES} lanes", bytes(spare));
        return Ok(vec![result(case, name, "us", vec![skipped("ours", Kind::Ours, why)])]);
    }
    RegionOptions::new().capacity(lane).max_producers(lanes as u32).create(&path)?;

    let (rounds, visits) = if quick { (3, 10) } else { (15, 40) };
    let mut figures: Vec<[[f64; 2]; 3]> = Vec::new();
    // The first round warms up.
    for _ in 0..=rounds {
        let mut found: [Vec<Visit>; 3] = Default::default();
        for _ in 0..visits {
            found[0].push(producer(&path)?);
            found[1].push(consumer(&path)?);
            found[2].push(bare(&path, size)?);
            // The next producer finds an empty lane too.
            read_the_end(&path)?;
        }
        figures.push(found.each_ref().map(|visits| {
            [0, 1].map(|at| middle(visits.iter().map(|visit| visit[at].as_secs_f64() * 1e6)).unwrap_or(0.0))
        }));
    }
    let rounds = |who: usize, at: usize| figures.iter().skip(1).map(|f| f[who][at]).collect::<Vec<_>>();
    let ends = ["until attached", "until it has left again"];
    let all = [(0, "producer"), (1, "consumer")].into_iter().flat_map(|(who, role)| {
        let (name, rounds) = (&name, &rounds);
        ends.into_iter().zip(0..).map(move |(end, at)| {
            let of =
                vec![series("ours", Kind::Ours, rounds(who, at)), series(FLOOR, Kind::Floor, rounds(2, at))];
            result(case, format!("{name}, {role}, {end}"), "us", of)
        })
    });
    Ok(all.collect())
}

fn producer(path: &Path) -> Result<Visit> {
    let begun = Instant::now();
    let producer = Region::open(path)?.producer()?;
    let attached = begun.elapsed();
    ensure!(producer.lane() == 0, "the lane that has its space");
    // As little as there is to do: with an end of the stream.
    let left = Instant::now();
    drop(producer);
    Ok([attached, attached + left.elapsed()])
}

fn consumer(path: &Path) -> Result<Visit> {
    let begun = Instant::now();
    let consumer = Region::open(path)?.consumer()?;
    let attached = begun.elapsed();
    let left = Instant::now();
    drop(consumer);
    Ok([attached, attached + left.elapsed()])
}

fn read_the_end(path: &Path) -> Result<()> {
    let mut consumer = Region::open(path)?.consumer()?;
    let read = consumer.read_timeout(Duration::from_secs(10))?;
    ensure!(matches!(read, Read::End), "an end was expected, not {read:?}");
    consumer.commit();
    Ok(())
}

/// Open, fstat, mmap; munmap, close.
fn bare(path: &Path, at_least: u64) -> Result<Visit> {
    let begun = Instant::now();
    let file = File::options().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let map = MmapOptions::new().len(len as usize).map_raw(&file)?;
    black_box(map.as_ptr());
    let attached = begun.elapsed();
    ensure!(len > at_least, "the whole region");
    let left = Instant::now();
    drop(map);
    drop(file);
    Ok([attached, attached + left.elapsed()])
}
