//! What the program `consumer` does: ring -> messages -> output.

mod check;
mod losses;
mod target;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use shmring::{Consumer, Read, ReadError, RegionOptions};
use shmring_grammar::{Common, Exit, Framed, Output, RegionFlags, Stop, open_codec};
use tracing::info;

use check::Check;
use losses::Losses;
use target::Target;

/// Receive messages from a ring: each becomes a line on stdout, or in a file.
///
/// The ring is created if it is not there; either side may start first. The
/// program ends when all producers that came have closed and everything is
/// delivered. What was not written when it ends goes to the next consumer.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 a producer died (all it sent was \
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

    /// Go on after all producers have closed or died, until a signal comes
    #[arg(long)]
    follow: bool,

    /// End only after so many producers have closed or died [default: 1]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        long_help = "End only after so many producers have closed or died [default: 1].\n\
        Those count that came since the last end, one that is started again anew. The ring remembers the \
        count: a consumer that was killed is started again with the same N."
    )]
    expect: Option<u64>,

    /// End after this many messages; the next consumer goes on behind them
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Check messages of `producer --generate` instead of writing them, and
    /// print a line a producer with what is wrong to stderr
    #[arg(long, conflicts_with = "framing")]
    verify: bool,

    /// Print a line to stderr for each gap that `producer --on-full drop` left;
    /// else the end tells how many messages were dropped
    #[arg(long)]
    report_gaps: bool,
}

/// At an empty ring, look so many times more before writing what there is: a
/// producer that is at it sends the next message within a microsecond or two,
/// and one write for many messages is much cheaper.
const LOOKS_BEFORE_WRITING: u32 = 500;
/// How often producers are asked for while messages keep coming.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// Runs the program.
///
/// # Errors
/// What it failed with, and the exit code for that.
pub fn consume(arguments: Arguments) -> Result<(), Exit> {
    let path = arguments.common.path()?;
    let mut target = match arguments.verify {
        true => Target::Check(Check::default()),
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
    info!("attached to {}", path.display());
    consumer.set_wait(arguments.region.wait.into());
    consumer.set_interrupt(stop.flag());
    if let Some(count) = arguments.expect {
        consumer.expect_streams(count);
    }

    let mut session = Session {
        consumer,
        delivery: Delivery { target, records, left: arguments.count },
        losses: Losses::new(arguments.report_gaps),
        commit_bytes: capacity / 4,
        next_check: Instant::now() + CHECK_PERIOD,
    };
    let ended = match session.run(&arguments, &stop) {
        Err(Failure::ReaderGone) => return Ok(()),
        Err(Failure::Exit(exit)) => Err(exit),
        Ok(()) => Ok(()),
    };
    session.losses.tell_drops();
    session.delivery.target.finish()?;
    ended?;
    session.losses.finish()
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
    delivery: Delivery,
    losses: Losses,
    /// Give room back to the producers at the latest when so much is read.
    commit_bytes: u64,
    /// When to ask for the producers again.
    next_check: Instant,
}

/// Where messages go.
struct Delivery {
    target: Target,
    /// The messages are records: their payload is what counts.
    records: bool,
    /// Messages that are still to be taken, if they are counted.
    left: Option<u64>,
}

/// What a look at the ring came to.
enum Next {
    /// A message, or a gap.
    Taken,
    Nothing,
    Died,
    End,
    Interrupted,
}

impl Session {
    fn run(&mut self, arguments: &Arguments, stop: &Stop) -> Result<(), Failure> {
        while self.delivery.left != Some(0) && !stop.requested() {
            match self.next(arguments)? {
                Next::Taken | Next::Nothing => {}
                Next::Interrupted => break,
                Next::Died => self.commit()?,
                Next::End => {
                    self.commit()?;
                    if !arguments.follow {
                        return Ok(());
                    }
                    info!("all producers have ended; waiting for the next one");
                }
            }
        }
        self.commit()
    }

    /// Takes one message, or finds out why there is none.
    fn next(&mut self, arguments: &Arguments) -> Result<Next, Failure> {
        for _ in 0..LOOKS_BEFORE_WRITING {
            match self.consumer.try_read() {
                Ok(Read::Empty) => std::hint::spin_loop(),
                Ok(found) => {
                    let next = self.delivery.take(found, &mut self.losses)?;
                    if self.delivery.target.is_full() || self.consumer.uncommitted() >= self.commit_bytes {
                        self.pass_on()?;
                    }
                    return Ok(next);
                }
                Err(e) => return self.lose(e),
            }
            if self.consumer.uncommitted() == 0 {
                break;
            }
        }
        self.pass_on()?;
        match self.consumer.read_deadline(arguments.region.deadline()) {
            Ok(found) => Ok(self.delivery.take(found, &mut self.losses)?),
            Err(ReadError::Interrupted) => Ok(Next::Interrupted),
            Err(ReadError::TimedOut) => Err(Exit::timeout("no message came for --timeout").into()),
            Err(e) => self.lose(e),
        }
    }

    /// Writes what was read, and only then commits it.
    fn commit(&mut self) -> Result<(), Failure> {
        self.delivery.target.write()?;
        match self.delivery.target.position() {
            Some(position) => self.consumer.commit_at(position),
            None => self.consumer.commit(),
        }
        Ok(())
    }

    /// Commits; and now and then asks for the producers, since a `try_read`
    /// never does so.
    fn pass_on(&mut self) -> Result<(), Failure> {
        self.commit()?;
        let now = Instant::now();
        if now < self.next_check {
            return Ok(());
        }
        self.next_check = now + CHECK_PERIOD;
        match self.consumer.check_producers() {
            // What is there comes first: the read says it when nothing comes.
            Ok(_) | Err(ReadError::Removed) => Ok(()),
            Err(e) => self.lose(e).map(drop),
        }
    }

    /// After an error: of one lane, the others go on.
    fn lose(&mut self, e: ReadError) -> Result<Next, Failure> {
        // What was read before is good, and nobody else will read it.
        self.commit()?;
        match e {
            ReadError::Damaged(damage) if self.losses.damaged(damage) => Ok(Next::Nothing),
            e => Err(e.into()),
        }
    }
}

impl Delivery {
    #[inline]
    fn take(&mut self, found: Read<'_>, losses: &mut Losses) -> Result<Next, Exit> {
        match found {
            Read::Message(message) => {
                self.target.take(message, self.records)?;
                self.left = self.left.map(|left| left - 1);
                Ok(Next::Taken)
            }
            Read::Gap(gap) => {
                self.target.skip(gap.lane, gap.name, gap.sequence, gap.count);
                losses.gap(&gap);
                Ok(Next::Taken)
            }
            Read::Died(death) => {
                if death.dropped > 0 {
                    self.target.skip(death.lane, death.name.as_deref(), death.sequence, death.dropped);
                }
                losses.died(death);
                Ok(Next::Died)
            }
            Read::End => Ok(Next::End),
            Read::Empty => Ok(Next::Nothing),
        }
    }
}
