//! What a process writes down.

use std::fmt::{Arguments, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the clock that all processes of the machine share.
pub(super) fn stamp() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// A process's transcript. What is flushed stays, even if the process is killed.
#[derive(Debug)]
pub(super) struct Notes {
    file: File,
    text: String,
}

impl Notes {
    pub(super) fn create(path: &Path) -> io::Result<Notes> {
        Ok(Notes { file: File::create_new(path)?, text: String::new() })
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: Arguments<'_>) {
        writeln!(self.text, "{line}").expect("memory");
    }

    /// Writes down what was added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    /// Adds a line and writes it down.
    pub(super) fn write(&mut self, line: Arguments<'_>) -> io::Result<()> {
        self.add(line);
        self.flush()
    }

    /// Bytes that were added and not written down.
    pub(super) fn pending(&self) -> usize {
        self.text.len()
    }
}
