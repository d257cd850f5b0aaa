//! The rings with a planted bug: a proof that never fails proves nothing.
//!
//! The product's algorithm runs over a memory that does, from a moment on, what
//! a wrong algorithm would have done.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::{Slot, Word};
use shmring::internals::ring::{Claim, Memory, Reader, Sink, Writer};

use super::expected::{Expected, READS};
use super::product::{Output, Pair, check_believable, create, prepare};
use super::scenario::{CAPACITY, Operation, Scenario};
use super::states::{Hands, SINK, Step};
use super::survivors::OneLane;
use super::trace::{Progress, each_instruction};
use super::view::{LaneView, View};
use super::watch::{Tally, Watch};
use super::{many, newcomers};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// The header is stored before the payload.
    HeaderBeforePayload,
    /// The word after the record is left as it is.
    NoZeroAfterRecord,
    /// A new producer starts at the tail hint and looks at no record.
    TailTrustedBlindly,
    /// The sink's position is stored where it counts at once, apart from the
    /// generation that the commit is decided by.
    RedoWordsStoredApart,
    /// Each lane's position is stored where it counts at once, apart from the
    /// generation that the commit of all lanes is decided by.
    LaneCommitsApart,
    /// A lane that did not move is not written in the commit that follows the
    /// one in which it did.
    LaneNotRewritten,
    /// The tickets are stored after the header that publishes their messages.
    TicketAfterPublish,
    /// The count of what gaps tell of is stored where it counts at once, apart
    /// from the tail behind them.
    GapsCountedApart,
    /// A lane is called ready before its space is reserved.
    ReadyBeforeSpace,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Plant; 9] = [
        Plant::HeaderBeforePayload,
        Plant::NoZeroAfterRecord,
        Plant::TailTrustedBlindly,
        Plant::RedoWordsStoredApart,
        Plant::LaneCommitsApart,
        Plant::LaneNotRewritten,
        Plant::TicketAfterPublish,
        Plant::GapsCountedApart,
        Plant::ReadyBeforeSpace,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plant::HeaderBeforePayload => "header-before-payload",
            Plant::NoZeroAfterRecord => "no-zero-after-record",
            Plant::TailTrustedBlindly => "tail-trusted-blindly",
            Plant::RedoWordsStoredApart => "redo-words-stored-apart",
            Plant::LaneCommitsApart => "lane-commits-apart",
            Plant::LaneNotRewritten => "lane-not-rewritten",
            Plant::TicketAfterPublish => "ticket-after-publish",
            Plant::GapsCountedApart => "gaps-counted-apart",
            Plant::ReadyBeforeSpace => "ready-before-space",
        }
    }

    /// The operation that it shows in.
    pub(crate) fn operation(self) -> Operation {
        match self {
            Plant::HeaderBeforePayload | Plant::NoZeroAfterRecord | Plant::TailTrustedBlindly => {
                Operation::Send
            }
            Plant::RedoWordsStoredApart => Operation::FileCommit,
            Plant::LaneCommitsApart | Plant::LaneNotRewritten => Operation::LanesCommit,
            Plant::TicketAfterPublish => Operation::TotalSend,
            Plant::GapsCountedApart => Operation::DropMessage,
            Plant::ReadyBeforeSpace => Operation::LaneTake,
        }
    }
}

/// Steps through one scenario with `plant`, or as a control with none.
pub(crate) fn run(
    plant: Option<Plant>,
    scenario: Scenario,
    path: &Path,
    progress: &Progress,
) -> Result<Tally> {
    match scenario.operation {
        Operation::LaneTake => newcomers::run_with(scenario, path, progress, take_unready),
        Operation::Send | Operation::FileCommit => run_alone(plant, scenario, path, progress),
        _ => run_many(plant, scenario, path, progress),
    }
}

/// [`Plant::ReadyBeforeSpace`]: the rest is the product's.
fn take_unready(view: &View, file: &File) -> Result<()> {
    let (lane, at) = (view.lane(1), view.ring_at(1));
    lane.store_release(Word::Ready, 1);
    Ok(fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, at as i64, CAPACITY as i64)?)
}

fn run_many(plant: Option<Plant>, scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    let plan = scenario.plan();
    let (_region, view) = create(&scenario, &plan, path)?;
    let shape = scenario.shape();
    let lanes: Vec<_> = (0..scenario.lanes).map(|lane| Planted::new(view.lane(lane), plant)).collect();
    lanes.iter().for_each(|lane| lane.store(Word::Ready, 1));
    let writers = lanes.iter().map(|lane| Writer::take_over(lane, shape)).collect::<Result<_, _>>()?;
    let mut reader = Reader::take_over(&&lanes[0], shape, lanes.len());
    lanes.iter().try_for_each(|lane| reader.add(lane))?;
    let hands = RingHands { writers, reader };
    many::run_with(scenario, &plan, &view, hands, progress, || {
        lanes.iter().for_each(|lane| lane.armed.set(true));
    })
}

/// The rings of several lanes.
struct RingHands<'a> {
    writers: Vec<Writer<&'a Planted<'a>>>,
    reader: Reader<&'a Planted<'a>>,
}

impl RingHands<'_> {
    fn push(&mut self, lane: usize, message: &[u8]) -> Result<(), Claim> {
        let writer = &mut self.writers[lane];
        writer.publish_gap(message.len())?;
        writer.claim(message.len())?;
        writer.write(0, message);
        writer.stage(0, message.len());
        Ok(())
    }
}

impl Hands for RingHands<'_> {
    fn take(&mut self, step: &Step) -> Result<()> {
        let no_room = |claim| anyhow!("no room: {claim:?}");
        match step {
            Step::Send(lane, message) => {
                self.push(*lane, message).map_err(no_room)?;
                self.writers[*lane].publish();
            }
            Step::Fail(lane, message) => {
                ensure!(self.push(*lane, message) == Err(Claim::Full), "the ring is not full");
            }
            Step::Batch(lane, messages, cause) => {
                messages.iter().try_for_each(|message| self.push(*lane, message)).map_err(no_room)?;
                match cause {
                    Some(cause) => self.writers[*lane].drop_message(*cause),
                    None => self.writers[*lane].publish(),
                }
            }
            Step::Drop(lane, cause) => self.writers[*lane].drop_message(*cause),
            Step::Read(lane, count) => {
                for _ in 0..*count {
                    let record = match self.reader.peek()? {
                        Some(record) => Some(record),
                        None => {
                            self.reader.begin();
                            self.reader.scan(true)?
                        }
                    };
                    let record = record.context("there is no message")?;
                    ensure!(record.lane as usize == *lane, "it is lane {}'s turn", record.lane);
                    self.reader.advance(&record);
                }
            }
            Step::Commit(position) => {
                if let Some(position) = *position {
                    self.reader.set_sink(Sink { id: SINK, position });
                }
                self.reader.commit();
            }
            Step::Close(lane) => self.writers[*lane].end()?,
        }
        Ok(())
    }
}

fn run_alone(plant: Option<Plant>, scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    let plan = scenario.plan();
    let (_region, view) = create(&scenario, &plan, path)?;
    let shape = scenario.shape();
    let memory = Planted::new(view.lane(0), plant);
    let mut reader = Reader::take_over(&&memory, shape, 1);
    reader.add(&memory)?;
    let mut pair = Rings { writer: Writer::take_over(&memory, shape)?, reader, output: Output::new(path)? };
    prepare(&scenario, &plan, &mut pair)?;
    let mut expected = Expected::new(&scenario, &plan);
    let message = expected.messages.last().expect("a subject").clone();
    if scenario.operation == Operation::FileCommit {
        pair.commit_to_file();
        pair.read_to_file(plan.pending.len())?;
        expected.file = Some(pair.output.file.try_clone()?);
    } else {
        check_believable(&scenario, &plan, &view)?;
    }
    memory.armed.set(true);

    let operate = || match scenario.operation {
        Operation::FileCommit => {
            pair.read_to_file(READS)?;
            pair.commit_to_file();
            Ok(())
        }
        _ => pair.send(&message),
    };
    let trusts_hints = plant == Some(Plant::TailTrustedBlindly);
    let survivors = OneLane { shape, expected: &expected, trusts_hints };
    let mut watch = Watch::new(scenario, &survivors, &view);
    each_instruction(progress, None, operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

struct Rings<'a> {
    writer: Writer<&'a Planted<'a>>,
    reader: Reader<&'a Planted<'a>>,
    output: Output,
}

impl Rings<'_> {
    fn read_to_file(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let record = self.reader.peek_lane(0)?.ok_or_else(|| anyhow!("there is no message"))?;
            let mut message = vec![0; record.len];
            self.reader.read(&record, &mut message);
            self.reader.advance(&record);
            self.output.write(&message)?;
        }
        Ok(())
    }

    fn commit_to_file(&mut self) {
        self.reader.set_sink(Sink { id: SINK, position: self.output.at });
        self.reader.commit();
    }
}

impl Pair for Rings<'_> {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.writer.claim(message.len()).map_err(|claim| anyhow!("no room: {claim:?}"))?;
        self.writer.write(0, message);
        self.writer.stage(0, message.len());
        self.writer.publish();
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let Some(record) = self.reader.peek_lane(0)? else {
            bail!("there is no message");
        };
        self.reader.advance(&record);
        self.reader.commit();
        Ok(())
    }
}

/// The view of a producer that has the bug as soon as it is armed.
#[derive(Debug)]
struct Planted<'a> {
    view: LaneView<'a>,
    plant: Option<Plant>,
    armed: Cell<bool>,
    /// Payloads and tickets that wait for the header.
    held: RefCell<Vec<(u64, Vec<u8>)>>,
    /// Tickets that were drawn and not stored.
    tickets: Cell<u64>,
}

impl<'a> Planted<'a> {
    fn new(view: LaneView<'a>, plant: Option<Plant>) -> Planted<'a> {
        let (armed, held, tickets) = (Cell::new(false), RefCell::default(), Cell::new(0));
        Planted { view, plant, armed, held, tickets }
    }

    fn has(&self, plant: Plant) -> bool {
        self.armed.get() && self.plant == Some(plant)
    }
}

impl Memory for Planted<'_> {
    fn load(&self, word: Word) -> u64 {
        self.view.load(word)
    }
    fn load_acquire(&self, word: Word) -> u64 {
        self.view.load_acquire(word)
    }
    fn store(&self, word: Word, value: u64) {
        use Word::{CheckGaps, HeadPosition, HeadSequence, SinkPosition};
        let (plant, slotted): (_, fn(Slot) -> Word) = match word {
            SinkPosition(_) => (Plant::RedoWordsStoredApart, SinkPosition),
            CheckGaps(_) => (Plant::GapsCountedApart, CheckGaps),
            HeadPosition(_) => (Plant::LaneCommitsApart, HeadPosition),
            HeadSequence(_) => (Plant::LaneCommitsApart, HeadSequence),
            word => return self.view.store(word, value),
        };
        let moved = [Slot::A, Slot::B].iter().all(|&slot| self.view.load(slotted(slot)) != value);
        if plant == Plant::LaneCommitsApart && !moved && self.has(Plant::LaneNotRewritten) {
            return;
        }
        self.view.store(word, value);
        if self.has(plant) {
            self.view.store(slotted(Slot::A), value);
            self.view.store(slotted(Slot::B), value);
        }
    }
    fn store_release(&self, word: Word, value: u64) {
        self.view.store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.view.replace(word, current, new)
    }
    fn add(&self, word: Word, value: u64) -> u64 {
        if word == Word::Tickets && self.has(Plant::TicketAfterPublish) {
            self.tickets.set(value);
        }
        self.view.add(word, value)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        self.view.header_acquire(position)
    }
    fn store_header(&self, position: u64, value: u64) {
        match self.tickets.get().checked_sub(1) {
            Some(left) => {
                self.tickets.set(left);
                self.held.borrow_mut().push((position, value.to_le_bytes().to_vec()));
            }
            None if value == 0 && self.has(Plant::NoZeroAfterRecord) => {}
            None => self.view.store_header(position, value),
        }
    }
    fn store_header_release(&self, position: u64, value: u64) {
        self.view.store_header_release(position, value);
        for (position, bytes) in self.held.borrow_mut().drain(..) {
            self.view.write(position, &bytes);
        }
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        if self.has(Plant::HeaderBeforePayload) {
            self.held.borrow_mut().push((position, bytes.to_vec()));
        } else {
            self.view.write(position, bytes)
        }
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        self.view.read(position, bytes)
    }
    fn keep_program_order(&self) {
        self.view.keep_program_order()
    }
}
