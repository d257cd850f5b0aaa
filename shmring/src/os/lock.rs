//! Roles as locks: the kernel lets go of them when their holder is gone.
//!
//! Open file description locks, one byte a role, far beyond any file's end.
//! A description is blind to its own locks, so every handle opens its own.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::file::{FileId, open_regular};
use super::lack::Lack;

const BASE: i64 = 1 << 62;
const CONSUMER: i64 = 16;
const LANE: i64 = 4096;
/// Above the last lane's byte.
const END: i64 = LANE + 1024;

/// Who may do what: one holder each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Making or replacing what is at a path.
    Create,
    /// The consumer.
    Consumer,
    /// The producer of a lane.
    Producer(u32),
    /// Every consumer and producer there may be.
    All,
}

impl Role {
    fn range(self) -> (i64, i64) {
        match self {
            Role::Create => (BASE, 1),
            Role::Consumer => (BASE + CONSUMER, 1),
            Role::Producer(lane) => (BASE + LANE + lane as i64, 1),
            Role::All => (BASE + CONSUMER, END - CONSUMER),
        }
    }

    fn flock(self, kind: i32) -> libc::flock {
        let (l_start, l_len) = self.range();
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start,
            l_len,
            l_pid: 0,
        }
    }
}

/// Takes the role for as long as `file`'s description is open; false if
/// another description has it. `file` is open for writing.
pub(crate) fn try_take(file: &File, role: Role) -> io::Result<bool> {
    let fcntl_arg = role.flock(libc::F_WRLCK);
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&fcntl_arg)) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
    }
}

/// True if another description than `file`'s has the role. Asks, takes nothing.
pub(crate) fn is_taken(file: &File, role: Role) -> io::Result<bool> {
    let mut flock = role.flock(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut flock))?;
    Ok(flock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Lets go of every role that `file`'s description has, whoever shares it: a
/// child that was forked, or is about to execute a program, may for a while.
pub(crate) fn release(file: &File) {
    let all = libc::flock {
        l_type: libc::F_UNLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&all));
}

/// A description of its own for the file that `file` has open, and what it is
/// now. It may still be at `place`, and to open that takes half the time. While
/// `file` is open no other gets its id.
pub(crate) fn reopen(file: &File, place: Option<(&Path, FileId)>) -> io::Result<(File, Metadata)> {
    if let Some((path, id)) = place
        && let Ok((again, found)) = open_regular(path, true)
        && FileId::of(&found) == id
    {
        return Ok((again, found));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let again = File::options().read(true).write(true).open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Lack::Proc.into(),
        _ => e,
    })?;
    let found = again.metadata()?;
    Ok((again, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_holder_and_ends_with_its_description() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second] = [(); 2].map(|()| reopen(file.as_file(), None).unwrap().0);
        assert!(try_take(&first, Role::Producer(0)).unwrap());
        assert!(!try_take(&second, Role::Producer(0)).unwrap());
        assert!(is_taken(&second, Role::Producer(0)).unwrap());
        assert!(!is_taken(&second, Role::Producer(1)).unwrap());
        assert!(!is_taken(&second, Role::Consumer).unwrap());
        assert!(!try_take(&second, Role::All).unwrap());
        assert!(!is_taken(&first, Role::Producer(0)).unwrap(), "blind to its own");
        drop(first);
        assert!(try_take(&second, Role::All).unwrap());
        let (third, _) = reopen(file.as_file(), None).unwrap();
        let shared = second.try_clone().unwrap();
        release(&second);
        assert!(try_take(&third, Role::Consumer).unwrap(), "whoever shares it");
        drop(shared);
    }

    #[test]
    fn a_file_is_opened_again_wherever_it_is_and_whatever_is_at_its_place() {
        use std::fs;
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (file, found) = open_new(&path, b"ours");
        let again = || {
            let (again, found) = reopen(&file, Some((&path, FileId::of(&found)))).unwrap();
            let mut bytes = [0; 4];
            again.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!((&bytes, found.len()), (b"ours", 4));
            // A description of its own.
            assert!(try_take(&again, Role::Consumer).unwrap() && is_taken(&file, Role::Consumer).unwrap());
        };
        again();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        again();
        let _other = open_new(&path, b"another");
        again();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("moved", &path).unwrap();
        again();
        fs::remove_file(folder.path().join("moved")).unwrap();
        again();
    }

    fn open_new(path: &Path, bytes: &[u8]) -> (File, Metadata) {
        std::fs::write(path, bytes).unwrap();
        open_regular(path, true).unwrap()
    }
}
