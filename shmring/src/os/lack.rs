//! What this system, or this process's share of it, has too little of.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// The system has not enough of something, or not at all. Nothing was changed;
/// the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lack {
    /// This process has as many descriptors open as it may.
    #[error(
        "this process may have {limit} descriptors open and has them all; raise the limit (`ulimit -n`), or close some"
    )]
    Descriptors {
        /// The limit, RLIMIT_NOFILE.
        limit: u64,
    },
    /// The system has as many files open as it may.
    #[error(
        "the system has as many files open as it may; raise fs.file-max, or have somebody close some (`ulimit -n` bounds one process)"
    )]
    SystemDescriptors,
    /// So much memory may not be locked.
    #[error(
        "to lock the region in memory takes {needed} bytes (each ring counts twice), and this process may lock {limit}; \
         raise the limit (`ulimit -l`), leave lock_memory out, or choose a smaller capacity"
    )]
    LockedMemory {
        /// What the handle maps, in bytes: each ring twice. With those rings that it
        /// has mapped so far, and at least one.
        needed: u64,
        /// The limit in bytes, RLIMIT_MEMLOCK.
        limit: u64,
    },
    /// The kernel cannot populate page tables with an error instead of a signal.
    #[error("prefault needs Linux 5.14 or later (MADV_POPULATE_WRITE); leave it out here")]
    Prefault,
    /// There is no memory for pages that the region's file should have.
    #[error(
        "no memory for the region's {needed} bytes: free some, and if the file was truncated or has holes, create it anew"
    )]
    Memory {
        /// What the handle maps, in bytes: each ring twice. With those rings that it
        /// has mapped so far, and at least one.
        needed: u64,
    },
    /// Transparent huge pages did not take effect.
    #[error("{mapped} of {needed} bytes are on transparent huge pages: {why}")]
    TransparentHugePages {
        /// Bytes that are.
        mapped: u64,
        /// Bytes that should be: the ring twice.
        needed: u64,
        /// What the system says, and what helps.
        why: String,
    },
    /// The region is laid out for small pages.
    #[error(
        "the region's ring begins at a multiple of 64 KiB, not of 2 MiB; remove it and create it with huge pages"
    )]
    SmallPages,
    /// Reserved huge pages are there on a hugetlbfs only.
    #[error(
        "{} is not on a hugetlbfs; mount one (`mount -t hugetlbfs -o pagesize=2M none FOLDER`) and choose a path in it",
        path.display()
    )]
    NotHugetlbfs {
        /// The region's path.
        path: PathBuf,
    },
    /// A hugetlbfs has reserved huge pages only.
    #[error("{} is on a hugetlbfs; ask for reserved huge pages (`shmring create --huge-pages reserved`), or choose another folder", path.display())]
    OnHugetlbfs {
        /// The region's path.
        path: PathBuf,
    },
    /// The pages of the hugetlbfs have another size.
    #[error("the hugetlbfs has pages of {found} bytes; mount one with `-o pagesize=2M`")]
    HugePageSize {
        /// Their size in bytes.
        found: u64,
    },
    /// There are not enough reserved huge pages.
    #[error(
        "the region takes {needed} huge pages of 2 MiB and {free} are free; raise vm.nr_hugepages, or choose a smaller capacity"
    )]
    ReservedHugePages {
        /// Pages that the region takes.
        needed: u64,
        /// Pages that are free.
        free: u64,
    },
    /// A role takes a description of its own, which only /proc gives if the
    /// region is not where it was opened, or came without a path.
    #[error("there is no /proc here, which attaching needs; mount it (`mount -t proc proc /proc`)")]
    Proc,
    /// No file of this process may be so long.
    #[error(
        "the region takes {needed} bytes and this process may write files of {limit}; raise the limit (`ulimit -f`), or choose a smaller capacity"
    )]
    FileSize {
        /// The region's length in bytes.
        needed: u64,
        /// The limit in bytes, RLIMIT_FSIZE.
        limit: u64,
    },
    /// So many mappings are guarded already.
    #[error(
        "{most} mappings of this process are guarded against truncation, and there is room for no more: a producer \
         has two, a consumer one and one for each lane in use"
    )]
    Guards {
        /// The most mappings that there can be.
        most: usize,
    },
}

impl From<Lack> for io::Error {
    fn from(lack: Lack) -> io::Error {
        io::Error::other(lack)
    }
}

impl Lack {
    /// What the system lacks, if that is what the error says.
    pub(crate) fn of(source: io::Error) -> Result<Lack, io::Error> {
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::EMFILE => Ok(Lack::Descriptors { limit: limit(Resource::RLIMIT_NOFILE) }),
            Errno::ENFILE => Ok(Lack::SystemDescriptors),
            _ => source.downcast(),
        }
    }
}

/// What this process may have of something.
pub(super) fn limit(resource: Resource) -> u64 {
    getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_told_from_other_errors() {
        let lack = Lack::Guards { most: 3 };
        assert_eq!(Lack::of(lack.clone().into()).unwrap(), lack);
        let found = Lack::of(io::Error::from_raw_os_error(Errno::EMFILE as i32)).unwrap();
        assert!(matches!(found, Lack::Descriptors { limit } if limit > 0), "{found}");
        assert!(found.to_string().contains("ulimit -n"));
        let system = Lack::of(io::Error::from_raw_os_error(Errno::ENFILE as i32)).unwrap();
        assert!(system == Lack::SystemDescriptors && system.to_string().contains("ulimit -n"));
        let other = Lack::of(io::Error::from_raw_os_error(Errno::EIO as i32)).unwrap_err();
        assert_eq!(other.raw_os_error(), Some(Errno::EIO as i32));
    }
}
