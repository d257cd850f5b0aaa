//! A folder of a test's own, with everything that belongs to it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Child, Done, Program, program};

/// A temporary folder; rings with a name are in its folder `rings`.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// A new, empty one.
    pub fn new() -> Lab {
        Lab { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of a ring with a name.
    pub fn ring(&self, name: &str) -> PathBuf {
        self.path("rings").join(format!("{name}.ring"))
    }

    /// Writes a file in the folder.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in the temporary folder");
        path
    }

    /// The names of everything in the folder and below, sorted.
    pub fn listing(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()) {
                if entry.symlink_metadata().expect("an entry").is_dir() {
                    folders.push(entry.clone());
                }
                found.push(entry);
            }
        }
        found.sort();
        found
    }

    /// One of the programs, with rings in this folder and all streams piped.
    pub fn command(&self, which: Program) -> Command {
        self.prepared(program(which).as_path())
    }

    /// Any program, set up like the project's own.
    pub fn prepared(&self, file: &Path) -> Command {
        let mut command = Command::new(file);
        command
            .env("SHMRING_DIR", self.path("rings"))
            .env("TMPDIR", self.folder.path())
            .env_remove("SHMRING_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts one of the programs.
    pub fn start<A: AsRef<OsStr>>(&self, which: Program, arguments: &[A]) -> Child {
        Child::start(self.command(which).args(arguments))
    }

    /// Runs one of the programs to its end, with `input` as its stdin.
    pub fn run<A: AsRef<OsStr>>(&self, which: Program, arguments: &[A], input: &[u8]) -> Done {
        let mut command = self.command(which);
        Child::start(command.args(arguments).stdin(Stdio::piped())).finish_with(input)
    }
}
