//! Floors of one process, which are functions.

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use memmap2::MmapOptions;

/// What a copy costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Copying {
    /// Of one copy.
    pub(crate) nanos: f64,
    /// Bytes read and as many written, counted once, in 10^9 a second.
    pub(crate) gigabytes_per_second: f64,
}

/// Times `copy_from_slice` of `size` bytes from one buffer of a MiB, or of `size`
/// if that is more, to another, each copy behind the last in both: as through a
/// ring of the usual capacity. The best of some passes, since nothing makes a
/// copy too fast.
pub(crate) fn memcpy_rate(size: usize) -> Copying {
    const LEAST: Duration = Duration::from_millis(2);
    let len = size.max(1 << 20);
    let (source, mut target) = (vec![0x5a; len], vec![0; len]);
    let pass = |target: &mut [u8]| {
        let pieces = source.chunks_exact(size).zip(target.chunks_exact_mut(size));
        // The length is hidden, as a ring does not know it in advance either.
        pieces.for_each(|(from, to)| black_box(to).copy_from_slice(black_box(from)));
    };
    pass(&mut target);
    let best = (0..15).map(|_| {
        let (begun, mut copies) = (Instant::now(), 0);
        while begun.elapsed() < LEAST {
            pass(&mut target);
            copies += len / size;
        }
        begun.elapsed().as_nanos() as f64 / copies as f64
    });
    let nanos = best.fold(f64::INFINITY, f64::min);
    Copying { nanos, gigabytes_per_second: size as f64 / nanos }
}

/// What it takes to open a file of `len` bytes in the folder `place`, ask for its
/// length, map it, unmap it and close it: the median of many, in nanoseconds. The
/// file is sparse and no page of it is touched.
pub(crate) fn open_mmap(place: &Path, len: u64) -> Result<f64> {
    const TIMES: usize = 501;
    let path = place.join("bare");
    File::create_new(&path)?.set_len(len)?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let begun = Instant::now();
        let file = File::options().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len() as usize;
        drop(black_box(MmapOptions::new().len(len).map_raw(&file)?));
        drop(file);
        times.push(begun.elapsed().as_nanos() as f64);
    }
    std::fs::remove_file(&path)?;
    times.sort_by(f64::total_cmp);
    Ok(times[TIMES / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_copy_takes_longer() {
        let (short, long) = (memcpy_rate(8), memcpy_rate(1 << 16));
        assert!(short.nanos > 0.0 && short.nanos < long.nanos, "{short:?} {long:?}");
        assert!(short.gigabytes_per_second < long.gigabytes_per_second, "{short:?} {long:?}");
    }

    #[test]
    fn nothing_is_left_of_the_mapped_file() -> Result<()> {
        let place = tempfile::tempdir()?;
        assert!(open_mmap(place.path(), 1 << 20)? > 0.0);
        assert_eq!(place.path().read_dir()?.count(), 0);
        Ok(())
    }
}
