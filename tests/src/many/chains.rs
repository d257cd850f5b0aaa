//! Producers that tell each other what they sent, and a consumer that holds
//! the order of delivery against that.

use std::hint::spin_loop;
use std::path::PathBuf;
use std::thread;

use anyhow::{Result, bail, ensure};
use shmring::{ProducerOptions, Read, Region, SendError};
use tests::board::{Board, Mapped, Shared, pid_outside};
use tests::{DEADLINE, Random};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    region: PathBuf,
    board: PathBuf,
    /// How many producers there are.
    count: usize,
    /// Which of them.
    #[arg(default_value_t = 0)]
    index: usize,
}

/// How often a producer looks for news before it sends without.
const LOOKS: usize = 300;

/// How many messages of each producer are sent: their sends have returned.
fn seen(board: &Board, count: usize) -> Vec<u64> {
    board.tallies[..count].iter().map(|tally| tally.acked.get()).collect()
}

/// Sends until the board says stop. Each message says whose it is, its number,
/// and what all others had sent before its own send began.
pub(crate) fn send(options: &Options) -> Result<()> {
    let board = Mapped::open(&options.board);
    let tally = &board.tallies[options.index];
    tally.pid.set(pid_outside());
    let name = format!("p{}", options.index);
    let mut producer = Region::open(&options.region)?.producer_with(&ProducerOptions::new().name(name))?;
    let mut number = producer.sent().messages;
    let (acked, intent) = (tally.acked.get(), tally.intent.get());
    ensure!(number == acked || number == intent, "{number} were sent, not {acked} or {intent}");
    tally.acked.set(number);
    let mut random = Random::new("chains");
    let mut before = seen(&board, options.count);
    let mut bytes = Vec::new();
    while board.stop.get() == 0 {
        // Most messages follow upon another producer's, as soon as that is told.
        let mut now = seen(&board, options.count);
        if !random.word().is_multiple_of(8) {
            for turn in 1..LOOKS {
                if now != before {
                    break;
                }
                if turn % 100 == 0 {
                    thread::yield_now()
                } else {
                    spin_loop()
                }
                now = seen(&board, options.count);
            }
        }
        let most = if random.word().is_multiple_of(4) { random.among(2..6) } else { 1 };
        let mut batch = producer.batch();
        for number in number..number + most {
            bytes.clear();
            bytes.extend((options.index as u64).to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(now.iter().flat_map(|number| number.to_le_bytes()));
            match batch.try_push(&bytes) {
                Err(SendError::Full) => break,
                pushed => pushed?,
            }
        }
        number += batch.len();
        if batch.is_empty() {
            thread::yield_now();
        }
        tally.intent.set(number);
        batch.publish();
        tally.acked.set(number);
        before = now;
        before[options.index] = number;
    }
    Ok(())
}

/// Receives to the end of all, and counts on the board messages that were sent
/// upon another producer's. Exit status 2: a message came before one that was
/// sent before it was begun.
pub(crate) fn receive(options: &Options) -> Result<bool> {
    let board = Mapped::open(&options.board);
    let mut consumer = Region::open(&options.region)?.consumer()?;
    let mut delivered = vec![0; options.count];
    let mut told = vec![vec![0; options.count]; options.count];
    let mut chains = 0;
    loop {
        let mut read = consumer.try_read()?;
        if let Read::Empty = read {
            consumer.commit();
            read = consumer.read_timeout(DEADLINE)?;
        }
        match read {
            Read::Message(message) => {
                let words: Vec<_> =
                    message.payload.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
                let [from, number, ref sent @ ..] = words[..] else { bail!("{message:?}") };
                let from = from as usize;
                ensure!(number == delivered[from], "{number} of {from} instead of {}", delivered[from]);
                for other in 0..options.count {
                    if delivered[other] < sent[other] {
                        println!("{number} of {from} came before {} of {other}", delivered[other]);
                        return Ok(false);
                    }
                }
                let upon = |other: usize| other != from && sent[other] > told[from][other];
                chains += u64::from((0..options.count).any(upon));
                told[from].copy_from_slice(sent);
                delivered[from] += 1;
                for (tally, delivered) in board.tallies.iter().zip(&delivered) {
                    tally.delivered.set(*delivered);
                }
                board.word.set(chains);
            }
            Read::Died(_) => {}
            Read::End => break,
            other => bail!("{other:?}"),
        }
        if consumer.uncommitted() > 4096 {
            consumer.commit();
        }
    }
    consumer.commit();
    Ok(true)
}
