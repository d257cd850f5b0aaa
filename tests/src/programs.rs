//! The programs under test, built by the same cargo just before they are used.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One of the project's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `producer`
    Producer,
    /// `consumer`
    Consumer,
    /// `shmring`
    Shmring,
}

/// The program's file: as fresh as the sources.
pub fn program(which: Program) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(match which {
        Program::Producer => "producer",
        Program::Consumer => "consumer",
        Program::Shmring => "shmring",
    })
}

/// Builds all programs in the profile of this test, beside it.
fn build() -> PathBuf {
    // target/PROFILE/deps/this-test
    let this = env::current_exe().expect("this test's own file");
    let folder = this.parent().and_then(Path::parent).expect("a folder for the profile").to_owned();
    let target = folder.parent().expect("a target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--bins", "--target-dir"]).arg(target);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match folder.file_name().and_then(|n| n.to_str()) {
        Some("debug") => {}
        Some(profile) => drop(cargo.args(["--profile", profile])),
        None => unreachable!("a profile has a name"),
    }
    assert!(cargo.status().expect("cargo starts").success(), "the programs do not build");
    folder
}
