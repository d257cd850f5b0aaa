use std::time::{Duration, Instant};

use super::{Blocked, Over, wait};
use crate::endpoint::{Consumer, Found, Read, ReadError};

struct ForRecord<'a> {
    consumer: &'a mut Consumer,
    found: Found,
}

impl Blocked for ForRecord<'_> {
    type Error = ReadError;

    fn ready(&mut self) -> Result<bool, ReadError> {
        self.found = self.consumer.find()?;
        Ok(!matches!(self.found, Found::Empty))
    }

    fn doze(&mut self, at_most: Duration) {
        self.consumer.doze(at_most);
    }

    fn recheck(&mut self) -> Result<(), ReadError> {
        self.consumer.recheck()
    }
}

impl Consumer {
    /// Reads the next message, waiting for it; or says how the stream ended.
    /// The message stays in the ring until [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`ReadError::Uncommitted`] instead of waiting for ever;
    /// [`ReadError::Removed`], [`ReadError::Truncated`],
    /// [`ReadError::Damaged`]; [`ReadError::Interrupted`] only with
    /// [`set_interrupt`](Self::set_interrupt).
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
    pub fn read_deadline(&mut self, deadline: Option<Instant>) -> Result<Read<'_>, ReadError> {
        let found = match self.find()? {
            Found::Empty => {
                let mut waiting = std::mem::take(&mut self.waiting);
                let mut blocked = ForRecord { consumer: self, found: Found::Empty };
                let over = wait(&mut blocked, &mut waiting, deadline);
                let found = blocked.found;
                self.waiting = waiting;
                match over? {
                    Over::Ready => found,
                    Over::TimedOut => return Err(ReadError::TimedOut),
                    Over::Interrupted => return Err(ReadError::Interrupted),
                }
            }
            found => found,
        };
        Ok(match found {
            Found::Message(record) => Read::Message(self.take(record)?),
            Found::End(end) => Read::End(end),
            Found::Empty => Read::Empty,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::Region;

    #[test]
    fn a_close_is_seen_by_the_look_before_a_sleep() {
        let folder = tempfile::tempdir().unwrap();
        let region = Region::create(folder.path().join("ring")).unwrap();
        let consumer = region.consumer().unwrap();
        region.producer().unwrap().close();
        // The producer has woken nobody: the close came before the sleep.
        let hang = Duration::from_secs(60);
        let started = Instant::now();
        consumer.doze(hang);
        assert!(started.elapsed() < hang, "slept with the end there");
    }
}
