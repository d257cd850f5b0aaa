//! `shmring demo`: what a ring does on this machine, in a minute.

/// `println!` that does not panic.
macro_rules! say {
    ($($words:tt)*) => { writeln!(std::io::stdout(), $($words)*) };
}
mod file;
mod round_trip;

use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use shmring::{Region, path_of};
use shmring_grammar::{Exit, Stop, Verbosity, is_broken_pipe};

pub(crate) use round_trip::{EchoArguments, echo};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

/// Bytes of the real file.
const FILE_BYTES: u64 = 100_000_000;
/// Bytes of it that are one message.
const BLOCK_BYTES: u64 = 1024;
const MESSAGES: u64 = 10_000_000;
const MESSAGE_BYTES: u64 = 64;

pub(crate) fn run(_: &Arguments) -> Result<(), Exit> {
    match show() {
        // Whoever reads has seen enough.
        Err(e) if e.downcast_ref().is_some_and(is_broken_pipe) => Ok(()),
        shown => Ok(shown?),
    }
}

fn show() -> anyhow::Result<()> {
    // Signals end it between two steps, so that nothing is left behind.
    let stop = Stop::install()?;
    let going_on =
        || if stop.requested() { Err(anyhow!("interrupted; nothing is left behind")) } else { Ok(()) };
    let ring = Ring::named(&format!("demo-{}", std::process::id()))?;
    say!("A ring in shared memory: {}\n", ring.path.display())?;

    say!("1. A real file, from one process to another")?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    real_file(&ring, folder.path())?;
    going_on()?;

    say!("2. Ten million messages of {MESSAGE_BYTES} bytes, each with its number and a check sum")?;
    generated(&ring)?;
    going_on()?;

    say!("3. Round trips: a message to the other process and its answer back")?;
    round_trip::measure()?;

    say!("Everything that was sent arrived, once and in order. Now by hand, in two shells:")?;
    say!("  cargo build --release")?;
    say!("  seq 1000 | target/release/producer numbers")?;
    say!("  target/release/consumer numbers")?;
    Ok(())
}

fn real_file(ring: &Ring, folder: &Path) -> anyhow::Result<()> {
    let (input, output) = (folder.join("input"), folder.join("output"));
    let files = file::collect(&input, FILE_BYTES)?;
    let framing = format!("raw:{BLOCK_BYTES}");
    let started = Instant::now();
    let arguments = [OsStr::new("--framing"), OsStr::new(&framing)];
    let consumer =
        ring.program("consumer", &[&arguments[..], &["--output".as_ref(), output.as_ref()]].concat())?;
    let producer =
        ring.program("producer", &[&arguments[..], &["--input".as_ref(), input.as_ref()]].concat())?;
    finish("producer", producer)?;
    finish("consumer", consumer)?;
    let took = started.elapsed();
    ensure!(file::same(&input, &output)?, "the file that arrived is not the one that was sent");
    say!("   made of {files} files found on this machine; arrived byte for byte the same")?;
    rate(FILE_BYTES.div_ceil(BLOCK_BYTES), FILE_BYTES, took)
}

fn generated(ring: &Ring) -> anyhow::Result<()> {
    let (count, size) = (MESSAGES.to_string(), MESSAGE_BYTES.to_string());
    let started = Instant::now();
    let consumer = ring.program("consumer", &["--verify".as_ref()])?;
    let arguments: [&OsStr; 4] = ["--generate".as_ref(), count.as_ref(), "--size".as_ref(), size.as_ref()];
    let producer = ring.program("producer", &arguments)?;
    finish("producer", producer)?;
    finish("consumer", consumer)?;
    let took = started.elapsed();
    say!("   all checked: none missing, none doubled, none changed")?;
    rate(MESSAGES, MESSAGES * MESSAGE_BYTES, took)
}

/// Prints what start and end of both processes are part of.
fn rate(messages: u64, bytes: u64, took: Duration) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    say!(
        "   {messages} messages, {:.1} MB in {:.2} s: {:.2} million messages/s, {:.2} GB/s\n",
        bytes as f64 / 1e6,
        seconds,
        messages as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e9,
    )?;
    Ok(())
}

/// A ring that goes away with the demo.
struct Ring {
    path: PathBuf,
}

impl Ring {
    fn named(name: &str) -> anyhow::Result<Ring> {
        let path = path_of(name)?;
        Region::create(&path)?;
        Ok(Ring { path })
    }

    /// Starts one of the other programs, which this one contains, on the ring.
    fn program(&self, name: &str, arguments: &[&OsStr]) -> anyhow::Result<Running> {
        start(&[&[OsStr::new(name), self.path.as_os_str()], arguments].concat())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let _ = Region::remove(&self.path);
    }
}

/// A child that does not outlive its parent's interest in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this program anew with other arguments.
fn start(arguments: &[&OsStr]) -> anyhow::Result<Running> {
    let program = env::current_exe().context("cannot find this program's own file")?;
    let child = Command::new(&program).args(arguments).stdin(Stdio::null()).spawn();
    child.map(Running).with_context(|| format!("cannot start {}", program.display()))
}

fn finish(name: &str, mut child: Running) -> anyhow::Result<()> {
    let status: ExitStatus = child.0.wait()?;
    if !status.success() {
        bail!("the {name} failed: {status}");
    }
    Ok(())
}
