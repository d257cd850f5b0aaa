//! What a caller may ask of the operating system: who may open the file, how
//! it is mapped; and what is said when the system refuses.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;

use super::error::{AttachError, CreateError, OpenError};
use super::options::RegionOptions;
use crate::layout::geometry::{DATA_ALIGN, HUGE_ALIGN};
use crate::os::advice::Advice;
use crate::os::file::Rights;
use crate::os::huge::{self, HugePages};
use crate::os::lack::Lack;

const _: () = assert!(HUGE_ALIGN == huge::SIZE);

/// Who may open the file. It is compared with a region that exists.
impl RegionOptions {
    /// Permission bits of the file, whatever the umask. If none are given,
    /// 0600 for a file; memory without a name lets everybody attach who has its
    /// descriptor. To use a region takes reading and writing; the owner has
    /// both always.
    ///
    /// Whoever can open the file, even for reading only, sees every message
    /// and can hold a lock on a role, which keeps that role busy. Whoever can
    /// write it can truncate it: see
    /// [`guard_truncation`](Self::guard_truncation).
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// Group of the file, by number; otherwise the file system chooses, mostly
    /// the group of the creating process. Has a use together with a
    /// [`mode`](Self::mode) like 0660.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }
}

/// How a handle maps the region: nothing of it is in the file, except that a
/// region is created for huge pages. Each process chooses for its handles.
impl RegionOptions {
    /// Makes the page tables at attach instead of at the first touch of each
    /// page: the first lap costs no page faults. Attach then takes time in
    /// proportion to the capacity, some hundred microseconds a MiB on pages
    /// of 4 KiB. Needs Linux 5.14; without it attach fails with
    /// [`Lack::Prefault`].
    pub fn prefault(mut self, yes: bool) -> Self {
        self.map.prefault = yes;
        self
    }

    /// Locks what is mapped in memory, so that it is never swapped out. The
    /// ring is mapped twice and counts twice for RLIMIT_MEMLOCK: the need is
    /// 2 * capacity + 64 KiB (with huge pages + 2 MiB). Populates page tables
    /// as [`prefault`](Self::prefault) does. Above the limit attach fails with
    /// [`Lack::LockedMemory`].
    pub fn lock_memory(mut self, yes: bool) -> Self {
        self.map.lock = yes;
        self
    }

    /// Tells the kernel what to expect of the mapping. May be called several
    /// times; see [`Advice`].
    pub fn advise(mut self, advice: Advice) -> Self {
        self.map.advice.push(advice);
        self
    }

    /// Uses huge pages, of 2 MiB: create lays the region out for them, its
    /// ring at 2 MiB of the file, and its capacity is then at least 2 MiB,
    /// which is also the usual one. Attach makes sure that they are there.
    ///
    /// A region of [`HugePages::Reserved`] is on huge pages for everybody,
    /// asked for or not. With [`HugePages::Transparent`] those who do not ask
    /// share the pages that others joined.
    ///
    /// # Errors
    /// At create or attach the [`Lack`]s that name huge pages, and at attach
    /// [`Lack::SmallPages`] if the region was created without.
    pub fn huge_pages(mut self, pages: HugePages) -> Self {
        self.map.huge_pages = Some(pages);
        self
    }

    /// Makes it an error, not the end of this process, if another process
    /// truncates the file and a handle touches what is gone:
    /// [`SendError::Truncated`](super::SendError::Truncated) and
    /// [`ReadError::Truncated`](super::ReadError::Truncated), for ever.
    /// Otherwise the kernel ends the process by SIGBUS. A message that went
    /// into a page that is gone is not `Ok`, and bytes from one are not
    /// delivered. What touches no missing page is not noticed at once: a cut
    /// inside a page, whose rest the kernel zeroes, is noticed by who waits or
    /// asks `check_region`; a file that was made longer again before a touch
    /// is like one with a hole.
    ///
    /// Installs a handler for SIGBUS once in the process, which passes on what
    /// is not its own to the handler that was there. Who installs one later
    /// has to pass on as well, and a thread that blocks SIGBUS is not helped.
    /// Costs a load and a branch a call, an unguarded handle the branch. At most
    /// 2048 mappings of a process can be guarded: a producer has two, a consumer
    /// one and one for each lane in use; one more is [`Lack::Guards`].
    pub fn guard_truncation(mut self, yes: bool) -> Self {
        self.map.guard = yes;
        self
    }

    /// What the data section's offset is a multiple of.
    pub(super) fn data_align(&self) -> u64 {
        if self.map.huge_pages.is_some() { HUGE_ALIGN } else { DATA_ALIGN }
    }

    /// Who may open a file that is created.
    pub(super) fn rights(&self, path: &Path) -> Result<Rights, CreateError> {
        let mode = self.mode.unwrap_or(0o600);
        if mode & !0o666 != 0 || mode & 0o600 != 0o600 {
            return Err(CreateError::Mode { mode });
        }
        // To chown(2) all ones mean no change; it is no group's number.
        if let Some(gid @ u32::MAX) = self.group {
            return Err(CreateError::Group { path: path.to_owned(), gid });
        }
        Ok(Rights { mode, group: self.group })
    }

    /// Refuses a file that others may open than was asked for.
    pub(super) fn compare_rights(&self, path: &Path, found: &Metadata) -> Result<(), OpenError> {
        let differs =
            |option, asked, found| OpenError::Differs { path: path.to_owned(), option, asked, found };
        let found_mode = found.mode() & 0o7777;
        match (self.mode, self.group) {
            (Some(mode), _) if mode != found_mode => {
                Err(differs("mode", format!("{mode:04o}"), format!("{found_mode:04o}")))
            }
            (_, Some(group)) if group != found.gid() => {
                Err(differs("group", group.to_string(), found.gid().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What it means that creating `len` bytes at `path` in `folder` failed so.
    pub(super) fn refused(
        &self,
        path: &Path,
        folder: Option<&File>,
        len: u64,
        source: io::Error,
    ) -> CreateError {
        let source = match Lack::of(source) {
            Ok(lack) => return lack.into(),
            Err(source) => source,
        };
        let forbidden = [libc::EPERM, libc::EINVAL].map(Some).contains(&source.raw_os_error());
        let missing_pages = || folder.and_then(|folder| huge::missing_pages(folder, len));
        let path = path.to_owned();
        match source.kind() {
            _ if forbidden && let Some(gid) = self.group => CreateError::Group { path, gid },
            io::ErrorKind::AlreadyExists => CreateError::Exists { path },
            io::ErrorKind::ReadOnlyFilesystem => CreateError::ReadOnly { path },
            io::ErrorKind::OutOfMemory
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => {
                missing_pages().map_or(CreateError::NoSpace { path, needed: len }, CreateError::from)
            }
            _ => CreateError::Io { path, source },
        }
    }
}

impl OpenError {
    /// What it means that opening `path` failed so.
    pub(crate) fn from_io(path: &Path, source: io::Error) -> OpenError {
        let source = match Lack::of(source) {
            Ok(lack) => return lack.into(),
            Err(source) => source,
        };
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => OpenError::NotFound { path },
            io::ErrorKind::PermissionDenied => OpenError::Permission { path },
            io::ErrorKind::InvalidInput => OpenError::NotAFile { path },
            io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
            _ => OpenError::Io { path, source },
        }
    }
}

impl AttachError {
    /// What it means that reserving a lane's ring failed so.
    pub(crate) fn from_reserve(source: io::Error, lane: u32, needed: u64) -> AttachError {
        match source.kind() {
            io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                AttachError::NoSpace { lane, needed }
            }
            _ => source.into(),
        }
    }
}

impl From<io::Error> for AttachError {
    fn from(source: io::Error) -> AttachError {
        match Lack::of(source) {
            Ok(lack) => AttachError::Lack(lack),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => AttachError::Permission,
            Err(e) => AttachError::Io(e),
        }
    }
}
