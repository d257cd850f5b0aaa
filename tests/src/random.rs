//! Numbers that are the same again for the same seed.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A small generator (splitmix64), enough to choose moments.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A new seed each run, printed; `SHMRING_TEST_SEED` repeats one.
    pub fn new(test: &str) -> Random {
        let seed = Random::seed(test);
        println!("{test}: SHMRING_TEST_SEED={seed}");
        Random(seed)
    }

    /// Those of a seed that somebody else printed.
    pub fn of(seed: u64) -> Random {
        Random(seed)
    }

    /// A new seed each time, or the one of `SHMRING_TEST_SEED`. To be printed.
    pub fn seed(test: &str) -> u64 {
        let given = env::var("SHMRING_TEST_SEED").ok().and_then(|s| s.parse().ok());
        given.unwrap_or_else(|| RandomState::new().hash_one(test))
    }

    /// The next number.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number of the range.
    pub fn among(&mut self, range: Range<u64>) -> u64 {
        range.start + self.word() % (range.end - range.start)
    }
}
