//! Where the consumer writes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A file or stdout. Nothing is written, cut or created for good before
/// [`Output::start`], so that a program that fails at its start leaves no trace.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: Option<PathBuf>,
    /// The path was free before.
    created: bool,
}

impl Output {
    /// Opens `path`; `None` and `-` are stdout. `ring` must not be the same file.
    ///
    /// # Errors
    /// With the path, for people.
    pub fn open(path: Option<&PathBuf>, ring: &Path) -> anyhow::Result<Output> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            let file = io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?;
            return Ok(Output { file: file.into(), path: None, created: false });
        };
        let cannot = || format!("cannot write to {}", path.display());
        let made = File::options().write(true).create_new(true).open(path);
        let created = made.is_ok();
        let file = match made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => File::options().write(true).open(path),
            made => made,
        };
        let file = file.with_context(cannot)?;
        let output = Output { file, path: Some(path.clone()), created };
        let here = output.file.metadata().with_context(cannot)?;
        if fs::metadata(ring).is_ok_and(|r| (r.dev(), r.ino()) == (here.dev(), here.ino())) {
            anyhow::bail!("{} is the ring itself; choose another output", path.display());
        }
        Ok(output)
    }

    /// From here on the output belongs to this run: a regular file is emptied.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(&mut self) -> io::Result<()> {
        self.created = false;
        match &self.path {
            Some(_) if self.file.metadata()?.is_file() => self.file.set_len(0),
            _ => Ok(()),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the operating system says; see [`is_broken_pipe`].
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares this pipe or terminal has set it so.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && self.created
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// True if the reader of a pipe has gone: the quiet end of a program that
/// writes to it.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
