//! The other end of the program `victim`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use nix::unistd::Pid;

use crate::{Child, DEADLINE, Done};

/// A process with a ring of its own that does what it is told.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl Victim {
    /// Starts one. `command` is the program with its arguments, all streams piped.
    pub fn start(command: &mut Command) -> Victim {
        let mut child = Child::start(command.stdin(std::process::Stdio::piped()));
        let (stdin, stdout) = (child.stdin(), BufReader::new(child.stdout()));
        let (sender, answers) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Victim { child, stdin, answers }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Has it do something; [`answer`](Self::answer) gives the result.
    pub fn tell(&mut self, line: &str) {
        // It may have ended: then there is no answer.
        let _ = writeln!(self.stdin, "{line}");
    }

    /// The next result; `None` if it ended.
    pub fn answer(&mut self) -> Option<String> {
        match self.answers.recv_timeout(DEADLINE) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no answer within {DEADLINE:?}"),
        }
    }

    /// Has it do something, and gives the result.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        match self.answer() {
            Some(answer) => answer,
            None => panic!("it ended at {line:?}"),
        }
    }

    /// Has it do several things that all must be `Ok(())`.
    #[track_caller]
    pub fn must(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.ask(line), "Ok(())", "{line}");
        }
    }

    /// Waits for its end, its stdin closed.
    pub fn finish(self) -> Done {
        drop(self.stdin);
        self.child.finish()
    }
}

/// The program `victim` on the ring at `path`, which is found where cargo built
/// it for the calling test: `env!("CARGO_BIN_EXE_victim")`.
pub fn victim(lab: &crate::Lab, program: &str, path: &Path, flags: &[&str]) -> Victim {
    Victim::start(lab.prepared(program.as_ref()).arg(path).args(flags))
}
