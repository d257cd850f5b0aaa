//! A consumer that writes down what it reads and when it commits.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use shmring::{Consumer, Flags, Read, ReadError, Region};
use tests::Random;
use tests::board::{Mapped, Shared};

use super::notes::{Notes, stamp};

#[derive(Debug, clap::Args)]
pub(crate) struct Consume {
    folder: PathBuf,
    /// The number of this process among the consumers.
    index: u32,
    seed: u64,
}

/// How to ask for the next message.
#[derive(Clone, Copy)]
enum Ask {
    Now,
    Wait(Duration),
}

struct Receiver {
    consumer: Consumer,
    notes: Notes,
    random: Random,
    /// The name of each lane, as far as it was told.
    names: Vec<Option<String>>,
    uncommitted: u64,
}

/// Reads until everybody is gone and nothing is left: then true. False if it
/// left before.
pub(crate) fn consume(options: &Consume) -> Result<bool> {
    let board = Mapped::open(&options.folder.join("board"));
    let mut notes = Notes::create(&options.folder.join(format!("c{}", options.index)))?;
    notes.write(format_args!("begin {}", stamp()))?;
    let region = Region::open(options.folder.join("region"))?;
    let consumer = region.consumer()?;
    notes.write(format_args!("attached {}", stamp()))?;
    let mut random = Random::of(options.seed);
    let reads = if random.among(0..4) == 0 { random.among(0..20_000) } else { u64::MAX };
    let most = [2, 16, 300][random.among(0..3) as usize];
    let names = vec![None; region.max_producers() as usize];
    let mut receiver = Receiver { consumer, notes, random, names, uncommitted: 0 };
    let mut limit = 1;
    for _ in 0..reads {
        if board.word.get() != 0 {
            return receiver.finish();
        }
        let ask = match receiver.random.among(0..4) {
            0 => Ask::Now,
            _ => Ask::Wait(Duration::from_millis(20)),
        };
        // Who waits for a message lets nobody wait for its notes.
        if receiver.notes.pending() > 4000 || receiver.random.among(0..16) == 0 {
            receiver.notes.flush()?;
        }
        if !receiver.receive(ask)? || receiver.uncommitted >= limit {
            receiver.commit()?;
            limit = receiver.random.among(1..most);
        }
    }
    if receiver.random.among(0..2) == 0 {
        receiver.commit()?;
    }
    receiver.notes.write(format_args!("closed"))?;
    Ok(false)
}

impl Receiver {
    /// Reads one thing; false if there was none.
    fn receive(&mut self, ask: Ask) -> Result<bool> {
        let since = stamp();
        let read = match ask {
            Ask::Now => {
                // Nobody else looks who is alive.
                if self.random.among(0..64) == 0 {
                    self.consumer.check_producers()?;
                }
                self.consumer.try_read()
            }
            Ask::Wait(time) => self.consumer.read_timeout(time),
        };
        match read {
            // Whoever waits for room gets it.
            Err(ReadError::TimedOut | ReadError::Uncommitted { .. }) | Ok(Read::Empty) => return Ok(false),
            Err(e) => return Err(e.into()),
            Ok(Read::Message(m)) => {
                let name = &mut self.names[m.lane as usize];
                if name.as_deref() != m.name {
                    *name = m.name.map(String::from);
                    self.notes.add(format_args!("n {} {}", m.lane, m.name.unwrap_or("-")));
                }
                let bits = m.flags.contains(Flags::UNTERMINATED) as u8;
                let (len, sum) = (m.payload.len(), crc32c::crc32c(m.payload));
                self.notes.add(format_args!("m {} {} {len} {sum:x} {bits}", m.lane, m.sequence));
            }
            Ok(Read::Gap(gap)) => {
                self.notes.add(format_args!("g {} {} {}", gap.lane, gap.sequence, gap.count));
            }
            Ok(Read::Died(death)) => {
                let pid = death.producer.as_ref().map_or(0, |producer| producer.pid);
                let name = death.name.as_deref().unwrap_or("-");
                let (lane, sequence, until) = (death.lane, death.sequence, stamp());
                let (replaced, dropped) = (death.is_replaced as u8, death.dropped);
                self.notes.add(format_args!(
                    "d {since} {until} {lane} {sequence} {pid} {replaced} {dropped} {name}"
                ));
            }
            Ok(Read::End) => self.notes.add(format_args!("e {since} {}", stamp())),
        }
        self.uncommitted += 1;
        Ok(true)
    }

    fn commit(&mut self) -> Result<()> {
        if self.uncommitted > 0 {
            self.notes.write(format_args!("c"))?;
            self.consumer.commit();
            self.notes.add(format_args!("k"));
            self.uncommitted = 0;
        }
        Ok(())
    }

    /// Reads what is left. No producer comes any more.
    fn finish(mut self) -> Result<bool> {
        let attached = self.consumer.check_producers()?;
        ensure!(attached == 0, "{attached} producers, and all are gone");
        while self.receive(Ask::Now)? {}
        self.commit()?;
        self.notes.write(format_args!("finished"))?;
        Ok(true)
    }
}
