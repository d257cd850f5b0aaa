//! Which lane is next.
//!
//! Fair: a lane gives up to [`TURN`] records, then the next one that has some.
//! Lanes that had none for long are cold: a few of them are looked at each
//! time, however many there are.
//!
//! Total: every message carries a ticket, drawn from one counter right before
//! it was published. The reader loads the counter, then looks at every lane,
//! then takes what has a lower ticket, lowest first. If one send returned
//! before another began, its message was published before the other's ticket
//! was drawn. So whoever loaded a counter above that ticket finds the message,
//! or one of its lane before it, at the head of its lane: it comes first.
//!
//! | name | release end | acquire end | if weaker |
//! |---|---|---|---|
//! | TICKET | [`Writer::publish`](super::Writer::publish), which adds | [`Tickets::begin`], and the next to add | a message before one that was sent earlier |

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::cursor::Record;
use super::lanes::{Broken, Lanes};
use super::{Corrupt, Fault, Memory};
use crate::layout::Word;
use crate::layout::record::Kind;

/// How many records a lane may give while others wait.
const TURN: u32 = 64;
/// How many cold lanes are looked at each time.
const COLD_LOOKS: u32 = 8;
/// After so many looks that found nothing a lane is cold.
const PATIENCE: u32 = 64;

/// A lane gives some records, then another one.
#[derive(Debug)]
pub(super) struct Fair {
    /// The lane whose turn it is.
    lane: u32,
    /// Records that may be taken before all are looked at again.
    left: u32,
    /// The last look found nothing: the next lane that has something may give so
    /// many without another one.
    next_turn: u32,
    /// The first is looked at next.
    hot: VecDeque<u32>,
    /// The cold lane to be looked at next.
    next_cold: u32,
    /// For each lane: looks in a row that found nothing; `None`: it is cold.
    misses: Vec<Option<u32>>,
}

impl Fair {
    pub(super) fn new(most: usize) -> Fair {
        let hot = VecDeque::with_capacity(most);
        Fair { lane: 0, left: 0, next_turn: 0, hot, next_cold: 0, misses: Vec::with_capacity(most) }
    }

    pub(super) fn add(&mut self, lane: u32) {
        self.misses.push(Some(0));
        self.hot.push_back(lane);
    }

    /// The lane whose turn it is, while that lasts.
    #[inline(always)]
    pub(super) fn lane(&self) -> Option<u32> {
        (self.left > 0).then_some(self.lane)
    }

    /// Gives what is left of the turn to the next lane that has something, of
    /// those that are looked at each time; false if none has. Where nothing is
    /// left of it nothing changes: [`scan`](Self::scan) comes first, and the next
    /// lane must not lose its place.
    #[inline(always)]
    pub(super) fn glance<M: Memory>(&mut self, lanes: &Lanes<M>) -> bool {
        let Some(at) = self.hot.iter().position(|&lane| lanes.get(lane).is_news_there()) else {
            return false;
        };
        self.left = self.left.max(std::mem::take(&mut self.next_turn));
        if self.left > 0 {
            self.lane = self.hot[at];
            self.misses[self.lane as usize] = Some(0);
            if self.hot.len() > 1 {
                self.hot.rotate_left(at + 1);
            }
        }
        true
    }

    /// True if all lanes are to be looked at before one has a turn.
    #[inline(always)]
    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.next_turn == 0
    }

    #[inline(always)]
    pub(super) fn taken(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    pub(super) fn end_turn(&mut self) {
        (self.left, self.next_turn) = (0, 0);
    }

    /// The first record of the lane whose turn comes. With `all`, `None` means
    /// that there is none in any lane.
    pub(super) fn scan<M: Memory>(
        &mut self,
        lanes: &mut Lanes<M>,
        all: bool,
    ) -> Result<Option<Record>, Broken> {
        self.end_turn();
        let found = self.look(lanes, all)?;
        match found {
            Some(record) => (self.lane, self.left) = (record.lane, TURN),
            None => self.next_turn = TURN,
        }
        Ok(found)
    }

    fn look<M: Memory>(&mut self, lanes: &mut Lanes<M>, all: bool) -> Result<Option<Record>, Broken> {
        if self.hot.len() as u32 == lanes.len() {
            return self.look_at_hot(lanes);
        }
        let some = COLD_LOOKS.min(lanes.len());
        self.look_at_cold(lanes, some)?;
        let found = self.look_at_hot(lanes)?;
        if found.is_some() || !all || !self.look_at_cold(lanes, lanes.len() - some)? {
            return Ok(found);
        }
        self.look_at_hot(lanes)
    }

    /// Looks at those of the next lanes that are cold. They are hot if they
    /// have something: true if one is.
    #[inline]
    fn look_at_cold<M: Memory>(&mut self, lanes: &mut Lanes<M>, count: u32) -> Result<bool, Broken> {
        let hot = self.hot.len();
        for _ in 0..count {
            let lane = self.next_cold;
            self.next_cold = (lane + 1) % lanes.len();
            if self.misses[lane as usize].is_none() && lanes.look(lane)?.is_some() {
                self.misses[lane as usize] = Some(0);
                self.hot.push_back(lane);
            }
        }
        Ok(self.hot.len() > hot)
    }

    /// The first record of the next lane that has one.
    #[inline]
    fn look_at_hot<M: Memory>(&mut self, lanes: &mut Lanes<M>) -> Result<Option<Record>, Broken> {
        for _ in 0..self.hot.len() {
            let lane = self.hot[0];
            self.hot.rotate_left(1);
            let found = lanes.look(lane)?;
            let misses = &mut self.misses[lane as usize];
            if found.is_some() {
                *misses = Some(0);
                return Ok(found);
            }
            *misses = misses.map(|count| count + 1).filter(|&count| count < PATIENCE);
            if misses.is_none() {
                self.hot.pop_back();
            }
        }
        Ok(None)
    }
}

/// All messages in the order of their tickets.
#[derive(Debug)]
pub(super) struct Tickets {
    /// Tickets below this one were drawn before the lanes were looked at.
    watermark: u64,
    /// The first record of each lane that has one below the watermark.
    next: BinaryHeap<Reverse<(u64, u32)>>,
    lanes: Vec<Ticketed>,
}

/// What is known of one lane.
#[derive(Debug, Clone, Copy, Default)]
struct Ticketed {
    /// Its first record, if it is in the heap.
    first: Option<Record>,
    /// The ticket of its last message.
    last: Option<u64>,
    /// Its first message was not below the last watermark.
    is_early: bool,
}

impl Tickets {
    pub(super) fn new(most: usize) -> Tickets {
        let next = BinaryHeap::with_capacity(most);
        Tickets { watermark: 0, next, lanes: Vec::with_capacity(most) }
    }

    pub(super) fn add(&mut self) {
        self.lanes.push(Ticketed::default());
    }

    /// The record with the lowest ticket.
    #[inline]
    pub(super) fn first(&self) -> Option<Record> {
        let Reverse((_, lane)) = self.next.peek()?;
        self.lanes[*lane as usize].first
    }

    /// Takes the watermark. The lanes are looked at after that, those that came
    /// into use meanwhile too.
    pub(super) fn begin<M: Memory>(&mut self, region: &M) {
        if self.next.is_empty() {
            // Nobody draws backwards; who stores a lower number harms itself.
            self.watermark = self.watermark.max(region.load_acquire(Word::Tickets)); // TICKET
        }
    }

    /// Looks at all lanes, unless the last look still serves.
    pub(super) fn scan<M: Memory>(&mut self, lanes: &mut Lanes<M>) -> Result<Option<Record>, Broken> {
        let mut broken = Ok(());
        if self.next.is_empty() {
            for lane in 0..lanes.len() {
                // The others must be known all the same: one may be first.
                broken = broken.and(self.admit(lanes, lane));
            }
        }
        broken.map(|()| self.first())
    }

    /// The first record was taken: its lane's next one takes its place.
    pub(super) fn taken<M: Memory>(&mut self, lanes: &mut Lanes<M>) {
        if let Some(Reverse((ticket, lane))) = self.next.pop() {
            let known = &mut self.lanes[lane as usize];
            if known.first.take().is_some_and(|record| record.kind == Kind::Data) {
                known.last = Some(ticket);
            }
            // What is broken now is found again by the next scan.
            let _ = self.admit(lanes, lane);
        }
    }

    /// Notes the first record of a lane, if its ticket is below the watermark.
    fn admit<M: Memory>(&mut self, lanes: &mut Lanes<M>, lane: u32) -> Result<(), Broken> {
        let Some(record) = lanes.look(lane)? else { return Ok(()) };
        let known = &mut self.lanes[lane as usize];
        // A gap has no ticket: it comes before the message behind it.
        let mut ticket = 0;
        if record.kind == Kind::Data {
            ticket = lanes.get(lane).ticket(&record);
            let is_early = ticket >= self.watermark;
            // Found before the watermark was taken, it was drawn before that.
            let undrawn = is_early && known.is_early;
            if undrawn || known.last.is_some_and(|last| ticket <= last) {
                let corrupt = Corrupt { fault: Fault::Ticket, position: record.position(), value: ticket };
                return Err(Broken { lane, corrupt });
            }
            known.is_early = is_early;
            if is_early {
                return Ok(());
            }
        }
        known.first = Some(record);
        self.next.push(Reverse((ticket, lane)));
        Ok(())
    }
}
