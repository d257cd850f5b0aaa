//! Those who are killed while they sleep or hold something, and those who
//! come after them.

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, ensure};
use shmring::{Read, Region};
use tests::DEADLINE;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    region: PathBuf,
    /// Messages to read and commit.
    #[arg(default_value_t = 0)]
    commit: usize,
    /// Messages to read behind them.
    #[arg(default_value_t = 0)]
    read: usize,
}

/// Waits for a message, over and over, until it is killed.
pub(crate) fn sleep_as_consumer(options: &Options) -> Result<()> {
    let mut consumer = Region::open(&options.region)?.consumer()?;
    loop {
        consumer.read()?;
    }
}

/// Sends until it is killed: there will be no room.
pub(crate) fn sleep_as_producer(options: &Options) -> Result<()> {
    let mut producer = Region::open(&options.region)?.producer()?;
    loop {
        producer.send(&[7; 1000])?;
    }
}

/// Reads some, commits some of them, says so, and stays until it is killed.
pub(crate) fn hold(options: &Options) -> Result<()> {
    let mut consumer = Region::open(&options.region)?.consumer()?;
    for number in 0..options.commit + options.read {
        ensure!(matches!(consumer.read_timeout(DEADLINE)?, Read::Message(_)));
        if number + 1 == options.commit {
            consumer.commit();
        }
    }
    eprintln!("holds");
    loop {
        thread::park();
    }
}

/// Reads and commits one by one to the end of all.
pub(crate) fn drain(options: &Options) -> Result<()> {
    let mut consumer = Region::open(&options.region)?.consumer()?;
    while consumer.read_timeout(DEADLINE)? != Read::End {
        consumer.commit();
    }
    consumer.commit();
    Ok(())
}
