//! The one who is paused: what it does, and what its messages are.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use shmring::internals::layout::Word;
use shmring::internals::ring::Memory;
use shmring::{Cause, Consumer, Producer, ProducerOptions, Read, Region, SendError};

use super::expected::READS;
use super::product::{Pair, die_sending, reserve_and_commit, send_batch};
use super::scenario::{Operation, Plan, Scenario, payload};
use super::trace::Progress;
use super::view::View;
use super::watch::Verdict;

/// Notes of the paused process. How far its sends have begun, and returned:
pub(crate) const BEGUN: usize = 0;
pub(crate) const SENT: usize = 1;
/// The sequence that comes next in its lane, in the end.
pub(crate) const NEXT: usize = 2;

/// Messages that the others, and the resumed one, send.
pub(crate) const MORE: usize = 2;

pub(crate) fn set(progress: &Progress, notes: [u64; 3]) {
    (0..).zip(notes).for_each(|(number, value)| progress.note(number).store(value, Ordering::Relaxed));
}

pub(crate) fn get(progress: &Progress) -> [u64; 3] {
    std::array::from_fn(|number| progress.note(number).load(Ordering::Relaxed))
}

/// What the messages are.
pub(crate) struct Book {
    believable: u64,
    /// The lane that has the planned ones.
    home: usize,
    /// The sequence of the first message of each lane that is not committed.
    pub(crate) firsts: Vec<u64>,
    /// The sequence of the home lane that comes next before the operation.
    pub(crate) base: u64,
    lens: Vec<usize>,
}

impl Book {
    pub(crate) fn new(scenario: &Scenario, plan: &Plan) -> Book {
        let home = scenario.lane();
        let mut firsts = vec![plan.start_sequence; scenario.lanes];
        firsts[home] = plan.first_sequence;
        let lens: Vec<_> = plan.pending.iter().chain(&plan.subjects).copied().collect();
        let there = if scenario.operation.publishes() { plan.pending.len() } else { lens.len() };
        let base = plan.first_sequence.wrapping_add(there as u64);
        Book { believable: plan.believable, home, firsts, base, lens }
    }

    /// The message with a lane's sequence; `len` bytes where none are planned.
    pub(crate) fn message(&self, lane: usize, sequence: u64, len: Option<usize>) -> Vec<u8> {
        let planned = self.planned(lane, sequence).or(len).unwrap_or(24);
        payload(self.believable, if lane == self.home { sequence } else { !sequence }, planned)
    }

    fn planned(&self, lane: usize, sequence: u64) -> Option<usize> {
        let index = sequence.wrapping_sub(self.firsts[lane]) as usize;
        self.lens.get(index).copied().filter(|_| lane == self.home)
    }

    pub(crate) fn check(&self, lane: usize, sequence: u64, bytes: &[u8]) -> Verdict<()> {
        match self.message(lane, sequence, Some(bytes.len())) {
            message if message == bytes => Ok(()),
            message if message.len() == bytes.len() => {
                Err(format!("message {sequence:#x} of lane {lane} is torn"))
            }
            _ => Err(format!("message {sequence:#x} of lane {lane} is another: {} bytes", bytes.len())),
        }
    }

    /// The messages of the operation: those to come, or those that are there.
    pub(crate) fn subjects(&self, plan: &Plan) -> Vec<Vec<u8>> {
        let first = plan.first_sequence.wrapping_add(plan.pending.len() as u64);
        (0..8).map(|i| self.message(self.home, first.wrapping_add(i), None)).collect()
    }
}

/// Everybody's handles. Those of the paused process hold its locks here.
pub(crate) struct Cast<'a> {
    region: &'a Region,
    producers: Vec<Option<Producer>>,
    consumer: Option<Consumer>,
    home: usize,
}

impl Pair for Cast<'_> {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.producer().try_send(message).context("the set-up's message does not fit")
    }

    fn receive(&mut self) -> Result<()> {
        self.read(1)?;
        self.consumer().commit();
        Ok(())
    }
}

impl<'a> Cast<'a> {
    pub(crate) fn new(region: &'a Region, scenario: &Scenario) -> Result<Cast<'a>> {
        // One lane is left to who takes it.
        let lanes = if scenario.operation == Operation::LaneTake { 1 } else { scenario.lanes };
        let producers = (0..lanes).map(|_| Ok(Some(region.producer()?))).collect::<Result<_>>()?;
        let consumer = Some(region.consumer()?);
        Ok(Cast { region, producers, consumer, home: scenario.lane() })
    }

    fn producer(&mut self) -> &mut Producer {
        self.producers[self.home].as_mut().expect("attached")
    }

    fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("attached")
    }

    fn read(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            ensure!(matches!(self.consumer().try_read()?, Read::Message(_)), "there is no message");
        }
        Ok(())
    }

    pub(crate) fn leave_as_found(&mut self, scenario: &Scenario, plan: &Plan, view: &View) -> Result<()> {
        match scenario.operation {
            Operation::ReadCommit => return self.read(plan.pending.len()),
            Operation::ConsumerAttach => {
                let head = view.lane(0).load(Word::Head);
                self.read(plan.pending.len())?;
                self.consumer().commit();
                self.read(1)?;
                // It died between the commit and the head word.
                view.lane(0).store(Word::Head, head);
            }
            Operation::Takeover => {
                die_sending(scenario, plan, self.producer())?;
                self.producers[self.home].take().expect("attached").abandon();
            }
            _ => {}
        }
        // One comes at each point.
        self.consumer = None;
        Ok(())
    }

    /// The stepped code.
    pub(crate) fn operate(
        &mut self,
        scenario: &Scenario,
        subjects: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<()> {
        let base = progress.note(SENT).load(Ordering::Relaxed);
        match scenario.operation {
            Operation::Send => self.producer().try_send(&subjects[0])?,
            Operation::ReserveCommit => {
                let reserved = scenario.reserve(subjects[0].len());
                reserve_and_commit(self.producer(), reserved, &subjects[0])?;
            }
            Operation::Batch => send_batch(self.producer(), &subjects[..3])?,
            Operation::ReadCommit => {
                for message in &subjects[..READS] {
                    match self.consumer().try_read()? {
                        Read::Message(found) => ensure!(found.payload == message, "the message is torn"),
                        other => bail!("instead of a message: {other:?}"),
                    }
                }
                self.consumer().commit();
            }
            Operation::Takeover => self.producers[self.home] = Some(self.region.producer()?),
            Operation::LaneTake => {
                let named = ProducerOptions::new().name("late");
                let options = if scenario.twisted() { named } else { ProducerOptions::new() };
                self.producers.push(Some(self.region.producer_with(&options)?));
                self.home = 1;
            }
            Operation::ConsumerAttach => self.consumer = Some(self.region.consumer()?),
            Operation::Close => {
                progress.note(NEXT).store(self.producer().sequence(), Ordering::Relaxed);
                self.producers[self.home].take().expect("attached").close();
            }
            Operation::TotalSend => {
                let note = |word, to| progress.note(word).store(base.wrapping_add(to), Ordering::Release);
                note(BEGUN, 1);
                self.producer().try_send(&subjects[0])?;
                note(SENT, 1);
                note(BEGUN, 4);
                send_batch(self.producer(), &subjects[1..4])?;
                note(SENT, 4);
            }
            Operation::DropMessage => self.drop_messages(subjects, base, progress)?,
            other => unreachable!("{} is not paused", other.name()),
        }
        Ok(())
    }

    /// Whether there is room depends on what the consumer does meanwhile.
    fn drop_messages(&mut self, subjects: &[Vec<u8>], base: u64, progress: &Progress) -> Result<()> {
        let producer = self.producers[self.home].as_mut().expect("attached");
        producer.drop_message(Cause::Full)?;
        producer.drop_message(Cause::Deadline)?;
        let next = |sequence: u64| &subjects[sequence.wrapping_sub(base) as usize];
        match producer.try_send(next(producer.sequence())) {
            Ok(()) | Err(SendError::Full) => {}
            Err(e) => return Err(e.into()),
        }
        let message = next(producer.sequence());
        let mut batch = producer.batch();
        match batch.try_push(message) {
            Ok(()) | Err(SendError::Full) => {}
            Err(e) => return Err(e.into()),
        }
        batch.drop_message(Cause::Full)?;
        drop(batch);
        progress.note(NEXT).store(producer.sequence(), Ordering::Relaxed);
        self.producers[self.home].take().expect("attached").close();
        Ok(())
    }

    /// What the resumed process does behind its operation.
    pub(crate) fn go_on(&mut self, scenario: &Scenario, book: &Book, progress: &Progress) -> Result<()> {
        let home = self.home;
        let next = match scenario.operation {
            Operation::Close | Operation::DropMessage => return Ok(()),
            Operation::ConsumerAttach => {
                ensure!(self.consumer().check_producers()? == 1, "the producer is called dead");
                self.read_all(book, book.firsts[0].wrapping_add(book.lens.len() as u64 - 3))?
            }
            Operation::ReadCommit => {
                let left = book.lens.len() as u64 - 3 + READS as u64;
                self.read_all(book, book.firsts[0].wrapping_add(left))?
            }
            _ => {
                let producer = self.producer();
                for _ in 0..MORE {
                    match producer.try_send(&book.message(home, producer.sequence(), None)) {
                        Ok(()) => {}
                        Err(SendError::Full) => break,
                        Err(e) => return Err(e.into()),
                    }
                }
                producer.sequence()
            }
        };
        progress.note(NEXT).store(next, Ordering::Relaxed);
        Ok(())
    }

    /// Reads all from `next` on and commits it; the sequence after it.
    fn read_all(&mut self, book: &Book, mut next: u64) -> Result<u64> {
        loop {
            match self.consumer().try_read()? {
                Read::Message(message) => {
                    ensure!(message.sequence == next, "{:#x} comes instead of {next:#x}", message.sequence);
                    book.check(0, next, message.payload).map_err(anyhow::Error::msg)?;
                    next = next.wrapping_add(1);
                }
                Read::Empty => break,
                other => bail!("instead of a message: {other:?}"),
            }
        }
        self.consumer().commit();
        Ok(next)
    }
}
