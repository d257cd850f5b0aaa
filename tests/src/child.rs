//! A process that does not outlive its test, and is never waited for without end.
#![allow(unsafe_code)] // pre_exec

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Whatever takes longer hangs.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// A running program.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    /// What the program was started as, for messages.
    what: String,
    /// Reads stderr, if it was waited for.
    notes: Option<JoinHandle<Vec<u8>>>,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr, for people.
    pub stderr: String,
}

impl Done {
    /// The exit code. Panics if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by signal {:?}: {}", self.status.signal(), self.stderr))
    }

    /// Panics unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.status.code(), Some(code), "{}; stderr: {}", self.status, self.stderr);
        self
    }
}

impl Child {
    /// Starts a program that dies with the thread that starts it.
    pub fn start(command: &mut Command) -> Child {
        let what = format!("{command:?}");
        // SAFETY: one async-signal-safe system call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        let process = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        Child { process, what, notes: None }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Its stdin, to be written and dropped.
    pub fn stdin(&mut self) -> ChildStdin {
        self.process.stdin.take().expect("stdin is piped and not taken")
    }

    /// Its stdout.
    pub fn stdout(&mut self) -> ChildStdout {
        self.process.stdout.take().expect("stdout is piped and not taken")
    }

    /// Its stderr.
    pub fn stderr(&mut self) -> ChildStderr {
        self.process.stderr.take().expect("stderr is piped and not taken")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal::kill(self.pid(), signal).expect("it runs");
    }

    /// Waits until every signal sent to it has been taken.
    pub fn wait_for_delivery(&self) {
        let path = format!("/proc/{}/status", self.pid());
        within_deadline("the delivery of a signal", move || {
            let pending = |line: &str| line.starts_with("ShdPnd:") && !line.ends_with("0000000000000000");
            while fs::read_to_string(&path).expect("it runs").lines().any(pending) {
                thread::yield_now();
            }
        });
    }

    /// Waits until a line of its stderr holds `word`: started with `-v`, the
    /// programs say "attached".
    pub fn wait_for(mut self, word: &'static str) -> Child {
        let mut lines = BufReader::new(self.stderr());
        let (sender, receiver) = mpsc::channel();
        self.notes = Some(thread::spawn(move || {
            let mut all = Vec::new();
            while lines.read_until(b'\n', &mut all).is_ok_and(|count| count > 0) {
                if String::from_utf8_lossy(&all).contains(word) {
                    let _ = sender.send(());
                }
            }
            all
        }));
        if receiver.recv_timeout(DEADLINE).is_err() {
            panic!("{} did not say {word:?}", self.what);
        }
        self
    }

    /// Waits for its end.
    pub fn finish(self) -> Done {
        self.finish_with(b"")
    }

    /// Gives it `input` as stdin, if that is piped, and waits for its end.
    pub fn finish_with(mut self, input: &[u8]) -> Done {
        let stdin = self.process.stdin.take();
        let input = input.to_vec();
        // It may end without reading all, or at all.
        let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let (stdout, stderr) = (self.process.stdout.take(), self.process.stderr.take());
        let stdout = thread::spawn(move || read_all(stdout));
        let stderr = self.notes.take().unwrap_or_else(|| thread::spawn(move || read_all(stderr)));
        let status = self.end();
        let _ = writer.join();
        Done {
            status,
            stdout: stdout.join().expect("a reader"),
            stderr: String::from_utf8_lossy(&stderr.join().expect("a reader")).into_owned(),
        }
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was ours");
    }

    /// False once it has ended, by itself or by a signal.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it was ours").is_none()
    }

    fn end(mut self) -> ExitStatus {
        let what = self.what.clone();
        // By id: the waiting thread reaps, and this handle must not kill after.
        let pid = self.pid();
        let (sender, receiver) = mpsc::channel();
        let mut process = std::mem::replace(&mut self.process, dummy());
        thread::spawn(move || sender.send(process.wait()));
        match receiver.recv_timeout(DEADLINE) {
            Ok(status) => status.expect("it was ours"),
            Err(_) => {
                let _ = signal::kill(pid, Signal::SIGKILL);
                panic!("{what} did not end within {DEADLINE:?}");
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn dummy() -> std::process::Child {
    Command::new("true").spawn().expect("true starts")
}

fn read_all(stream: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut all);
    }
    all
}

/// Runs something that may hang; panics if it does.
pub(crate) fn within_deadline<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{what}: failed, or not within {DEADLINE:?}"))
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::yield_now();
    }
}
