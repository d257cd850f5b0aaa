//! A producer that sends in every way there is, and writes down each.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use shmring::{AttachError, Cause, Flags, Producer, ProducerOptions, Region, SendError};
use tests::Random;
use tests::board::{Mapped, Shared};

use super::notes::{Notes, stamp};

#[derive(Debug, clap::Args)]
pub(crate) struct Produce {
    folder: PathBuf,
    /// The number of this process among the producers.
    index: u32,
    seed: u64,
    name: Option<String>,
}

/// Messages of a batch that waits.
const MOST_ITEMS: u64 = 10;
/// The longest usual message, and the longest of all.
const LONG: u64 = 4000;
const LONGEST: usize = 40_000;

struct Sender {
    producer: Producer,
    notes: Notes,
    random: Random,
    index: u32,
    /// Messages that were composed.
    number: u32,
    bytes: Vec<u8>,
    /// The items of the operation that comes, as the transcript has them.
    items: String,
    marks: String,
}

pub(crate) fn produce(options: &Produce) -> Result<()> {
    let board = Mapped::open(&options.folder.join("board"));
    let mut notes = Notes::create(&options.folder.join(format!("p{}", options.index)))?;
    notes.write(format_args!("begin {} {}", stamp(), options.name.as_deref().unwrap_or("-")))?;
    let mut asked = ProducerOptions::new();
    if let Some(name) = &options.name {
        asked = asked.name(name);
    }
    let producer = match Region::open(options.folder.join("region"))?.producer_with(&asked) {
        Err(AttachError::NoLane { .. } | AttachError::Busy { .. }) => {
            notes.write(format_args!("refused"))?;
            return Ok(());
        }
        attached => attached?,
    };
    notes.write(format_args!("attached {} {} {}", stamp(), producer.lane(), producer.sequence()))?;
    let mut random = Random::of(options.seed);
    let operations = match random.among(0..8) {
        0 => random.among(0..2),
        1 | 2 => random.among(0..100),
        _ => random.among(0..50_000),
    };
    let (bytes, items, marks) = (Vec::new(), String::new(), String::new());
    let mut sender = Sender { producer, notes, random, index: options.index, number: 0, bytes, items, marks };
    for _ in 0..operations {
        if board.stop.get() != 0 {
            break;
        }
        sender.operate()?;
    }
    let Sender { producer, mut notes, mut random, .. } = sender;
    if random.among(0..8) == 0 {
        notes.write(format_args!("abandon {}", stamp()))?;
        producer.abandon();
    } else {
        notes.write(format_args!("closing {}", stamp()))?;
        producer.close();
        notes.write(format_args!("closed {}", stamp()))?;
    }
    Ok(())
}

impl Sender {
    /// The next message, in `bytes` and among the items.
    fn compose(&mut self, longest: u64) -> Flags {
        let len = match self.random.among(0..64) {
            0 => self.random.among(0..LONGEST.min(self.producer.max_message()) as u64),
            1..6 => self.random.among(0..LONG),
            _ => self.random.among(0..200),
        };
        let flags = if self.random.among(0..16) == 0 { Flags::UNTERMINATED } else { Flags::NONE };
        self.compose_of(len.min(longest) as usize, flags);
        flags
    }

    fn compose_of(&mut self, len: usize, flags: Flags) {
        self.bytes.clear();
        self.bytes.extend(self.index.to_le_bytes());
        self.bytes.extend(self.number.to_le_bytes());
        self.bytes.resize(len, self.number as u8);
        self.number += 1;
        let bits = flags.contains(Flags::UNTERMINATED) as u8;
        write!(self.items, " {len}:{:x}:{bits}", crc32c::crc32c(&self.bytes)).expect("memory");
    }

    /// Writes down what is about to be done.
    fn intend(&mut self, kind: char) -> Result<()> {
        let line = format_args!("i {} {kind}{}", stamp(), self.items);
        Ok(self.notes.write(line)?)
    }

    /// Notes one outcome. What is no outcome is an error.
    fn mark(&mut self, sent: Result<(), SendError>) -> Result<bool, SendError> {
        match sent {
            Ok(()) => self.marks.push('m'),
            Err(SendError::Full | SendError::TimedOut) => self.marks.push('-'),
            Err(e) => return Err(e),
        }
        Ok(sent.is_ok())
    }

    /// Does one thing, at times with the outcome written down at once, at times
    /// together with the next intent, which is faster.
    fn operate(&mut self) -> Result<()> {
        self.items.clear();
        self.marks.clear();
        match self.random.among(0..16) {
            0..4 => {
                let flags = self.compose(u64::MAX);
                self.intend('s')?;
                let sent = self.producer.send_deadline(&self.bytes, flags, None);
                self.mark(sent)?;
            }
            4 => {
                let flags = self.compose(u64::MAX);
                self.intend('s')?;
                let deadline = self.deadline();
                let sent = self.producer.send_deadline(&self.bytes, flags, Some(deadline));
                self.mark(sent)?;
            }
            5..7 => {
                let flags = self.compose(u64::MAX);
                self.intend('s')?;
                let sent = self.producer.try_send_with(&self.bytes, flags);
                self.mark(sent)?;
            }
            7..9 => self.reserve()?,
            9..12 => self.batch()?,
            12..14 => self.waiting_batch()?,
            14 => {
                let flags = self.compose(u64::MAX);
                self.intend('o')?;
                let deadline = (self.random.among(0..2) == 0).then(|| self.deadline());
                let sent = self.producer.send_or_drop(&self.bytes, flags, deadline)?;
                self.marks.push(if sent { 'm' } else { 'd' });
            }
            _ => {
                self.items.push_str(" d");
                self.intend('s')?;
                let cause = Cause::ALL[self.random.among(0..Cause::ALL.len() as u64) as usize];
                self.producer.drop_message(cause)?;
                self.marks.push('d');
            }
        }
        self.notes.add(format_args!("o {} {}", stamp(), self.marks));
        if self.random.among(0..4) == 0 {
            self.notes.flush()?;
        }
        Ok(())
    }

    fn deadline(&mut self) -> Instant {
        Instant::now() + Duration::from_micros(self.random.among(0..3000))
    }

    /// A message written in place, a shorter one than there is room for; at
    /// times not sent after all.
    fn reserve(&mut self) -> Result<()> {
        self.compose(LONG);
        // A grant takes no flags.
        let len = self.bytes.len();
        self.items.clear();
        self.compose_of(len, Flags::NONE);
        self.intend('s')?;
        let room = len + self.random.among(0..100) as usize;
        let mut grant = self.producer.reserve_deadline(room, None)?;
        let (first, last) = self.bytes.split_at(len / 2);
        grant.write_all(first)?;
        if self.random.among(0..16) == 0 {
            drop(grant);
            self.marks.push('-');
        } else {
            grant.write_all(last)?;
            grant.commit();
            self.marks.push('m');
        }
        Ok(())
    }

    /// A batch of what there is room for now.
    fn batch(&mut self) -> Result<()> {
        let most = self.random.among(1..50);
        // Composed first: a batch borrows the producer.
        let mut messages = Vec::new();
        for _ in 0..most {
            let items = self.items.len();
            let flags = self.compose(LONG);
            messages.push((items, flags, self.bytes.clone()));
        }
        let mut batch = self.producer.batch();
        for (items, flags, bytes) in &messages {
            match batch.try_push_with(bytes, *flags) {
                Err(SendError::Full) => {
                    self.items.truncate(*items);
                    break;
                }
                pushed => pushed?,
            }
        }
        let line = format_args!("i {} b{}", stamp(), self.items);
        self.notes.write(line)?;
        let is_dropped = self.random.among(0..16) == 0;
        let (len, mark) = (batch.len() as usize, if is_dropped { '-' } else { 'm' });
        if is_dropped {
            drop(batch);
        } else {
            batch.publish();
        }
        self.marks.extend(std::iter::repeat_n(mark, len));
        Ok(())
    }

    /// A batch that is published when the ring is full, and drops some.
    fn waiting_batch(&mut self) -> Result<()> {
        let most = self.random.among(1..MOST_ITEMS);
        let mut messages = Vec::new();
        for _ in 0..most {
            if self.random.among(0..8) == 0 {
                self.items.push_str(" d");
                messages.push(None);
            } else {
                let flags = self.compose(LONG);
                messages.push(Some((flags, self.bytes.clone())));
            }
        }
        self.intend('w')?;
        let deadline = (self.random.among(0..2) == 0).then(|| self.deadline());
        let mut batch = self.producer.batch();
        let mut marks = String::new();
        for message in &messages {
            let Some((flags, bytes)) = message else {
                batch.drop_message(Cause::Full)?;
                marks.push('d');
                continue;
            };
            match batch.push(bytes, *flags, deadline) {
                // Those that follow are not even tried.
                Err(SendError::TimedOut) => break,
                pushed => pushed?,
            }
            marks.push('m');
        }
        batch.publish();
        marks.extend(std::iter::repeat_n('-', messages.len() - marks.len()));
        self.marks = marks;
        Ok(())
    }
}
