//! What a consumer knows of a lane besides its records: whose it is, and how
//! its producer left.

use std::cell::Cell;
use std::sync::Arc;

use super::place::{Kept, name_of};
use crate::layout::Word;
use crate::layout::blocks::{LaneState, Phase};
use crate::region::Mapping;
use crate::ring::{Corrupt, Cursor, Fault, Memory, Reader, Record};

/// A lane in use.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) number: u32,
    /// Once it has one it keeps it.
    pub(super) name: Option<Arc<str>>,
    /// A message was told since the last commit. So it is not drained, and can
    /// have got no name since then.
    pub(super) is_name_known: bool,
    /// Its state word as of a death that is not told yet.
    pub(super) death: Option<u64>,
    /// It was at an end mark when the end of all was looked for last.
    pub(super) is_ending: Cell<bool>,
}

/// How far a lane is from the end of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// There is something to read, or its producer may send more.
    Busy,
    /// Nothing is there and nothing will come.
    Quiet,
    /// All is read, and somebody died of whom nothing was told: another one
    /// took the lane before that was noticed.
    Hidden(LaneState),
    /// At this end mark, which is the last.
    Ended(Record),
    /// Its producer died, and all that it sent is read, but for an end mark
    /// of a stream before.
    Died(Option<Record>),
}

impl Lane {
    pub(super) fn new(number: u32, memory: &Mapping) -> Lane {
        let mut lane =
            Lane { number, name: None, is_name_known: false, death: None, is_ending: Cell::default() };
        lane.learn_name(memory);
        lane.is_name_known = false;
        lane
    }

    /// Looks whether it got a name. It gets one only while it is drained, so
    /// that no message before carries it.
    #[cold]
    pub(super) fn learn_name(&mut self, memory: &Mapping) {
        if self.name.is_none() && memory.load_acquire(Word::Named) == 1 {
            self.name = name_in(memory);
        }
        self.is_name_known = true;
    }

    /// What the lane's state and its next record say; `index` is its number in
    /// the reader. The state is read first: what was published before it is
    /// seen after.
    pub(super) fn stand(&self, reader: &Reader<Mapping>, index: u32) -> Result<Stand, Corrupt> {
        let cursor = reader.lane(index);
        if cursor.is_aside() {
            return Ok(Stand::Quiet);
        }
        let word = state_word(cursor)?;
        let phase = LaneState::decode(word).map_or(Phase::Open, |state| state.phase);
        let died = self.death == Some(word);
        let next = reader.peek_lane(index).map_err(|broken| broken.corrupt)?;
        Ok(match next {
            Some(mark) if !mark.is_end() || cursor.is_followed(&mark) => Stand::Busy,
            _ if let Some(state) = hidden_death(cursor, word) => Stand::Hidden(state),
            // Whoever died attached after this end, and has not ended.
            Some(mark) if died && cursor.is_attached_behind(&mark) => Stand::Died(Some(mark)),
            // Or died between its end mark and the state: its stream is whole.
            Some(mark) if died || phase != Phase::Open => Stand::Ended(mark),
            Some(_) => Stand::Busy,
            None if died => Stand::Died(None),
            None if phase == Phase::Open && cursor.death() != word => Stand::Busy,
            None => Stand::Quiet,
        })
    }
}

/// Takes note of the last death that was told and committed: the next consumer
/// starts afresh. A new producer has changed the word and wins.
pub(super) fn bury(cursor: &Cursor<Mapping>) {
    let word = cursor.death();
    if let Some(state) = LaneState::decode(word).filter(|state| state.phase == Phase::Open) {
        cursor.memory().replace(Word::State, word, state.died().encode());
    }
}

/// What to note of a death that another producer hid by taking the lane, if
/// there is one that nothing was told of.
pub(super) fn hidden_death(cursor: &Cursor<Mapping>, word: u64) -> Option<LaneState> {
    let told = LaneState::decode(cursor.death()).filter(|told| told.phase == Phase::Open);
    let state = LaneState::decode(word)?;
    (state.deaths_since(told) > 0).then(|| state.hidden(told))
}

/// The name that a lane is kept for.
pub(super) fn name_in(memory: &Mapping) -> Option<Arc<str>> {
    Kept::of(|word| memory.load_acquire(word)).name.map(|words| name_of(words).into())
}

/// A lane's state word, if it is a possible one.
pub(super) fn state_word(cursor: &Cursor<Mapping>) -> Result<u64, Corrupt> {
    let word = cursor.memory().load_acquire(Word::State); // STATE
    match LaneState::decode(word) {
        Some(_) => Ok(word),
        None => Err(Corrupt { fault: Fault::State, position: cursor.head(), value: word }),
    }
}
