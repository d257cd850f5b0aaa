use std::time::{Duration, Instant};

use super::{Blocked, Over, wait};
use crate::endpoint::{Batch, Cause, Flags, Grant, Producer, SendError};
use crate::ring::sleep::Announced;

struct ForRoom<'a> {
    producer: &'a mut Producer,
    len: usize,
    announced: Announced,
}

impl Blocked for ForRoom<'_> {
    type Error = SendError;

    fn ready(&mut self) -> Result<bool, SendError> {
        match self.producer.claim(self.len) {
            Ok(()) => Ok(true),
            Err(SendError::Full) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn glance(&mut self) -> bool {
        self.producer.glance()
    }

    fn doze(&mut self, at_most: Duration) {
        self.producer.doze(&mut self.announced, self.len, at_most);
    }

    fn recheck(&mut self) -> Result<(), SendError> {
        // A gap that went ahead alone moved what is wanted.
        if self.producer.announce_want(Some(self.len)) {
            self.producer.rise(&mut self.announced);
        }
        self.producer.recheck()
    }
}

impl Producer {
    /// Sends a message, waiting for room. Afterwards it is the consumer's,
    /// whatever becomes of this process.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send) except [`SendError::Full`], and
    /// [`SendError::Removed`], [`SendError::Truncated`];
    /// [`SendError::Interrupted`] only with
    /// [`set_interrupt`](Self::set_interrupt). The ring is as it was.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.send_deadline(payload, Flags::NONE, None)
    }

    /// [`send`](Self::send) that waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::TimedOut`].
    pub fn send_timeout(&mut self, payload: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_deadline(payload, Flags::NONE, Instant::now().checked_add(timeout))
    }

    /// [`send`](Self::send) with flags, that waits no longer than until
    /// `deadline`; `None`: for ever.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendError::TimedOut`].
    #[inline]
    pub fn send_deadline(
        &mut self,
        payload: &[u8],
        flags: Flags,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        match self.try_send_with(payload, flags) {
            Err(SendError::Full) => {
                self.wait_for_room(payload.len(), deadline)?;
                self.try_send_with(payload, flags)
            }
            sent => sent,
        }
    }

    /// Sends a message, or drops it if there is no room: at once with `None`,
    /// else at the deadline. True if it was sent. A dropped one is told as
    /// [`drop_message`](Self::drop_message) says.
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline), but for
    /// [`SendError::TimedOut`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let region = shmring::Region::create(folder.path().join("ticks.ring"))?;
    /// use shmring::{Flags, Read};
    ///
    /// let (mut producer, mut consumer) = (region.producer()?, region.consumer()?);
    /// let mut dropped = 0;
    /// for tick in 0..100_000u64 {
    ///     dropped += !producer.send_or_drop(&tick.to_le_bytes(), Flags::NONE, None)? as u64;
    /// }
    /// producer.close();
    /// let mut told = 0;
    /// loop {
    ///     match consumer.read()? {
    ///         Read::Gap(gap) => told += gap.count,
    ///         Read::End => break,
    ///         _ => consumer.commit(),
    ///     }
    /// }
    /// assert!(dropped > 0 && told == dropped);
    /// # Ok(()) }
    /// ```
    pub fn send_or_drop(
        &mut self,
        payload: &[u8],
        flags: Flags,
        deadline: Option<Instant>,
    ) -> Result<bool, SendError> {
        let (sent, cause) = match deadline {
            None => (self.try_send_with(payload, flags), Cause::Full),
            Some(_) => (self.send_deadline(payload, flags, deadline), Cause::Deadline),
        };
        match sent {
            Err(SendError::Full | SendError::TimedOut) => self.drop_message(cause).map(|()| false),
            sent => sent.map(|()| true),
        }
    }

    /// [`try_reserve`](Self::try_reserve) that waits for room, no longer than
    /// until `deadline`; `None`: for ever.
    ///
    /// # Errors
    /// As [`send_deadline`](Self::send_deadline).
    pub fn reserve_deadline(
        &mut self,
        max_len: usize,
        deadline: Option<Instant>,
    ) -> Result<Grant<'_>, SendError> {
        self.abort();
        if let Err(SendError::Full) = self.claim(max_len) {
            self.wait_for_room(max_len, deadline)?;
        }
        self.try_reserve(max_len)
    }

    #[cold]
    pub(super) fn wait_for_room(&mut self, len: usize, deadline: Option<Instant>) -> Result<(), SendError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.announce_want(Some(len));
        let mut blocked = ForRoom { producer: self, len, announced: Announced::default() };
        let over = wait(&mut blocked, &mut waiting, deadline);
        blocked.producer.rise(&mut blocked.announced);
        self.waiting = waiting;
        self.announce_want(None);
        match over? {
            Over::Ready => Ok(()),
            Over::TimedOut => Err(SendError::TimedOut),
            Over::Interrupted => Err(SendError::Interrupted),
        }
    }
}

impl Batch<'_> {
    /// Adds a message, waiting for room, no longer than until `deadline`;
    /// `None`: for ever. Before it waits it publishes what is in the batch:
    /// producer and consumer would else wait for each other.
    ///
    /// # Errors
    /// As [`Producer::send_deadline`]; what was added before is published by
    /// then, or still in the batch.
    #[inline]
    pub fn push(&mut self, payload: &[u8], flags: Flags, deadline: Option<Instant>) -> Result<(), SendError> {
        match self.try_push_with(payload, flags) {
            Err(SendError::Full) => {
                if self.producer.has_staged() {
                    self.producer.publish();
                }
                self.producer.wait_for_room(payload.len(), deadline)?;
                self.try_push_with(payload, flags)
            }
            pushed => pushed,
        }
    }
}
