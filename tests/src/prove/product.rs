//! Scenarios on the product: its own handles on its own mapping.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use shmring::internals::layout::record;
use shmring::internals::layout::{Geometry, Word};
use shmring::internals::ring::Memory;
use shmring::{Consumer, Producer, Read, Region, RegionOptions, StreamId};

use super::expected::{Expected, FILE_BEFORE, READS};
use super::scenario::{CAPACITY, Load, Operation, Plan, Scenario, payload};
use super::survivors::OneLane;
use super::trace::{Focus, Progress, each_instruction, rehearse};
use super::view::{Changes, View};
use super::watch::{Tally, Watch};

/// One that can send a message and one that can take it off the ring.
pub(crate) trait Pair {
    /// Sends.
    fn send(&mut self, message: &[u8]) -> Result<()>;
    /// Reads the next message and commits it.
    fn receive(&mut self) -> Result<()>;
}

/// Fills the ring with believable headers and brings its tail to its place;
/// then sends what is there before the operation.
pub(crate) fn prepare(scenario: &Scenario, plan: &Plan, pair: &mut impl Pair) -> Result<()> {
    let mut sequence = plan.start_sequence;
    let mut send = |pair: &mut dyn Pair, len| {
        let message = payload(plan.believable, sequence, len);
        sequence = sequence.wrapping_add(1);
        pair.send(&message)
    };
    for &len in &plan.fillers {
        send(pair, len)?;
        pair.receive()?;
    }
    for &len in &plan.pending {
        send(pair, len)?;
    }
    if !scenario.operation.publishes() {
        for &len in &plan.subjects {
            send(pair, len)?;
        }
    }
    Ok(())
}

/// A scenario proves nothing if the word that the operation must set to zero
/// is not one that would be believed.
pub(crate) fn check_believable(scenario: &Scenario, plan: &Plan, view: &View) -> Result<()> {
    let word = view.image().data_word(scenario.lane(), (plan.end % CAPACITY) as usize);
    let head = record::decode(word).context("the word after the operation's records is no header")?;
    ensure!(record::carries(head.sequence_low, plan.believable), "it carries another sequence");
    Ok(())
}

/// Fills a new ring with words that look like headers, where there are zeros:
/// only the first one counts.
fn leave_believable(plan: &Plan, view: &View) {
    let lane = view.lane(0);
    lane.write(0, &payload(plan.believable, 0, CAPACITY as usize));
    lane.store_header(plan.start_position, 0);
}

/// A fresh region for a scenario, and a view of it.
pub(crate) fn create(scenario: &Scenario, plan: &Plan, path: &Path) -> Result<(Region, View)> {
    let align = scenario.shape().align;
    let region = RegionOptions::new()
        .capacity(CAPACITY)
        .record_align(align)
        .max_producers(scenario.lanes as u32)
        .order(scenario.order())
        .start_at(plan.start_position, plan.start_sequence)
        .create(path)?;
    let file = File::options().read(true).write(true).open(path)?;
    let view = View::new(file, &Geometry::plan(CAPACITY, align, scenario.lanes as u32)?)?;
    Ok((region, view))
}

/// Steps through one scenario.
pub(crate) fn run(scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    let Stage { view, mut product, expected, .. } = Stage::new(scenario, path)?;
    let mut operate = || product.operate(&scenario, expected.subjects());
    let focus = if scenario.needs_focus() { Some(find_focus(&view, progress, &mut operate)?) } else { None };
    let survivors = OneLane { shape: scenario.shape(), expected: &expected, plant: None };
    let mut watch = Watch::new(scenario, &survivors, &view);
    each_instruction(progress, focus.as_ref(), operate, |returned| watch.look(returned))?;
    Ok(watch.finish())
}

/// A scenario just before its operation.
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) plan: Plan,
    pub(crate) view: View,
    pub(crate) product: Product,
    pub(crate) expected: Expected,
}

impl Stage {
    /// Sets it up.
    pub(crate) fn new(scenario: Scenario, path: &Path) -> Result<Stage> {
        Stage::with_plan(scenario, scenario.plan(), path)
    }

    /// The same with a plan for more than the operation.
    pub(crate) fn with_plan(scenario: Scenario, plan: Plan, path: &Path) -> Result<Stage> {
        let (region, view) = create(&scenario, &plan, path)?;
        let is_new = scenario.operation.is_on_new_region();
        if is_new {
            leave_believable(&plan, &view);
        }
        let has_producer = scenario.operation != Operation::FirstProducer;
        let mut product = Product {
            producer: has_producer.then(|| region.producer()).transpose()?,
            consumer: (!is_new).then(|| region.consumer()).transpose()?,
            region,
            path: path.to_owned(),
            output: Output::new(path)?,
        };
        prepare(&scenario, &plan, &mut product)?;
        if scenario.operation.publishes() || scenario.operation == Operation::Close {
            check_believable(&scenario, &plan, &view)?;
        }
        product.leave_as_found(&scenario, &plan, &view)?;
        let mut expected = Expected::new(&scenario, &plan);
        if scenario.operation == Operation::FileCommit {
            expected.file = Some(product.output.file.try_clone()?);
        }
        Ok(Stage { scenario, plan, view, product, expected })
    }
}

/// Where `operate` changes the lane, which is then as it was before.
pub(crate) fn find_focus(
    view: &View,
    progress: &Progress,
    operate: impl FnOnce() -> Result<()>,
) -> Result<Focus> {
    let before = view.image();
    let (mut seen, mut changes) = (before.clone(), Changes::default());
    let changed = || {
        view.refresh(&mut seen, &mut changes);
        !changes.is_empty()
    };
    let focus = rehearse(progress, operate, changed)?;
    view.restore(&before)?;
    Ok(focus)
}

/// The product's own handles.
pub(crate) struct Product {
    region: Region,
    path: PathBuf,
    pub(crate) producer: Option<Producer>,
    pub(crate) consumer: Option<Consumer>,
    output: Output,
}

/// The file that a consumer writes.
pub(crate) struct Output {
    pub(crate) file: File,
    /// Written up to here.
    pub(crate) at: u64,
}

impl Output {
    /// A file that something was written to and committed.
    pub(crate) fn new(region: &Path) -> Result<Output> {
        let path = region.with_extension("out");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(FILE_BEFORE, 0)?;
        Ok(Output { file, at: FILE_BEFORE.len() as u64 })
    }

    /// Writes a message behind the last one, as a file is written that a kill
    /// may leave half written.
    pub(crate) fn write(&mut self, message: &[u8]) -> Result<()> {
        let (first, second) = message.split_at(message.len() / 3);
        for piece in [first, second] {
            self.file.write_all_at(piece, self.at)?;
            self.at += piece.len() as u64;
        }
        Ok(())
    }
}

impl Pair for Product {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        self.producer().try_send(message).context("the set-up's message does not fit")
    }

    fn receive(&mut self) -> Result<()> {
        self.read(1)?;
        self.consumer().commit();
        Ok(())
    }
}

impl Product {
    fn producer(&mut self) -> &mut Producer {
        self.producer.as_mut().expect("attached")
    }

    fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("attached")
    }

    pub(crate) fn read(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            match self.consumer().try_read()? {
                Read::Message(_) => {}
                other => bail!("instead of a message: {other:?}"),
            }
        }
        Ok(())
    }

    fn read_to_file(&mut self, count: usize) -> Result<()> {
        let consumer = self.consumer.as_mut().expect("attached");
        for _ in 0..count {
            match consumer.try_read()? {
                Read::Message(message) => self.output.write(message.payload)?,
                other => bail!("instead of a message: {other:?}"),
            }
        }
        Ok(())
    }

    /// What those did before who died before the operation.
    fn leave_as_found(&mut self, scenario: &Scenario, plan: &Plan, view: &View) -> Result<()> {
        match scenario.operation {
            Operation::ReadCommit => self.read(plan.pending.len())?,
            Operation::FileCommit => {
                let at = self.output.at;
                self.consumer().bind_sink(StreamId([1, 2, 3, 4]))?;
                self.consumer().commit_at(at);
                self.read_to_file(plan.pending.len())?;
                if scenario.twisted() {
                    // Left by one that died before its commit.
                    let at = self.output.at;
                    self.output.file.write_all_at(&payload(plan.believable, 0, 2000), at)?;
                }
            }
            Operation::Takeover => {
                die_sending(scenario, plan, self.producer())?;
                self.producer.take().expect("attached").abandon();
            }
            Operation::NextProducer => self.producer.take().expect("attached").close(),
            Operation::ConsumerAttach => {
                let head = view.lane(0).load(Word::Head);
                self.read(plan.pending.len())?;
                self.consumer().commit();
                self.read(1)?;
                drop(self.consumer.take());
                if scenario.twisted() {
                    // It died between the commit and the head word.
                    view.lane(0).store(Word::Head, head);
                }
            }
            _ => {}
        }
        let takes_the_lane = [Operation::Takeover, Operation::FirstProducer, Operation::NextProducer]
            .contains(&scenario.operation);
        if takes_the_lane && scenario.twisted() {
            view.lane(0).store(Word::TailHint, plan.end.wrapping_add(64));
            view.lane(0).store(Word::SequenceHint, 0);
        }
        Ok(())
    }

    /// The stepped code. What it makes is kept, not dropped.
    pub(crate) fn operate(&mut self, scenario: &Scenario, subjects: &[Vec<u8>]) -> Result<()> {
        match scenario.operation {
            Operation::Send => self.producer().try_send(&subjects[0])?,
            Operation::ReserveCommit => {
                let reserved = scenario.reserve(subjects[0].len());
                reserve_and_commit(self.producer(), reserved, &subjects[0])?;
            }
            Operation::Batch => send_batch(self.producer(), subjects)?,
            Operation::ReadCommit => {
                self.read(READS)?;
                self.consumer().commit();
            }
            Operation::FileCommit => {
                self.read_to_file(READS)?;
                let at = self.output.at;
                self.consumer().commit_at(at);
            }
            Operation::Takeover => self.producer = Some(self.region.producer()?),
            Operation::ConsumerAttach => self.consumer = Some(self.region.consumer()?),
            Operation::FirstConsumer => {
                self.region = Region::open(&self.path)?;
                self.consumer = Some(self.region.consumer()?);
            }
            Operation::FirstProducer | Operation::NextProducer => {
                self.region = Region::open(&self.path)?;
                self.producer = Some(self.region.producer()?);
            }
            Operation::Close => self.producer.take().expect("attached").close(),
            other => unreachable!("{} is not about one lane alone", other.name()),
        }
        Ok(())
    }
}

/// Sends a message that is written in place, in two pieces.
pub(crate) fn reserve_and_commit(producer: &mut Producer, reserved: usize, message: &[u8]) -> Result<()> {
    let (first, second) = message.split_at(message.len() / 3);
    let mut grant = producer.try_reserve(reserved)?;
    grant.write_all(first)?;
    grant.write_all(second)?;
    grant.commit();
    Ok(())
}

/// Sends messages that appear together.
pub(crate) fn send_batch(producer: &mut Producer, messages: &[Vec<u8>]) -> Result<()> {
    let mut batch = producer.batch();
    messages.iter().try_for_each(|message| batch.try_push(message))?;
    batch.publish();
    Ok(())
}

/// Bytes of a message or of a batch that was never published.
pub(crate) fn die_sending(scenario: &Scenario, plan: &Plan, producer: &mut Producer) -> Result<()> {
    if scenario.load == Load::Empty {
        // All over the ring, the records before the last check point too.
        let len = producer.max_message() - plan.subjects[0] - 2 * scenario.shape().align as usize;
        return Ok(producer.try_reserve(len)?.write_all(&payload(plan.believable, 0, len))?);
    }
    let mut batch = producer.batch();
    for len in [200, 24, 8] {
        // In a full ring it died waiting.
        let _ = batch.try_push(&payload(plan.believable, 0, len));
    }
    Ok(())
}
