//! One of many processes that share a region: see the tests `many`, `order`,
//! `cycles` and `ends`.
//!
//! Exit status: 0 all was as it should be; 1 it was not, and stderr says what.

use std::process::ExitCode;

use clap::Parser;

#[path = "../many/chains.rs"]
mod chains;
#[path = "../many/chaos.rs"]
mod chaos;
#[path = "../many/cycles.rs"]
mod cycles;
#[path = "../many/ends.rs"]
mod ends;
#[path = "../many/words.rs"]
mod words;

/// One of many processes that share a region.
#[derive(Debug, Parser)]
enum Many {
    /// Sends until the board says stop; its lane has a name.
    Produce(chaos::Options),
    /// Receives and checks until all streams have ended.
    Consume(chaos::Options),
    /// Sends upon what others sent.
    SendChains(chains::Options),
    /// Receives that; exit status 2 if the order is another one.
    ReadChains(chains::Options),
    /// Attaches, sends and closes over and over, and leaves nothing.
    Cycles(cycles::Options),
    /// Sends some and ends.
    Once(cycles::Options),
    /// Waits for messages until it is killed.
    SleepAsConsumer(ends::Options),
    /// Sends until there is no room, and waits until it is killed.
    SleepAsProducer(ends::Options),
    /// Reads some messages, commits some of them, and stays until it is killed.
    Hold(ends::Options),
    /// Reads and commits one by one to the end of all.
    Drain(ends::Options),
}

fn main() -> ExitCode {
    let outcome = match Many::parse() {
        Many::Produce(options) => chaos::produce(&options),
        Many::Consume(options) => chaos::consume(&options),
        Many::SendChains(options) => chains::send(&options),
        Many::Cycles(options) => cycles::run(&options),
        Many::Once(options) => cycles::once(&options),
        Many::SleepAsConsumer(options) => ends::sleep_as_consumer(&options),
        Many::SleepAsProducer(options) => ends::sleep_as_producer(&options),
        Many::Hold(options) => ends::hold(&options),
        Many::Drain(options) => ends::drain(&options),
        Many::ReadChains(options) => match chains::receive(&options) {
            Ok(false) => return ExitCode::from(2),
            received => received.map(drop),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("many: {error:#}");
            ExitCode::FAILURE
        }
    }
}
