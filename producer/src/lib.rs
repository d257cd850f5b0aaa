//! What the program `producer` does: input -> messages -> ring.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use shmring::codec::Codec;
use shmring::{AttachError, Batch, Flags, Producer, Region, RegionOptions, SendError, StreamId};
use shmring_grammar::{
    Common, Exit, Framed, Input, MIN_SIZE, Pattern, Ready, Record, RecordCodec, RegionFlags, Step, Stop,
    file_words, max_payload, open_codec, parse_size, record_schema,
};
use tracing::info;

/// Send messages into a ring: each line of stdin, or of a file, is one.
///
/// The ring is created if it is not there; either side may start first. The
/// program ends when everything is in the ring.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 4 nothing moved for --timeout.\n\
    Example: seq 1000 | producer numbers & consumer numbers"
)]
pub struct Arguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented where it is defined")]
    pub common: Common,
    #[command(flatten)]
    region: RegionFlags,
    #[command(flatten)]
    framed: Framed,

    /// Read this file instead of stdin ('-' is stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["generate", "size"])]
    input: Option<PathBuf>,

    /// Go on in the input where the last producer of this ring stopped
    #[arg(
        long,
        requires = "input",
        conflicts_with = "generate",
        long_help = "Go on in the input where the last producer of this ring stopped, also if it was \
        killed: every message is sent exactly once. The ring remembers the input, which must be a regular \
        file; another one needs another ring. What was added to it meanwhile is sent, what was changed \
        before is not noticed."
    )]
    resume: bool,

    /// Send this many messages that `consumer --verify` can check
    #[arg(long, value_name = "COUNT", requires = "size", conflicts_with = "framing")]
    generate: Option<u64>,

    /// Bytes of each generated message, at least 16
    #[arg(long, value_name = "BYTES", requires = "generate", value_parser = pattern_size)]
    size: Option<usize>,

    /// What to do when the ring is full
    #[arg(long, value_enum, default_value = "block")]
    on_full: OnFull,

    /// How the messages are encoded, if the ring has to be created [default: bytes]
    #[arg(long, value_enum)]
    codec: Option<CodecFlag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFull {
    /// Wait for the consumer
    Block,
    /// Fail
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CodecFlag {
    /// As they are
    Bytes,
    /// Each with its sequence and the time it was sent
    Bincode,
}

fn pattern_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(parse_size(text)?).unwrap_or(usize::MAX);
    if size < MIN_SIZE {
        return Err(format!("a message that can be checked has at least {MIN_SIZE} bytes"));
    }
    Ok(size)
}

impl Arguments {
    fn options(&self) -> RegionOptions {
        match self.codec {
            None => RegionOptions::new(),
            Some(CodecFlag::Bytes) => RegionOptions::new().codec(shmring::CodecId::BYTES),
            Some(CodecFlag::Bincode) => RegionOptions::new().codec(RecordCodec::ID).schema(record_schema()),
        }
    }
}

/// A batch is published when it has so many bytes: an eighth of the smallest ring.
const BATCH_BYTES: u64 = 8 << 10;

/// Runs the program.
///
/// # Errors
/// What it failed with, and the exit code for that. The ring then learns that
/// its producer died.
pub fn produce(arguments: Arguments) -> Result<(), Exit> {
    let stop = Stop::install()?;
    let input = match arguments.generate {
        Some(_) => None,
        None => Some(Input::open(arguments.input.as_ref(), arguments.framed.framing)?),
    };
    let source = match (&input, &arguments.input) {
        (Some(input), Some(path)) if arguments.resume => {
            let id = input.id()?.ok_or_else(|| {
                Exit::usage(
                    "--resume needs an --input that is a regular file: nothing else can be read from its middle",
                )
            })?;
            Some((path.as_path(), id))
        }
        _ => None,
    };
    let path = arguments.common.path()?;
    let (mut producer, records, max_payload) =
        arguments.region.attach(&path, arguments.options(), |region| {
            let records = open_codec(region)?;
            let max = max_payload(region, records);
            match arguments.size {
                Some(len) if len > max => Err(SendError::TooLarge { len, max }.into()),
                _ => Ok((attach(region, source, records)?, records, max)),
            }
        })?;
    info!("attached to {}, next message is {}", path.display(), producer.sequence());
    producer.set_wait(arguments.region.wait.into());
    producer.set_interrupt(stop.flag());

    let mut sender = Sender { records, encoded: Vec::new(), arguments: &arguments, stop: &stop, sent: 0 };
    let sent = match input {
        Some(mut input) => {
            input.set_max_len(max_payload);
            let resumed = if source.is_some() { input.resume(&producer.sent()) } else { Ok(()) };
            match resumed {
                Ok(()) => sender.send_input(&mut producer, input),
                Err(e) => Err(e.into()),
            }
        }
        None => sender.generate(&mut producer),
    };
    match sent {
        Ok(()) => {
            info!("sent {} messages", sender.sent);
            producer.close();
            Ok(())
        }
        Err(exit) => {
            producer.abandon();
            Err(exit)
        }
    }
}

/// `source`: the input that alone fills the ring.
fn attach(region: &Region, source: Option<(&Path, StreamId)>, records: bool) -> anyhow::Result<Producer> {
    match source {
        Some(_) if records => anyhow::bail!(
            "--resume needs a ring of plain bytes, and the messages of {} are records (--codec bincode)",
            region.path().display()
        ),
        Some((path, id)) => region.resume_producer(id).map_err(|e| match e {
            AttachError::OtherSource { bound, .. } => other_input(path, id, bound),
            e => e.into(),
        }),
        None => Ok(region.producer()?),
    }
}

/// Why the ring does not go on with this input.
fn other_input(input: &Path, asked: StreamId, bound: Option<StreamId>) -> anyhow::Error {
    let (path, asked_words) = (input.display(), file_words(&asked));
    match bound {
        Some(bound) if bound.0[..3] == asked.0[..3] => {
            anyhow::anyhow!("the ring was filled from {path} in another framing; use the same --framing")
        }
        Some(bound) => anyhow::anyhow!(
            "the ring was filled from another file ({}) than {path} is now ({asked_words}); use a ring of its \
             own for each. A file that was removed, or saved anew by an editor, is another one",
            file_words(&bound)
        ),
        None => anyhow::anyhow!(
            "the ring was used without --resume, so nobody knows what of {path} ({asked_words}) is in it; use a \
             ring of its own for it"
        ),
    }
}

/// Where messages go, a batch at a time.
struct Sender<'a> {
    records: bool,
    encoded: Vec<u8>,
    arguments: &'a Arguments,
    stop: &'a Stop,
    sent: u64,
}

/// Where messages come from.
trait Messages {
    /// The next message that is here already, and its flags. It will have
    /// this sequence.
    fn next(&mut self, sequence: u64) -> Result<Option<(&[u8], Flags)>, Exit>;
}

impl Messages for Input {
    fn next(&mut self, _: u64) -> Result<Option<(&[u8], Flags)>, Exit> {
        Ok(match Input::next(self)? {
            Step::Message(payload, true) => Some((payload, Flags::UNTERMINATED)),
            Step::Message(payload, false) => Some((payload, Flags::NONE)),
            Step::More | Step::End => None,
        })
    }
}

/// So many messages that can be checked.
struct Generated {
    pattern: Pattern,
    left: u64,
}

impl Messages for Generated {
    fn next(&mut self, sequence: u64) -> Result<Option<(&[u8], Flags)>, Exit> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        Ok(Some((self.pattern.message(sequence), Flags::NONE)))
    }
}

impl Sender<'_> {
    fn send_input(&mut self, producer: &mut Producer, mut input: Input) -> Result<(), Exit> {
        while !input.at_end() && !self.stop.requested() {
            // What comes goes on at once, however little it is.
            match input.fill(self.stop, self.arguments.region.deadline())? {
                Ready::Readable => self.send_all(producer, &mut input)?,
                Ready::Stopped => break,
                Ready::TimedOut => return Err(Exit::timeout("no input came for --timeout")),
            }
        }
        Ok(())
    }

    fn generate(&mut self, producer: &mut Producer) -> Result<(), Exit> {
        let size = self.arguments.size.unwrap_or(MIN_SIZE);
        let left = self.arguments.generate.unwrap_or(0);
        self.send_all(producer, &mut Generated { pattern: Pattern::new(size), left })
    }

    /// Sends what is there, in batches, until the program should stop.
    fn send_all(&mut self, producer: &mut Producer, messages: &mut impl Messages) -> Result<(), Exit> {
        loop {
            let first = producer.sequence();
            let mut batch = producer.batch();
            let filled = self.fill(&mut batch, first, messages);
            // Also after a failure: what came before it was accepted.
            batch.publish();
            if filled? == Filled::AllThereIs || self.stop.requested() {
                return Ok(());
            }
        }
    }

    fn fill(
        &mut self,
        batch: &mut Batch<'_>,
        first: u64,
        messages: &mut impl Messages,
    ) -> Result<Filled, Exit> {
        let mut sequence = first;
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some((payload, flags)) = messages.next(sequence)? else { return Ok(Filled::AllThereIs) };
            let payload = if self.records { wrap(sequence, payload, &mut self.encoded)? } else { payload };
            bytes += payload.len() as u64 + 8;
            let mut pushed = batch.try_push_with(payload, flags);
            if pushed == Err(SendError::Full) && self.arguments.on_full == OnFull::Block {
                pushed = batch.push(payload, flags, self.arguments.region.deadline());
            }
            if pushed == Err(SendError::Interrupted) {
                return Ok(Filled::AllThereIs);
            }
            pushed.map_err(|e| match e {
                SendError::Full => full(self.sent),
                SendError::TimedOut => Exit::timeout("the ring stayed full for --timeout"),
                e => e.into(),
            })?;
            sequence = sequence.wrapping_add(1);
            self.sent += 1;
        }
        Ok(Filled::Enough)
    }
}

/// The message as a record, in `encoded`.
fn wrap<'a>(sequence: u64, payload: &[u8], encoded: &'a mut Vec<u8>) -> Result<&'a [u8], Exit> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = Record { sequence, time_ns: since_1970.as_nanos() as u64, payload: payload.to_vec() };
    encoded.clear();
    RecordCodec::encode(&record, encoded)?;
    Ok(encoded)
}

/// Why a batch is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// It is large enough.
    Enough,
    /// There is no further message now.
    AllThereIs,
}

fn full(sent: u64) -> Exit {
    anyhow::anyhow!("the ring is full after {sent} messages, and --on-full is fail").into()
}
