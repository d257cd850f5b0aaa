use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

/// The caller's name for where its messages come from or go to, so that a
/// ring tells it from another: four numbers. All 0 name no sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub [u64; 4]);

impl StreamId {
    /// A file's: its device, its inode, when it was born, and `detail`, which
    /// is the caller's. A file that is removed and made anew gets another,
    /// unless its file system keeps no time of birth and reuses the inode.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_file(file: &File, detail: u64) -> io::Result<StreamId> {
        let found = file.metadata()?;
        let born = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Ok(StreamId([found.dev(), found.ino(), born.map_or(0, |d| d.as_nanos() as u64), detail]))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth] = self.0;
        write!(f, "{first:x}:{second:x}:{third:x}:{fourth:x}")
    }
}
