//! How a consumer finds what is next, in all lanes: a message, a gap, a death,
//! the end of all.

use std::io;
use std::sync::Arc;

use super::consumer::Consumer;
use super::error::{Damage, ReadError};
use super::lane::{Lane, Stand, hidden_death, name_in, state_word};
use super::owner::{self, Role};
use super::producer::Flags;
use super::read::{Death, Found, Gap, Message, Read};
use crate::layout::Word;
use crate::layout::blocks::{LaneState, Phase};
use crate::layout::record::Kind;
use crate::os::lock;
use crate::region::{Mapping, SleepWord};
use crate::ring::{Broken, Memory, Reader, Record, sleep};

/// Whether the end of all can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody may send more, or more streams have to end.
    HeldUp,
    /// In this lane a death has to be told first: see [`Stand::Hidden`].
    Hidden(u32, LaneState),
    Reached,
}

/// What is told of a message, with its bytes.
#[inline(always)]
pub(super) fn message<'a>(
    lanes: &'a mut [Lane],
    reader: &Reader<Mapping>,
    record: &Record,
    payload: &'a [u8],
) -> Message<'a> {
    let lane = &mut lanes[record.lane as usize];
    if !lane.is_name_known {
        lane.learn_name(reader.lane(record.lane).memory());
    }
    Message {
        lane: lane.number,
        name: lane.name.as_deref(),
        sequence: record.sequence,
        flags: Flags::from_bits(record.flags),
        payload,
    }
}

impl Consumer {
    /// Takes the next message, while the last look at the lanes serves. Nothing
    /// else that a read may find, and no error: most messages go this way.
    /// [`find`](Self::find) finds the rest.
    #[inline(always)]
    pub(crate) fn take_next(&mut self) -> Option<Record> {
        if self.control.is_guarded() || self.seat.is_inherited() {
            return None;
        }
        self.reader.take(&mut self.buffer)
    }

    /// True if all lanes are to be looked at before anything else; else the lane
    /// whose turn it was has nothing now.
    #[inline(always)]
    pub(crate) fn is_turn_over(&self) -> bool {
        self.reader.is_turn_over()
    }

    /// True if one of the lanes that are looked at each time has something, whose
    /// turn it is then.
    #[inline(always)]
    pub(crate) fn glance(&mut self) -> bool {
        self.reader.glance()
    }

    /// What was copied to the buffer.
    #[inline(always)]
    pub(crate) fn message(&mut self, record: &Record) -> Message<'_> {
        self.waiting.pace.messages += 1;
        message(&mut self.lanes, &self.reader, record, &self.buffer[..record.len])
    }

    /// Looks for the next message, gap, death or end. Without `all`, lanes that
    /// had nothing for long are not all looked at.
    pub(crate) fn find(&mut self, all: bool) -> Result<Found, ReadError> {
        if self.seat.is_inherited() {
            return Err(ReadError::Forked);
        }
        match self.reader.peek() {
            Ok(Some(record)) => Ok(Found::Record(record)),
            Ok(None) => self.find_anew(all),
            Err(broken) => Err(self.set_aside(broken)),
        }
    }

    fn find_anew(&mut self, all: bool) -> Result<Found, ReadError> {
        // Before the next turn of those that live: they may always have something.
        if self.has_deaths
            && let Some(death) = self.find_death().map_err(|broken| self.set_aside(broken))?
        {
            self.death = Some(death);
            return Ok(Found::Died);
        }
        let found = match self.scan(all)? {
            Some(record) => Found::Record(record),
            None => self.find_end().map_err(|broken| self.set_aside(broken))?,
        };
        // Its looks at states count as well.
        self.check_cut()?;
        Ok(found)
    }

    /// Looks at the lanes for the next message or gap.
    fn scan(&mut self, all: bool) -> Result<Option<Record>, ReadError> {
        self.reader.begin();
        self.activate(self.attaches)?;
        if let Some(damage) = self.untold.pop() {
            return Err(damage.into());
        }
        let found = self.reader.scan(all).map_err(|broken| self.set_aside(broken))?;
        match (found, self.damage) {
            (None, Some(damage)) if self.is_all_aside() => Err(damage.into()),
            // Zeros of a page that is gone look like nothing.
            (None, _) => self.check_cut().map(|()| None),
            _ => Ok(found),
        }
    }

    /// Reads the lanes that came into use since the count of attaches was `seen`.
    #[inline]
    pub(super) fn activate(&mut self, seen: Option<u64>) -> Result<(), ReadError> {
        let count = self.control.load_acquire(0, Word::Attaches); // ATTACH
        if seen == Some(count) {
            return Ok(());
        }
        self.find_lanes().map_err(|(lane, e)| ReadError::Lane { lane, kind: e.kind() })?;
        self.attaches = Some(count);
        Ok(())
    }

    #[cold]
    pub(super) fn find_lanes(&mut self) -> Result<(), (u32, io::Error)> {
        for lane in 0..self.seat.geometry.lane_count() {
            if self.is_in_use[lane as usize] {
                continue;
            }
            let state = LaneState::decode(self.control.load_acquire(lane, Word::State)); // STATE
            let is_fresh = state.is_some_and(|state| state.phase == Phase::Fresh);
            // Without its space a touch could be a signal.
            let is_ready = self.control.load_acquire(lane, Word::Ready) == 1; // READY
            if !is_fresh && is_ready {
                let mapping = Mapping::new(&self.control, &self.region, lane).map_err(|e| (lane, e))?;
                self.add(lane, mapping);
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, number: u32, mapping: Mapping) {
        self.is_in_use[number as usize] = true;
        self.lanes.push(Lane::new(number, &mapping));
        if let Err(broken) = self.reader.add(mapping) {
            let damage = self.note_damage(broken);
            self.untold.push(damage);
        }
    }

    /// The death of a producer, once all that it sent is read.
    #[cold]
    fn find_death(&mut self) -> Result<Option<Death>, Broken> {
        for index in 0..self.reader.lane_count() {
            match self.stand(index)? {
                Stand::Died(mark) => return Ok(Some(self.tell_death(index, mark))),
                Stand::Hidden(state) => return Ok(Some(self.tell_hidden(index, state))),
                Stand::Busy | Stand::Quiet => {
                    let word = state_word(self.reader.lane(index)).ok();
                    let lane = &mut self.lanes[index as usize];
                    // Another producer came meanwhile.
                    lane.death = lane.death.filter(|_| lane.death == word);
                }
                Stand::Ended(_) => {}
            }
        }
        self.has_deaths = self.lanes.iter().any(|lane| lane.death.is_some());
        Ok(None)
    }

    /// The end of all, or a death that came to light when it was looked for. An
    /// end mark is stepped over only when the end is told, or when the stream
    /// went on behind it: what is not told must not be committed.
    fn find_end(&mut self) -> Result<Found, Broken> {
        match self.end()? {
            End::HeldUp => return Ok(Found::Empty),
            End::Hidden(index, state) => {
                self.death = Some(self.tell_hidden(index, state));
                return Ok(Found::Died);
            }
            End::Reached => {}
        }
        for index in 0..self.reader.lane_count() {
            // Those that were counted, and no other: one may have gone on since,
            // and one that was quiet may have ended.
            if self.lanes[index as usize].is_ending.get()
                && let Some(mark) = self.reader.peek_lane(index)?
            {
                self.reader.advance(&mark);
                self.note_death(index);
            }
        }
        self.reader.set_ends(0);
        Ok(Found::End)
    }

    /// The next commit takes note of a death that is told now.
    fn note_death(&mut self, index: u32) {
        if let Some(word) = self.lanes[index as usize].death.take() {
            self.reader.set_death(index, word);
            self.has_told_deaths = true;
        }
    }

    /// The death of one whose lane another has taken, who is all that is known.
    fn tell_hidden(&mut self, index: u32, state: LaneState) -> Death {
        self.reader.set_death(index, state.encode());
        self.reader.set_ends(self.reader.ends().wrapping_add(1));
        let lane = &self.lanes[index as usize];
        let sequence = self.reader.lane(index).sequence();
        Death { lane: lane.number, name: None, producer: None, is_replaced: true, sequence, dropped: 0 }
    }

    fn tell_death(&mut self, index: u32, mark: Option<Record>) -> Death {
        if let Some(mark) = mark {
            self.reader.advance(&mark);
        }
        self.reader.set_ends(self.reader.ends().wrapping_add(1));
        self.note_death(index);
        let lane = &self.lanes[index as usize];
        let role = Role::Producer(lane.number);
        let producer = owner::read(&self.seat.file, &self.seat.geometry, role);
        let cursor = self.reader.lane(index);
        let name = lane.name.clone().or_else(|| {
            // Of one that sent nothing; or of the next one already, which has
            // the lock before it gives the lane its name.
            let name = name_in(cursor.memory());
            name.filter(|_| !lock::is_taken(&self.seat.file, role.lock()).unwrap_or(true))
        });
        let (sequence, dropped) = (cursor.sequence(), cursor.untold_drops());
        Death { lane: lane.number, name, producer, is_replaced: false, sequence, dropped }
    }

    /// Whether every lane is at its end, enough streams ended, and no producer
    /// came while that was found out.
    pub(super) fn end(&self) -> Result<End, Broken> {
        if self.is_still_held_up() {
            return Ok(End::HeldUp);
        }
        let mut ends = self.reader.ends();
        for index in 0..self.reader.lane_count() {
            let stand = self.stand(index)?;
            self.lanes[index as usize].is_ending.set(matches!(stand, Stand::Ended(_)));
            match stand {
                Stand::Hidden(state) => return Ok(End::Hidden(index, state)),
                Stand::Busy => {
                    self.note_blocker(index);
                    return Ok(End::HeldUp);
                }
                Stand::Died(_) => return Ok(End::HeldUp),
                Stand::Ended(_) => ends = ends.wrapping_add(1),
                Stand::Quiet => {}
            }
        }
        let attaches = self.control.load_acquire(0, Word::Attaches); // ATTACH
        let is_reached = ends >= self.expected && self.attaches == Some(attaches);
        Ok(if is_reached { End::Reached } else { End::HeldUp })
    }

    /// Takes note of a lane that holds up the end of all, unless a record in it
    /// hides a death that is to be told after that.
    fn note_blocker(&self, index: u32) {
        let cursor = self.reader.lane(index);
        let word = state_word(cursor).unwrap_or(0);
        self.blocker.set((index, if hidden_death(cursor, word).is_none() { word } else { 0 }));
    }

    /// True if the lane that held up the end of all last has an open stream still
    /// in which nothing happened: what most looks that find nothing come to.
    fn is_still_held_up(&self) -> bool {
        let (index, word) = self.blocker.get();
        let cursor = self.reader.lane(index);
        let is_open = LaneState::decode(word).is_some_and(|state| state.phase == Phase::Open);
        is_open
            && !cursor.is_aside()
            && cursor.death() != word
            && self.lanes[index as usize].death.is_none()
            && !cursor.is_next_there()
            && cursor.memory().load(Word::State) == word
    }

    fn stand(&self, index: u32) -> Result<Stand, Broken> {
        let stand = self.lanes[index as usize].stand(&self.reader, index);
        stand.map_err(|corrupt| Broken { lane: index, corrupt })
    }

    /// The next message, if there is one now.
    pub(super) fn peek_message(&mut self) -> Result<Option<Record>, ReadError> {
        if self.seat.is_inherited() {
            return Err(ReadError::Forked);
        }
        let found = match self.reader.peek().map_err(|broken| self.set_aside(broken))? {
            None => self.scan(true)?,
            found => found,
        };
        Ok(found.filter(|record| record.kind == Kind::Data))
    }

    /// The name of a lane's producer, by the lane's number in the region.
    pub(super) fn name_of(&self, number: u32) -> Option<Arc<str>> {
        self.lanes.iter().find(|lane| lane.number == number)?.name.clone()
    }

    /// Looks at this lane no more; the others go on.
    pub(super) fn set_aside(&mut self, broken: Broken) -> ReadError {
        self.reader.set_aside(broken.lane);
        self.note_damage(broken).into()
    }

    fn note_damage(&mut self, broken: Broken) -> Damage {
        let lane = self.lanes[broken.lane as usize].number;
        *self.damage.insert(Damage { lane, what: broken.corrupt })
    }

    /// True if every lane that was ever used is damaged.
    fn is_all_aside(&self) -> bool {
        (0..self.reader.lane_count()).all(|index| {
            let lane = self.reader.lane(index);
            lane.is_aside() || lane.memory().load(Word::State) == 0
        })
    }

    /// Refuses what was found so far if not all of it came from the file: to be
    /// asked after the last touch and before anything is told.
    #[inline(always)]
    pub(super) fn check_cut(&self) -> Result<(), ReadError> {
        if self.control.is_cut() { Err(ReadError::Truncated) } else { Ok(()) }
    }

    /// What was found, with its bytes; steps over it.
    pub(crate) fn tell(&mut self, found: Found) -> Result<Read<'_>, ReadError> {
        Ok(match found {
            Found::Taken(record) => Read::Message(self.message(&record)),
            Found::Record(record) if record.kind == Kind::Data => Read::Message(self.take(&record)?),
            Found::Record(record) => Read::Gap(self.take_gap(&record)?),
            Found::Died => self.death.as_ref().map_or(Read::Empty, Read::Died),
            Found::End => Read::End,
            Found::Empty => Read::Empty,
        })
    }

    /// Copies a message out and steps over it.
    pub(crate) fn take(&mut self, record: &Record) -> Result<Message<'_>, ReadError> {
        if self.buffer.len() < record.len {
            self.buffer.resize(record.len, 0);
        }
        self.reader.read(record, &mut self.buffer[..record.len]);
        // Asked after the touches.
        self.check_cut()?;
        self.reader.advance(record);
        Ok(self.message(record))
    }

    #[cold]
    fn take_gap(&mut self, record: &Record) -> Result<Gap<'_>, ReadError> {
        let count = self.reader.gap(record);
        self.check_cut()?;
        self.reader.advance(record);
        let lane = &mut self.lanes[record.lane as usize];
        lane.learn_name(self.reader.lane(record.lane).memory());
        Ok(Gap { lane: lane.number, name: lane.name.as_deref(), sequence: record.sequence, count })
    }

    #[inline]
    pub(super) fn wake_producer(&self, index: u32) {
        let memory = self.reader.lane(index).memory();
        sleep::wake(memory.sleep_word(SleepWord::Producer), || !self.producer_wants_more(index));
    }

    /// True while the lane's producer waits for a head beyond the committed one.
    pub(super) fn producer_wants_more(&self, index: u32) -> bool {
        let lane = self.reader.lane(index);
        let wanted = lane.memory().load_acquire(Word::WantedHead); // WANT
        wanted.wrapping_sub(lane.head()) as i64 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Found};
    use crate::{ProducerOptions, Read, Region};

    /// The message of a lane that is seldom looked at is not found, but seen when
    /// the end of all is looked for; a death before it is told all the same.
    #[test]
    fn a_death_that_another_producer_hid_is_told_after_a_message_that_was_overlooked() {
        let folder = tempfile::tempdir().unwrap();
        let region = Region::create(folder.path().join("ring")).unwrap();
        let mut consumer = region.consumer().unwrap();
        let mut producers = Vec::from([(); 16].map(|()| region.producer().unwrap()));
        // All turn cold, and the second half is looked at next.
        (0..2000).for_each(|_| assert_eq!(consumer.try_read(), Ok(Read::Empty)));
        assert!(matches!(consumer.find(false), Ok(Found::Empty)));
        producers.remove(0).abandon();
        let mut next = region.producer().unwrap();
        assert_eq!(next.lane(), 0);
        next.send(b"message").unwrap();
        assert!(matches!(consumer.find(false), Ok(Found::Empty)), "overlooked");
        assert!(matches!(consumer.try_read(), Ok(Read::Message(m)) if m.payload == b"message"));
        assert!(matches!(consumer.try_read(), Ok(Read::Died(death)) if death.is_replaced));
        assert_eq!(consumer.try_read(), Ok(Read::Empty));
    }

    #[test]
    fn no_end_while_a_producer_came_whose_lane_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let region = Region::create(folder.path().join("ring")).unwrap();
        let mut consumer = region.consumer().unwrap();
        let first = region.producer().unwrap();
        consumer.activate(None).unwrap();
        first.close();
        let other = region.producer_with(&ProducerOptions::new().name("other")).unwrap();
        assert_eq!(consumer.end(), Ok(End::HeldUp), "it came meanwhile");
        consumer.activate(consumer.attaches).unwrap();
        assert_eq!(consumer.end(), Ok(End::HeldUp), "it may send");
        other.close();
        assert_eq!(consumer.end(), Ok(End::Reached));
    }
}
