//! Names for regions: what programs and services on one machine agree on.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use crate::os::file;

/// A name that cannot be turned into a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name itself is not possible.
    #[error(
        "{name:?} is no name for a ring: use letters, digits, '.', '_' and '-', beginning with \
         a letter or digit, at most 64 of them; or a path with a '/' in it"
    )]
    Malformed {
        /// The name.
        name: String,
    },
    /// The folder for names is not private.
    #[error("the folder {} is not safe for rings: {reason}; mend that, or set SHMRING_DIR to a folder of your own", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The folder for names could not be made.
    #[error("cannot make the folder {}; set SHMRING_DIR to a folder of your own", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The path that a ring's name stands for.
///
/// With a `/` in it, it is a path already. Otherwise it is a file in
/// `$SHMRING_DIR`, by default `/dev/shm/shmring-<uid>`, which is made if it is
/// missing and refused if another user owns it or may write to it.
///
/// # Errors
/// [`NameError::Malformed`] is the caller's mistake, the others the machine's.
pub fn path_of(ring: &str) -> Result<PathBuf, NameError> {
    if ring.contains('/') {
        return Ok(PathBuf::from(ring));
    }
    let usual = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if ring.len() > 64 || !ring.starts_with(|c: char| c.is_ascii_alphanumeric()) || !ring.chars().all(usual) {
        return Err(NameError::Malformed { name: ring.to_owned() });
    }
    let folder = match env::var_os("SHMRING_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new("/dev/shm").join(format!("shmring-{}", nix::unistd::geteuid())),
    };
    match file::private_folder(folder.clone()) {
        Ok(Ok(folder)) => Ok(folder.join(format!("{ring}.ring"))),
        Ok(Err(reason)) => Err(NameError::Folder { folder, reason }),
        Err(source) => Err(NameError::Io { folder, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are_and_bad_names_refused() {
        assert_eq!(path_of("./a b").unwrap(), Path::new("./a b"));
        for bad in ["", ".", "..", "-a", "_a", "a b", "ä", "a\0", &"a".repeat(65)] {
            assert!(matches!(path_of(bad), Err(NameError::Malformed { .. })), "{bad:?}");
        }
    }
}
