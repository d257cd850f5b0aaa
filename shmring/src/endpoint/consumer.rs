use std::cell::Cell;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::{AttachError, Damage, ReadError};
use super::lane::{Lane, bury};
use super::options::{Wait, Waiting};
use super::owner::{self, Role};
use super::read::{Available, Death, Read};
use super::region::Region;
use super::seat::Seat;
use super::stream_id::StreamId;
use crate::os::{lock, membarrier};
use crate::region::{Control, Mapping};
use crate::ring::{Reader, Sink, sleep};

/// Receives messages from a region, of all its producers.
///
/// Reading and committing are separate. What is read and not
/// [committed](Consumer::commit) is delivered again to the next consumer, and
/// takes room in the ring. Dropping a consumer commits nothing.
///
/// In a child that was forked it still is the parent's: there it reads nothing
/// ([`ReadError::Forked`]), and a commit does nothing.
///
/// The try forms never block and make no system call but to wake a sleeping
/// producer at commit, and to map a lane that came into use;
/// [`read`](Consumer::read) and its kin wait for a message.
#[derive(Debug)]
pub struct Consumer {
    pub(super) reader: Reader<Mapping>,
    /// Those that the reader has, with its numbers.
    pub(super) lanes: Vec<Lane>,
    /// For each lane of the region: the reader has it.
    pub(super) is_in_use: Box<[bool]>,
    /// The count of attaches when the lanes were looked for last.
    pub(super) attaches: Option<u64>,
    /// Some lane has a death that is not told yet.
    pub(super) has_deaths: bool,
    /// Some lane has a death that was told and is not committed.
    pub(super) has_told_deaths: bool,
    /// A lane that held up the end of all when it was looked for last, and its
    /// state word then.
    pub(super) blocker: Cell<(u32, u64)>,
    /// The lane whose lock is asked for next.
    pub(super) next_lock: u32,
    /// Streams that must have ended before the end of all is told.
    pub(super) expected: u64,
    /// What [`Consumer::commit_at`] is about.
    sink: Option<StreamId>,
    pub(super) buffer: Vec<u8>,
    /// The last death that was found, to be told.
    pub(super) death: Option<Death>,
    /// Damage that is not told yet.
    pub(super) untold: Vec<Damage>,
    /// The last damage: final, once no lane is left.
    pub(super) damage: Option<Damage>,
    pub(crate) waiting: Waiting,
    /// To map lanes by: it never has a lock.
    pub(super) region: Arc<File>,
    pub(super) control: Arc<Control>,
    pub(super) seat: Seat,
}

impl Consumer {
    pub(crate) fn attach(region: &Region) -> Result<Consumer, AttachError> {
        let (seat, control) = region.take(|file, _| {
            let role = Role::Consumer;
            match lock::try_take(file, role.lock())? {
                true => Ok(role),
                false => {
                    Err(AttachError::Busy { role, owner: owner::read(file, &region.header.geometry, role) })
                }
            }
        })?;
        let count = seat.geometry.lane_count();
        // Lane 0 has its space from the start.
        let first = Mapping::new(&control, &region.file, 0)?;
        let reader = Reader::take_over(&first, region.shape(), count as usize);
        sleep::reset(control.consumer_sleep(), membarrier::is_possible());
        seat.sign(&control);
        let mut consumer = Consumer {
            reader,
            lanes: Vec::with_capacity(count as usize),
            is_in_use: vec![false; count as usize].into(),
            attaches: None,
            has_deaths: false,
            has_told_deaths: false,
            blocker: Cell::new((0, 0)),
            next_lock: 0,
            expected: 1,
            sink: None,
            buffer: Vec::new(),
            death: None,
            untold: Vec::new(),
            damage: None,
            waiting: Waiting::default(),
            region: region.file.clone(),
            control,
            seat,
        };
        consumer.add(0, first);
        let added = consumer.find_lanes();
        added.map_err(|(_, e)| AttachError::from(e))?;
        for lane in 0..consumer.reader.lane_count() {
            // What the consumer before committed, and was killed before it did the rest.
            bury(consumer.reader.lane(lane));
            consumer.wake_producer(lane);
        }
        consumer.seat.refuse_cut(&consumer.control)?;
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

    /// Reads the next message if there is one, of the lane whose turn it is. It
    /// stays in the ring until [`commit`](Self::commit). That a producer died is
    /// not noticed here: ask [`check_producers`](Self::check_producers) from
    /// time to time.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], once a lane, and always when no lane is left;
    /// [`ReadError::Lane`]; [`ReadError::Truncated`] with
    /// [`guard_truncation`](super::RegionOptions::guard_truncation);
    /// [`ReadError::Forked`].
    #[inline(always)]
    pub fn try_read(&mut self) -> Result<Read<'_>, ReadError> {
        match self.take_next() {
            Some(record) => Ok(Read::Message(self.message(&record))),
            None => self.find_and_tell(),
        }
    }

    #[inline(never)]
    fn find_and_tell(&mut self) -> Result<Read<'_>, ReadError> {
        let found = self.find(true)?;
        self.tell(found)
    }

    /// Says that so many streams are to end before [`Read::End`] is told:
    /// producers that close, and deaths that are told, since the last end. The
    /// count is committed with what is read, so it holds across consumers.
    /// Usually 1.
    pub fn expect_streams(&mut self, count: u64) {
        self.expected = count.max(1);
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

    /// Commits everything read so far, of all producers: the next consumer
    /// goes on behind it, and they may overwrite it. One store decides; wakes
    /// producers that wait. It leaves the position in a sink as it is: with a
    /// sink, use [`commit_at`](Self::commit_at) only.
    pub fn commit(&mut self) {
        if self.seat.is_inherited() {
            return;
        }
        if self.reader.commit() {
            for &lane in self.reader.freed() {
                self.lanes[lane as usize].is_name_known = false;
                self.wake_producer(lane);
            }
        }
        if std::mem::take(&mut self.has_told_deaths) {
            (0..self.reader.lane_count()).for_each(|lane| bury(self.reader.lane(lane)));
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

    /// Bytes of the ring that are read and not committed.
    pub fn uncommitted(&self) -> u64 {
        self.reader.uncommitted()
    }

    /// Asks the kernel whether the region's file is what it was: for callers of
    /// the try forms, from time to time. Blocking calls do this themselves, and
    /// so does [`check_producers`](Self::check_producers).
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
}
