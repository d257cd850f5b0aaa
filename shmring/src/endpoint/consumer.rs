use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::error::{AttachError, ReadError};
use super::options::{Wait, Waiting};
use super::owner::{self, Owner, Role};
use super::producer::Flags;
use super::region::Region;
use super::seat::{LANE, Seat, damage};
use super::stream_id::StreamId;
use crate::layout::Word;
use crate::layout::blocks::{LaneState, Phase};
use crate::layout::record::Kind;
use crate::os::{lock, membarrier};
use crate::region::{Mapping, SleepWord};
use crate::ring::{Corrupt, Fault, Memory, Reader, Record, Sink, sleep};

/// Receives messages from a region.
///
/// Reading and committing are separate. What is read and not
/// [committed](Consumer::commit) is delivered again to the next consumer, and
/// takes room in the ring. Dropping a consumer commits nothing.
///
/// In a child that was forked it still is the parent's: there it reads nothing
/// ([`ReadError::Forked`]), and a commit does nothing.
///
/// The try forms never block and make no system call but to wake a sleeping
/// producer at commit; [`read`](Consumer::read) and its kin wait for a message.
#[derive(Debug)]
pub struct Consumer {
    reader: Reader<Mapping>,
    /// What [`Consumer::commit_at`] is about.
    sink: Option<StreamId>,
    buffer: Vec<u8>,
    /// The lane's state word as of a death that is not reported yet.
    death: Option<u64>,
    /// A death that was reported and that the next commit takes note of.
    noted: Option<u64>,
    /// The first impossible word that was seen: final.
    corrupt: Option<Corrupt>,
    pub(crate) waiting: Waiting,
    seat: Seat,
}

/// A message, in the consumer's buffer until the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<'a> {
    /// Its number in the stream: stable across restarts, without gaps.
    pub sequence: u64,
    /// Bits that came with it.
    pub flags: Flags,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A message of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedMessage {
    /// Its number in the stream: stable across restarts, without gaps.
    pub sequence: u64,
    /// Bits that came with it.
    pub flags: Flags,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<'a> {
    /// The next message.
    Message(Message<'a>),
    /// Nothing now. Only the try form says so.
    Empty,
    /// The stream ended; reading on waits for the next one.
    End(End),
}

/// How a stream ended: told after its last message, once by each consumer that
/// gets there before it is committed. Streams that follow one another while
/// nobody reads are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The producer closed it.
    Closed,
    /// The producer is gone and did not close. All that it sent was delivered.
    Died {
        /// What it said of itself.
        producer: Option<Owner>,
    },
}

/// What is there, without its bytes.
#[derive(Debug)]
pub(crate) enum Found {
    Message(Record),
    End(End),
    Empty,
}

impl Consumer {
    pub(crate) fn attach(region: &Region) -> Result<Consumer, AttachError> {
        let (seat, mapping) = region.take(Role::Consumer)?;
        let reader = Reader::take_over(mapping, region.shape()).map_err(|corrupt| seat.blame(corrupt))?;
        let word = reader.memory().sleep_word(SleepWord::Consumer);
        sleep::reset(word, membarrier::is_possible());
        seat.sign(reader.memory());
        let consumer = Consumer {
            reader,
            sink: None,
            buffer: Vec::new(),
            death: None,
            noted: None,
            corrupt: None,
            waiting: Waiting::default(),
            seat,
        };
        // A head that moved without a wake-up by the consumer before.
        consumer.wake_producer();
        consumer.state().map_err(|corrupt| consumer.seat.blame(corrupt))?;
        consumer.seat.refuse_cut(consumer.reader.memory())?;
        Ok(consumer)
    }

    /// Chooses how blocking calls wait. The usual is [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.waiting.strategy = wait;
    }

    /// Has blocking calls return [`ReadError::Interrupted`] soon after `flag`
    /// is set, for instance by a signal handler.
    pub fn set_interrupt(&mut self, flag: Arc<AtomicBool>) {
        self.waiting.interrupt = Some(flag);
    }

    /// Reads the next message if there is one. It stays in the ring until
    /// [`commit`](Self::commit). That a producer died is not noticed here: ask
    /// [`check_producer`](Self::check_producer) from time to time.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], from then on always; [`ReadError::Forked`].
    #[inline]
    pub fn try_read(&mut self) -> Result<Read<'_>, ReadError> {
        Ok(match self.find()? {
            Found::Message(record) => Read::Message(self.take(record)?),
            Found::End(end) => Read::End(end),
            Found::Empty => Read::Empty,
        })
    }

    /// The messages that are there, one after the other, without waiting.
    /// Each is read as the iterator yields it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("orders.ring");
    /// # let region = shmring::Region::create(&path)?;
    /// # let mut producer = region.producer()?;
    /// # let mut consumer = region.consumer()?;
    /// producer.send(b"one")?;
    /// producer.send(b"two")?;
    /// for message in consumer.available() {
    ///     let message = message?;
    ///     println!("{}: {} bytes", message.sequence, message.payload.len());
    /// }
    /// consumer.commit();
    /// # Ok(()) }
    /// ```
    pub fn available(&mut self) -> Available<'_> {
        Available { consumer: self, failed: false }
    }

    /// Commits everything read so far: the next consumer goes on behind it,
    /// and the producer may overwrite it. One store decides; wakes a waiting
    /// producer. It leaves the position in a sink as it is: with a sink, use
    /// [`commit_at`](Self::commit_at) only.
    pub fn commit(&mut self) {
        if self.seat.is_inherited() {
            return;
        }
        self.reader.commit();
        self.wake_producer();
        if let Some(word) = self.noted.take()
            && let Some(state) = LaneState::decode(word)
        {
            // Reported and taken note of: the next consumer starts afresh. A
            // new producer has changed the word and wins.
            self.reader.memory().replace(Word::State, word, state.died().encode());
        }
    }

    /// Says where the messages go, so that [`commit_at`](Self::commit_at) can
    /// commit a position there together with them. Returns the position that
    /// was committed last, or `None` if the ring is bound to another sink or to
    /// none. Nothing is changed yet.
    ///
    /// The caller makes the sink what it was at that position, binds the ring
    /// to it by `commit_at` that position, writes what it reads from there on,
    /// and calls `commit_at` with the position reached. Then nothing is lost
    /// and nothing written twice, wherever it dies. The sink has to keep what
    /// was written to it before: true for a file and SIGKILL; not for a pipe,
    /// and not for a file and a crash of the machine.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let region = shmring::Region::create(folder.path().join("orders.ring"))?;
    /// # let path = folder.path().join("orders.txt");
    /// # region.producer()?.send(b"one\n")?;
    /// use std::fs::File;
    /// use std::os::unix::fs::FileExt;
    /// use shmring::{Read, StreamId};
    ///
    /// let mut consumer = region.consumer()?;
    /// let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    /// let mut position = consumer.bind_sink(StreamId::of_file(&file, 0)?)?.unwrap_or(0);
    /// // What a dead predecessor wrote and did not commit comes again.
    /// file.set_len(position)?;
    /// consumer.commit_at(position);
    /// while let Read::Message(message) = consumer.try_read()? {
    ///     file.write_all_at(message.payload, position)?;
    ///     position += message.payload.len() as u64;
    ///     consumer.commit_at(position);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ReadError::Forked`].
    ///
    /// # Panics
    /// If something is read and not committed: nobody knows where it went.
    pub fn bind_sink(&mut self, sink: StreamId) -> Result<Option<u64>, ReadError> {
        if self.seat.is_inherited() {
            return Err(ReadError::Forked);
        }
        assert!(self.uncommitted() == 0, "a sink is bound before the first read, or after a commit");
        self.sink = Some(sink);
        let Sink { id, position } = self.reader.sink();
        // All 0: there is none.
        Ok((sink.0 == id && id != [0; 4]).then_some(position))
    }

    /// [`commit`](Self::commit) together with a position in the sink of
    /// [`bind_sink`](Self::bind_sink): both in one store, or neither. From the
    /// first time on, the ring is bound to that sink, and to no other. Without
    /// a sink it is a commit.
    pub fn commit_at(&mut self, position: u64) {
        if let Some(StreamId(id)) = self.sink {
            self.reader.set_sink(Sink { id, position });
        }
        self.commit();
    }

    /// Asks the kernel whether a producer is attached, and notices if the last
    /// one died: the next read then says so, after its last message. For
    /// callers of the try forms; blocking reads do this themselves.
    ///
    /// # Errors
    /// [`ReadError::Removed`], [`ReadError::Truncated`] and
    /// [`ReadError::Punched`] if the file is not what it was;
    /// [`ReadError::Damaged`]; [`ReadError::Forked`].
    pub fn check_producer(&mut self) -> Result<bool, ReadError> {
        self.check_region()?;
        let word = self.state().map_err(|corrupt| self.fail(corrupt))?;
        // On doubt, it lives.
        let attached = lock::is_taken(&self.seat.file, lock::Role::Producer(LANE)).unwrap_or(true);
        let open = LaneState::decode(word).is_some_and(|s| s.phase == Phase::Open);
        if open && !attached && self.noted != Some(word) {
            self.death = Some(word);
        }
        Ok(attached)
    }

    /// The sequence of the message that comes next.
    pub fn sequence(&self) -> u64 {
        self.reader.sequence()
    }

    /// Bytes of the ring that are read and not committed.
    pub fn uncommitted(&self) -> u64 {
        self.reader.uncommitted()
    }

    /// Looks for the next message or end.
    #[inline]
    pub(crate) fn find(&mut self) -> Result<Found, ReadError> {
        match self.peek()? {
            Some(record) if record.kind == Kind::Data => Ok(Found::Message(record)),
            None if self.death.is_none() => Ok(Found::Empty),
            _ => {
                let found = self.find_end()?;
                // Its looks at state and next header count as well.
                self.check_cut()?;
                Ok(found)
            }
        }
    }

    /// At an end mark, or at an empty ring whose producer may have died. An
    /// end mark is stepped over only when it is reported, or when the stream
    /// went on behind it: what is not reported must not be committed.
    #[cold]
    fn find_end(&mut self) -> Result<Found, ReadError> {
        for _ in 0..self.max_records() {
            // The state is read first: what was published before it is seen after.
            let word = self.state().map_err(|corrupt| self.fail(corrupt))?;
            let closed = LaneState::decode(word).is_some_and(|s| s.phase == Phase::Closed);
            let died = self.death == Some(word);
            if !died {
                // Another producer came meanwhile.
                self.death = None;
            }
            match self.peek()? {
                Some(record) if record.kind == Kind::Data => return Ok(Found::Message(record)),
                Some(mark) if self.reader.is_followed(&mark) => self.reader.advance(&mark),
                // Whoever died attached after this end, and has not ended.
                Some(mark) if died && self.reader.is_attached_behind(&mark) => self.reader.advance(&mark),
                Some(mark) if closed || died => {
                    self.reader.advance(&mark);
                    self.note_death();
                    return Ok(Found::End(End::Closed));
                }
                None if died => {
                    self.note_death();
                    let producer = owner::read(&self.seat.file, &self.seat.geometry, Role::Producer(LANE));
                    return Ok(Found::End(End::Died { producer }));
                }
                Some(_) | None => break,
            }
        }
        Ok(Found::Empty)
    }

    /// The next message, if there is one now; steps over the ends of streams
    /// that another one followed.
    fn peek_message(&mut self) -> Result<Option<Record>, ReadError> {
        for _ in 0..self.max_records() {
            match self.peek()? {
                Some(record) if record.kind == Kind::Data => return Ok(Some(record)),
                Some(mark) if self.reader.is_followed(&mark) => self.reader.advance(&mark),
                Some(_) | None => break,
            }
        }
        Ok(None)
    }

    /// The most records that a ring can hold: a hostile peer may go on for ever.
    fn max_records(&self) -> u64 {
        self.reader.shape().capacity / self.reader.shape().align
    }

    /// A death that is reported now is taken note of by the next commit.
    fn note_death(&mut self) {
        if let Some(word) = self.death.take() {
            self.noted = Some(word);
        }
    }

    #[inline]
    fn peek(&mut self) -> Result<Option<Record>, ReadError> {
        if self.seat.is_inherited() {
            return Err(ReadError::Forked);
        }
        if let Some(corrupt) = self.corrupt {
            return Err(damage(corrupt).into());
        }
        match self.reader.peek() {
            // `take` asks whether it was cut after its own touches.
            Ok(Some(record)) => Ok(Some(record)),
            Ok(None) => self.check_cut().map(|()| None),
            Err(corrupt) => Err(self.fail(corrupt)),
        }
    }

    /// Refuses what was found so far if not all of it came from the file: to be
    /// asked after the last touch and before anything is told.
    #[inline(always)]
    fn check_cut(&self) -> Result<(), ReadError> {
        if self.reader.memory().is_cut() { Err(ReadError::Truncated) } else { Ok(()) }
    }

    /// Asks the kernel whether the region's file is what it was: for callers of
    /// the try forms, from time to time. Blocking calls do this themselves, and
    /// so does [`check_producer`](Self::check_producer).
    ///
    /// # Errors
    /// [`ReadError::Removed`], [`ReadError::Truncated`],
    /// [`ReadError::Punched`], [`ReadError::Forked`].
    pub fn check_region(&self) -> Result<(), ReadError> {
        if self.seat.is_inherited() {
            return Err(ReadError::Forked);
        }
        self.check_cut()?;
        Ok(self.seat.check_file()?)
    }

    /// Copies a message out and steps over it.
    #[inline]
    pub(crate) fn take(&mut self, record: Record) -> Result<Message<'_>, ReadError> {
        if self.buffer.len() < record.len {
            self.buffer.resize(record.len, 0);
        }
        let payload = &mut self.buffer[..record.len];
        self.reader.read(&record, payload);
        if self.reader.memory().is_cut() {
            return Err(ReadError::Truncated);
        }
        self.reader.advance(&record);
        Ok(Message { sequence: record.sequence, flags: Flags::from_bits(record.flags), payload })
    }

    fn fail(&mut self, corrupt: Corrupt) -> ReadError {
        damage(*self.corrupt.insert(corrupt)).into()
    }

    fn state(&self) -> Result<u64, Corrupt> {
        let word = self.reader.memory().load_acquire(Word::State); // STATE
        match LaneState::decode(word) {
            Some(_) => Ok(word),
            None => Err(Corrupt { fault: Fault::State, position: self.reader.head(), value: word }),
        }
    }

    #[inline]
    fn wake_producer(&self) {
        let memory = self.reader.memory();
        sleep::wake(memory.sleep_word(SleepWord::Producer), || !self.producer_wants_more());
    }

    /// True while the producer waits for a head beyond the committed one.
    fn producer_wants_more(&self) -> bool {
        let wanted = self.reader.memory().load_acquire(Word::WantedHead); // WANT
        wanted.wrapping_sub(self.reader.head()) as i64 > 0
    }

    /// True if no message is left: nothing, or an end mark with nothing behind.
    fn is_drained(&self) -> bool {
        match self.reader.peek() {
            Ok(None) => true,
            Ok(Some(record)) => record.kind == Kind::End && !self.reader.is_followed(&record),
            Err(_) => false,
        }
    }

    /// True if the next read has something to tell, the kernel not asked.
    fn has_news(&self) -> bool {
        match self.reader.peek() {
            Ok(None) => false,
            Ok(Some(record)) if record.kind == Kind::End => {
                self.reader.is_followed(&record) || self.is_closed()
            }
            _ => true,
        }
    }

    fn is_closed(&self) -> bool {
        // On damage, the read says so.
        self.state().map_or(true, |word| LaneState::decode(word).is_some_and(|s| s.phase == Phase::Closed))
    }

    /// Sleeps until there is something to tell, woken, or `at_most`.
    pub(crate) fn doze(&self, at_most: Duration) {
        sleep::sleep(self.reader.memory().sleep_word(SleepWord::Consumer), at_most, || self.has_news());
    }

    /// What a waiting consumer asks the kernel once a period.
    pub(crate) fn recheck(&mut self) -> Result<(), ReadError> {
        self.check_producer()?;
        let bytes = self.uncommitted();
        if bytes > 0 && self.producer_wants_more() && self.is_drained() {
            return Err(ReadError::Uncommitted { bytes });
        }
        Ok(())
    }
}

/// Iterator over what is there: see [`Consumer::available`].
#[derive(Debug)]
pub struct Available<'a> {
    consumer: &'a mut Consumer,
    failed: bool,
}

impl Iterator for Available<'_> {
    type Item = Result<OwnedMessage, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken = match self.consumer.peek_message() {
            Ok(Some(record)) => self.consumer.take(record),
            // An end is left to the next read.
            Ok(None) => return None,
            Err(e) => Err(e),
        };
        match taken {
            Ok(Message { sequence, flags, payload }) => {
                Some(Ok(OwnedMessage { sequence, flags, payload: payload.to_vec() }))
            }
            // Once: a caller that drops errors must not go round for ever.
            Err(e) => (!std::mem::replace(&mut self.failed, true)).then_some(Err(e)),
        }
    }
}
