//! What is measured without a transport's loop, or with it beside something
//! else: what it costs to attach, to be there, to wait, to have company.

mod allocs;
mod attach;
mod child;
mod company;
mod idle;
mod memory;
mod syscalls;

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::report::{CaseResult, Kind, Series};
use crate::round;

/// What a measure is called, and how it is taken; with `true` quickly.
pub(crate) type Special = (&'static str, fn(bool) -> Result<Vec<CaseResult>>);

/// All of them.
pub(crate) const ALL: &[Special] = &[
    ("attach_1gib", attach::one_gib),
    ("attach", attach::by_size),
    ("memory", memory::measure),
    ("fast_path_syscalls", syscalls::measure),
    ("fast_path_allocs", allocs::measure),
    ("idle_cpu_percent", idle::measure),
    ("loaded_to_quiet", company::loaded_to_quiet),
    ("checked", company::checked),
];

/// What the processes that a measure starts are told first.
const SIDE: &str = "--side=";

/// Plays a side of a measure here, if this process was started for that.
pub(crate) fn play() -> Option<Result<()>> {
    let mut arguments = std::env::args().skip(1);
    let side = arguments.next()?.strip_prefix(SIDE)?.to_owned();
    let rest: Vec<String> = arguments.collect();
    Some(child::live_with_the_runner().and_then(|()| match side.as_str() {
        allocs::SIDE => allocs::play(&rest),
        company::SIDE => company::play(),
        idle::SIDE => idle::play(&rest),
        memory::SIDE => memory::play(&rest),
        syscalls::SIDE => syscalls::play(&rest),
        side => bail!("nothing here is called {side:?}"),
    }))
}

/// Of which there are figures, one a round.
fn series(who: &str, kind: Kind, rounds: Vec<f64>) -> Series {
    Series { who: who.to_owned(), kind, rounds, percentiles: None, lost: 0, wrong: 0, skipped: None }
}

/// Of which there is none, and why.
fn skipped(who: &str, kind: Kind, why: String) -> Series {
    Series { skipped: Some(why), ..series(who, kind, Vec::new()) }
}

/// In which less is better.
fn result(case: &str, options: String, unit: &'static str, series: Vec<Series>) -> CaseResult {
    CaseResult { case: case.to_owned(), size: 0, options, unit, more_is_better: false, series }
}

/// The one in the middle.
fn middle<T: PartialOrd + Copy>(figures: impl IntoIterator<Item = T>) -> Option<T> {
    let mut sorted: Vec<T> = figures.into_iter().collect();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied()
}

/// A folder of a measure's own, where the rounds have theirs.
fn place() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("benches").tempdir_in(round::folder())?)
}

/// Bytes that a file in `folder` may take without anybody's harm: half of what
/// is free there, and of the memory that is available.
fn spare_bytes(folder: &Path) -> Result<u64> {
    let there = nix::sys::statvfs::statvfs(folder)?;
    let free = there.blocks_available() * there.fragment_size();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(free.min(kib.map_or(u64::MAX, |kib| kib << 10)) / 2)
}

/// Bytes as people say it.
fn bytes(count: u64) -> String {
    let (unit, name) = match count {
        _ if count >= 1 << 30 => (1 << 30, "GiB"),
        _ if count >= 1 << 20 => (1 << 20, "MiB"),
        _ => (1 << 10, "KiB"),
    };
    format!("{} {name}", count / unit)
}
