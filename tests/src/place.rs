//! Where a region is, and what its users do there.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::{skipped, until};

/// A folder on a tmpfs; `None`, and said so, if there is none here.
pub fn on_tmpfs(test: &str) -> Option<TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").ok();
    let folder = folder.filter(|f| statfs(f.path()).is_ok_and(|s| s.filesystem_type() == TMPFS_MAGIC));
    if folder.is_none() {
        skipped(test, "/dev/shm is not a tmpfs that can be written to");
    }
    folder
}

/// Where the consumer's sleep word is in a region's file, and that of the
/// producer in lane 0.
pub const CONSUMER_SLEEP: u64 = 0x1000;
/// See [`CONSUMER_SLEEP`].
pub const PRODUCER_SLEEP: u64 = 0x2180;

/// Waits until the owner of the sleep word at `offset` of a region's file sleeps.
#[track_caller]
pub fn until_asleep(path: &Path, offset: u64) {
    let file = File::open(path).expect("the region is there");
    until("somebody sleeps", || {
        let mut word = [0];
        file.read_exact_at(&mut word, offset).expect("the region is whole");
        word[0] & 1 == 1
    });
}
