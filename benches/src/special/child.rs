//! This same program, started to play a side of a measure: it answers each line
//! with a line.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// Who says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that plays a side.
#[derive(Debug)]
pub(super) struct Side {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

/// This program, told to play that side.
pub(super) fn command(side: &str, arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("our own program")?);
    command.arg(format!("{}{side}", super::SIDE)).args(arguments);
    Ok(command)
}

impl Side {
    pub(super) fn start(side: &str, arguments: &[String]) -> Result<Side> {
        let mut command = command(side, arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is a pipe")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(io::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Side { child, input, lines })
    }

    /// Says a line.
    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.input.as_mut().context("its input is a pipe")?, "{line}")?;
        Ok(())
    }

    /// Waits for the next line.
    pub(super) fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended: {}", self.child.wait()?),
        }
    }

    /// Says a line and waits for the next.
    pub(super) fn ask(&mut self, line: &str) -> Result<String> {
        self.say(line)?;
        self.line()
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

/// A side whose runner is gone would stay for ever.
pub(super) fn live_with_the_runner() -> Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// In a side: answers each line that comes.
pub(super) fn answer(mut with: impl FnMut(&str) -> Result<String>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        tell(&with(&line?)?)?;
    }
    Ok(())
}

/// In a side: says a line.
pub(super) fn tell(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
