use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::{AttachError, Damage, SendError};
use super::options::{Wait, Waiting};
use super::owner::Role;
use super::place::{Lanes, ProducerOptions};
use super::region::Region;
use super::seat::Seat;
use crate::layout::record::{KNOWN_FLAGS, UNTERMINATED};
use crate::layout::{Cause, Word, blocks::LaneState};
use crate::os::membarrier;
use crate::region::{Mapping, SleepWord};
use crate::ring::sleep::{self, Announced};
use crate::ring::{Claim, Corrupt, Fault, Memory, Writer};

/// Sends messages into a region.
///
/// Dropping it closes the stream: the consumer gets the end after the last
/// message. Not so while the thread panics, and not after
/// [`abandon`](Producer::abandon): the consumer then learns that this producer
/// died.
///
/// In a child that was forked it still is the parent's: there it sends nothing
/// ([`SendError::Forked`]), and dropping it closes nothing.
///
/// The try forms never block and make no system call but to wake a sleeping
/// consumer; [`send`](Producer::send) and its kin wait for room.
#[derive(Debug)]
pub struct Producer {
    pub(super) writer: Writer<Mapping>,
    lane: u32,
    state: LaneState,
    /// The sequence of the lane's first message ever.
    start_sequence: u64,
    /// The first impossible word that was seen: final.
    corrupt: Option<Corrupt>,
    abandoned: bool,
    pub(crate) waiting: Waiting,
    pub(super) seat: Seat,
}

/// Bits that travel with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// The input ended without the terminator that its framing asks for.
    pub const UNTERMINATED: Flags = Flags(UNTERMINATED);

    pub(crate) fn from_bits(bits: u8) -> Flags {
        Flags(bits & KNOWN_FLAGS)
    }

    /// True if every bit of `other` is set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What was ever published in a lane: exact after any death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sent {
    /// Messages, wrapping. Dropped ones are not among them.
    pub messages: u64,
    /// Their payload bytes, wrapping.
    pub bytes: u64,
    /// How many of them have [`Flags::UNTERMINATED`], wrapping.
    pub unterminated: u64,
}

impl Producer {
    /// Whoever wants any lane does not get a damaged one while another is free.
    pub(crate) fn attach(region: &Region, options: &ProducerOptions) -> Result<Producer, AttachError> {
        let mut damage = None;
        let mut first = 0;
        loop {
            match Producer::attach_from(region, options, first) {
                Err(AttachError::Damaged(found)) if !options.is_somebody() => {
                    first = found.lane + 1;
                    damage.get_or_insert(found);
                }
                Err(e @ AttachError::NoLane { .. }) => return Err(damage.map_or(e, AttachError::from)),
                attached => return attached,
            }
        }
    }

    /// Attaches in a lane from `first` on, if the lane is not its own.
    fn attach_from(region: &Region, options: &ProducerOptions, first: u32) -> Result<Producer, AttachError> {
        let mut lane = 0;
        let (seat, control) = region.take(|file, control| {
            let lanes = Lanes { file, control, geometry: &region.header.geometry, first };
            lane = lanes.take(options, |lane| {
                let memory = Mapping::new(control, &region.file, lane)?;
                let writer = Writer::take_over(memory, region.shape());
                Ok(writer.is_ok_and(|writer| writer.is_drained()))
            })?;
            Ok(Role::Producer(lane))
        })?;
        let corrupt = |value| Corrupt { fault: Fault::State, position: 0, value };
        let word = control.load_acquire(lane, Word::State);
        let found = LaneState::decode(word).ok_or_else(|| seat.blame(lane, corrupt(word)))?;
        let state = found.opened(options.is_somebody());
        let memory = Mapping::new(&control, &region.file, lane)?;
        let writer =
            Writer::take_over(memory, region.shape()).map_err(|corrupt| seat.blame(lane, corrupt))?;
        let memory = writer.memory();
        let start_sequence = region.start_sequence();
        let lanes = Lanes { file: &seat.file, control: &control, geometry: &seat.geometry, first };
        lanes.bind_source(lane, options.source, writer.sequence() == start_sequence)?;
        // A dead sleeper's bit and a dead waiter's wish go with it.
        sleep::reset(memory.sleep_word(SleepWord::Producer), membarrier::is_possible());
        memory.store(Word::WantedHead, memory.load(Word::Head));
        seat.sign(&control);
        memory.store_release(Word::State, state.encode()); // STATE
        // Who sees the count sees the state; who sees a message sees the count.
        memory.add(Word::Attaches, 1); // ATTACH
        seat.refuse_cut(&control)?;
        Ok(Producer {
            writer,
            lane,
            state,
            start_sequence,
            corrupt: None,
            abandoned: false,
            waiting: Waiting::default(),
            seat,
        })
    }

    /// Chooses how blocking calls wait. The usual is [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.waiting.strategy = wait;
    }

    /// Has blocking calls return [`SendError::Interrupted`] soon after `flag`
    /// is set, for instance by a signal handler.
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.waiting.interrupt = Some(flag);
    }

    /// Sends a message if there is room for it now. Afterwards it is the
    /// consumer's, whatever becomes of this process.
    ///
    /// # Errors
    /// [`SendError::Full`], [`SendError::TooLarge`], [`SendError::Damaged`],
    /// [`SendError::Forked`]; the ring is as it was.
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.try_send_with(payload, Flags::NONE)
    }

    /// [`try_send`](Self::try_send) with flags.
    #[inline(always)]
    pub fn try_send_with(&mut self, payload: &[u8], flags: Flags) -> Result<(), SendError> {
        if self.seat.is_inherited() || !self.writer.send(flags.0, payload) {
            return self.send_step_by_step(payload, flags);
        }
        self.wake_consumer();
        self.check_cut()
    }

    #[inline(never)]
    fn send_step_by_step(&mut self, payload: &[u8], flags: Flags) -> Result<(), SendError> {
        self.writer.abort();
        self.claim(payload.len())?;
        self.writer.write(0, payload);
        self.writer.stage(flags.0, payload.len());
        self.writer.publish();
        self.wake_consumer();
        self.check_cut()
    }

    /// Reserves room for a message of up to `max_len` bytes, to be written in
    /// place and committed. Nothing is visible before; dropping the grant
    /// leaves no trace.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_reserve(&mut self, max_len: usize) -> Result<Grant<'_>, SendError> {
        self.writer.abort();
        self.claim(max_len)?;
        Ok(Grant { producer: self, max_len, len: 0 })
    }

    /// Starts a batch: messages that become visible together, at one instant.
    /// Dropping it unpublished leaves no trace.
    pub fn batch(&mut self) -> Batch<'_> {
        self.writer.abort();
        Batch { producer: self }
    }

    /// Closes the stream: the consumer gets the end after the last message.
    /// Never waits.
    pub fn close(self) {}

    /// Leaves without closing: the consumer gets what was sent, and learns
    /// that this producer died.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }

    /// Drops a message: it takes a sequence and never comes. Whoever reads
    /// gets a [`Gap`](super::Gap) in its place, before the next message of this
    /// lane. It is counted in the region, for `cause`, whoever is killed.
    ///
    /// # Errors
    /// [`SendError::Damaged`], [`SendError::Truncated`], [`SendError::Forked`].
    pub fn drop_message(&mut self, cause: Cause) -> Result<(), SendError> {
        self.check_usable()?;
        self.writer.abort();
        self.writer.drop_message(cause);
        self.check_cut()
    }

    /// Messages ever dropped in the lane for that cause.
    pub fn dropped(&self, cause: Cause) -> u64 {
        self.writer.dropped(cause)
    }

    /// The number of the lane that it sends in.
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// The sequence that the next message takes. Goes on across restarts.
    pub fn sequence(&self) -> u64 {
        self.writer.sequence()
    }

    /// What was published in the lane since the region was created, by this
    /// producer and those before it.
    pub fn sent(&self) -> Sent {
        let dropped = Cause::ALL.into_iter().fold(0u64, |sum, cause| sum.wrapping_add(self.dropped(cause)));
        Sent {
            messages: self.sequence().wrapping_sub(self.start_sequence).wrapping_sub(dropped),
            bytes: self.writer.bytes(),
            unterminated: self.writer.unterminated(),
        }
    }

    /// The longest message in bytes.
    pub fn max_message(&self) -> usize {
        self.writer.shape().max_len() as usize
    }

    #[inline]
    fn check_usable(&self) -> Result<(), SendError> {
        if self.seat.is_inherited() {
            return Err(SendError::Forked);
        }
        self.corrupt.map_or(Ok(()), |what| Err(Damage { lane: self.lane, what }.into()))
    }

    /// Finds room for a message, and does what is due before it.
    #[inline(always)]
    pub(crate) fn claim(&mut self, len: usize) -> Result<(), SendError> {
        match self.writer.has_room(len) && !self.seat.is_inherited() {
            true => Ok(()),
            false => self.claim_anew(len),
        }
    }

    #[inline(never)]
    fn claim_anew(&mut self, len: usize) -> Result<(), SendError> {
        self.check_usable()?;
        if self.writer.pending_gap() > 0 {
            self.publish_gap(len)?;
        }
        self.writer.claim(len).map_err(|claim| self.refused(claim, len))
    }

    /// What was dropped is told before the message that follows.
    #[cold]
    fn publish_gap(&mut self, len: usize) -> Result<(), SendError> {
        self.writer.publish_gap(len).map_err(|claim| self.refused(claim, len))?;
        self.wake_consumer();
        Ok(())
    }

    #[cold]
    fn refused(&mut self, claim: Claim, len: usize) -> SendError {
        match claim {
            Claim::Full => self.check_cut().err().unwrap_or(SendError::Full),
            Claim::TooLarge => SendError::TooLarge { len, max: self.max_message() },
            // A head that a cut or a hole took is impossible too.
            Claim::Corrupt(corrupt) => {
                let lost = self.check_region().err();
                let what = *self.corrupt.get_or_insert(corrupt);
                lost.unwrap_or_else(|| Damage { lane: self.lane, what }.into())
            }
        }
    }

    /// Refuses what was done so far if not all of it reached the file: to be
    /// asked after the last touch and before success is told.
    #[inline(always)]
    fn check_cut(&self) -> Result<(), SendError> {
        if self.memory().is_cut() { Err(SendError::Truncated) } else { Ok(()) }
    }

    /// Asks the kernel whether the region's file is what it was: for callers
    /// of the try forms, from time to time, and with
    /// [`guard_truncation`](super::RegionOptions::guard_truncation) after a
    /// [`Grant::commit`] or [`Batch::publish`], which cannot say it. Blocking
    /// calls do this themselves.
    ///
    /// # Errors
    /// [`SendError::Removed`], [`SendError::Truncated`],
    /// [`SendError::Punched`], [`SendError::Forked`].
    pub fn check_region(&self) -> Result<(), SendError> {
        if self.seat.is_inherited() {
            return Err(SendError::Forked);
        }
        self.check_cut()?;
        Ok(self.seat.check_file()?)
    }

    /// Publishes what is staged and wakes the consumer if it sleeps; not so
    /// what was claimed before a fork.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.seat.is_inherited() {
            return;
        }
        self.writer.publish();
        self.wake_consumer();
    }

    #[inline(always)]
    fn wake_consumer(&self) {
        sleep::wake(self.memory().sleep_word(SleepWord::Consumer), || true);
    }

    /// Forgets what is staged: of a batch whose drop was forgotten it would take
    /// room that nobody can free.
    #[inline]
    pub(crate) fn abort(&mut self) {
        self.writer.abort();
    }

    #[inline]
    pub(crate) fn has_staged(&self) -> bool {
        self.writer.staged() > 0
    }

    #[inline]
    fn memory(&self) -> &Mapping {
        self.writer.memory()
    }

    /// Tells the consumer from which head position on there is room enough;
    /// with `None`, that nobody waits. True if that is news.
    pub(crate) fn announce_want(&self, len: Option<usize>) -> bool {
        if self.seat.is_inherited() {
            return false;
        }
        let memory = self.memory();
        let wanted = len.map_or_else(|| memory.load(Word::Head), |len| self.writer.head_wanted(len));
        let is_news = memory.load(Word::WantedHead) != wanted;
        memory.store_release(Word::WantedHead, wanted); // WANT
        is_news
    }

    /// True if the consumer has freed something since it was looked at last.
    #[inline(always)]
    pub(crate) fn glance(&self) -> bool {
        self.writer.is_freed()
    }

    /// Sleeps until there is room for `len` bytes, woken, or `at_most`. Stays
    /// announced until it [rises](Self::rise).
    pub(crate) fn doze(&self, announced: &mut Announced, len: usize, at_most: std::time::Duration) {
        let memory = self.memory();
        // Whoever takes the room loads it again.
        let room = || memory.load(Word::Head).wrapping_sub(self.writer.head_needed(len)) as i64 >= 0;
        sleep::sleep(memory.sleep_word(SleepWord::Producer), announced, at_most, room);
    }

    /// Says that it does not sleep.
    pub(crate) fn rise(&self, announced: &mut Announced) {
        sleep::rise(self.memory().sleep_word(SleepWord::Producer), announced);
    }

    /// What a waiting producer asks the kernel once a period.
    pub(crate) fn recheck(&self) -> Result<(), SendError> {
        self.check_region()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let leave = self.abandoned || self.corrupt.is_some() || self.seat.is_inherited();
        if leave || std::thread::panicking() {
            return;
        }
        self.writer.abort();
        if self.writer.end().is_err() {
            return;
        }
        self.memory().store_release(Word::State, self.state.closed().encode()); // STATE
        self.wake_consumer();
    }
}

/// Room in the ring for one message: see [`Producer::try_reserve`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.ring");
/// # let region = shmring::Region::create(&path)?;
/// use std::io::Write;
/// let mut producer = region.producer()?;
/// let mut grant = producer.try_reserve(100)?;
/// write!(grant, "{} {}", "one", 2)?;
/// grant.commit();
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a grant that is dropped sends nothing"]
pub struct Grant<'a> {
    producer: &'a mut Producer,
    max_len: usize,
    len: usize,
}

impl Grant<'_> {
    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that can still be written.
    pub fn remaining(&self) -> usize {
        self.max_len - self.len
    }

    /// Sends what was written as one message.
    pub fn commit(self) {
        self.producer.writer.stage(0, self.len);
        self.producer.publish();
    }
}

/// Appends; what exceeds the room that was reserved is not taken, so that
/// `write_all` and `write!` fail with [`io::ErrorKind::WriteZero`]. In a child
/// that was forked meanwhile nothing is taken: the room is the parent's.
impl Write for Grant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.producer.seat.is_inherited() {
            return Err(io::Error::other(SendError::Forked));
        }
        let taken = bytes.len().min(self.remaining());
        self.producer.writer.write(self.len, &bytes[..taken]);
        self.len += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Messages that become visible together: see [`Producer::batch`].
#[derive(Debug)]
#[must_use = "a batch that is dropped sends nothing"]
pub struct Batch<'a> {
    pub(crate) producer: &'a mut Producer,
}

impl Batch<'_> {
    /// Adds a message if there is room for it now.
    ///
    /// # Errors
    /// As [`Producer::try_send`]; what was added before is still in the batch.
    #[inline]
    pub fn try_push(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.try_push_with(payload, Flags::NONE)
    }

    /// [`try_push`](Self::try_push) with flags.
    #[inline]
    pub fn try_push_with(&mut self, payload: &[u8], flags: Flags) -> Result<(), SendError> {
        self.producer.claim(payload.len())?;
        self.producer.writer.write(0, payload);
        self.producer.writer.stage(flags.0, payload.len());
        self.producer.check_cut()
    }

    /// Publishes what is in the batch, then drops a message:
    /// [`Producer::drop_message`].
    ///
    /// # Errors
    /// As there.
    pub fn drop_message(&mut self, cause: Cause) -> Result<(), SendError> {
        self.producer.check_usable()?;
        self.producer.writer.drop_message(cause);
        self.producer.wake_consumer();
        self.producer.check_cut()
    }

    /// Messages in the batch.
    pub fn len(&self) -> u64 {
        self.producer.writer.staged()
    }

    /// True if there is no message in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes all of them visible at once.
    pub fn publish(self) {
        self.producer.publish();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.producer.writer.abort();
    }
}
