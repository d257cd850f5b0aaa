//! Where the consumer writes.
//!
//! A regular file is written at a position that the ring keeps, committed in
//! the same store as the messages: whoever is killed, every message is in it
//! once. What is no regular file keeps no position, and may get messages again.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmring::{Consumer, StreamId};

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A file or stdout. Nothing is written, cut or created before
/// [`Output::start`], so that a program that fails at its start leaves no trace.
#[derive(Debug)]
pub struct Output {
    /// `None`: there is no file yet.
    file: Option<File>,
    path: Option<PathBuf>,
    /// Where in a regular file the next byte goes, once started.
    position: Option<u64>,
}

impl Output {
    /// Opens `path`, if it is there; `None` and `-` are stdout. `ring` must not
    /// be the same file.
    ///
    /// # Errors
    /// With the path, for people.
    pub fn open(path: Option<&PathBuf>, ring: &Path) -> anyhow::Result<Output> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            let file = io::stdout().as_fd().try_clone_to_owned().context("cannot write to stdout")?;
            return Ok(Output { file: Some(file.into()), path: None, position: None });
        };
        let cannot = || format!("cannot write to {}", path.display());
        let file = match File::options().write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // To be made later; but here, if that can be at all.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                fs::metadata(folder.unwrap_or(Path::new("."))).with_context(cannot)?;
                None
            }
            opened => Some(opened.with_context(cannot)?),
        };
        if let Some(file) = &file {
            let here = file.metadata().with_context(cannot)?;
            if fs::metadata(ring).is_ok_and(|r| (r.dev(), r.ino()) == (here.dev(), here.ino())) {
                anyhow::bail!("{} is the ring itself; choose another output", path.display());
            }
        }
        Ok(Output { file, path: Some(path.clone()), position: None })
    }

    /// From here on the output belongs to the ring of `consumer`, who has read
    /// nothing yet. A regular file, made if it is not there, is locked, cut to
    /// where the ring is with it, and bound to the ring.
    ///
    /// # Errors
    /// If the file is shorter than that; if it is new to the ring and not
    /// empty: nothing is written over; if another ring writes to it.
    pub fn start(&mut self, consumer: &mut Consumer) -> anyhow::Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let cannot = || format!("cannot write to {}", path.display());
        let created = self.file.is_none();
        if created {
            // The consumer's role is ours: nobody else makes it for this ring.
            let made = File::options().write(true).create_new(true).open(&path);
            self.file = Some(made.with_context(cannot)?);
        }
        let started = self.bind(&path, consumer);
        if started.is_err() && created {
            let _ = fs::remove_file(&path);
        }
        started
    }

    fn bind(&mut self, path: &Path, consumer: &mut Consumer) -> anyhow::Result<()> {
        let Some(file) = self.file.as_ref().filter(|f| f.metadata().is_ok_and(|m| m.is_file())) else {
            return Ok(());
        };
        if is_locked_by_another(file) {
            anyhow::bail!("another program is writing to {}; choose another output", path.display());
        }
        let bound = consumer.bind_sink(StreamId::of_file(file, 0)?)?;
        let len = file.metadata()?.len();
        let path = path.display();
        match bound {
            Some(position) if len < position => anyhow::bail!(
                "{path} has {len} bytes, but this ring wrote {position} to it: somebody cut it; copy its bytes \
                 back into this same file, or name a new one, which gets the messages from here on"
            ),
            None if len > 0 => anyhow::bail!(
                "{path} has {len} bytes that this ring did not write, or wrote before it was bound to another \
                 file; name a new file, or remove this one"
            ),
            _ => {}
        }
        let position = bound.unwrap_or(0);
        file.set_len(position).with_context(|| format!("cannot cut {path}"))?;
        // Bound before anything is written: after a kill it is known again.
        consumer.commit_at(position);
        self.position = Some(position);
        Ok(())
    }

    /// Writes all of `bytes` behind what was written before.
    ///
    /// # Errors
    /// What the operating system says; see [`is_broken_pipe`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        match &mut self.position {
            Some(position) => {
                file.write_all_at(bytes, *position)?;
                *position += bytes.len() as u64;
                Ok(())
            }
            None => write_on(file, bytes),
        }
    }

    /// Where in a regular file the next byte goes.
    pub fn position(&self) -> Option<u64> {
        self.position
    }
}

fn write_on(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares this pipe or terminal has set it so.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Locks the file for as long as it is open; true if another has it. Where
/// there are no locks, nobody has.
fn is_locked_by_another(file: &File) -> bool {
    // One that was killed may lose its role a moment before its file.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Ok(()) | Err(TryLockError::Error(_)) => return false,
        }
    }
    true
}

/// True if the reader of a pipe has gone: the quiet end of a program that
/// writes to it.
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
