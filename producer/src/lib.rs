//! What the program `producer` does: input -> messages -> ring.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use shmring::codec::Codec;
use shmring::{
    AttachError, Batch, Cause, Flags, Producer, ProducerOptions, Region, RegionOptions, SendError, StreamId,
};
use shmring_grammar::{
    Common, Exit, Framed, Input, LaneFlags, MIN_SIZE, Pattern, Ready, Record, RecordCodec, RegionFlags, Step,
    Stop, file_words, max_payload, open_codec, parse_size, record_schema,
};
use tracing::{info, warn};

/// Send messages into a ring: each line of stdin, or of a file, is one.
///
/// The ring is created if it is not there; either side may start first, and
/// several producers may send at a time. The program ends when everything is in
/// the ring.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 4 nothing moved for --timeout.\n\
    Example: seq 1000 | producer numbers & consumer numbers\n\
    Several: producer log --name a <A & producer log --name b <B & consumer log --expect 2"
)]
pub struct Arguments {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented where it is defined")]
    pub common: Common,
    #[command(flatten)]
    region: RegionFlags,
    #[command(flatten)]
    lanes: LaneFlags,
    #[command(flatten)]
    framed: Framed,

    /// Who this producer is; goes on where the last one of this name stopped
    #[arg(
        long,
        value_name = "NAME",
        long_help = "Who this producer is: up to 32 letters, digits, '.', '_' and '-'. The consumer is told, \
        and messages are numbered on where the last producer of this name stopped. One at a time has a name, \
        and the ring keeps a place for it for ever."
    )]
    name: Option<String>,

    /// Read this file instead of stdin ('-' is stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["generate", "size"])]
    input: Option<PathBuf>,

    /// Go on in the input where the last producer of this name stopped
    #[arg(
        long,
        requires = "input",
        conflicts_with = "generate",
        long_help = "Go on in the input where the last producer of this --name stopped, also if it was \
        killed: every message is sent exactly once. The ring remembers the input, which must be a regular \
        file; another one needs another name, and one input of a ring may be without. What was added to it \
        meanwhile is sent, what was changed before is not noticed."
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
    /// Fail, with --timeout once it has waited that long
    Fail,
    /// Drop the new message, with --timeout once it has waited that long
    Drop,
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
        let options = self.lanes.apply(RegionOptions::new());
        match self.codec {
            None => options,
            Some(CodecFlag::Bytes) => options.codec(shmring::CodecId::BYTES),
            Some(CodecFlag::Bincode) => options.codec(RecordCodec::ID).schema(record_schema()),
        }
    }

    /// Who this producer is, as far as its command line says.
    fn producer(&self) -> Result<ProducerOptions, Exit> {
        if self.resume && self.on_full == OnFull::Drop {
            return Err(Exit::usage(
                "--resume sends every message, so it does not go with --on-full drop; leave one of them out",
            ));
        }
        let mut options = ProducerOptions::new();
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        options.check()?;
        Ok(options)
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
    let mut options = arguments.producer()?;
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
            options = options.source(id);
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
                _ => Ok((attach(&arguments, region, &options, source, records)?, records, max)),
            }
        })?;
    info!("attached to {}, next message is {}", path.display(), producer.sequence());
    producer.set_wait(arguments.region.wait.into());
    producer.set_interrupt(stop.flag());

    let mut sender =
        Sender { records, encoded: Vec::new(), arguments: &arguments, stop: &stop, sent: 0, dropped: 0 };
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
    if sender.dropped > 0 {
        warn!("dropped {} messages because the ring was full; sent {}", sender.dropped, sender.sent);
    }
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

/// `source`: the input that this producer alone sends.
fn attach(
    arguments: &Arguments,
    region: &Region,
    options: &ProducerOptions,
    source: Option<(&Path, StreamId)>,
    records: bool,
) -> anyhow::Result<Producer> {
    if source.is_some() && records {
        anyhow::bail!(
            "--resume needs a ring of plain bytes, and the messages of {} are records (--codec bincode)",
            region.path().display()
        );
    }
    region.producer_with(options).map_err(|e| match (e, source, &arguments.name) {
        (AttachError::OtherSource { bound, .. }, Some((path, id)), name) => {
            other_input(path, name.as_deref(), id, bound)
        }
        (e @ AttachError::Busy { .. }, _, Some(name)) => anyhow::anyhow!("the name {name} is in use: {e}"),
        (e, ..) => e.into(),
    })
}

/// Why the ring does not go on with this input.
fn other_input(path: &Path, name: Option<&str>, asked: StreamId, bound: Option<StreamId>) -> anyhow::Error {
    let (path, asked_words) = (path.display(), file_words(&asked));
    let used = name.map_or_else(|| "the ring".to_owned(), |name| format!("the name {name}"));
    match bound {
        Some(bound) if bound.0[..3] == asked.0[..3] => {
            anyhow::anyhow!("{used} was used for {path} in another framing; use the same --framing")
        }
        Some(bound) => anyhow::anyhow!(
            "{used} was used for another file ({}) than {path} is now ({asked_words}); give each input a --name of \
             its own. A file that was removed, or saved anew by an editor, is another one",
            file_words(&bound)
        ),
        None => anyhow::anyhow!(
            "{used} was used without --resume, so nobody knows what of {path} ({asked_words}) is in it; give each \
             input a --name of its own"
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
    dropped: u64,
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
        let waits = self.waits();
        let mut sequence = first;
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some((payload, flags)) = messages.next(sequence)? else { return Ok(Filled::AllThereIs) };
            let payload = if self.records { wrap(sequence, payload, &mut self.encoded)? } else { payload };
            bytes += payload.len() as u64 + 8;
            let mut pushed = batch.try_push_with(payload, flags);
            if pushed == Err(SendError::Full) && waits {
                pushed = batch.push(payload, flags, self.arguments.region.deadline());
            }
            match pushed {
                Ok(()) => self.sent += 1,
                Err(SendError::Interrupted) => return Ok(Filled::AllThereIs),
                Err(e) => {
                    let cause = self.drops(e)?;
                    batch.drop_message(cause)?;
                    self.dropped += 1;
                }
            }
            sequence = sequence.wrapping_add(1);
        }
        Ok(Filled::Enough)
    }

    /// True if a full ring is waited for.
    fn waits(&self) -> bool {
        match self.arguments.on_full {
            OnFull::Block => true,
            OnFull::Fail | OnFull::Drop => self.arguments.region.timeout.is_some(),
        }
    }

    /// For what a message that was not sent is dropped, if it is.
    fn drops(&self, e: SendError) -> Result<Cause, Exit> {
        match (e, self.arguments.on_full) {
            (SendError::Full, OnFull::Drop) => Ok(Cause::Full),
            (SendError::TimedOut, OnFull::Drop) => Ok(Cause::Deadline),
            (SendError::Full, _) | (SendError::TimedOut, OnFull::Fail) => Err(full(self.sent)),
            (SendError::TimedOut, _) => Err(Exit::timeout("the ring stayed full for --timeout")),
            (e, _) => Err(e.into()),
        }
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
