//! Where the consumer writes.
//!
//! A regular file is written at a position that the ring keeps, committed in
//! the same store as the messages: whoever is killed, every message is in it
//! once. What is no regular file keeps no position, and may get messages again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmring::StreamId;

/// A file or stdout. Nothing is written, cut or created for good before
/// [`Output::start`], so that a program that fails at its start leaves no trace.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: Option<PathBuf>,
    /// The path was free before.
    created: bool,
    /// Where in a regular file the next byte goes, once started.
    position: Option<u64>,
}

impl Output {
    /// Opens `path`; `None` and `-` are stdout. `ring` must not be the same file.
    ///
    /// # Errors
    /// With the path, for people.
    pub fn open(path: Option<&PathBuf>, ring: &Path) -> anyhow::Result<Output> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            let file = io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?;
            return Ok(Output { file: file.into(), path: None, created: false, position: None });
        };
        let cannot = || format!("cannot write to {}", path.display());
        let made = File::options().write(true).create_new(true).open(path);
        let created = made.is_ok();
        let file = match made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => File::options().write(true).open(path),
            made => made,
        };
        let file = file.with_context(cannot)?;
        let output = Output { file, path: Some(path.clone()), created, position: None };
        let here = output.file.metadata().with_context(cannot)?;
        if fs::metadata(ring).is_ok_and(|r| (r.dev(), r.ino()) == (here.dev(), here.ino())) {
            anyhow::bail!("{} is the ring itself; choose another output", path.display());
        }
        Ok(output)
    }

    /// What a ring calls this output; `None` if it is stdout or not a regular
    /// file: only such a file keeps what was written, and can be cut.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn id(&self) -> io::Result<Option<StreamId>> {
        let is_file = self.path.is_some() && self.file.metadata()?.is_file();
        is_file.then(|| StreamId::of_file(&self.file, 0)).transpose()
    }

    /// From here on the output belongs to the ring. One with an id is cut to
    /// `position`, where the ring is with it; `None`: it is new to the ring.
    ///
    /// # Errors
    /// If it is shorter than that, or if it is new and not empty: nothing is
    /// written over.
    pub fn start(&mut self, position: Option<u64>) -> anyhow::Result<()> {
        if let (Some(path), Some(_)) = (&self.path, self.id()?) {
            let path = path.display();
            let len = self.file.metadata()?.len();
            match position {
                Some(position) if len < position => anyhow::bail!(
                    "{path} has {len} bytes, but this ring wrote {position} to it: somebody cut it; put it back \
                     as it was, or name another file, which gets the messages from here on"
                ),
                None if len > 0 => anyhow::bail!(
                    "{path} has {len} bytes that this ring did not write, or wrote before it was bound to \
                     another file; remove it, or name another file"
                ),
                _ => {}
            }
            let position = position.unwrap_or(0);
            self.file.set_len(position).with_context(|| format!("cannot cut {path}"))?;
            self.position = Some(position);
        }
        self.created = false;
        Ok(())
    }

    /// Writes all of `bytes` behind what was written before.
    ///
    /// # Errors
    /// What the operating system says; see [`is_broken_pipe`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.position {
            Some(position) => {
                self.file.write_all_at(bytes, *position)?;
                *position += bytes.len() as u64;
                Ok(())
            }
            None => self.write_on(bytes),
        }
    }

    /// Where the next byte goes, in an output with an id.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    fn write_on(&mut self, mut bytes: &[u8]) -> io::Result<()> {
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
