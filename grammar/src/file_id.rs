//! Files as a ring knows them.

use nix::sys::stat::{major, minor};
use shmring::StreamId;

/// The file that [`StreamId::of_file`] was asked for, for people.
pub fn file_words(id: &StreamId) -> String {
    let [device, inode, ..] = id.0;
    format!("inode {inode} on device {}:{}", major(device), minor(device))
}
