//! What a consumer looks at besides its messages: who lives, and before a sleep
//! whether there is anything.

use std::time::Duration;

use super::consumer::Consumer;
use super::error::ReadError;
use super::find::End;
use super::lane::{hidden_death, state_word};
use crate::layout::Word;
use crate::layout::blocks::{LaneState, Phase};
use crate::os::lock;
use crate::ring::Broken;
use crate::ring::sleep::{self, Announced};

/// How many locks a consumer asks for in one period.
const LOCKS_A_PERIOD: u32 = 64;

impl Consumer {
    /// Asks the kernel which producers are attached, says how many, and notices
    /// those that died: the next read then says so, after their last message.
    /// For callers of the try forms; blocking reads do this themselves.
    ///
    /// # Errors
    /// [`ReadError::Removed`], [`ReadError::Truncated`] and
    /// [`ReadError::Punched`] if the file is not what it was;
    /// [`ReadError::Damaged`]; [`ReadError::Lane`]; [`ReadError::Forked`].
    pub fn check_producers(&mut self) -> Result<u32, ReadError> {
        self.check_region()?;
        self.activate(None)?;
        let mut attached = 0;
        for index in 0..self.reader.lane_count() {
            attached += self.check_producer(index)? as u32;
        }
        Ok(attached)
    }

    /// Asks whether a lane's producer is attached, and notices if it died.
    fn check_producer(&mut self, index: u32) -> Result<bool, ReadError> {
        if self.reader.lane(index).is_aside() {
            return Ok(false);
        }
        let state = state_word(self.reader.lane(index));
        let word = state.map_err(|corrupt| self.set_aside(Broken { lane: index, corrupt }))?;
        let is_told = self.reader.lane(index).death() == word;
        self.has_deaths |= hidden_death(self.reader.lane(index), word).is_some();
        let lane = &mut self.lanes[index as usize];
        // On doubt, it lives.
        let role = lock::Role::Producer(lane.number);
        let attached = lock::is_taken(&self.seat.file, role).unwrap_or(true);
        let open = LaneState::decode(word).is_some_and(|s| s.phase == Phase::Open);
        if open && !attached && !is_told {
            lane.death = Some(word);
            self.has_deaths = true;
        }
        Ok(attached)
    }

    /// True if a lane has something to read, or to complain about.
    fn has_record(&self) -> bool {
        (0..self.reader.lane_count()).any(|index| {
            let lane = self.reader.lane(index);
            !lane.is_aside()
                && match self.reader.peek_lane(index) {
                    Ok(None) => false,
                    Ok(Some(record)) => !record.is_end() || lane.is_followed(&record),
                    Err(_) => true,
                }
        })
    }

    /// True if the next read has something to tell, the kernel not asked.
    fn has_news(&self) -> bool {
        self.attaches != Some(self.control.load_acquire(0, Word::Attaches)) // ATTACH
            || self.has_record()
            // On damage, the read says so.
            || !matches!(self.end(), Ok(End::HeldUp))
    }

    /// Sleeps until there is something to tell, woken, or `at_most`. Stays
    /// announced until it [rises](Self::rise).
    pub(crate) fn doze(&self, announced: &mut Announced, at_most: Duration) {
        sleep::sleep(self.control.consumer_sleep(), announced, at_most, || self.has_news());
    }

    /// Says that it does not sleep.
    pub(crate) fn rise(&self, announced: &mut Announced) {
        sleep::rise(self.control.consumer_sleep(), announced);
    }

    /// What a consumer asks the kernel once a period, waiting or not.
    pub(crate) fn look_around(&mut self) -> Result<(), ReadError> {
        self.check_region()?;
        self.activate(None)?;
        let count = self.reader.lane_count();
        for _ in 0..LOCKS_A_PERIOD.min(count) {
            self.next_lock = (self.next_lock + 1) % count;
            self.check_producer(self.next_lock)?;
        }
        Ok(())
    }

    /// What a waiting consumer asks once a period.
    pub(crate) fn recheck(&mut self) -> Result<(), ReadError> {
        self.look_around()?;
        let count = self.reader.lane_count();
        let bytes = self.uncommitted();
        let waits = |index| self.reader.lane(index).uncommitted() > 0 && self.producer_wants_more(index);
        if bytes > 0 && (0..count).any(waits) && !self.has_record() {
            return Err(ReadError::Uncommitted { bytes });
        }
        Ok(())
    }
}
