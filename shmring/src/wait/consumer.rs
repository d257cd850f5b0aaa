use std::time::{Duration, Instant};

use super::{Blocked, Over, PERIOD, wait};
use crate::endpoint::{Consumer, Found, Read, ReadError, Wait};
use crate::ring::Record;
use crate::ring::sleep::Announced;

/// So many glances, one right after the other, before anything else is done.
const QUICK_GLANCES: u32 = 256;

struct ForRecord<'a> {
    consumer: &'a mut Consumer,
    found: Found,
    /// It has slept, so what woke it may be in any lane.
    is_woken: bool,
    /// No message is copied.
    is_in_place: bool,
    announced: Announced,
}

impl ForRecord<'_> {
    fn new(consumer: &mut Consumer, is_in_place: bool) -> ForRecord<'_> {
        let (found, announced) = (Found::Empty, Announced::default());
        ForRecord { consumer, found, is_woken: false, is_in_place, announced }
    }
}

impl Blocked for ForRecord<'_> {
    type Error = ReadError;

    fn ready(&mut self) -> Result<bool, ReadError> {
        let taken = if self.is_in_place { None } else { self.consumer.take_next() };
        self.found = match taken {
            Some(record) => Found::Taken(record),
            None => self.consumer.find(std::mem::take(&mut self.is_woken))?,
        };
        Ok(!matches!(self.found, Found::Empty))
    }

    fn glance(&mut self) -> bool {
        self.consumer.glance()
    }

    fn doze(&mut self, at_most: Duration) {
        self.consumer.doze(&mut self.announced, at_most);
        self.is_woken = true;
    }

    fn recheck(&mut self) -> Result<(), ReadError> {
        self.consumer.recheck()
    }
}

impl Consumer {
    /// Reads the next message, waiting for it; or tells of a gap, a death or
    /// the end of all. The message stays in the ring until
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// [`ReadError::Uncommitted`] instead of waiting for ever;
    /// [`ReadError::Removed`], [`ReadError::Truncated`],
    /// [`ReadError::Punched`]; [`ReadError::Damaged`], once a lane, and always
    /// when no lane is left; [`ReadError::Lane`]; [`ReadError::Forked`];
    /// [`ReadError::Interrupted`] only with
    /// [`set_interrupt`](Self::set_interrupt).
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
        self.count_read()?;
        match self.take_next() {
            Some(record) => Ok(Read::Message(self.message(&record))),
            None => self.look_and_wait(deadline),
        }
    }

    #[inline(never)]
    fn look_and_wait(&mut self, deadline: Option<Instant>) -> Result<Read<'_>, ReadError> {
        if self.is_turn_over() {
            match self.find(false)? {
                Found::Empty => {}
                found => return self.tell(found),
            }
        }
        if let Some(record) = self.catch() {
            return Ok(Read::Message(self.message(&record)));
        }
        let found = self.wait_for_next(deadline, false)?;
        self.tell(found)
    }

    /// What comes next. A message is in the buffer, or left where it is if
    /// `is_in_place`.
    pub(super) fn wait_for_next(
        &mut self,
        deadline: Option<Instant>,
        is_in_place: bool,
    ) -> Result<Found, ReadError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut blocked = ForRecord::new(self, is_in_place);
        let over = wait(&mut blocked, &mut waiting, deadline);
        blocked.consumer.rise(&mut blocked.announced);
        let found = blocked.found;
        self.waiting = waiting;
        match over? {
            Over::Ready => Ok(found),
            // Not all lanes were looked at each time.
            Over::TimedOut => match self.find(true)? {
                Found::Empty => Err(ReadError::TimedOut),
                found => Ok(found),
            },
            Over::Interrupted => Err(ReadError::Interrupted),
        }
    }

    /// The message that is on its way, if it comes within some tenths of a
    /// microsecond: it needs nothing of what [`wait`] does.
    #[inline(always)]
    fn catch(&mut self) -> Option<Record> {
        if self.stands_by() { self.take_next() } else { None }
    }

    /// True if something came in that time.
    #[inline(always)]
    pub(super) fn stands_by(&mut self) -> bool {
        if self.is_turn_over() {
            return false;
        }
        if self.waiting.strategy != Wait::Spin {
            self.waiting.pace.keep_off();
        }
        (0..QUICK_GLANCES).any(|_| self.glance())
    }

    /// Who never waits notices deaths too.
    #[inline(always)]
    pub(super) fn count_read(&mut self) -> Result<(), ReadError> {
        self.waiting.reads = self.waiting.reads.wrapping_add(1);
        if self.waiting.reads == 0 { self.look_around_in_time() } else { Ok(()) }
    }

    /// The first time it only notes when: a stream that is shorter than a period
    /// needs no look.
    #[cold]
    fn look_around_in_time(&mut self) -> Result<(), ReadError> {
        let now = Instant::now();
        if now >= *self.waiting.next_check.get_or_insert(now + PERIOD) {
            self.waiting.next_check = Some(now + PERIOD);
            self.look_around()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Announced, Blocked, ForRecord, Found};
    use crate::{Consumer, Read, Region, RegionOptions, Wait};

    #[test]
    fn what_is_there_is_found_by_who_is_woken_and_by_who_gives_up() {
        let folder = tempfile::tempdir().unwrap();
        let options = RegionOptions::new().capacity(64 << 10).max_producers(100);
        let region = options.create(folder.path().join("ring")).unwrap();
        let mut consumer = region.consumer().unwrap();
        consumer.set_wait(Wait::Park);
        let mut producers = [(); 100].map(|()| region.producer().unwrap());
        // Long enough for every lane to be one that is seldom looked at.
        let cool = |consumer: &mut Consumer| {
            (0..2000).for_each(|_| assert!(matches!(consumer.find(false).unwrap(), Found::Empty)));
        };
        cool(&mut consumer);
        for producer in &mut producers {
            producer.send(b"x").unwrap();
            let mut blocked = ForRecord::new(&mut consumer, false);
            blocked.doze(Duration::from_secs(60));
            assert_eq!(blocked.ready(), Ok(true), "lane {}", producer.lane());
            let found = blocked.found;
            consumer.tell(found).unwrap();
        }
        cool(&mut consumer);
        for producer in &mut producers {
            producer.send(b"x").unwrap();
            let read = consumer.read_timeout(Duration::ZERO);
            assert!(matches!(read, Ok(Read::Message(_))), "{read:?}");
        }
    }

    #[test]
    fn a_close_is_seen_by_the_look_before_a_sleep() {
        let folder = tempfile::tempdir().unwrap();
        let region = Region::create(folder.path().join("ring")).unwrap();
        let consumer = region.consumer().unwrap();
        region.producer().unwrap().close();
        // The producer has woken nobody: the close came before the sleep.
        let hang = Duration::from_secs(60);
        let started = Instant::now();
        consumer.doze(&mut Announced::default(), hang);
        assert!(started.elapsed() < hang, "slept with the end there");
    }
}
