//! A real SIGKILL, with real locks, while another process is asleep: what it is
//! told, and after how many of its own looks.
//!
//! Two children, each with a role of its own. One sleeps in `Consumer::read`
//! or in `Producer::send`; the other is stepped to some instruction of an
//! operation and killed there. Then the sleeper must be told all, after at most
//! two more sleeps: one that began before the kill does not count. No clock is
//! asked: its sleeps and its questions about locks are its system calls, which
//! are counted. A re-check asks for 64 locks at most, in turns: with so many
//! lanes in use or fewer, each re-check asks for every one, once.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use shmring::internals::layout::blocks::{LaneState, Phase};
use shmring::internals::layout::record::{self, Kind};
use shmring::internals::layout::{Geometry, Word};
use shmring::internals::ring::Memory;
use shmring::{Consumer, Producer, Read, Region, RegionOptions, Status};
use tests::Random;

use super::asleep::{FILL, Sleeper, Told, message};
use super::scenario::{CAPACITY, Operation};
use super::trace::{Progress, start};
use super::tracee::Tracee;
use super::view::{Changes, View};
use super::watch::{Tally, Verdict};

/// In what somebody is killed.
pub(crate) const OPERATIONS: [Operation; 6] = [
    Operation::Send,
    Operation::Batch,
    Operation::Close,
    Operation::Takeover,
    Operation::LaneTake,
    Operation::ReadCommit,
];

/// Sleeps that may begin after the kill before all is told.
const SLEEPS: u64 = 2;
/// Messages that are there before.
const BEFORE: u64 = 3;
/// Messages of a batch.
const SOME: u64 = 3;
/// Messages that a consumer takes: so much room as a producer waits for.
const TAKEN: u64 = 10;

/// Kills at so many instructions of `operation`, the interesting ones first.
pub(crate) fn run(operation: Operation, points: usize, path: &Path, random: &mut Random) -> Result<Tally> {
    let course = {
        let stage = Stage::set(operation, path)?;
        let course = stage.rehearse(path);
        std::fs::remove_file(path)?;
        course?
    };
    let mut tally = Tally { scenarios: 1, ..Tally::default() };
    let mut published = 0;
    for point in course.choose(points, random) {
        let stage = Stage::set(operation, path)?;
        let verdict = stage.kill_at(&course, point, &mut published, &mut tally);
        std::fs::remove_file(path)?;
        tally.points += 1;
        if let Err(violation) = verdict? {
            let (name, len) = (operation.name(), course.len);
            tally.violated(|| {
                format!("{violation} ({name}; killed at instruction boundary {point} of {len})")
            });
        }
    }
    Ok(tally)
}

/// What an operation does, instruction by instruction.
struct Course {
    /// Boundaries in all, with the one behind it.
    len: u64,
    /// Those before which the region changed.
    changes: Vec<u64>,
    /// Those before a system call.
    calls: Vec<u64>,
}

impl Course {
    /// The first and the last, those around the last changes, which publish,
    /// and around the last system calls, which wake; and others anywhere.
    fn choose(&self, points: usize, random: &mut Random) -> BTreeSet<u64> {
        let around = |at: &u64| [at.saturating_sub(1), *at, at + 1];
        let mut chosen: BTreeSet<_> = [0, self.len - 1].into();
        chosen.extend(self.changes.iter().rev().take(3).flat_map(around));
        chosen.extend(self.calls.iter().rev().take(1).flat_map(around));
        chosen.retain(|&at| at < self.len);
        while chosen.len() < points.min(self.len as usize) {
            chosen.insert(random.among(0..self.len));
        }
        chosen
    }

    /// Up to here nothing has changed that anybody would be told of.
    fn news(&self) -> u64 {
        self.changes.iter().rev().nth(2).or(self.changes.first()).copied().unwrap_or(0)
    }

    /// How many system calls to let it make at once on the way to `point`, and
    /// the boundary behind them: what is published or told is always stepped,
    /// if the point is not far behind it.
    fn shortcut(&self, point: u64) -> (usize, u64) {
        let is_far = self.changes.last().is_some_and(|last| last + 500 < point);
        let until = if is_far { point } else { self.news().min(point) };
        let calls = self.calls.iter().take_while(|&&call| call < until).count();
        (calls, calls.checked_sub(1).map_or(0, |last| self.calls[last] + 1))
    }
}

/// The next message of a producer.
fn next(producer: &Producer) -> Vec<u8> {
    let sequence = producer.sequence();
    message(producer.lane(), sequence, [24, 0, 100, 9][sequence as usize % 4])
}

/// A region with one who will be killed and one who sleeps.
struct Stage {
    operation: Operation,
    region: Region,
    view: View,
    /// Of the lane that the operation is about.
    state: u64,
    /// How much the sleeper was told before.
    known: usize,
    /// In another lane, if there is one.
    _living: Option<Producer>,
    progress: Progress,
    victim: Option<Tracee>,
    sleeper: Sleeper,
}

impl Stage {
    fn set(operation: Operation, path: &Path) -> Result<Stage> {
        let lanes = if operation == Operation::LaneTake { 2 } else { 1 };
        let region = RegionOptions::new().capacity(CAPACITY).max_producers(lanes).create(path)?;
        let file = std::fs::File::options().read(true).write(true).open(path)?;
        let view = View::new(file, &Geometry::plan(CAPACITY, 8, lanes)?)?;
        let mut living = None;
        if matches!(operation, Operation::LaneTake | Operation::Takeover) {
            let mut producer = region.producer()?;
            send(&mut producer, BEFORE)?;
            if operation == Operation::Takeover {
                producer.abandon();
            } else {
                living = Some(producer);
            }
        }
        let progress = Progress::new()?;
        let take_role = || Role::take(operation, &region);
        let operate = |role: Role| role.operate(operation, &region);
        let start_victim = || start(&progress, take_role, operate, |_| Ok(()));
        let (victim, mut sleeper) = if operation == Operation::ReadCommit {
            // It takes of what is there.
            let mut sleeper = Sleeper::start(&region, true)?;
            ensure!(sleeper.until_asleep()?, "no sleep");
            (start_victim()?, sleeper)
        } else {
            let victim = start_victim()?;
            let mut sleeper = Sleeper::start(&region, false)?;
            // All messages; the death of the one before, too, and the end.
            let told = if operation == Operation::Takeover { BEFORE + 2 } else { BEFORE };
            ensure!(sleeper.until(|log| log.len() >= told as usize, u64::MAX)?, "no messages");
            (victim, sleeper)
        };
        ensure!(sleeper.until_asleep()?, "no sleep");
        let state = view.lane(lanes as usize - 1).load(Word::State);
        let known = sleeper.log().len();
        Ok(Stage {
            operation,
            region,
            view,
            state,
            known,
            _living: living,
            progress,
            victim: Some(victim),
            sleeper,
        })
    }

    fn lane(&self) -> usize {
        self._living.is_some() as usize
    }

    /// Steps through the operation with nobody killed. A lane is closed before its
    /// lock is free: else the next producer's state could be overwritten.
    fn rehearse(&self, path: &Path) -> Result<Course> {
        let (mut image, mut changes) = (self.view.image(), Changes::default());
        let mut course = Course { len: 0, changes: vec![], calls: vec![] };
        let victim = self.victim.as_ref().expect("alive");
        loop {
            let has_returned = victim.to_boundary(&self.progress)?;
            self.view.refresh(&mut image, &mut changes);
            if !changes.is_empty() {
                course.changes.push(course.len);
            }
            if victim.is_at_system_call()? {
                course.calls.push(course.len);
            }
            if self.operation == Operation::Close {
                let stream = Status::of(path)?.lanes[0].stream;
                ensure!(stream != "its producer died", "its lock is free and its lane is open");
            }
            course.len += 1;
            if has_returned {
                return Ok(course);
            }
        }
    }

    fn kill_at(
        mut self,
        course: &Course,
        point: u64,
        published: &mut u64,
        tally: &mut Tally,
    ) -> Result<Verdict<()>> {
        let victim = self.victim.take().expect("alive");
        let (calls, mut at) = course.shortcut(point);
        for _ in 0..2 * calls {
            victim.go()?;
            ensure!(victim.stops(&self.progress)?, "it hangs");
        }
        let mut has_returned = false;
        if calls == 0 {
            has_returned = victim.to_boundary(&self.progress)?;
        }
        // A little sooner than when it was rehearsed, perhaps.
        while at < point && !has_returned {
            if at.is_multiple_of(32) && at < course.news() {
                // A sleep has an end: a new one.
                ensure!(self.sleeper.until_asleep()?, "no sleep");
            }
            has_returned = victim.to_boundary(&self.progress)?;
            at += 1;
        }
        tally.images += (self.sleeper.child.state()? == 'S') as u64;
        // Dead and gone, its locks too, when this comes back.
        drop(victim);
        self.sleeper.count_anew();
        match self.operation {
            Operation::ReadCommit => self.judge_producer(has_returned, published),
            _ => self.judge_consumer(has_returned, published),
        }
    }

    /// The consumer was asleep: it is told all, and the next producer goes on.
    fn judge_consumer(&mut self, has_returned: bool, published: &mut u64) -> Result<Verdict<()>> {
        let lane = self.lane();
        let word = self.view.lane(lane).load(Word::State);
        let Some(LaneState { phase, .. }) = LaneState::decode(word) else {
            return Ok(Err(format!("the lane's state is {word:#x}")));
        };
        let is_news = match self.operation {
            // Nobody has the lane yet whose death there were to tell.
            Operation::Takeover | Operation::LaneTake => word != self.state,
            _ => true,
        };
        // Killed behind its end mark it has ended, and has not died. All before
        // that is committed; and the sleeper takes no end without a question.
        let memory = self.view.lane(lane);
        let next = record::decode(memory.header_acquire(memory.load(Word::Head)));
        let died = is_news && phase == Phase::Open && next.is_none_or(|head| head.kind != Kind::End);
        let last = if lane == 1 { Told::Died } else { Told::End };
        let (known, lanes) = (self.known, 1 + lane as u64);
        let is_done = |log: &[(Told, u64)]| log[known..].iter().any(|(told, _)| *told == last);
        if is_news {
            if !self.sleeper.until(is_done, SLEEPS)? {
                let log = self.sleeper.log();
                return Ok(Err(format!("after {SLEEPS} sleeps it is told no more than {:?}", &log[known..])));
            }
            if self.sleeper.asks > SLEEPS * lanes {
                return Ok(Err(format!("it has asked for {} locks", self.sleeper.asks)));
            }
        } else {
            // It looks, and there is nothing.
            self.sleeper.until_asked(lanes)?;
        }
        let mut producer = self.region.producer()?;
        let end = producer.sequence();
        send(&mut producer, 1)?;
        self.sleeper.count_anew();
        let has_come = |log: &[(Told, u64)]| log.last() == Some(&(Told::Message(lane as u32), end));
        if producer.lane() as usize != lane || !self.sleeper.until(has_come, SLEEPS)? {
            let log = self.sleeper.log();
            return Ok(Err(format!("the new producer's message {end} does not come: {log:?}")));
        }
        producer.abandon();
        let log = self.sleeper.log();
        Ok(self.judge_log(&log[known..log.len() - 1], end, is_news, died, has_returned, published))
    }

    /// What was told after the sleep, up to the new producer's message.
    fn judge_log(
        &self,
        log: &[(Told, u64)],
        end: u64,
        is_news: bool,
        died: bool,
        has_returned: bool,
        published: &mut u64,
    ) -> Verdict<()> {
        let (lane, full) = match self.operation {
            Operation::Send => (0, 1),
            Operation::Batch => (0, SOME),
            operation => ((operation == Operation::LaneTake) as u32, 0),
        };
        let start = if lane == 1 { 0 } else { BEFORE };
        let count = end.wrapping_sub(start);
        let is_right = count == full || (count == 0 && !has_returned);
        if !is_right || count < *published {
            return Err(format!("{count} messages are published, after {published}"));
        }
        *published = count;
        let messages = (start..end).map(|sequence| (Told::Message(lane), sequence));
        let ended = is_news && lane == 0;
        let tail = died.then_some((Told::Died, 0)).into_iter().chain(ended.then_some((Told::End, 0)));
        let due: Vec<_> = messages.chain(tail).collect();
        if log == due { Ok(()) } else { Err(format!("told {log:?}, not {due:?}")) }
    }

    /// The producer was asleep, in a full ring: it goes on when there is room,
    /// and the next consumer gets all.
    fn judge_producer(&mut self, has_returned: bool, committed: &mut u64) -> Result<Verdict<()>> {
        let lane = self.view.lane(0);
        let wanted = lane.load(Word::WantedHead);
        let has_room = lane.load(Word::Head).wrapping_sub(wanted) as i64 >= 0;
        let sent = self.sleeper.log().len();
        if has_returned && !has_room {
            return Ok(Err("the commit returned, and there is no room".into()));
        }
        if has_room && !self.sleeper.until(|log| log.len() > sent, SLEEPS)? {
            return Ok(Err(format!("there is room, and after {SLEEPS} sleeps it has not sent")));
        }
        let mut consumer = self.region.consumer()?;
        let mut first = None;
        let mut read = 0;
        for _ in 0..2 {
            self.sleeper.count_anew();
            let sent = self.sleeper.log().len();
            while let Read::Message(found) = consumer.try_read()? {
                let sequence = found.sequence;
                let due = *first.get_or_insert(sequence) + read;
                if sequence != due || found.payload != message(0, sequence, FILL) {
                    return Ok(Err(format!("message {sequence} comes, or a torn one, instead of {due}")));
                }
                read += 1;
            }
            consumer.commit();
            if !self.sleeper.until(|log| log.len() > sent, SLEEPS)? {
                return Ok(Err(format!("all is read, and after {SLEEPS} sleeps it has not sent")));
            }
        }
        let first = first.unwrap_or(u64::MAX);
        if (first != 0 && first != TAKEN) || first < *committed || (has_returned && first != TAKEN) {
            return Ok(Err(format!("{first} messages are committed, after {committed}")));
        }
        *committed = first;
        Ok(Ok(()))
    }
}

fn send(producer: &mut Producer, count: u64) -> Result<()> {
    for _ in 0..count {
        producer.try_send(&next(producer))?;
    }
    Ok(())
}

fn take(consumer: &mut Consumer, count: u64) -> Result<()> {
    for _ in 0..count {
        ensure!(matches!(consumer.try_read()?, Read::Message(_)), "there is no message");
    }
    Ok(())
}

/// What the one who will be killed has.
enum Role {
    Producer(Box<Producer>, Vec<Vec<u8>>),
    Consumer(Box<Consumer>),
    None,
}

impl Role {
    /// Takes it, with a lock of its own.
    fn take(operation: Operation, region: &Region) -> Result<Role> {
        Ok(match operation {
            Operation::Send | Operation::Batch | Operation::Close => {
                let mut producer = region.producer()?;
                send(&mut producer, BEFORE)?;
                let messages = (BEFORE..BEFORE + SOME).map(|sequence| message(0, sequence, 60)).collect();
                Role::Producer(producer.into(), messages)
            }
            Operation::ReadCommit => {
                let mut consumer = region.consumer()?;
                take(&mut consumer, TAKEN - 1)?;
                Role::Consumer(consumer.into())
            }
            _ => Role::None,
        })
    }

    /// The stepped code; what it leaves is not dropped.
    fn operate(self, operation: Operation, region: &Region) -> Result<Role> {
        match self {
            Role::Producer(mut producer, messages) => {
                match operation {
                    Operation::Send => producer.try_send(&messages[0])?,
                    Operation::Batch => {
                        let mut batch = producer.batch();
                        messages.iter().try_for_each(|message| batch.try_push(message))?;
                        batch.publish();
                    }
                    _ => {
                        producer.close();
                        return Ok(Role::None);
                    }
                }
                Ok(Role::Producer(producer, messages))
            }
            Role::Consumer(mut consumer) => {
                take(&mut consumer, 1)?;
                consumer.commit();
                Ok(Role::Consumer(consumer))
            }
            Role::None => Ok(Role::Producer(region.producer()?.into(), vec![])),
        }
    }
}
