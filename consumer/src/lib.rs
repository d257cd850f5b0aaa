//! What the program `consumer` does: ring -> messages -> output.

use std::path::PathBuf;

use clap::Parser;
use shmring::codec::Codec;
use shmring::{Consumer, End, Flags, Message, Owner, Read, ReadError, RegionOptions};
use shmring_grammar::{
    Common, Exit, Framed, Framing, Output, RecordCodec, RegionFlags, Stop, Tally, is_broken_pipe, open_codec,
    say,
};
use tracing::{info, warn};

/// Receive messages from a ring: each becomes a line on stdout, or in a file.
///
/// The ring is created if it is not there; either side may start first. The
/// program ends when the producer has closed and everything is delivered. What
/// was not written when it ends goes to the next consumer.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 the producer died (all it sent was \
    delivered), 4 nothing moved for --timeout.\nExample: seq 1000 | producer numbers & consumer numbers"
)]
pub struct Arguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented where it is defined")]
    pub common: Common,
    #[command(flatten)]
    region: RegionFlags,
    #[command(flatten)]
    framed: Framed,

    /// Write to this file instead of stdout ('-' is stdout), each message exactly once
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "verify",
        long_help = "Write to this file instead of stdout ('-' is stdout).\n\
        The ring remembers the file and how far it is: every message is written exactly once, whoever is \
        killed and started again, and a later stream goes behind an earlier one. The file belongs to the \
        ring: it is new or empty at first, what others append to it is cut off, and the ring remembers one \
        file at a time. Keep to one --framing. What is no regular file (a pipe, a device) may get messages \
        again after a kill."
    )]
    output: Option<PathBuf>,

    /// Go on after the producer has closed or died, until a signal comes
    #[arg(long)]
    follow: bool,

    /// End after this many messages; the next consumer goes on behind them
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Check messages of `producer --generate` instead of writing them, and
    /// print a line with what is wrong to stderr
    #[arg(long, conflicts_with = "framing")]
    verify: bool,
}

/// Output is written when there is so much of it, or nothing more to read.
const WRITE_BYTES: usize = 256 << 10;
/// At an empty ring, look so many times more before writing what there is: a
/// producer that is at it sends the next message within a microsecond or two,
/// and one write for many messages is much cheaper.
const LOOKS_BEFORE_WRITING: u32 = 500;

/// Runs the program.
///
/// # Errors
/// What it failed with, and the exit code for that.
pub fn consume(arguments: Arguments) -> Result<(), Exit> {
    let path = arguments.common.path()?;
    let mut target = match arguments.verify {
        true => Target::Check(Tally::default()),
        false => Target::Write {
            output: Output::open(arguments.output.as_ref(), &path)?,
            framing: arguments.framed.framing,
            pending: Vec::new(),
        },
    };
    // After the output is open: to wait for the reader of a named pipe is to
    // be ended by the first signal.
    let stop = Stop::install()?;
    let (mut consumer, records, capacity) =
        arguments.region.attach(&path, RegionOptions::new(), |region| {
            let records = open_codec(region)?;
            let mut consumer = region.consumer()?;
            target.start(&mut consumer)?;
            Ok((consumer, records, region.capacity()))
        })?;
    info!("attached to {}, next message is {}", path.display(), consumer.sequence());
    consumer.set_wait(arguments.region.wait.into());
    consumer.set_interrupt(stop.flag());

    let commit_bytes = capacity / 4;
    let mut session = Session { consumer, target, records, commit_bytes, left: arguments.count };
    let ended = match session.run(&arguments, &stop) {
        Err(Failure::ReaderGone) => return Ok(()),
        Err(Failure::Exit(exit)) => Err(exit),
        Ok(ended) => Ok(ended),
    };
    session.target.finish()?;
    match ended? {
        Ended::Done => Ok(()),
        Ended::Died(producer) => Err(Exit::died(died(producer.as_ref()))),
    }
}

fn died(producer: Option<&Owner>) -> String {
    let who = producer.map_or_else(|| "it has not said who it was".to_owned(), ToString::to_string);
    format!("the producer died without closing: {who}; everything it sent was delivered")
}

/// How a session came to its end.
enum Ended {
    Done,
    Died(Option<Owner>),
}

/// Why a session broke off.
enum Failure {
    /// Whoever read our output has gone: a quiet success.
    ReaderGone,
    Exit(Exit),
}

impl<E: Into<Exit>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Exit(error.into())
    }
}

struct Session {
    consumer: Consumer,
    target: Target,
    /// The messages are records: their payload is what counts.
    records: bool,
    /// Give room back to the producer at the latest when so much is read.
    commit_bytes: u64,
    /// Messages that are still to be taken, if they are counted.
    left: Option<u64>,
}

impl Session {
    fn run(&mut self, arguments: &Arguments, stop: &Stop) -> Result<Ended, Failure> {
        let mut death = None;
        while self.left != Some(0) && !stop.requested() {
            let end = match self.next(arguments)? {
                Next::Message => continue,
                Next::Interrupted => break,
                Next::End(end) => end,
            };
            self.commit()?;
            match (end, arguments.follow) {
                (End::Closed, false) => return Ok(Ended::Done),
                (End::Died { producer }, false) => return Ok(Ended::Died(producer)),
                (End::Closed, true) => info!("the producer closed; waiting for the next one"),
                (End::Died { producer }, true) => {
                    warn!("{}", died(producer.as_ref()));
                    death = Some(producer);
                }
            }
        }
        self.commit()?;
        Ok(death.map_or(Ended::Done, Ended::Died))
    }

    /// Takes one message, or finds out why there is none.
    fn next(&mut self, arguments: &Arguments) -> Result<Next, Failure> {
        for _ in 0..LOOKS_BEFORE_WRITING {
            let found = match self.consumer.try_read() {
                Ok(found) => found,
                Err(e) => {
                    // What was read before is good, and nobody else will read it.
                    self.commit()?;
                    return Err(e.into());
                }
            };
            match found {
                Read::Message(message) => {
                    self.target.take(message, self.records)?;
                    self.left = self.left.map(|left| left - 1);
                    if self.target.is_full() || self.consumer.uncommitted() >= self.commit_bytes {
                        self.commit()?;
                    }
                    return Ok(Next::Message);
                }
                Read::End(end) => return Ok(Next::End(end)),
                Read::Empty => std::hint::spin_loop(),
            }
            if self.consumer.uncommitted() == 0 {
                break;
            }
        }
        self.commit()?;
        match self.consumer.read_deadline(arguments.region.deadline()) {
            Ok(Read::Message(message)) => {
                self.target.take(message, self.records)?;
                self.left = self.left.map(|left| left - 1);
                Ok(Next::Message)
            }
            Ok(Read::End(end)) => Ok(Next::End(end)),
            Ok(Read::Empty) => Ok(Next::Message),
            Err(ReadError::Interrupted) => Ok(Next::Interrupted),
            Err(ReadError::TimedOut) => Err(Exit::timeout("no message came for --timeout").into()),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes what was read, and only then commits it.
    fn commit(&mut self) -> Result<(), Failure> {
        self.target.write()?;
        match self.target.position() {
            Some(position) => self.consumer.commit_at(position),
            None => self.consumer.commit(),
        }
        Ok(())
    }
}

enum Next {
    Message,
    End(End),
    Interrupted,
}

/// What becomes of the messages.
enum Target {
    Write { output: Output, framing: Framing, pending: Vec<u8> },
    Check(Tally),
}

impl Target {
    fn position(&self) -> Option<u64> {
        match self {
            Target::Write { output, .. } => output.position(),
            Target::Check(_) => None,
        }
    }

    fn start(&mut self, consumer: &mut Consumer) -> anyhow::Result<()> {
        match self {
            Target::Write { output, .. } => output.start(consumer),
            Target::Check(_) => Ok(()),
        }
    }

    fn take(&mut self, message: Message<'_>, records: bool) -> Result<(), Exit> {
        let record;
        let payload = if records {
            let broken = |e| anyhow::anyhow!("message {}: {e}", message.sequence);
            record = RecordCodec::decode(message.payload).map_err(broken)?;
            &record.payload
        } else {
            message.payload
        };
        match self {
            Target::Write { framing, pending, .. } => {
                framing.append(payload, message.flags.contains(Flags::UNTERMINATED), pending);
            }
            Target::Check(tally) => tally.take(message.sequence, payload),
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        matches!(self, Target::Write { pending, .. } if pending.len() >= WRITE_BYTES)
    }

    fn write(&mut self) -> Result<(), Failure> {
        if let Target::Write { output, pending, .. } = self
            && !pending.is_empty()
        {
            output.write(pending).map_err(|e| match is_broken_pipe(&e) {
                true => Failure::ReaderGone,
                false => anyhow::Error::new(e).context("cannot write the output").into(),
            })?;
            pending.clear();
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Exit> {
        match self {
            Target::Check(tally) => {
                say(&format!("verify: producer=lane0 {tally}"));
                if tally.is_clean() { Ok(()) } else { Err(anyhow::anyhow!("the stream is not whole").into()) }
            }
            Target::Write { .. } => Ok(()),
        }
    }
}
