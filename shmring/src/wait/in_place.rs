use std::time::{Duration, Instant};

use crate::endpoint::{Found, InPlaceConsumer, InPlaceProducer, Loan, Read, ReadError, SendError};

impl InPlaceProducer {
    /// [`try_reserve`](Self::try_reserve) that waits for room.
    ///
    /// # Errors
    /// As [`Producer::send`](crate::Producer::send).
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<Loan<'_>, SendError> {
        self.reserve_deadline(len, None)
    }

    /// [`reserve`](Self::reserve) that waits no longer than until `deadline`;
    /// `None`: for ever.
    ///
    /// # Errors
    /// As [`Producer::send_deadline`](crate::Producer::send_deadline).
    #[inline]
    pub fn reserve_deadline(&mut self, len: usize, deadline: Option<Instant>) -> Result<Loan<'_>, SendError> {
        self.producer.abort();
        if let Err(SendError::Full) = self.producer.claim(len) {
            self.producer.wait_for_room(len, deadline)?;
        }
        self.try_reserve(len)
    }
}

impl InPlaceConsumer {
    /// Reads the next message, waiting for it:
    /// [`Consumer::read`](crate::Consumer::read).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn read(&mut self) -> Result<Read<'_>, ReadError> {
        self.read_deadline(None)
    }

    /// [`read`](Self::read) that waits no longer than `timeout`.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`ReadError::TimedOut`].
    pub fn read_timeout(&mut self, timeout: Duration) -> Result<Read<'_>, ReadError> {
        self.read_deadline(Instant::now().checked_add(timeout))
    }

    /// [`read`](Self::read) that waits no longer than until `deadline`;
    /// `None`: for ever.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`ReadError::TimedOut`].
    #[inline]
    pub fn read_deadline(&mut self, deadline: Option<Instant>) -> Result<Read<'_>, ReadError> {
        self.consumer.count_read()?;
        let found = match self.consumer.peek_next() {
            Some(record) => Found::Record(record),
            None => self.look_and_wait(deadline)?,
        };
        self.tell(found)
    }

    #[inline(never)]
    fn look_and_wait(&mut self, deadline: Option<Instant>) -> Result<Found, ReadError> {
        let caught = if self.consumer.stands_by() { self.consumer.peek_next() } else { None };
        caught.map_or_else(|| self.consumer.wait_for_next(deadline, true), |record| Ok(Found::Record(record)))
    }
}
