//! The first SIGINT or SIGTERM asks the program to end in order; the second
//! ends it by that signal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

/// Tells whether the program has been asked to end.
#[derive(Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// Readable once a signal came, for programs that wait in `poll`.
    signalled: UnixStream,
}

/// What ended a wait for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// There is something to read, or the end of it.
    Readable,
    /// The program should end.
    Stopped,
    /// The deadline passed.
    TimedOut,
}

impl Stop {
    /// Installs the handlers.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn install() -> io::Result<Stop> {
        let flag = Arc::new(AtomicBool::new(false));
        let (signalled, by_handler) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset.
            flag::register_conditional_default(signal, Arc::clone(&flag))?;
            flag::register(signal, Arc::clone(&flag))?;
            low_level::pipe::register(signal, by_handler.try_clone()?)?;
        }
        // A file that may not grow is an error where it is written, not an end.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Stop { flag, signalled })
    }

    /// True once a signal came.
    pub fn requested(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// The flag, for blocking calls of the library.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Waits until `source` can be read, a signal came, or the deadline passed.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn wait_readable(&self, source: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<Ready> {
        loop {
            let mut both = [
                PollFd::new(source, PollFlags::POLLIN),
                PollFd::new(self.signalled.as_fd(), PollFlags::POLLIN),
            ];
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            // Rounded up, so that the deadline has passed when it says so.
            let timeout = left.map_or(PollTimeout::NONE, |l| {
                PollTimeout::try_from(l.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut both, timeout) {
                Ok(0) if left.is_some_and(|l| l.is_zero()) => return Ok(Ready::TimedOut),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) if self.requested() => return Ok(Ready::Stopped),
                Ok(_) => return Ok(Ready::Readable),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
