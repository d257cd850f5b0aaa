//! Producers and a consumer that somebody stops and kills.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use shmring::{Consumer, Flags, Producer, ProducerOptions, Read, Region, SendError, StreamId};
use tests::board::{Board, MOST, Mapped, Shared, Tally, pid_outside};
use tests::{DEADLINE, Random};

use super::words::{LEAST, Words};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    region: PathBuf,
    board: PathBuf,
    /// Which of the producers.
    #[arg(default_value_t = 0)]
    index: usize,
}

/// A producer at work.
struct Sender<'a> {
    producer: Producer,
    tally: &'a Tally,
    random: Random,
    words: Words,
    bytes: Vec<u8>,
}

pub(crate) fn produce(options: &Options) -> Result<()> {
    let board = Mapped::open(&options.board);
    let tally = &board.tallies[options.index];
    tally.pid.set(pid_outside());
    let name = format!("p{}", options.index);
    let producer = Region::open(&options.region)?.producer_with(&ProducerOptions::new().name(name))?;
    // Nobody published but who had this lane before: all that it was told, and
    // what it was about to publish, whole or not at all.
    let (number, acked, intent) = (producer.sent().messages, tally.acked.get(), tally.intent.get());
    ensure!(number == acked || number == intent, "{number} were sent, not {acked} or {intent}");
    tally.acked.set(number);
    let words = Words { producer: options.index as u32, incarnation: tally.incarnation.get() as u32, number };
    let mut sender = Sender { producer, tally, random: Random::new("produce"), words, bytes: Vec::new() };
    while board.stop.get() == 0 {
        sender.send()?;
    }
    sender.producer.close();
    Ok(())
}

impl Sender<'_> {
    /// The next message's bytes: short ones, and long ones at times.
    fn compose(&mut self) {
        let most = if self.random.word().is_multiple_of(64) { 8000 } else { 200 };
        let len = self.random.among(LEAST as u64..most);
        self.words.write(&mut self.bytes, len as usize);
    }

    /// Sends some, in one of the ways that there are.
    fn send(&mut self) -> Result<()> {
        let first = self.words.number;
        match self.random.among(0..4) {
            0 => {
                let most = self.random.among(2..10);
                let mut batch = self.producer.batch();
                for _ in 0..most {
                    self.words.write(&mut self.bytes, LEAST);
                    match batch.try_push(&self.bytes) {
                        Err(SendError::Full) => break,
                        pushed => pushed?,
                    }
                    self.words.number += 1;
                }
                self.tally.intent.set(self.words.number);
                batch.publish();
            }
            1 => {
                self.compose();
                self.tally.intent.set(first + 1);
                let mut grant = self.producer.reserve_deadline(self.bytes.len(), None)?;
                grant.write_all(&self.bytes)?;
                grant.commit();
                self.words.number += 1;
            }
            _ => {
                self.compose();
                self.tally.intent.set(first + 1);
                self.producer.send_deadline(&self.bytes, Flags::NONE, None)?;
                self.words.number += 1;
            }
        }
        self.tally.acked.set(self.words.number);
        Ok(())
    }
}

/// A consumer at work. What it knows of the producers is committed together
/// with the messages, so that one that takes over checks on from there.
struct Receiver<'a> {
    consumer: Consumer,
    board: &'a Board,
    /// Commits so far.
    position: u64,
    known: [Known; MOST],
    uncommitted: u64,
    last: Instant,
}

#[derive(Clone, Copy, Default)]
struct Known {
    next: u64,
    incarnation: u64,
    deaths: u64,
}

pub(crate) fn consume(options: &Options) -> Result<()> {
    let board = Mapped::open(&options.board);
    board.consumer.set(pid_outside());
    let mut consumer = Region::open(&options.region)?.consumer()?;
    let position = consumer.bind_sink(StreamId([1; 4]))?.unwrap_or(0);
    let known = board.reached[position as usize % 2].each_ref().map(|reached| Known {
        next: reached.next.get(),
        incarnation: reached.incarnation.get(),
        deaths: reached.deaths.get(),
    });
    consumer.commit_at(position);
    let mut random = Random::new("consume");
    let mut receiver =
        Receiver { consumer, board: &board, position, known, uncommitted: 0, last: Instant::now() };
    receiver.tell();
    while receiver.receive()? {
        if receiver.uncommitted >= random.among(1..64) {
            receiver.commit();
        }
    }
    Ok(())
}

impl Receiver<'_> {
    /// Receives one message or piece of news; false at the end of all.
    fn receive(&mut self) -> Result<bool> {
        let mut read = if self.uncommitted == 0 { Read::Empty } else { self.consumer.try_read()? };
        if let Read::Empty = read {
            if self.uncommitted > 0 {
                // Whoever waits for room gets it.
                self.commit();
            }
            read = self.consumer.read_timeout(DEADLINE)?;
        }
        match read {
            Read::Message(message) => {
                let words = Words::read(message.payload)?;
                let known = &mut self.known[words.producer as usize];
                let name = format!("p{}", words.producer);
                ensure!(message.name == Some(name.as_str()), "{words:?} from {:?}", message.name);
                ensure!(words.number == known.next, "{words:?} instead of {}", known.next);
                ensure!(message.sequence == words.number, "{words:?} is {}", message.sequence);
                let incarnation = u64::from(words.incarnation);
                ensure!(incarnation >= known.incarnation, "{words:?} after {}", known.incarnation);
                known.next += 1;
                known.incarnation = incarnation;
                self.uncommitted += 1;
                let now = Instant::now();
                let stall = (now - self.last).as_nanos() as u64;
                self.board.stall.set(self.board.stall.get().max(stall));
                self.last = now;
            }
            Read::Died(death) => {
                let name = death.name.as_deref().context("a death without a name")?;
                let index: usize = name.trim_start_matches('p').parse()?;
                self.known[index].deaths += 1;
                self.commit();
            }
            Read::End => {
                ensure!(self.board.stop.get() != 0, "an end before the end");
                self.commit();
                return Ok(false);
            }
            other => bail!("{other:?}"),
        }
        Ok(true)
    }

    fn commit(&mut self) {
        let position = self.position + 1;
        for (reached, known) in self.board.reached[position as usize % 2].iter().zip(&self.known) {
            reached.next.set(known.next);
            reached.incarnation.set(known.incarnation);
            reached.deaths.set(known.deaths);
        }
        self.consumer.commit_at(position);
        self.position = position;
        self.uncommitted = 0;
        self.tell();
    }

    fn tell(&self) {
        for (tally, known) in self.board.tallies.iter().zip(&self.known) {
            tally.deaths.set(known.deaths);
            tally.delivered.set(known.next);
            tally.delivered_of.set(known.incarnation);
        }
    }
}
