//! What a process has of a region in memory, and the page faults that it took
//! to get there.
//!
//! Rss and Pss are those of the process's mappings of the region's file, as
//! the kernel counts them. The ring is mapped twice, and so counts twice as Rss;
//! Pss divides each page by how often it is mapped, by whomever.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};
use shmring::{Consumer, HugePages, Producer, Read, RegionOptions, SendError};

use super::child::{Side, answer};
use super::{middle, place, result, series, skipped};
use crate::report::{CaseResult, Kind, Series};

pub(super) const SIDE: &str = "memory";
/// The least that there is on huge pages, and the same on small ones.
const CAPACITY: u64 = 2 << 20;
/// As many as fill a page are small enough to touch each page.
const SIZE: usize = 64;

/// How a side attaches.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wish {
    path: PathBuf,
    is_consumer: bool,
    prefault: bool,
    huge_pages: bool,
}

impl Wish {
    fn options(&self) -> RegionOptions {
        let options = RegionOptions::new().capacity(CAPACITY).prefault(self.prefault);
        if self.huge_pages { options.huge_pages(HugePages::Transparent) } else { options }
    }
}

/// What a side has after a step; the faults are those of the step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Look {
    rss_kib: u64,
    pss_kib: u64,
    faults: u64,
}

/// What it is, its unit, and how to get it.
type Quantity = (&'static str, &'static str, fn(&Look) -> u64);

impl Look {
    const ALL: [Quantity; 3] = [
        ("Rss of the region", "KiB", |look| look.rss_kib),
        ("Pss of the region", "KiB", |look| look.pss_kib),
        ("page faults", "faults", |look| look.faults),
    ];
}

/// What all sides have after each step, a consumer last; or why they cannot be.
type Looks = Result<[Vec<Look>; 2], String>;

const STEPS: [(&str, &str); 2] = [("attach", "after attach"), ("lap", "after one lap")];

pub(super) fn measure(quick: bool) -> Result<Vec<CaseResult>> {
    let rounds = if quick { 1 } else { 3 };
    let mut results = Vec::new();
    for processes in [1, 10] {
        for huge_pages in [false, true] {
            for prefault in [false, true] {
                let looks = (0..rounds)
                    .map(|_| look_at(processes, prefault, huge_pages))
                    .collect::<Result<Vec<_>>>()?;
                for (quantity, unit, of) in Look::ALL {
                    for ((_, when), step) in STEPS.into_iter().zip(0..) {
                        let options = format!(
                            "{quantity}, {}, {}, {} pages, {when}",
                            if processes == 1 { "1 producer" } else { "9 producers and their consumer" },
                            if prefault { "prefaulted" } else { "lazily touched" },
                            if huge_pages { "2 MiB" } else { "4 KiB" },
                        );
                        let series = series_of(&looks, step, processes, of);
                        results.push(result("memory", options, unit, series));
                    }
                }
            }
        }
    }
    Ok(results)
}

fn series_of(rounds: &[Looks], step: usize, processes: usize, of: fn(&Look) -> u64) -> Vec<Series> {
    let mut figures: [Vec<f64>; 3] = Default::default();
    for looks in rounds {
        let looks = match looks {
            Ok(looks) => &looks[step],
            Err(why) => return vec![skipped("ours", Kind::Ours, why.clone())],
        };
        let each: Vec<f64> = looks.iter().map(|look| of(look) as f64).collect();
        figures[0].push(each.iter().sum());
        figures[1].extend(middle(each[..processes.max(2) - 1].iter().copied()));
        figures[2].extend(each.last());
    }
    let whom = ["ours", "ours, a producer", "ours, the consumer"];
    let count = if processes == 1 { 1 } else { 3 };
    figures.into_iter().zip(whom).take(count).map(|(f, who)| series(who, Kind::Ours, f)).collect()
}

fn look_at(processes: usize, prefault: bool, huge_pages: bool) -> Result<Looks> {
    let place = place()?;
    let path = place.path().join("ring");
    let wish = Wish { path, is_consumer: false, prefault, huge_pages };
    if let Err(e) = wish.options().create(&wish.path) {
        return Ok(Err(format!("{:#}", anyhow::Error::from(e))));
    }
    let wishes = (1..=processes)
        .map(|number| Wish { is_consumer: processes > 1 && number == processes, ..wish.clone() });
    let mut sides =
        wishes.map(|wish| Side::start(SIDE, &[serde_json::to_string(&wish)?])).collect::<Result<Vec<_>>>()?;
    let mut looks: [Vec<Look>; 2] = Default::default();
    for ((step, _), looks) in STEPS.into_iter().zip(&mut looks) {
        // All of them have done it when the first one looks.
        let mut faults = Vec::new();
        for side in &mut sides {
            match serde_json::from_str::<Result<u64, String>>(&side.ask(step)?)? {
                Ok(count) => faults.push(count),
                Err(why) => return Ok(Err(why)),
            }
        }
        for (side, faults) in sides.iter_mut().zip(faults) {
            let look: Look = serde_json::from_str(&side.ask("look")?)?;
            looks.push(Look { faults, ..look });
        }
    }
    Ok(Ok(looks))
}

enum End {
    Producer(Box<Producer>),
    Consumer(Box<Consumer>),
}

pub(super) fn play(arguments: &[String]) -> Result<()> {
    let wish: Wish = serde_json::from_str(arguments.first().context("how to attach")?)?;
    let mut end = None;
    answer(|step| {
        if step == "look" {
            return Ok(serde_json::to_string(&mappings_of(&wish.path)?)?);
        }
        let before = faults()?;
        let done = match step {
            "attach" => attach(&wish).map(|attached| end = Some(attached)),
            "lap" => lap(end.as_mut().context("it is attached")?),
            other => bail!("nothing here is called {other:?}"),
        };
        let faults = faults()? - before;
        Ok(serde_json::to_string(&done.map(|()| faults).map_err(|e| format!("{e:#}")))?)
    })
}

fn attach(wish: &Wish) -> Result<End> {
    let region = wish.options().open(&wish.path)?;
    Ok(match wish.is_consumer {
        true => End::Consumer(region.consumer()?.into()),
        false => End::Producer(region.producer()?.into()),
    })
}

/// As many messages as there is room for; the consumer reads those of all.
fn lap(end: &mut End) -> Result<()> {
    let mut messages = 0u64;
    match end {
        End::Producer(producer) => loop {
            match producer.try_send(&[0x5a; SIZE]) {
                Ok(()) => messages += 1,
                Err(SendError::Full) => break,
                Err(e) => return Err(e.into()),
            }
        },
        End::Consumer(consumer) => {
            while let Read::Message(_) = consumer.try_read()? {
                messages += 1;
            }
            consumer.commit();
        }
    }
    // With what a record has besides it is at most twice as long.
    ensure!(messages >= CAPACITY / (2 * SIZE as u64), "{messages} messages are no lap");
    Ok(())
}

fn faults() -> Result<u64> {
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.minor_page_faults() as u64)
}

/// Of this process's mappings of a file.
fn mappings_of(path: &Path) -> Result<Look> {
    let file = fs::metadata(path)?;
    let device = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    let inode = file.ino().to_string();
    let mut look = Look { rss_kib: 0, pss_kib: 0, faults: 0 };
    let (mut is_of_file, mut found) = (false, false);
    for line in fs::read_to_string("/proc/self/smaps")?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [range, _, _, on, number, ..] if range.contains('-') => {
                is_of_file = on == device && number == inode;
                found |= is_of_file;
            }
            ["Rss:", kib, "kB"] if is_of_file => look.rss_kib += kib.parse::<u64>()?,
            ["Pss:", kib, "kB"] if is_of_file => look.pss_kib += kib.parse::<u64>()?,
            _ => {}
        }
    }
    ensure!(found, "no mapping of {} in /proc/self/smaps", path.display());
    Ok(look)
}
