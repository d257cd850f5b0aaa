//! One result, one exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use shmring::{AttachError, CreateError, NameError, OpenError};
use tracing_subscriber::EnvFilter;

use crate::options::Verbosity;

/// Why a program does not end with 0.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    reason: anyhow::Error,
}

impl Exit {
    /// 2: the command line asks for something impossible.
    pub fn usage(reason: impl Display) -> Exit {
        Exit { code: 2, reason: anyhow::anyhow!("{reason}") }
    }

    /// 3: the other side died.
    pub fn died(reason: impl Display) -> Exit {
        Exit { code: 3, reason: anyhow::anyhow!("{reason}") }
    }

    /// 4: no progress for `--timeout`.
    pub fn timeout(reason: impl Display) -> Exit {
        Exit { code: 4, reason: anyhow::anyhow!("{reason}") }
    }
}

/// 1: it failed. What the library says of an impossible option is 2.
impl<E: Into<anyhow::Error>> From<E> for Exit {
    fn from(error: E) -> Exit {
        let reason = error.into();
        let impossible = |e: &CreateError| {
            use CreateError::{Geometry, Mode, SchemaName};
            matches!(e, Geometry(_) | SchemaName { .. } | Mode { .. })
        };
        let usage = match reason.downcast_ref::<OpenError>() {
            Some(OpenError::Create(e)) => impossible(e),
            _ => reason.downcast_ref::<CreateError>().is_some_and(impossible),
        };
        let malformed = matches!(reason.downcast_ref::<NameError>(), Some(NameError::Malformed { .. }));
        let misnamed = matches!(reason.downcast_ref::<AttachError>(), Some(AttachError::Name { .. }));
        Exit { code: if usage || malformed || misnamed { 2 } else { 1 }, reason }
    }
}

/// Parses the command line and runs the program: data goes to stdout, words
/// for people to stderr, and the result to the exit code.
pub fn run<A: Parser>(
    name: &str,
    verbosity: fn(&A) -> &Verbosity,
    program: fn(A) -> Result<(), Exit>,
) -> ExitCode {
    let arguments = A::parse();
    log(verbosity(&arguments));
    match program(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            say(&format!("{name}: {:#}", exit.reason));
            ExitCode::from(exit.code)
        }
    }
}

/// A line for people, on stderr. A closed stderr is no reason to panic.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Notes for people, on stderr: warnings, or what `-v`, `-q` or SHMRING_LOG ask for.
fn log(verbosity: &Verbosity) {
    let usual = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("SHMRING_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        // A closed stderr is no reason to end.
        .log_internal_errors(false)
        .try_init();
}
