//! What a consumer reads, held against what was sent.

use std::collections::BTreeMap;

use anyhow::{Context, Error, Result, bail, ensure};

use super::parse::{Death, Director, Event, Item, Kind};
use super::sent::Streams;

/// How a death came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It was told by its process id.
    Named,
    /// It is one of those that may be meant.
    Guessed,
}

/// How far the consumers are.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// For each lane, the place of the next message.
    pub(super) next: Vec<u64>,
    /// What each lane is called, to the consumer that is there.
    names: Vec<Option<String>>,
    /// The latest begin of a send whose message was read, in total order.
    latest: u64,
    /// Deaths that were told, by producer.
    pub(super) told: BTreeMap<usize, How>,
    /// Before the last end was told, and whether anything came since.
    last_end: Option<u64>,
    is_ended: bool,
    pub(super) messages: u64,
    pub(super) gaps: u64,
    pub(super) ends: u64,
}

impl State {
    pub(super) fn new(director: &Director) -> State {
        State {
            next: vec![0; director.lanes],
            names: vec![None; director.lanes],
            latest: 0,
            told: BTreeMap::new(),
            last_end: None,
            is_ended: true,
            messages: 0,
            gaps: 0,
            ends: 0,
        }
    }

    /// Another consumer learns them anew.
    pub(super) fn forget_names(&mut self) {
        self.names.fill(None);
    }

    /// True if the two lead on to the same.
    pub(super) fn is_like(&self, other: &State) -> bool {
        let key = |s: &State| (s.latest, s.last_end, s.is_ended);
        self.next == other.next && self.told == other.told && key(self) == key(other)
    }

    /// Goes on by what was read; fails at the first thing that cannot be, and
    /// says which.
    pub(super) fn read(&mut self, events: &[Event], streams: &Streams<'_>) -> Result<(), (usize, Error)> {
        for (at, event) in events.iter().enumerate() {
            let read = match event {
                Event::Message { .. } => self.message(event, streams),
                Event::Name(lane, name) => self.names.get_mut(*lane).context("no such lane").map(|known| {
                    known.clone_from(name);
                }),
                Event::Gap { lane, sequence, count } => self.gap(*lane, *sequence, *count, streams),
                Event::Died(death) => self.death(death, streams),
                Event::End { since, until } => self.end(*since, *until, streams),
                Event::Commit | Event::Committed => Ok(()),
            };
            read.with_context(|| format!("{event:x?}")).map_err(|e| (at, e))?;
        }
        Ok(())
    }

    /// The place of a sequence in a lane; fails if it is not the next one.
    fn place(&self, lane: usize, sequence: u64, streams: &Streams<'_>) -> Result<u64> {
        let place = sequence.wrapping_sub(streams.first_sequence);
        let next = *self.next.get(lane).context("there is no such lane")?;
        ensure!(place >= next, "doubled: lane {lane} was read up to place {next}, and {place} came again");
        ensure!(place <= next, "lost: lane {lane} was read up to place {next}, and {place} came");
        Ok(place)
    }

    fn message(&mut self, event: &Event, streams: &Streams<'_>) -> Result<()> {
        let &Event::Message { lane, flags, len, sum, sequence } = event else { bail!("no message") };
        let lane = lane as usize;
        let place = self.place(lane, sequence, streams)?;
        let entry = streams.lanes[lane].entries.get(place as usize).context("invented: nobody sent it")?;
        let from = entry.producer;
        match entry.item {
            Item::Dropped => bail!("invented: p{from} dropped it"),
            sent if sent != (Item::Message { len, sum, flags }) => {
                bail!("torn or reordered: p{from} sent {sent:x?}")
            }
            Item::Message { .. } => {}
        }
        let name = &streams.producers[from as usize].name;
        ensure!(self.names[lane] == *name, "p{from} is {name:?}, and was called {:?}", self.names[lane]);
        if streams.is_total {
            ensure!(
                entry.done >= self.latest,
                "out of order: its send had returned at {}, and one that began at {} came before",
                entry.done,
                self.latest
            );
            self.latest = self.latest.max(entry.begun);
        }
        self.next[lane] += 1;
        self.messages += 1;
        self.is_ended = false;
        Ok(())
    }

    fn gap(&mut self, lane: u32, sequence: u64, count: u64, streams: &Streams<'_>) -> Result<()> {
        let lane = lane as usize;
        let place = self.place(lane, sequence, streams)?;
        ensure!(count > 0, "a gap of nothing");
        ensure!(streams.lanes[lane].is_dropped(place, place + count), "lost: not all of it was dropped");
        self.next[lane] += count;
        self.gaps += count;
        Ok(())
    }

    fn death(&mut self, death: &Death, streams: &Streams<'_>) -> Result<()> {
        let place = self.place(death.lane, death.sequence, streams)?;
        ensure!(streams.lanes[death.lane].is_dropped(place, place + death.dropped), "it dropped fewer");
        let candidate = |index: &usize| {
            let producer = &streams.producers[*index];
            producer.life.pid == death.pid && producer.life.started < death.until
        };
        match (0..streams.producers.len()).rev().find(candidate) {
            Some(index) if !death.is_replaced => self.death_of(index, death, streams)?,
            None if death.is_replaced => self.guess(u64::MAX, death, streams)?,
            _ => bail!("nobody has that process id"),
        }
        self.is_ended = false;
        Ok(())
    }

    /// A death is told, and who said last that the lane is its own.
    fn death_of(&mut self, index: usize, death: &Death, streams: &Streams<'_>) -> Result<()> {
        let producer = &streams.producers[index];
        ensure!(!producer.is_refused, "p{index} never had a lane");
        let lane = producer.attached.map(|at| at.lane);
        ensure!(lane.is_none_or(|lane| lane == death.lane), "p{index} was in lane {lane:?}");
        let is_dead = producer.died.is_some_and(|died| died < death.until);
        if !is_dead || self.told.get(&index) == Some(&How::Named) {
            // It may have said so after the death and before it was told.
            let before = producer.attached.map_or(u64::MAX, |at| at.stamp);
            let why = if is_dead { "told twice" } else { "alive" };
            return self.guess(before, death, streams).with_context(|| format!("p{index} is {why}"));
        }
        if let (Some(told), Some(name)) = (&death.name, &producer.name) {
            ensure!(told == name, "p{index} is {name:?}");
        }
        if self.told.insert(index, How::Named).is_some() {
            self.guess(u64::MAX, death, streams).context("told twice")?;
        }
        Ok(())
    }

    /// Somebody who was in the lane died before then, and it is not told yet.
    fn guess(&mut self, before: u64, death: &Death, streams: &Streams<'_>) -> Result<()> {
        let died = |index: usize| {
            let died = streams.producers[index].died?;
            (died < death.until && died < before && !self.told.contains_key(&index)).then_some(died)
        };
        let tenures = streams.lanes[death.lane].tenures.iter().map(|tenure| tenure.producer);
        // Or it was killed before it could write down which lane it got.
        let strays = (0..streams.producers.len()).filter(|&index| {
            let producer = &streams.producers[index];
            producer.attached.is_none() && !producer.is_refused
        });
        let found = tenures.chain(strays).find(|&index| died(index).is_some());
        let index = found.context("nobody died there of whom it was not told")?;
        self.told.insert(index, How::Guessed);
        Ok(())
    }

    fn end(&mut self, since: u64, until: u64, streams: &Streams<'_>) -> Result<()> {
        for (lane, stream) in streams.lanes.iter().enumerate() {
            for tenure in &stream.tenures {
                let producer = &streams.producers[tenure.producer];
                let left = producer.closing.into_iter().chain(producer.died).min();
                let is_there = producer.attached.is_some_and(|at| at.stamp < since);
                ensure!(!is_there || left.is_some_and(|left| left < until), "p{} lives", tenure.producer);
                let over = producer.closed.into_iter().chain(producer.died.map(|_| producer.life.gone)).min();
                let is_over = over.is_some_and(|over| over < since);
                let (next, sure) = (self.next[lane], tenure.sure as u64);
                // The last drops of a dead one are told by whoever comes after.
                let is_told = next >= sure || producer.died.is_some() && stream.is_dropped(next, sure);
                ensure!(!is_over || is_told, "lost: p{} sent more than place {next}", tenure.producer);
            }
        }
        let is_new = |last: u64| {
            streams.producers.iter().any(|producer| {
                producer.attached.is_none_or(|at| at.stamp < until) && producer.life.gone >= last
            })
        };
        ensure!(self.last_end.is_none_or(is_new), "nobody came since the last end");
        self.last_end = Some(since);
        self.is_ended = true;
        self.ends += 1;
        Ok(())
    }

    /// Fails if something is missing after the last commit of all.
    pub(super) fn check_end(&self, streams: &Streams<'_>) -> Result<()> {
        let has_strays = streams.producers.iter().any(|p| p.attached.is_none() && !p.is_refused);
        for (lane, stream) in streams.lanes.iter().enumerate() {
            let (next, sure, all) = (self.next[lane], stream.sure, stream.entries.len() as u64);
            let Some(last) = stream.tenures.last() else { continue };
            let producer = &streams.producers[last.producer];
            let is_told = next >= sure || producer.died.is_some() && stream.is_dropped(next, sure);
            ensure!(is_told, "lost: {sure} were sent in lane {lane}, and {next} came");
            if stream.open == Some(Kind::All) {
                ensure!(next <= sure || next == all, "a batch was torn: {next} of {all} in lane {lane}");
            }
            // Who was killed as it closed may count as closed.
            if producer.died.is_some() && producer.closing.is_none() && !has_strays {
                let is_told = self.told.contains_key(&last.producer);
                ensure!(is_told, "p{} died, and nobody was told", last.producer);
            }
        }
        ensure!(self.is_ended, "the end of all was not told");
        Ok(())
    }
}
