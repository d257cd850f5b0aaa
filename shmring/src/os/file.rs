//! Files that appear whole or not at all.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, RenameFlags, fallocate, renameat2};
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, fchown, linkat};

use super::huge;
use super::lack::{self, Lack};
use super::lock::{self, Role};
use super::memfd;

/// Space is reserved in pieces, so that a signal does not start it anew.
const PIECE: u64 = 64 << 20;
/// A piece that is interrupted is done in smaller ones, down to this.
const LEAST_PIECE: u64 = 64 << 10;
/// How often a file is made anew that another creator cleaned away.
const ROUNDS: usize = 10;

/// Who may open a new file, whatever the umask: permission bits, and the group
/// if it is not the usual one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
}

impl Rights {
    pub(crate) fn give(self, file: &File) -> io::Result<()> {
        if let Some(group) = self.group {
            fchown(file, None, Some(Gid::from_raw(group)))?;
        }
        Ok(fchmod(file, Mode::from_bits_truncate(self.mode))?)
    }
}

/// Makes a file of `len` bytes at `path`, the first `reserved` of them reserved
/// and the others a hole, `start` at its beginning and zeros after, and gives it
/// the name as the last step. `AlreadyExists` if there is something at `path`.
pub(crate) fn create_whole(
    path: &Path,
    len: u64,
    reserved: u64,
    rights: Rights,
    start: &[(u64, Vec<u8>)],
) -> io::Result<File> {
    let folder = folder_of(path);
    // Before the others may open it.
    let mode = rights.mode & 0o600;
    let fill = |file: &File| -> io::Result<()> {
        rights.give(file)?;
        fill_whole(file, len, reserved, start)
    };
    let unnamed = OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    match File::options().read(true).write(true).mode(mode).custom_flags(unnamed.bits()).open(folder) {
        Ok(file) => {
            if path.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fill(&file)?;
            match give_name(&file, path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => create_beside(path, mode, &fill),
                named => named.map(|()| file),
            }
        }
        // The file system or the kernel has no unnamed files.
        Err(e)
            if matches!(
                Errno::from_raw(e.raw_os_error().unwrap_or(0)),
                Errno::EOPNOTSUPP | Errno::EISDIR
            ) =>
        {
            create_beside(path, mode, &fill)
        }
        Err(e) => Err(e),
    }
}

/// Makes the file under a temporary name in the same folder and moves it to
/// `path`. Its creator holds a lock on it; a left-over without one is removed
/// by the next creator.
fn create_beside(path: &Path, mode: u32, fill: &dyn Fn(&File) -> io::Result<()>) -> io::Result<File> {
    for _ in 0..ROUNDS {
        match try_beside(path, mode, fill) {
            // Another creator took it for a left-over before it was locked.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn try_beside(path: &Path, mode: u32, fill: &dyn Fn(&File) -> io::Result<()>) -> io::Result<File> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    remove_left_overs(path);
    // Else all its space would be taken first.
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut hidden = temporary_prefix(name);
    hidden.push(format!("{:016x}.tmp", u64::from_le_bytes(random)));
    let temporary = folder_of(path).join(hidden);

    let file = File::options().read(true).write(true).create_new(true).mode(mode).open(&temporary)?;
    let made = lock::try_take(&file, Role::Create)
        .and_then(|_| fill(&file))
        .and_then(|()| move_to_new(&temporary, path));
    if made.is_err() {
        // What cannot be removed is a left-over; its lock ends with the making.
        let _ = fs::remove_file(&temporary);
    }
    made?;
    lock::release(&file);
    Ok(file)
}

/// Renames a file; `AlreadyExists` if there is something at `path`.
fn move_to_new(temporary: &Path, path: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RenameFlags::RENAME_NOREPLACE) {
        // Not on this file system. Who dies between the two leaves both names.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            fs::hard_link(temporary, path)?;
            let _ = fs::remove_file(temporary);
            Ok(())
        }
        moved => Ok(moved?),
    }
}

fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// Removes what creators left behind that died: half-made files, or a second
/// name of the one at `path`.
pub(crate) fn remove_left_overs(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let prefix = temporary_prefix(name);
    for entry in fs::read_dir(folder_of(path)).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let random =
            file_name.as_bytes().strip_prefix(prefix.as_bytes()).and_then(|n| n.strip_suffix(b".tmp"));
        let ours = random.is_some_and(|r| r.len() == 16 && r.iter().all(u8::is_ascii_hexdigit));
        if ours
            && let Ok((file, _)) = open_regular(&entry.path(), true)
            && lock::try_take(&file, Role::Create).unwrap_or(false)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Gives an unnamed file its name; `NotFound` if neither way is possible here.
fn give_name(file: &File, path: &Path) -> io::Result<()> {
    // Needs CAP_DAC_READ_SEARCH; without it the kernel says ENOENT.
    match linkat(file, "", AT_FDCWD, path, AtFlags::AT_EMPTY_PATH) {
        Err(Errno::ENOENT | Errno::EPERM) => {}
        named => return Ok(named?),
    }
    let proc = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no zero byte");
    Ok(linkat(AT_FDCWD, proc.as_c_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// Gives an empty file `len` bytes, the first `reserved` of them reserved and
/// the others a hole, `start` at its beginning and zeros after.
pub(super) fn fill_whole(file: &File, len: u64, reserved: u64, start: &[(u64, Vec<u8>)]) -> io::Result<()> {
    let limit = lack::limit(Resource::RLIMIT_FSIZE);
    if len > limit {
        // The kernel would send SIGXFSZ.
        return Err(Lack::FileSize { needed: len, limit }.into());
    }
    check_blocks(file, reserved)?;
    file.set_len(len)?;
    reserve(file, 0, reserved)?;
    if huge::is_hugetlbfs(file)? {
        return huge::write_through_mapping(file, start);
    }
    start.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
}

/// Reserves `len` more bytes of a file that has its length already, from
/// `offset` on. Errors are those of a creation: `StorageFull`, `OutOfMemory`, or
/// [`Lack::ReservedHugePages`], each before anything is taken.
pub(crate) fn reserve_more(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let missing = missing_at_most(file, len)?;
    if let Some(lack) = huge::missing_pages(file, missing) {
        return Err(lack.into());
    }
    check_blocks(file, missing)?;
    if memfd::is_sealed(file) && !huge::is_hugetlbfs(file)? {
        memfd::check_available(missing)?;
    }
    reserve(file, offset, len)
}

/// How many of some `len` bytes of a file have no space. Which ones have cannot
/// be told everywhere (what is reserved and was never written looks like a
/// hole), but no more can be missing there than in the whole file. So who does
/// again what another was killed at may need no space and be refused all the
/// same, if there is little.
fn missing_at_most(file: &File, len: u64) -> io::Result<u64> {
    let found = file.metadata()?;
    Ok(len.min(found.len().saturating_sub(found.blocks() * 512)))
}

/// Whether the file system has `needed` bytes, as far as it says: the kernel
/// would take all there is before it says so.
fn check_blocks(file: &File, needed: u64) -> io::Result<()> {
    let space = fstatfs(file)?;
    if space.blocks() > 0 && needed.div_ceil(space.block_size() as u64) > space.blocks_free() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Reserves space, so that a full file system is an error now and not a
/// signal at the first touch. The file keeps its length, whoever cuts it.
fn reserve(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (mut done, mut most) = (0, PIECE);
    while done < len {
        let piece = most.min(len - done);
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, (offset + done) as i64, piece as i64) {
            Ok(()) => done += piece,
            // A tmpfs may give back what it has of a piece when a signal comes: with
            // signals that come often none would ever be done.
            Err(Errno::EINTR) => most = (piece / 2).max(LEAST_PIECE),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens a regular file, never a link's target, and never waits for a pipe's
/// other side; says what it was then. `InvalidInput` for what is no regular file.
pub(crate) fn open_regular(path: &Path, write: bool) -> io::Result<(File, Metadata)> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = File::options().read(true).write(write).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|e| match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
        // A link, a directory, a pipe or device without another side.
        Errno::ELOOP | Errno::EISDIR | Errno::ENXIO => io::ErrorKind::InvalidInput.into(),
        _ => e,
    })?;
    match file.metadata()? {
        found if found.is_file() => Ok((file, found)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Which file it is, as long as somebody has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    pub(crate) fn of(found: &Metadata) -> FileId {
        FileId { device: found.dev(), number: found.ino() }
    }
}

/// True if `path` names the file that is open.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(FileId::of(&file.metadata()?) == FileId::of(&fs::symlink_metadata(path)?))
}

/// What kind of file system an open file is on. That never changes.
pub(crate) fn file_system(file: &File) -> io::Result<FsType> {
    Ok(fstatfs(file)?.filesystem_type())
}

/// File systems on which locks or shared mappings do not reach every process.
pub(crate) fn unsuitable_file_system(kind: FsType) -> Option<&'static str> {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC};
    const CIFS: FsType = FsType(0xFF53_4D42);
    const SMB2: FsType = FsType(0xFE53_4D42);
    const V9FS: FsType = FsType(0x0102_1997);
    match kind {
        NFS_SUPER_MAGIC => Some("NFS"),
        SMB_SUPER_MAGIC | CIFS | SMB2 => Some("SMB"),
        FUSE_SUPER_MAGIC => Some("FUSE"),
        V9FS => Some("9p"),
        _ => None,
    }
}

/// The folder that `path` is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a folder that only this user can use; one that is there already
/// must be so. `Err(reason)` if it is not.
pub(crate) fn private_folder(folder: PathBuf) -> io::Result<Result<PathBuf, &'static str>> {
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    let refusal = if !found.is_dir() {
        Some("it is not a folder")
    } else if found.uid() != nix::unistd::geteuid().as_raw() {
        Some("another user owns it")
    } else if found.mode() & 0o022 != 0 {
        Some("other users may write to it")
    } else {
        None
    };
    Ok(refusal.map_or(Ok(folder), Err))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHTS: Rights = Rights { mode: 0o640, group: None };

    fn start() -> Vec<(u64, Vec<u8>)> {
        vec![(0, b"first".to_vec()), (4096, b"second".to_vec())]
    }

    fn check(path: &Path, folder: &Path) {
        let bytes = fs::read(path).unwrap();
        assert_eq!((bytes.len(), &bytes[..5], &bytes[4096..4102]), (65536, &b"first"[..], &b"second"[..]));
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.mode() & 0o777, found.blocks() * 512), (0o640, 65536));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn a_file_appears_whole_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        create_whole(&path, 65536, 65536, RIGHTS, &start()).unwrap();
        check(&path, folder.path());
        let again = create_whole(&path, 65536, 65536, RIGHTS, &[]).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        check(&path, folder.path());
    }

    #[test]
    fn without_unnamed_files_it_appears_whole_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let fill = |file: &File| {
            RIGHTS.give(file)?;
            fill_whole(file, 65536, 65536, &start())
        };
        // A left-over of a creator that died, and one of a creator at work.
        let dead = folder.path().join(".a.0123456789abcdef.tmp");
        fs::write(&dead, b"half").unwrap();
        let file = create_beside(&path, 0o640, &fill).unwrap();
        check(&path, folder.path());
        assert!(!lock::is_taken(&lock::reopen(&file, None).unwrap().0, Role::Create).unwrap());

        let busy = folder.path().join(".a.fedcba9876543210.tmp");
        let at_work = File::create_new(&busy).unwrap();
        assert!(lock::try_take(&at_work, Role::Create).unwrap());
        let not_called = |_: &File| -> io::Result<()> { panic!("space is taken for nothing") };
        let again = create_beside(&path, 0o640, &not_called).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert!(busy.exists() && fs::read_dir(folder.path()).unwrap().count() == 2);
    }

    #[test]
    fn a_failed_creation_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(create_whole(&path, u64::MAX / 4, u64::MAX / 4, RIGHTS, &[]).is_err());
        // A length that the file may have, and more reserved than there is.
        let space = fstatfs(File::open(folder.path()).unwrap()).unwrap();
        let more = (space.blocks() + 1) * space.block_size() as u64;
        assert_eq!(
            create_whole(&path, more, more, RIGHTS, &[]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        let fails = |_: &File| Err(io::ErrorKind::StorageFull.into());
        assert!(create_beside(&path, 0o600, &fails).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_reserved_at_first_can_be_later() {
        const LEN: u64 = 4 << 20;
        for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let folder = tempfile::tempdir_in(folder).unwrap();
            let path = folder.path().join("a");
            let file = create_whole(&path, LEN, 65536, RIGHTS, &start()).unwrap();
            let has = |expected: u64| {
                let found = file.metadata().unwrap();
                // A disk may count a block in which it notes where the others are.
                let counted = expected..=expected + 16384;
                assert!(found.len() == LEN && counted.contains(&(found.blocks() * 512)), "{found:?}");
                let missing = missing_at_most(&file, LEN).unwrap();
                assert_eq!(missing, LEN.saturating_sub(found.blocks() * 512));
            };
            has(65536);
            file.write_all_at(b"kept", 1 << 20).unwrap();
            for _ in 0..2 {
                reserve_more(&file, 1 << 20, 65536).unwrap();
                has(2 * 65536);
            }
            assert_eq!(missing_at_most(&file, 1 << 20).unwrap(), 1 << 20);
            reserve_more(&file, 2 << 20, 2 << 20).unwrap();
            has(2 * 65536 + (2 << 20));
            reserve_more(&file, 0, LEN).unwrap();
            has(LEN);
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, 1 << 20).unwrap();
            assert_eq!(&bytes, b"kept");
        }
    }

    #[test]
    fn more_than_there_is_is_refused_before_anything_is_taken() {
        let file = tempfile::tempfile().unwrap();
        let space = fstatfs(&file).unwrap();
        let more = (space.blocks() + 1) * space.block_size() as u64;
        file.set_len(more).unwrap();
        assert_eq!(reserve_more(&file, 0, more).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        reserve_more(&file, 65536, 65536).unwrap();
        assert_eq!((file.metadata().unwrap().blocks() * 512, file.metadata().unwrap().len()), (65536, more));
    }

    #[test]
    fn a_cut_file_is_not_made_longer() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        reserve_more(&file, 65536, 65536).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4096);
    }

    #[test]
    fn links_folders_and_pipes_are_no_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, b"x").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(open_regular(&target, true).is_ok());
        assert!(open_regular(&link, true).is_err());
        assert!(open_regular(folder.path(), false).is_err());
        assert!(open_regular(&pipe, true).is_err());
    }

    #[test]
    fn a_private_folder_is_made_or_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("rings");
        assert_eq!(private_folder(private.clone()).unwrap(), Ok(private.clone()));
        assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&private, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(private_folder(private).unwrap(), Err("other users may write to it"));
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(private_folder(file).unwrap(), Err("it is not a folder"));
    }
}
