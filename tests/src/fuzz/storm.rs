//! The same as `region`, while another thread changes words of the file at any
//! moment. What it writes follows from the bytes; when it writes does not: an
//! input that fails here may have to be tried more than once.
#![allow(unsafe_code)] // a mapping as atomic words

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{hint, thread};

use arbitrary::{Arbitrary, Unstructured};
use memmap2::{MmapOptions, MmapRaw};
use shmring::internals::layout::Geometry;

use super::image::{Damage, Image, Spot};
use super::region::World;
use super::{MEMORY, Outcome, peak};
use crate::Random;

/// How long a wrong word may stay before the old one comes back, and how long it
/// then is quiet, in turns of a loop.
const PAUSE: u64 = 3000;

/// As [`region`](super::region::region), in a storm.
pub fn storm(bytes: &[u8]) -> Outcome {
    let mut input = Unstructured::new(bytes);
    let Ok(seed) = input.arbitrary() else { return Outcome::default() };
    let Ok((image, region)) = Image::create(&mut input) else { return Outcome::default() };
    let stop = AtomicBool::new(false);
    let mut random = Random::of(seed);
    let words = Words::of(&image);
    let mut world = World::new(&image, region, true);
    let (most, outcome) = thread::scope(|scope| {
        // Ends the thread when this one panics, too.
        let ended = Ended(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                words.blow(&mut random);
            }
        });
        let worked = peak(|| world.live(&mut input));
        drop(ended);
        worked
    });
    assert!(most <= MEMORY, "{most} bytes");
    outcome
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A region's file, mapped as words.
struct Words {
    map: MmapRaw,
    geometry: Geometry,
}

impl Words {
    fn of(image: &Image) -> Words {
        let len = image.geometry.file_len() as usize;
        let map = MmapOptions::new().len(len).map_raw(&image.file).expect("memory");
        Words { map, geometry: image.geometry }
    }

    fn at(&self, at: u64) -> &AtomicU64 {
        let at = at as usize;
        assert!(at.is_multiple_of(8) && at + 8 <= self.map.len());
        // SAFETY: the word lies inside the map, which lives as long as `self` and
        // begins a page; nobody cuts the file in a storm.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Changes a word, for a moment or for good.
    fn blow(&self, random: &mut Random) {
        let bytes: Vec<u8> = (0..6).flat_map(|_| random.word().to_le_bytes()).collect();
        let damage = Damage::arbitrary(&mut Unstructured::new(&bytes)).expect("bytes enough");
        // Who opens a header that is wrong for a moment opens nothing any more.
        if matches!(damage.spot, Spot::Header { .. } | Spot::Extents { .. }) {
            return;
        }
        let (at, value) = damage.resolve(&self.geometry, |at| self.at(at).load(Ordering::Relaxed));
        let old = self.at(at).swap(value, Ordering::Relaxed);
        let pause = |random: &mut Random| (0..random.among(0..PAUSE)).for_each(|_| hint::spin_loop());
        pause(random);
        if !random.word().is_multiple_of(16) {
            self.at(at).store(old, Ordering::Relaxed);
            pause(random);
        }
    }
}
