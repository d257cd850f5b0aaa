//! The other process of a test: gets a region as a descriptor, or forks.
//!
//! Exit status: 0 all was as it should be; 1 it was not, and stderr says what;
//! 77 something is not permitted here.

use std::process::ExitCode;

use clap::Parser;

#[path = "../peer/mod.rs"]
mod peer;

use peer::{forked, handed};

/// The other process of a test.
#[derive(Debug, Parser)]
enum Peer {
    /// Attaches to a region that is handed over.
    Attach(handed::Options),
    /// Forks, and looks at what parent and child can do.
    Fork(forked::Options),
}

fn main() -> ExitCode {
    let outcome = match Peer::parse() {
        Peer::Attach(options) => handed::run(&options),
        Peer::Fork(options) => forked::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.root_cause().is::<peer::NotPermitted>() => {
            println!("{}", error.root_cause());
            ExitCode::from(77)
        }
        Err(error) => {
            eprintln!("peer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
