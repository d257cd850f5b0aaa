//! Messages written and read where they are in the ring.

use std::ops::{Deref, DerefMut};

use super::consumer::Consumer;
use super::error::{ReadError, SendError};
use super::find;
use super::producer::Producer;
use super::read::{Found, Message, Read};
use crate::layout::Cause;
use crate::layout::record::Kind;
use crate::region::{Control, Trust};
use crate::ring::{Memory, Record};

/// Sends messages that are written where they are sent from. What is true of a
/// [`Producer`] is true of it.
///
/// A message of any length costs little more than an empty one: what is not
/// written is not touched.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("frames.ring");
/// # let region = shmring::Region::create(&path)?;
/// use shmring::Trust;
/// // SAFETY: nobody else has the region.
/// let mut producer = region.producer()?.in_place(unsafe { Trust::in_peers() });
/// let mut loan = producer.reserve(65536)?;
/// loan[0] = 7;
/// loan[1..1000].fill(0);
/// loan.commit(1000);
/// # match region.consumer()?.read()? {
/// #     shmring::Read::Message(m) => assert_eq!((m.payload.len(), m.payload[0]), (1000, 7)),
/// #     other => panic!("{other:?}"),
/// # }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct InPlaceProducer {
    pub(crate) producer: Producer,
    trust: Trust,
}

/// Receives messages that are read where they are. What is true of a
/// [`Consumer`] is true of it.
///
/// A payload points into the ring. It can be used until the next call that reads
/// or commits; for longer, copy it. Everything about the message but its bytes is
/// checked.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let region = shmring::Region::create(folder.path().join("frames.ring"))?;
/// # let mut producer = region.producer()?;
/// # producer.send(b"one")?;
/// # producer.close();
/// use shmring::{Read, Trust};
/// // SAFETY: nobody else has the region.
/// let mut consumer = region.consumer()?.in_place(unsafe { Trust::in_peers() });
/// loop {
///     match consumer.read()? {
///         Read::Message(m) => println!("{}: {} bytes", m.sequence, m.payload.len()),
///         Read::End => break consumer.commit(),
///         _ => {}
///     }
///     consumer.commit();
/// }
/// # Ok(()) }
/// ```
///
/// After a commit the producer may write there, so nobody can keep a payload:
///
/// ```compile_fail,E0502
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = shmring::RegionOptions::new().create_anonymous()?;
/// # use shmring::{Read, Trust};
/// # let mut consumer = region.consumer()?.in_place(unsafe { Trust::in_peers() });
/// if let Read::Message(message) = consumer.try_read()? {
///     consumer.commit();
///     println!("{:?}", message.payload);
/// }
/// # Ok(()) }
/// ```
///
/// Not through the next read either:
///
/// ```compile_fail,E0499
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = shmring::RegionOptions::new().create_anonymous()?;
/// # use shmring::{Read, Trust};
/// # let mut consumer = region.consumer()?.in_place(unsafe { Trust::in_peers() });
/// if let Read::Message(message) = consumer.try_read()? {
///     consumer.try_read()?;
///     println!("{:?}", message.payload);
/// }
/// # Ok(()) }
/// ```
///
/// Nor beyond the handle:
///
/// ```compile_fail,E0505
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = shmring::RegionOptions::new().create_anonymous()?;
/// # use shmring::{Read, Trust};
/// # let mut consumer = region.consumer()?.in_place(unsafe { Trust::in_peers() });
/// if let Read::Message(message) = consumer.try_read()? {
///     consumer.into_inner().commit();
///     println!("{:?}", message.payload);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct InPlaceConsumer {
    pub(crate) consumer: Consumer,
    trust: Trust,
}

/// A reference cannot be told that what it points to became zeros.
fn refuse_guard(control: &Control) {
    assert!(!control.is_guarded(), "guard_truncation is for handles that copy: trust, or guard");
}

impl Producer {
    /// Sends in place from now on. What this takes on trust is said there:
    /// [`Trust::in_peers`].
    ///
    /// # Panics
    /// If the region was opened with
    /// [`guard_truncation`](super::RegionOptions::guard_truncation): a guard
    /// makes zeros of what is truncated, under a reference too.
    pub fn in_place(self, trust: Trust) -> InPlaceProducer {
        refuse_guard(self.writer.memory().control());
        InPlaceProducer { producer: self, trust }
    }
}

impl InPlaceProducer {
    /// Reserves room for a message of up to `len` bytes, if there is some now.
    /// Nothing is visible before [`Loan::commit`]; dropping the loan leaves no
    /// trace, and so does a death.
    ///
    /// # Errors
    /// As [`Producer::try_send`]; the ring is as it was.
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<Loan<'_>, SendError> {
        self.producer.writer.abort();
        self.producer.claim(len)?;
        Ok(Loan { owner: self, len })
    }

    /// Drops a message: [`Producer::drop_message`].
    ///
    /// # Errors
    /// As there.
    pub fn drop_message(&mut self, cause: Cause) -> Result<(), SendError> {
        self.producer.drop_message(cause)
    }

    /// The producer, to be asked.
    pub fn get_ref(&self) -> &Producer {
        &self.producer
    }

    /// The producer, which copies again: to close it, or to leave.
    pub fn into_inner(self) -> Producer {
        self.producer
    }
}

/// Room in the ring for one message, to be written there: see
/// [`InPlaceProducer`]. It is as long as what was reserved.
///
/// Before it is written it holds whatever is there: zeros, or pieces of earlier
/// messages of this lane. What was not written is sent as it is. It starts at a
/// multiple of 8 bytes, and of no more: 8 bytes after the start of a record, in
/// [total order](super::Order::Total) 16.
///
/// In a child that was forked meanwhile it is empty: the room is the parent's.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let region = shmring::Region::create(folder.path().join("frames.ring"))?;
/// # use shmring::Trust;
/// # // SAFETY: nobody else has the region.
/// # let mut producer = region.producer()?.in_place(unsafe { Trust::in_peers() });
/// let mut loan = producer.reserve(100)?;
/// loan[..5].copy_from_slice(b"hello");
/// loan.commit(5);
/// # Ok(()) }
/// ```
///
/// One at a time, and no reference to it outlives its commit:
///
/// ```compile_fail,E0499
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = shmring::RegionOptions::new().create_anonymous()?;
/// # use shmring::Trust;
/// # let mut producer = region.producer()?.in_place(unsafe { Trust::in_peers() });
/// let loan = producer.reserve(100)?;
/// let other = producer.reserve(100)?;
/// loan.commit(5);
/// # Ok(()) }
/// ```
///
/// ```compile_fail,E0505
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let region = shmring::RegionOptions::new().create_anonymous()?;
/// # use shmring::Trust;
/// # let mut producer = region.producer()?.in_place(unsafe { Trust::in_peers() });
/// let mut loan = producer.reserve(100)?;
/// let place = &mut loan[..];
/// loan.commit(5);
/// place[0] = 1;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a loan that is dropped sends nothing"]
pub struct Loan<'a> {
    owner: &'a mut InPlaceProducer,
    len: usize,
}

impl Loan<'_> {
    /// Sends the first `len` bytes as one message.
    ///
    /// # Panics
    /// If they are more than were reserved; nothing is sent then.
    #[inline]
    pub fn commit(self, len: usize) {
        assert!(len <= self.len, "{len} bytes are more than the {} that were reserved", self.len);
        let writer = &mut self.owner.producer.writer;
        // As after a copy: the payload may have gone through the second alias,
        // which the compiler takes for other memory than the header that follows.
        writer.memory().keep_program_order();
        writer.stage(0, len);
        self.owner.producer.publish();
    }

    /// Where it is, and how long.
    #[inline(always)]
    fn place(&self) -> (u64, usize) {
        let Producer { writer, seat, .. } = &self.owner.producer;
        (writer.payload_at(), if seat.is_inherited() { 0 } else { self.len })
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let (position, len) = self.place();
        self.owner.producer.writer.memory().bytes(&self.owner.trust, position, len)
    }
}

impl DerefMut for Loan<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let (position, len) = self.place();
        let InPlaceProducer { producer, trust } = &mut *self.owner;
        producer.writer.memory().bytes_mut(trust, position, len)
    }
}

impl Consumer {
    /// Reads in place from now on. What this takes on trust is said there:
    /// [`Trust::in_peers`].
    ///
    /// # Panics
    /// If the region was opened with
    /// [`guard_truncation`](super::RegionOptions::guard_truncation): a guard
    /// makes zeros of what is truncated, under a reference too.
    pub fn in_place(self, trust: Trust) -> InPlaceConsumer {
        refuse_guard(&self.control);
        InPlaceConsumer { consumer: self, trust }
    }

    /// The next message, while the last look at the lanes serves: what
    /// [`take_next`](Self::take_next) is to those who copy.
    #[inline(always)]
    pub(crate) fn peek_next(&self) -> Option<Record> {
        if self.seat.is_inherited() {
            return None;
        }
        self.reader.peek().ok().flatten().filter(|record| record.kind == Kind::Data)
    }
}

impl InPlaceConsumer {
    /// Reads the next message if there is one: [`Consumer::try_read`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_read(&mut self) -> Result<Read<'_>, ReadError> {
        let found = match self.consumer.peek_next() {
            Some(record) => Found::Record(record),
            None => self.consumer.find(true)?,
        };
        self.tell(found)
    }

    /// Commits everything read so far: [`Consumer::commit`].
    #[inline]
    pub fn commit(&mut self) {
        self.consumer.commit();
    }

    /// Commits it together with a position in the sink: [`Consumer::commit_at`].
    pub fn commit_at(&mut self, position: u64) {
        self.consumer.commit_at(position);
    }

    /// Asks which producers are attached: [`Consumer::check_producers`].
    ///
    /// # Errors
    /// As there.
    pub fn check_producers(&mut self) -> Result<u32, ReadError> {
        self.consumer.check_producers()
    }

    /// The consumer, to be asked.
    pub fn get_ref(&self) -> &Consumer {
        &self.consumer
    }

    /// The consumer, which copies again.
    pub fn into_inner(self) -> Consumer {
        self.consumer
    }

    /// What was found, with its bytes where they are; steps over it.
    #[inline(always)]
    pub(crate) fn tell(&mut self, found: Found) -> Result<Read<'_>, ReadError> {
        match found {
            Found::Record(record) if record.kind == Kind::Data => Ok(Read::Message(self.take(&record))),
            found => self.consumer.tell(found),
        }
    }

    /// Steps over a message, which stays where it is until it is committed.
    #[inline(always)]
    fn take(&mut self, record: &Record) -> Message<'_> {
        let Consumer { reader, lanes, waiting, .. } = &mut self.consumer;
        waiting.pace.messages += 1;
        reader.advance(record);
        let lane = reader.lane(record.lane);
        let payload = lane.memory().bytes(&self.trust, lane.payload_at(record), record.len);
        find::message(lanes, reader, record, payload)
    }
}
