//! Paused at every instruction: the others act on the region itself, then the
//! paused one goes on. It lives all the while: its lock is held.
//!
//! A paused producer: the consumer, the product's, reads all that is there and
//! commits, and the producer of another lane sends. A paused consumer: the
//! producers fill their rings to the last byte that they may have. Then a copy
//! of the paused one goes on to the end of its operation and does a little
//! more; all that came must be what was sent, once, in order, to the last byte.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::Word;
use shmring::internals::ring::{Claim, Memory, Reader, Writer};
use shmring::{Consumer, Order, Read, Region};

use super::cast::{Book, Cast, MORE, NEXT, get, set};
use super::copies::{Paused, each_pause};
use super::product::{create, find_focus, prepare};
use super::scenario::{CAPACITY, Operation, Scenario};
use super::trace::{Focus, Progress, each_instruction};
use super::tracee::Tracee;
use super::view::{Changes, Image, LaneView, View};
use super::watch::{Tally, Verdict, told};

/// What is paused.
pub(crate) const OPERATIONS: [Operation; 10] = [
    Operation::Send,
    Operation::ReserveCommit,
    Operation::Batch,
    Operation::ReadCommit,
    Operation::Takeover,
    Operation::ConsumerAttach,
    Operation::Close,
    Operation::LaneTake,
    Operation::TotalSend,
    Operation::DropMessage,
];

/// Lengths of the messages that fill a ring, to its last bytes.
const FILL: [usize; 4] = [6000, 1000, 100, 0];

/// Steps through one scenario and pauses everywhere.
pub(crate) fn run(scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    let plan = scenario.plan();
    let (region, view) = create(&scenario, &plan, path)?;
    let book = Book::new(&scenario, &plan);
    let mut cast = Cast::new(&region, &scenario)?;
    prepare(&scenario, &plan, &mut cast)?;
    cast.leave_as_found(&scenario, &plan, &view)?;
    let subjects = book.subjects(&plan);
    let mut notes = [book.base; 3];
    set(progress, notes);

    let mut focus = None;
    let mut moments = None;
    if scenario.needs_focus() {
        let mut operate = || cast.operate(&scenario, &subjects, progress);
        focus = Some(find_focus(&view, progress, &mut operate)?);
        moments = Some(find_moments(&view, progress, focus.as_ref(), operate)?);
    }
    set(progress, notes);
    let file = File::options().read(true).write(true).open(path)?;
    let mut ground = Ground::new(scenario, &view, &file);
    let mut others = Others { scenario, book: &book, view: &view, region: &region, attached: 0 };
    let (cast, messages) = (&mut cast, &subjects[..]);
    let begin = move || cast.operate(&scenario, messages, progress).map(|()| cast);
    let sequel = |cast: &mut Cast<'_>| cast.go_on(&scenario, &book, progress);
    let mut boundary = 0;
    each_pause(progress, focus.as_ref(), begin, sequel, |paused| {
        boundary += 1;
        if moments.as_ref().is_some_and(|moments| !is_worth_it(moments, boundary)) {
            return Ok(());
        }
        notes = get(progress);
        ground.pause(|point| {
            let verdict = others.act(paused, progress, point);
            set(progress, notes);
            verdict
        })
    })?;
    Ok(ground.tally)
}

/// The boundaries at which an attach changes the region, which is then as it was.
fn find_moments(
    view: &View,
    progress: &Progress,
    focus: Option<&Focus>,
    operate: impl FnOnce() -> Result<()>,
) -> Result<Vec<u64>> {
    let before = view.image();
    let (mut seen, mut changes) = (before.clone(), Changes::default());
    let (mut boundary, mut moments) = (0, vec![]);
    each_instruction(progress, focus, operate, |_| {
        boundary += 1;
        view.refresh(&mut seen, &mut changes);
        if !changes.is_empty() {
            moments.push(boundary);
        }
        Ok(())
    })?;
    view.restore(&before)?;
    Ok(moments)
}

/// An attach has thousands of instructions that read what the kernel says of
/// this process. It is paused around those that change the region, and at some
/// of the others.
fn is_worth_it(moments: &[u64], boundary: u64) -> bool {
    boundary.is_multiple_of(32) || moments.iter().any(|&moment| boundary.abs_diff(moment) < 50)
}

/// A consumer that reads one message, and frees it: `too_soon` before it copies
/// it. Paused between the two that one must be seen to get another's bytes.
pub(crate) fn read_alone(too_soon: bool, path: &Path, progress: &Progress) -> Result<Tally> {
    let scenario = Scenario::new(Operation::ReadCommit, 21);
    let plan = scenario.plan();
    let (region, view) = create(&scenario, &plan, path)?;
    let book = Book::new(&scenario, &plan);
    let mut cast = Cast::new(&region, &scenario)?;
    prepare(&scenario, &plan, &mut cast)?;
    let first = book.message(0, plan.first_sequence, None);
    let mut reader = Reader::take_over(&view.lane(0), scenario.shape(), 1);
    reader.add(view.lane(0))?;
    let file = File::options().read(true).write(true).open(path)?;
    let mut ground = Ground::new(scenario, &view, &file);
    let mut bytes = vec![0; first.len()];
    let operate = || {
        let record = reader.peek_lane(0)?.context("there is no message")?;
        if !too_soon {
            reader.read(&record, &mut bytes);
        }
        reader.advance(&record);
        reader.commit();
        if too_soon {
            reader.read(&record, &mut bytes);
        }
        ensure!(bytes == first, "the message is torn");
        Ok(())
    };
    each_pause(
        progress,
        None,
        operate,
        |()| Ok(()),
        |paused| {
            ground.pause(|_| {
                fill(&mut new_writer(&view, 0, &scenario)?, &book, 0)?;
                resume(paused).map(drop)
            })
        },
    )?;
    Ok(ground.tally)
}

/// The region as the paused process left it, whatever the others do there.
struct Ground<'a> {
    scenario: Scenario,
    view: &'a View,
    file: &'a File,
    image: Image,
    changes: Changes,
    tally: Tally,
}

impl<'a> Ground<'a> {
    fn new(scenario: Scenario, view: &'a View, file: &'a File) -> Ground<'a> {
        let tally = Tally { scenarios: 1, ..Tally::default() };
        Ground { scenario, view, file, image: view.image(), changes: Changes::default(), tally }
    }

    /// Has the others act at one point, and takes back what they did.
    fn pause(&mut self, act: impl FnOnce(u64) -> Verdict<()>) -> Result<()> {
        self.tally.points += 1;
        self.view.refresh(&mut self.image, &mut self.changes);
        self.tally.images += !self.changes.is_empty() as u64;
        let space = self.view.space();
        let point = self.tally.points;
        // Who panics has not borne it.
        let verdict = catch_unwind(AssertUnwindSafe(|| act(point))).unwrap_or_else(|_| Err("a panic".into()));
        if let Err(violation) = verdict {
            let scenario = self.scenario;
            self.tally
                .violated(|| format!("{violation} ({scenario}; paused at instruction boundary {point})"));
        }
        self.view.restore(&self.image)?;
        if self.view.space() < space {
            // The paused one had it already, in a lane that it takes.
            let at = self.view.ring_at(1) as i64;
            fallocate(self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, at, CAPACITY as i64)?;
        }
        Ok(())
    }
}

/// What a consumer was told.
struct Transcript {
    /// The sequence that comes next, of each lane.
    next: Vec<u64>,
    deaths: u32,
    ends: u32,
    /// Lanes and sequences in the order of delivery.
    order: Vec<(usize, u64)>,
}

/// Those who are not paused.
struct Others<'a> {
    scenario: Scenario,
    book: &'a Book,
    view: &'a View,
    region: &'a Region,
    /// How many producers were attached at the point before.
    attached: u32,
}

impl Others<'_> {
    fn act(&mut self, paused: &Paused<'_>, progress: &Progress, point: u64) -> Verdict<()> {
        match self.scenario.operation {
            Operation::ReadCommit | Operation::ConsumerAttach => self.fill(paused, progress),
            _ => self.read(paused, progress, point),
        }
    }

    /// A consumer is paused: its producer fills the ring, and again after it.
    fn fill(&self, paused: &Paused<'_>, progress: &Progress) -> Verdict<()> {
        let mut writer = new_writer(self.view, 0, &self.scenario)?;
        fill(&mut writer, self.book, 0)?;
        let _copy = resume(paused)?;
        let next = progress.note(NEXT).load(Ordering::Relaxed);
        if next != writer.sequence() {
            return Err(format!("it read to {next:#x}, and {:#x} comes next", writer.sequence()));
        }
        self.check_drained(0)?;
        fill(&mut writer, self.book, 0)?;
        fill(&mut new_writer(self.view, 0, &self.scenario)?, self.book, 0)
    }

    /// A producer is paused: the consumer reads, and what it read is free.
    fn read(&mut self, paused: &Paused<'_>, progress: &Progress, point: u64) -> Verdict<()> {
        let Others { scenario, view, .. } = *self;
        let (paused_lane, deaths, mut ends) = match scenario.operation {
            Operation::LaneTake => (1, 0, 0),
            Operation::Takeover => (0, 1, 0),
            Operation::Close | Operation::DropMessage => (0, 0, 1),
            _ => (scenario.lane(), 0, 0),
        };
        let [begun, sent, _] = get(progress);
        let (next, order) = (self.book.firsts.clone(), vec![]);
        let mut transcript = Transcript { next, deaths: 0, ends: 0, order };
        let mut others = vec![];
        if scenario.lanes > 1 {
            others.push((1 - paused_lane, new_writer(view, 1 - paused_lane, &scenario)?));
        }
        let mut meanwhile = vec![];
        let mut send = || {
            others.iter_mut().try_for_each(|(lane, writer)| {
                for _ in 0..MORE {
                    let message = self.book.message(*lane, writer.sequence(), None);
                    meanwhile.push((*lane, writer.sequence()));
                    send(writer, &message)?;
                }
                Ok::<_, String>(())
            })
        };
        let mut consumer = self.new_consumer()?;
        // Now and then the other producer is the first.
        if point.is_multiple_of(3) {
            send()?;
        }
        let attached = told("the consumer", consumer.check_producers())?;
        let in_the_end = scenario.lanes as u32;
        if attached < self.attached || attached > in_the_end {
            return Err(format!("{attached} producers are said to live, after {}", self.attached));
        }
        let least = scenario.lanes as u32
            - matches!(scenario.operation, Operation::Takeover | Operation::LaneTake) as u32;
        if attached < least {
            return Err("the paused producer is called dead".into());
        }
        self.attached = attached;
        // Of the dead one and of all, before the next one came.
        ends += (attached == 0) as u32;
        self.read_all(&mut consumer, &mut transcript)?;
        consumer.commit();
        if !point.is_multiple_of(3) {
            send()?;
        }
        if point.is_multiple_of(2) {
            drop(consumer);
            consumer = self.new_consumer()?;
        }
        let _copy = resume(paused)?;
        let attached = told("the consumer", consumer.check_producers())?;
        if attached != in_the_end {
            return Err(format!("{attached} producers are said to live after it went on"));
        }
        self.read_all(&mut consumer, &mut transcript)?;
        consumer.commit();
        let end = progress.note(NEXT).load(Ordering::Relaxed);
        if transcript.next[paused_lane] != end {
            return Err(format!("{:#x} comes next, and it sent to {end:#x}", transcript.next[paused_lane]));
        }
        for (lane, writer) in &others {
            if transcript.next[*lane] != writer.sequence() {
                return Err(format!(
                    "lane {lane}: {:#x} comes next, not {:#x}",
                    transcript.next[*lane],
                    writer.sequence()
                ));
            }
        }
        if (transcript.deaths, transcript.ends) != (deaths, ends) {
            return Err(format!("{} deaths and {} ends were told", transcript.deaths, transcript.ends));
        }
        if scenario.order() == Order::Total {
            check_order(&transcript.order, &meanwhile, paused_lane, [begun, sent])?;
        }
        (0..scenario.lanes).try_for_each(|lane| self.check_drained(lane))
    }

    fn new_consumer(&self) -> Verdict<Consumer> {
        told("a new consumer", self.region.consumer())
    }

    fn read_all(&self, consumer: &mut Consumer, transcript: &mut Transcript) -> Verdict<()> {
        let most = CAPACITY / self.scenario.shape().align * self.scenario.lanes as u64;
        for _ in 0..=most {
            match told("the consumer", consumer.try_read())? {
                Read::Message(message) => {
                    let lane = message.lane as usize;
                    let next = &mut transcript.next[lane];
                    if message.sequence != *next {
                        return Err(format!(
                            "lane {lane}: {:#x} comes instead of {next:#x}",
                            message.sequence
                        ));
                    }
                    self.book.check(lane, *next, message.payload)?;
                    transcript.order.push((lane, *next));
                    *next = next.wrapping_add(1);
                }
                Read::Gap(gap) => {
                    let next = &mut transcript.next[gap.lane as usize];
                    if gap.sequence != *next {
                        return Err(format!("a gap at {:#x} instead of {next:#x}", gap.sequence));
                    }
                    *next = next.wrapping_add(gap.count);
                }
                Read::Died(_) => transcript.deaths += 1,
                Read::End => transcript.ends += 1,
                Read::Empty => return Ok(()),
            }
        }
        Err("the consumer reads without end".into())
    }

    /// All that was published in a lane is committed.
    fn check_drained(&self, lane: usize) -> Verdict<()> {
        let (tail, head) =
            (new_writer(self.view, lane, &self.scenario)?.tail(), self.view.lane(lane).load(Word::Head));
        if tail == head {
            Ok(())
        } else {
            Err(format!("lane {lane} is free to {head:#x}, and was sent to {tail:#x}"))
        }
    }
}

fn resume(paused: &Paused<'_>) -> Verdict<Tracee> {
    told("the harness", paused.resume())?.map_err(|why| format!("the resumed process: {why}"))
}

fn new_writer<'a>(view: &'a View, lane: usize, scenario: &Scenario) -> Verdict<Writer<LaneView<'a>>> {
    told("another producer", Writer::take_over(view.lane(lane), scenario.shape()))
}

/// False if there is no room.
fn send(writer: &mut Writer<LaneView<'_>>, message: &[u8]) -> Verdict<bool> {
    match writer.claim(message.len()) {
        Ok(()) => {
            writer.write(0, message);
            writer.stage(0, message.len());
            writer.publish();
            Ok(true)
        }
        Err(Claim::Full) => Ok(false),
        Err(claim) => Err(format!("another producer: {claim:?}")),
    }
}

fn fill(writer: &mut Writer<LaneView<'_>>, book: &Book, lane: usize) -> Verdict<()> {
    for len in FILL {
        while send(writer, &book.message(lane, writer.sequence(), Some(len)))? {}
    }
    Ok(())
}

/// In total order: what others sent while it was paused comes after all that it
/// had sent, and before all that it had not begun to send.
fn check_order(
    order: &[(usize, u64)],
    meanwhile: &[(usize, u64)],
    paused: usize,
    [begun, sent]: [u64; 2],
) -> Verdict<()> {
    for other in meanwhile {
        let at = order.iter().position(|told| told == other).unwrap_or(order.len());
        let is_before = |sequence: u64, end: u64| (sequence.wrapping_sub(end) as i64) < 0;
        let own = |&&(lane, _): &&(usize, u64)| lane == paused;
        let late = order[at..].iter().filter(own).find(|told| is_before(told.1, sent));
        let early = order[..at].iter().filter(own).find(|told| !is_before(told.1, begun));
        if let Some((_, sequence)) = late.or(early) {
            return Err(format!(
                "{sequence:#x} is on the wrong side of what was sent in the pause: {order:x?}"
            ));
        }
    }
    Ok(())
}
