//! The rings with a planted bug: a proof that never fails proves nothing.
//!
//! The product's algorithm runs over a memory that does, from a moment on, what
//! a wrong algorithm would have done.

use std::cell::{Cell, RefCell};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use shmring::internals::layout::{Slot, Word};
use shmring::internals::ring::{Memory, Reader, Sink, Writer};

use super::expected::{Expected, READS};
use super::product::{Output, Pair, check_believable, create, prepare};
use super::scenario::{Operation, Scenario};
use super::trace::{Progress, each_instruction};
use super::view::View;
use super::watch::{Tally, Watch};

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
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Plant; 4] = [
        Plant::HeaderBeforePayload,
        Plant::NoZeroAfterRecord,
        Plant::TailTrustedBlindly,
        Plant::RedoWordsStoredApart,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plant::HeaderBeforePayload => "header-before-payload",
            Plant::NoZeroAfterRecord => "no-zero-after-record",
            Plant::TailTrustedBlindly => "tail-trusted-blindly",
            Plant::RedoWordsStoredApart => "redo-words-stored-apart",
        }
    }

    /// The operation that it shows in.
    pub(crate) fn operation(self) -> Operation {
        match self {
            Plant::RedoWordsStoredApart => Operation::FileCommit,
            _ => Operation::Send,
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
    let plan = scenario.plan();
    let (_region, view) = create(&scenario, &plan, path)?;
    let shape = scenario.shape();
    let memory = Planted { view: &view, plant, armed: Cell::new(false), held: RefCell::default() };
    let mut pair = Rings {
        writer: Writer::take_over(&memory, shape)?,
        reader: Reader::take_over(&memory, shape)?,
        output: Output::new(path)?,
    };
    prepare(&scenario, &plan, &mut pair)?;
    let mut expected = Expected::new(&scenario, &plan);
    let message = expected.messages.last().expect("a subject").clone();
    if scenario.operation == Operation::FileCommit {
        pair.commit_to_file();
        pair.read_to_file(plan.pending.len())?;
        expected.file = Some(pair.output.file.try_clone()?);
    } else {
        check_believable(&plan, &view)?;
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
    let mut watch = Watch::new(scenario, &expected, &view, trusts_hints);
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
            let record = self.reader.peek()?.ok_or_else(|| anyhow!("there is no message"))?;
            let mut message = vec![0; record.len];
            self.reader.read(&record, &mut message);
            self.reader.advance(&record);
            self.output.write(&message)?;
        }
        Ok(())
    }

    fn commit_to_file(&mut self) {
        self.reader.set_sink(Sink { id: [1, 2, 3, 4], position: self.output.at });
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
        let Some(record) = self.reader.peek()? else {
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
    view: &'a View,
    plant: Option<Plant>,
    armed: Cell<bool>,
    /// Payloads that were written and wait for their header.
    held: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl Planted<'_> {
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
        self.view.store(word, value);
        if matches!(word, Word::SinkPosition(_)) && self.has(Plant::RedoWordsStoredApart) {
            self.view.store(Word::SinkPosition(Slot::A), value);
            self.view.store(Word::SinkPosition(Slot::B), value);
        }
    }
    fn store_release(&self, word: Word, value: u64) {
        self.view.store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.view.replace(word, current, new)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        self.view.header_acquire(position)
    }
    fn store_header(&self, position: u64, value: u64) {
        if value != 0 || !self.has(Plant::NoZeroAfterRecord) {
            self.view.store_header(position, value)
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
