//! One round: the processes of one contestant, started together, and what they
//! say in the end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_kit::{Measure, Outcome, Plan, Role, Settings, Step};

use crate::contestant::Contestant;

/// A side that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// While one side is waited for, the others are looked at so often.
const LOOK: Duration = Duration::from_millis(100);

/// Where the sides run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Each on a core of its own, as far as there are enough.
    Pinned,
    /// Where the system puts them.
    Free,
    /// All on one.
    One,
}

/// A process that plays a side.
struct Side {
    child: Child,
    /// Closed, it says that all are done.
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// What it says for people, when it has ended.
    errors: mpsc::Receiver<String>,
}

impl Side {
    fn start(contestant: &Contestant, plan: &Plan) -> Result<Side> {
        let mut command = contestant.command(plan)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is a pipe")?;
        let errors = child.stderr.take().context("its errors are a pipe")?;
        Ok(Side { child, input, lines: lines_of(output), errors: rest_of(errors) })
    }

    fn say(&mut self, step: Step) -> Result<()> {
        let input = self.input.as_mut().context("its input is a pipe")?;
        writeln!(input, "{}", step.word())?;
        Ok(())
    }

    /// Why it ended, if it did and not in order.
    fn failure(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()?.filter(|status| !status.success()) else { return Ok(()) };
        let said = self.errors.recv_timeout(LOOK).unwrap_or_default();
        let said = said.trim().trim_start_matches("Error: ").trim_start_matches("benches: ");
        bail!("it ended with {status}: {said}")
    }
}

/// The next line of side `at`; the failure of any of them instead.
fn line_of(sides: &mut [Side], at: usize) -> Result<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match sides[at].lines.recv_timeout(LOOK) {
            Ok(line) => return Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                sides.iter_mut().try_for_each(Side::failure)?;
                anyhow::ensure!(Instant::now() < until, "it hangs");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                sides[at].child.wait()?;
                sides[at].failure()?;
                bail!("it ended before its turn");
            }
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.input = None;
        // It is ours, and not waited for yet.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(output: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All that a side writes for people.
fn rest_of(mut errors: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        // Nobody asks for it while all is well.
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver
}

/// What a contestant is and how it is set up for `plan`, in its own words.
pub(crate) fn describe(contestant: &Contestant, plan: &Plan) -> Result<String> {
    let plan = Plan { name: contestant.name.to_owned(), role: Role::Describe, ..plan.clone() };
    line_of(&mut [Side::start(contestant, &plan)?], 0)
}

/// Messages one way, as fast as they go.
pub(crate) fn one_way(size: usize, messages: u64) -> Plan {
    let warmup = messages / 8;
    plan(size, Measure::OneWay { messages, warmup, batch: 1, work: 0 })
}

/// One message there and back at a time.
pub(crate) fn round_trip(size: usize, messages: u64) -> Plan {
    plan(size, Measure::RoundTrip { messages, warmup: messages / 8 })
}

fn plan(size: usize, measure: Measure) -> Plan {
    Plan {
        name: String::new(),
        role: Role::Describe,
        measure,
        size,
        core: None,
        place: Default::default(),
        settings: Settings::default(),
    }
}

/// Plays one round and gives what the side that takes the time measured.
pub(crate) fn play(contestant: &Contestant, plan: &Plan, cores: Cores) -> Result<Outcome> {
    let place = tempfile::Builder::new().prefix("benches").tempdir_in(folder())?;
    let _names = Names(place.path());
    if contestant.is_pair && cores == Cores::One {
        bail!("its two threads take a core each");
    }
    let is_round_trip = matches!(plan.measure, Measure::RoundTrip { .. });
    let roles = match (contestant.is_pair, is_round_trip) {
        (true, _) => vec![Role::Both],
        (false, true) => vec![Role::Client, Role::Server],
        (false, false) => {
            let senders = (0..plan.settings.senders).map(Role::Sender);
            [Role::Receiver].into_iter().chain(senders).collect()
        }
    };
    let count = thread::available_parallelism()?.get();
    let mut sides = Vec::new();
    for (role, number) in roles.into_iter().zip(0..) {
        let core = match cores {
            Cores::Pinned => Some((number + 1) % count),
            Cores::Free => None,
            Cores::One => Some(0),
        };
        let place = place.path().to_owned();
        let plan = Plan { name: contestant.name.to_owned(), role, core, place, ..plan.clone() };
        sides.push(Side::start(contestant, &plan)?);
    }
    for step in Step::ALL {
        for side in &mut sides {
            side.say(step)?;
        }
        if step != Step::Go {
            for at in 0..sides.len() {
                let line = line_of(&mut sides, at)?;
                anyhow::ensure!(line == "ok", "expected ok after {step:?}, got {line:?}");
            }
        }
    }
    Ok(serde_json::from_str(&line_of(&mut sides, 0)?)?)
}

/// Names in `/dev/shm` of those who cannot have theirs elsewhere. They begin with
/// the name of the round's folder, and go with it, however a side ended.
struct Names<'a>(&'a Path);

impl Drop for Names<'_> {
    fn drop(&mut self) {
        let Some(ours) = self.0.file_name() else { return };
        for name in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if name.path() != self.0 && name.file_name().as_bytes().starts_with(ours.as_bytes()) {
                // It may be gone by now.
                let _ = fs::remove_file(name.path());
            }
        }
    }
}

/// For what the rounds leave: in memory if there is a place for it.
pub(crate) fn folder() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
