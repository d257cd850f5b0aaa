//! A producer that takes a lane beside a living one's: stepped, and survived by
//! the product's own handles on a copy of the file.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use shmring::internals::layout::blocks::{LaneState, Phase};
use shmring::internals::layout::{Part, Word};
use shmring::internals::ring::Memory;
use shmring::{AttachError, Consumer, Producer, ProducerOptions, Read, Region, StreamId};

use super::expected::AFTER;
use super::product::{Pair, create, die_sending, find_focus, prepare};
use super::scenario::{CAPACITY, Operation, Plan, Scenario, payload};
use super::trace::{Progress, each_instruction};
use super::view::{Image, View};
use super::watch::{First, Left, Survivors, Tally, Verdict, Watch, told};

/// The longest that a name can be: four words.
const NAME: &str = "the-till.of_32-bytes.at-the-door";
const SOURCE: StreamId = StreamId([5, 6, 7, 8]);
/// Messages in the lane of the producer that lives on.
const LIVING: [usize; 2] = [16, 100];

/// Steps through one scenario.
pub(crate) fn run(scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    run_with(scenario, path, progress, |_, _| Ok(()))
}

/// Steps through one scenario, with `first` done at the start of the operation.
pub(crate) fn run_with(
    scenario: Scenario,
    path: &Path,
    progress: &Progress,
    first: impl Fn(&View, &File) -> Result<()>,
) -> Result<Tally> {
    let plan = scenario.plan();
    let (region, view) = create(&scenario, &plan, path)?;
    let free = view.space();
    let who = Who::of(&scenario);
    let mut ring = Attached {
        living: region.producer()?,
        // In lane 1, unless the operation is to take it.
        other: match scenario.operation {
            Operation::Takeover => Some(region.producer_with(&who.options())?),
            _ => None,
        },
        consumer: region.consumer()?,
    };
    prepare(&scenario, &plan, &mut ring)?;
    let mut lanes = [vec![], vec![]];
    let sequences = (0..).map(|i| plan.first_sequence.wrapping_add(i));
    let planned = plan.pending.iter().chain(&plan.subjects);
    lanes[scenario.lane()] = sequences
        .zip(planned)
        .map(|(sequence, &len)| (sequence, payload(plan.believable, sequence, len)))
        .collect();
    if let Some(mut dead) = ring.other.take() {
        for len in LIVING {
            let sequence = ring.living.sequence();
            let message = payload(plan.believable, sequence, len);
            ring.living.try_send(&message)?;
            lanes[0].push((sequence, message));
        }
        die_sending(&scenario, &plan, &mut dead)?;
        dead.abandon();
    }
    if scenario.twisted() {
        leave_junk(&scenario, &plan, &view);
    }

    let copy_path = path.with_extension("copy");
    let (copy, copy_view) = create(&scenario, &plan, &copy_path)?;
    let survivors = Newcomers {
        // Holds lane 0's lock while others come and go.
        _living: copy.producer()?,
        copy,
        copy_view,
        before: view.image(),
        scenario,
        believable: plan.believable,
        start_sequence: plan.start_sequence,
        lanes,
        // Not every file system tells of space as soon as it is reserved.
        full: (scenario.operation == Operation::LaneTake && free >= CAPACITY).then_some(free + CAPACITY),
        who,
    };
    let file = File::options().read(true).write(true).open(path)?;
    let mut taken = None;
    let mut operate = || {
        first(&view, &file)?;
        taken = Some(region.producer_with(&who.options())?);
        Ok(())
    };
    let focus = if scenario.needs_focus() { Some(find_focus(&view, progress, &mut operate)?) } else { None };
    let mut watch = Watch::new(scenario, &survivors, &view);
    each_instruction(progress, focus.as_ref(), operate, |returned| watch.look(returned))?;
    let tally = watch.finish();
    survivors.remove(&copy_path)?;
    Ok(tally)
}

/// Who takes the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// Nobody in particular.
    Anybody,
    /// One with a name.
    Named,
    /// That one, with a source.
    Bound,
}

impl Who {
    fn of(scenario: &Scenario) -> Who {
        [Who::Anybody, Who::Named, Who::Bound][scenario.number % 3]
    }

    fn options(self) -> ProducerOptions {
        let options = ProducerOptions::new();
        match self {
            Who::Anybody => options,
            Who::Named => options.name(NAME),
            Who::Bound => options.name(NAME).source(SOURCE),
        }
    }

    fn name(self) -> Option<&'static str> {
        (self >= Who::Named).then_some(NAME)
    }
}

/// Words that say nothing, left by those who died in the lane.
fn leave_junk(scenario: &Scenario, plan: &Plan, view: &View) {
    let lane = view.lane(1);
    match scenario.operation {
        Operation::Takeover => {
            lane.store(Word::TailHint, plan.end.wrapping_add(64));
            lane.store(Word::SequenceHint, 0);
        }
        _ => {
            for part in Part::ALL {
                lane.store(Word::Name(part), u64::from_le_bytes(*b"of-other"));
                lane.store(Word::SourceId(part), 99);
            }
        }
    }
}

/// The stepped process's handles.
struct Attached {
    living: Producer,
    other: Option<Producer>,
    consumer: Consumer,
}

impl Pair for Attached {
    fn send(&mut self, message: &[u8]) -> Result<()> {
        let producer = self.other.as_mut().unwrap_or(&mut self.living);
        producer.try_send(message).context("the set-up's message does not fit")
    }

    fn receive(&mut self) -> Result<()> {
        ensure!(matches!(self.consumer.try_read()?, Read::Message(_)), "there is no message");
        self.consumer.commit();
        Ok(())
    }
}

/// Messages with their sequences, in order.
type Queue = VecDeque<(u64, Vec<u8>)>;

/// Those who come next to a region of two lanes. The producer of the first
/// lives on.
struct Newcomers {
    _living: Producer,
    copy: Region,
    copy_view: View,
    before: Image,
    scenario: Scenario,
    believable: u64,
    /// The sequence that a lane starts with.
    start_sequence: u64,
    /// What lies in the two lanes.
    lanes: [Vec<(u64, Vec<u8>)>; 2],
    /// Bytes that the file takes once both have their space, if that is told.
    full: Option<u64>,
    who: Who,
}

/// What a kill left of the one that took lane 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    is_ready: bool,
    is_named: bool,
    is_bound: bool,
    /// How many died in the lane and were followed by another one.
    deaths: u32,
    /// How often it was taken.
    epoch: u32,
    attaches: u64,
}

impl Survivors for Newcomers {
    type Found = Taken;

    fn come(&self, left: Left<'_>, first: First, _lap: bool) -> Verdict<Taken> {
        let taken = self.taken(left.image)?;
        match first {
            First::Producer => {
                self.producer_first(left.image)?;
                self.another_first(left.image, &taken)?;
            }
            First::Consumer => {
                self.consumer_first(left.image)?;
                self.consumer_lives(left.image)?;
            }
        }
        Ok(taken)
    }

    fn judge(&self, found: &Taken, last: Option<&Taken>, returned: bool) -> Verdict<()> {
        let before = u32::from(self.scenario.operation == Operation::Takeover);
        let after = Taken {
            is_ready: true,
            is_named: self.who >= Who::Named,
            is_bound: self.who == Who::Bound,
            // Who comes back has not died for good.
            deaths: if self.who == Who::Anybody { before } else { 0 },
            epoch: before + 1,
            // That of lane 0's producer, too.
            attaches: u64::from(before) + 2,
        };
        if returned && *found != after {
            return Err(format!("{found:?} although the operation returned: {after:?}"));
        }
        let order = |t: &Taken| (t.is_ready, t.is_named, t.is_bound, t.epoch, t.attaches);
        if order(found) > order(&after) || last.is_some_and(|last| order(last) > order(found)) {
            return Err(format!("{found:?} after {last:?}; in the end: {after:?}"));
        }
        Ok(())
    }
}

impl Newcomers {
    /// What the words say; a name or a source is there whole or not at all.
    fn taken(&self, image: &Image) -> Verdict<Taken> {
        let word = |word| image.word(1, word);
        let words = |part: fn(Part) -> Word| Part::ALL.map(|p| word(part(p)).to_le_bytes()).concat();
        let is_ready = image.is_ready(1);
        if is_ready && self.full.is_some_and(|full| image.space() < full) {
            return Err("the lane is called ready and has no space".into());
        }
        let is_named = word(Word::Named) == 1;
        if is_named && words(Word::Name) != NAME.as_bytes() {
            return Err(format!("the lane is called {:?}", String::from_utf8_lossy(&words(Word::Name))));
        }
        let is_bound = word(Word::SourceBound) == 1;
        if is_bound && Part::ALL.map(|p| word(Word::SourceId(p))) != SOURCE.0 {
            return Err("the lane is bound to another source".into());
        }
        let state = LaneState::decode(word(Word::State)).ok_or("the lane's state is unknown")?;
        if state.phase != Phase::Fresh && !is_ready {
            return Err("the lane is in use and not ready".into());
        }
        let LaneState { epoch, deaths, .. } = state;
        Ok(Taken { is_ready, is_named, is_bound, deaths, epoch, attaches: word(Word::Attaches) })
    }

    /// A producer like the one that died comes and sends; then a consumer.
    fn producer_first(&self, image: &Image) -> Verdict<()> {
        told("the copy", self.copy_view.restore(image))?;
        let mut producer = self.like_the_dead()?;
        let mut sent = vec![];
        while sent.len() < AFTER.len() && self.send(&mut producer, &mut sent)? {}
        let mut consumer = told("the new consumer", self.copy.consumer())?;
        self.read_what_was(&mut consumer, &mut sent.into())?;
        consumer.commit();
        self.send_and_read(&mut producer, &mut consumer)?;
        producer.abandon();
        Ok(())
    }

    /// A consumer comes first and reads all; then such a producer.
    fn consumer_first(&self, image: &Image) -> Verdict<()> {
        told("the copy", self.copy_view.restore(image))?;
        let mut consumer = told("the new consumer", self.copy.consumer())?;
        self.read_and_go_on(&mut consumer, image)
    }

    /// A consumer was there all the time.
    fn consumer_lives(&self, image: &Image) -> Verdict<()> {
        told("the copy", self.copy_view.restore(&self.before))?;
        let mut consumer = told("the consumer that lives", self.copy.consumer())?;
        told("the copy", self.copy_view.restore(image))?;
        self.read_and_go_on(&mut consumer, image)
    }

    fn read_and_go_on(&self, consumer: &mut Consumer, image: &Image) -> Verdict<()> {
        self.read_what_was(consumer, &mut Default::default())?;
        let attached = told("the consumer", consumer.check_producers())?;
        if attached != 1 {
            return Err(format!("{attached} producers are said to live"));
        }
        let state = LaneState::decode(image.word(1, Word::State)).ok_or("an impossible state")?;
        // Those whose lane another took, and the last one.
        for _ in 0..state.deaths + (state.phase == Phase::Open) as u32 {
            match told("the consumer", consumer.try_read())? {
                Read::Died(death) if death.lane == 1 => {}
                other => return Err(format!("instead of a death: {other:?}")),
            }
        }
        match told("the consumer", consumer.try_read())? {
            Read::Empty => {}
            other => return Err(format!("instead of nothing: {other:?}")),
        }
        consumer.commit();
        let mut producer = self.like_the_dead()?;
        self.send_and_read(&mut producer, consumer)?;
        producer.abandon();
        Ok(())
    }

    /// Another producer than the dead one comes.
    fn another_first(&self, image: &Image, taken: &Taken) -> Verdict<()> {
        told("the copy", self.copy_view.restore(image))?;
        let is_kept = taken.is_named || taken.is_bound;
        let named = self.who == Who::Anybody;
        let options = if named { ProducerOptions::new().name("other") } else { ProducerOptions::new() };
        // A name is for a lane where nothing is that others sent.
        let drained = self.lanes[1].is_empty();
        match self.copy.producer_with(&options) {
            Ok(mut producer) if !is_kept && (drained || !named) && producer.lane() == 1 => {
                let mut consumer = told("the new consumer", self.copy.consumer())?;
                let mut sent = vec![];
                while sent.len() < AFTER.len() && self.send(&mut producer, &mut sent)? {}
                let name = named.then_some("other");
                self.read_exactly(&mut consumer, &mut sent.into(), name)?;
                producer.abandon();
                Ok(())
            }
            Err(AttachError::NoLane { lanes: 2, kept }) if is_kept && kept == 1 => Ok(()),
            Err(AttachError::NoLane { lanes: 2, kept: 0 }) if named && !drained => Ok(()),
            other => Err(format!("another producer, after {taken:?}: {other:?}")),
        }
    }

    /// It gets the lane, and goes on behind what is there.
    fn like_the_dead(&self) -> Verdict<Producer> {
        let producer = told("the new producer", self.copy.producer_with(&self.who.options()))?;
        let next = self.lanes[1].last().map_or(self.start_sequence, |(last, _)| last.wrapping_add(1));
        if producer.lane() != 1 || producer.sequence() != next {
            let (lane, sequence) = (producer.lane(), producer.sequence());
            return Err(format!(
                "the new producer is in lane {lane} at {sequence:#x}, not in 1 at {next:#x}"
            ));
        }
        Ok(producer)
    }

    /// Sends the next message; false if the ring is full.
    fn send(&self, producer: &mut Producer, sent: &mut Vec<(u64, Vec<u8>)>) -> Verdict<bool> {
        let sequence = producer.sequence();
        let message = payload(self.believable, !sequence, AFTER[sent.len()]);
        match producer.try_send(&message) {
            Ok(()) => {
                sent.push((sequence, message));
                Ok(true)
            }
            Err(shmring::SendError::Full) if !self.lanes[1].is_empty() => Ok(false),
            Err(e) => Err(format!("the new producer: {e}")),
        }
    }

    fn send_and_read(&self, producer: &mut Producer, consumer: &mut Consumer) -> Verdict<()> {
        let mut sent = vec![];
        while sent.len() < AFTER.len() {
            if !self.send(producer, &mut sent)? {
                return Err("an empty ring is called full".into());
            }
        }
        self.read_lanes(consumer, [&mut Default::default(), &mut sent.into()], self.who.name())?;
        consumer.commit();
        Ok(())
    }

    /// What was there before the kill, and then what the new producer sent.
    fn read_what_was(&self, consumer: &mut Consumer, sent: &mut Queue) -> Verdict<()> {
        self.read_exactly(consumer, sent, self.who.name())
    }

    fn read_exactly(&self, consumer: &mut Consumer, sent: &mut Queue, name: Option<&str>) -> Verdict<()> {
        let [mut zero, mut one] = self.lanes.clone().map(Queue::from);
        one.append(sent);
        self.read_lanes(consumer, [&mut zero, &mut one], name)
    }

    /// Reads exactly these messages of the two lanes. Lane 1 has this name.
    fn read_lanes(&self, consumer: &mut Consumer, lanes: [&mut Queue; 2], name: Option<&str>) -> Verdict<()> {
        loop {
            match told("the consumer", consumer.try_read())? {
                Read::Message(message) => {
                    let lane = message.lane as usize;
                    let (sequence, payload) = lanes[lane].pop_front().ok_or("a message too much")?;
                    if (message.sequence, message.payload) != (sequence, &payload[..]) {
                        let at = message.sequence;
                        return Err(format!("lane {lane}, {at:#x}: not the message {sequence:#x}"));
                    }
                    let right = if lane == 1 { name } else { None };
                    if message.name != right {
                        return Err(format!("lane {lane}: from {:?}, not from {right:?}", message.name));
                    }
                }
                Read::Empty => break,
                other => return Err(format!("instead of a message: {other:?}")),
            }
        }
        match lanes.iter().map(|lane| lane.len()).sum() {
            0 => Ok(()),
            left => Err(format!("{left} messages are lost")),
        }
    }

    fn remove(self, path: &Path) -> Result<()> {
        drop(self);
        Ok(std::fs::remove_file(path)?)
    }
}
