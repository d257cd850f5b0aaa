//! Memory that is a file without a name, sealed against being cut.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::file;
use super::huge::{self, HugePages};

/// Without these two whoever has the file can take memory from its users.
const FIXED: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Makes `len` bytes of memory, the first `reserved` of them reserved and the
/// others a hole, `start` at its beginning and zeros after; on huge pages that
/// were set aside, if they are asked for. Its length never changes again,
/// whoever has it. `OutOfMemory` or `StorageFull` if there is not so much.
pub(crate) fn create_sealed(
    name: &str,
    len: u64,
    reserved: u64,
    huge_pages: Option<HugePages>,
    start: &[(u64, Vec<u8>)],
) -> io::Result<File> {
    let set_aside = huge_pages == Some(HugePages::Reserved);
    let file = File::from(create(name, set_aside)?);
    // The kernel would take all there is before it says so.
    if let Some(lack) = huge::missing_pages(&file, reserved) {
        return Err(lack.into());
    }
    if !set_aside {
        check_available(reserved)?;
    }
    file::fill_whole(&file, len, reserved, start)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(FIXED | SealFlag::F_SEAL_SEAL))?;
    Ok(file)
}

fn create(name: &str, set_aside: bool) -> io::Result<OwnedFd> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if set_aside {
        flags |= MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
    }
    // Not a program. From Linux 6.3 on one must say so, and may be made to.
    let no_program = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(name, flags | no_program) {
        Err(Errno::EINVAL) => Ok(memfd_create(name, flags)?),
        made => Ok(made?),
    }
}

/// `OutOfMemory` if the machine cannot give so much any more.
pub(super) fn check_available(needed: u64) -> io::Result<()> {
    if available_bytes().is_some_and(|available| needed > available) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Ok(())
}

/// What the machine can still give, as far as it says.
fn available_bytes() -> Option<u64> {
    let all = fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| {
        let line = all.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
    };
    Some(bytes("MemAvailable:")? + bytes("SwapFree:")?)
}

/// True for memory whose length is fixed. A file on a disk or a tmpfs never is.
pub(crate) fn is_sealed(file: &File) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    seals.is_ok_and(|seals| seals.contains(FIXED))
}

/// True if the file had a name and lost it; sealed memory never had one.
pub(crate) fn is_removed(file: &File, found: &Metadata) -> bool {
    found.nlink() == 0 && !is_sealed(file)
}

/// What a descriptor from elsewhere stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file, or sealed memory.
    File,
    /// Memory that somebody can cut.
    Unsealed,
    /// A file that has no name any more, or never had one.
    Removed,
    /// Not a file.
    Other,
    /// Not open for both reading and writing.
    HalfOpen,
}

/// Looks at a descriptor from elsewhere: what it is, and a path for people.
/// From then on it is closed when this process executes another program.
pub(crate) fn receive(descriptor: OwnedFd) -> io::Result<(File, Metadata, PathBuf, Kind)> {
    let file = File::from(descriptor);
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let here = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let link = fs::read_link(&here)?;
    let memory = link.as_os_str().as_bytes().strip_prefix(b"/");
    let memory = memory.filter(|name| name.starts_with(b"memfd:"));
    let memory = memory.and_then(|name| name.strip_suffix(b" (deleted)"));

    let found = file.metadata()?;
    let access = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?) & OFlag::O_ACCMODE;
    let kind = if !found.is_file() {
        Kind::Other
    } else if access != OFlag::O_RDWR {
        Kind::HalfOpen
    } else if is_removed(&file, &found) {
        if memory.is_some() { Kind::Unsealed } else { Kind::Removed }
    } else {
        Kind::File
    };
    let path = match memory {
        Some(name) => PathBuf::from(OsStr::from_bytes(name)),
        // Made without a name and given one later, or in another mount namespace.
        None if kind == Kind::File && !file::is_at(&file, &link).unwrap_or(false) => here,
        None => link,
    };
    Ok((file, found, path, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::lack::Lack;
    use std::os::unix::fs::FileExt;

    #[test]
    fn sealed_memory_is_whole_and_keeps_its_length() {
        let file = create_sealed("shmring", 65536, 65536, None, &[(4096, b"start".to_vec())]).unwrap();
        let found = file.metadata().unwrap();
        assert_eq!((found.len(), found.blocks() * 512, found.nlink()), (65536, 65536, 0));
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(&bytes, b"start");
        for len in [0, 65535, 65537] {
            assert_eq!(file.set_len(len).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{len}");
        }
        assert!(fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).is_err());
        assert!(is_sealed(&file) && !is_removed(&file, &found));
        // The other user that is handed it opens it anew.
        assert_eq!(found.mode() & 0o666, 0o666);
    }

    #[test]
    fn what_nobody_has_is_refused_before_anything_is_taken() {
        let available = available_bytes().expect("the kernel says");
        assert!(available > 1 << 20);
        let refused = create_sealed("shmring", 1 << 60, 1 << 60, None, &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        // So long it may be: a hole takes nothing.
        let file = create_sealed("shmring", 1 << 60, 65536, None, &[]).unwrap();
        let refused = file::reserve_more(&file, 65536, 1 << 59).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(file.metadata().unwrap().blocks() * 512, 65536);
        for _ in 0..2 {
            file::reserve_more(&file, 1 << 59, 65536).unwrap();
            assert_eq!(file.metadata().unwrap().blocks() * 512, 2 * 65536);
        }
    }

    #[test]
    fn huge_pages_that_nobody_set_aside_are_a_lack() {
        const LEN: u64 = 1 << 50;
        let Ok(descriptor) = create("shmring", true) else {
            // A kernel without them refuses before it is asked how many.
            let refused = create_sealed("shmring", LEN, LEN, Some(HugePages::Reserved), &[]);
            return assert!(refused.is_err());
        };
        let file = File::from(descriptor);
        file.set_len(LEN).unwrap();
        let created = create_sealed("shmring", LEN, LEN, Some(HugePages::Reserved), &[]).map(drop);
        for refused in [created, file::reserve_more(&file, 0, LEN)] {
            let lack = Lack::of(refused.unwrap_err()).unwrap();
            let needed = LEN / huge::SIZE;
            assert!(matches!(lack, Lack::ReservedHugePages { needed: n, free } if n == needed && free < n));
        }
        assert_eq!(file.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn an_unlinked_file_is_no_sealed_memory() {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let open = file.reopen().unwrap();
        assert!(!is_removed(&open, &open.metadata().unwrap()));
        drop(file);
        assert!(is_removed(&open, &open.metadata().unwrap()) && !is_sealed(&open));
    }
}
