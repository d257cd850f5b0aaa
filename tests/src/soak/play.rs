//! Carries out a plan: starts everybody, stops, kills and starts them again,
//! and lets all of them come to an end.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use shmring::Order;
use tests::board::{Mapped, Shared};
use tests::{Child, DEADLINE, Lab};

use super::notes::{Notes, stamp};
use super::plan::{Part, Plan};

/// The exit status of a consumer that left before the end.
pub(crate) const LEFT: u8 = 3;

/// What was done to them.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) starts: u64,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
}

/// Somebody who runs.
struct Player {
    child: Child,
    /// `p` or `c` and a number.
    who: String,
    is_stopped: bool,
}

struct Stage<'a> {
    folder: &'a Path,
    lab: Lab,
    plan: Plan,
    notes: Notes,
    players: Vec<Option<Player>>,
    /// Producers and consumers that were started.
    producers: u32,
    consumers: u32,
    /// The last consumer saw everybody gone and nothing left.
    is_finished: bool,
    deeds: Deeds,
}

/// Plays a round of at most `longest`; the transcripts are in `folder` then.
pub(crate) fn play(folder: &Path, seed: u64, round: u64, longest: Duration) -> Result<Deeds> {
    let plan = Plan::of(seed, round);
    let board = Mapped::create(&folder.join("board"));
    plan.region().create(folder.join("region"))?;
    let mut notes = Notes::create(&folder.join("director"))?;
    let order = if plan.order == Order::Total { "total" } else { "fifo" };
    notes.write(format_args!("world {order} {} {}", plan.lanes, plan.start_sequence))?;
    let players = std::iter::repeat_with(|| None).take(1 + plan.names.len()).collect();
    let (producers, consumers, is_finished, deeds) = (0, 0, false, Deeds::default());
    let lab = Lab::new();
    let mut stage = Stage { folder, lab, plan, notes, players, producers, consumers, is_finished, deeds };
    (0..stage.players.len()).try_for_each(|part| stage.start(part))?;
    let end = Instant::now() + stage.plan.length.min(longest);
    while Instant::now() < end {
        stage.event()?;
    }
    board.stop.set(1);
    (0..stage.players.len()).try_for_each(|part| stage.go_on(part))?;
    // Whoever waits for room needs somebody who reads.
    stage.until("the end of all producers", |stage| stage.players[1..].iter().all(Option::is_none))?;
    board.word.set(1);
    stage.until("the end of what they sent", |stage| stage.is_finished)?;
    stage.notes.write(format_args!("over"))?;
    Ok(stage.deeds)
}

impl Stage<'_> {
    /// Starts somebody who is not there.
    fn start(&mut self, part: Part) -> Result<()> {
        if self.players[part].is_some() {
            return Ok(());
        }
        let mut command = self.lab.prepared(&std::env::current_exe()?);
        let (role, letter, count) = match part {
            0 => ("consume", 'c', &mut self.consumers),
            _ => ("produce", 'p', &mut self.producers),
        };
        command
            .arg(role)
            .arg(self.folder)
            .args([count.to_string(), self.plan.seed(part, *count).to_string()]);
        if let Some(Some(name)) = part.checked_sub(1).map(|at| &self.plan.names[at]) {
            command.arg(name);
        }
        let who = format!("{letter}{count}");
        *count += 1;
        self.deeds.starts += 1;
        let started = stamp();
        let child = Child::start(&mut command);
        self.notes.write(format_args!("start {started} {who} {}", child.pid()))?;
        self.players[part] = Some(Player { child, who, is_stopped: false });
        Ok(())
    }

    fn event(&mut self) -> Result<()> {
        let event = self.plan.event();
        // The plan's own time between two events: nothing is waited for.
        thread::sleep(event.pause);
        self.reap()?;
        for part in 0..self.players.len() {
            if event.go_on >> part & 1 == 1 {
                self.go_on(part)?;
            }
        }
        if let Some(part) = event.stop {
            self.stop(part)?;
        }
        if let Some(part) = event.kill {
            self.kill(part)?;
        }
        for part in 0..self.players.len() {
            if event.start >> part & 1 == 1 {
                self.start(part)?;
            }
        }
        Ok(())
    }

    /// Waits until it is so, while there is a consumer.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.reap()?;
            if is_so(self) {
                return Ok(());
            }
            let running: Vec<_> = self.players.iter().flatten().map(|player| &player.who).collect();
            ensure!(begun.elapsed() < DEADLINE, "a hang: waited for {what}; running: {running:?}");
            self.start(0)?;
            thread::yield_now();
        }
    }

    /// Sees who ended by itself.
    fn reap(&mut self) -> Result<()> {
        for part in 0..self.players.len() {
            if self.players[part].as_mut().is_some_and(|player| !player.child.is_running()) {
                self.end(part)?;
            }
        }
        Ok(())
    }

    fn stop(&mut self, part: Part) -> Result<()> {
        if let Some(player) = &mut self.players[part] {
            self.notes.write(format_args!("stop {} {}", stamp(), player.who))?;
            player.child.signal(Signal::SIGSTOP);
            player.is_stopped = true;
            self.deeds.stops += 1;
        }
        Ok(())
    }

    fn go_on(&mut self, part: Part) -> Result<()> {
        if let Some(player) = self.players[part].as_mut().filter(|player| player.is_stopped) {
            self.notes.write(format_args!("continue {} {}", stamp(), player.who))?;
            player.child.signal(Signal::SIGCONT);
            player.is_stopped = false;
        }
        Ok(())
    }

    fn kill(&mut self, part: Part) -> Result<()> {
        if let Some(player) = &self.players[part] {
            self.notes.write(format_args!("kill {} {}", stamp(), player.who))?;
            player.child.signal(Signal::SIGKILL);
            self.deeds.kills += 1;
            self.end(part)?;
        }
        Ok(())
    }

    /// Waits for the end of somebody, and notes how it was.
    fn end(&mut self, part: Part) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let Some(Player { child, who, .. }) = self.players[part].take() else { return Ok(()) };
        let done = child.finish();
        let how = match (done.status.code(), done.status.signal()) {
            (Some(0), _) => "left",
            (Some(code), _) if part == 0 && code == i32::from(LEFT) => "left",
            (_, Some(signal)) if signal == Signal::SIGKILL as i32 => "killed",
            _ => bail!("{who} {}: {}", done.status, done.stderr),
        };
        self.is_finished |= part == 0 && done.status.success();
        ensure!(!self.is_finished || self.players.iter().all(Option::is_none), "{who} was not alone");
        Ok(self.notes.write(format_args!("gone {} {who} {how}", stamp()))?)
    }
}
