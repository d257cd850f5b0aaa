//! What each lane's stream was: who sent in it after whom, and which sequence
//! is which message.

use anyhow::{Result, ensure};

use super::parse::{Director, Entry, Item, Kind, Open, Producer};

/// One producer's time in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenure {
    pub(super) producer: usize,
    /// Behind the last entry that it surely sent.
    pub(super) sure: usize,
}

/// Everything that was sent in a lane. Places count from its first sequence.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) entries: Vec<Entry>,
    /// How many of the entries there surely are: the others were being sent as
    /// the last producer was killed.
    pub(super) sure: u64,
    /// How the last producer of the lane was going on with them.
    pub(super) open: Option<Kind>,
    pub(super) tenures: Vec<Tenure>,
    /// Sends cut short, and those of them that took a sequence, before the last.
    pub(super) cut_short: u64,
    pub(super) took_effect: u64,
}

#[derive(Debug)]
pub(super) struct Streams<'a> {
    pub(super) is_total: bool,
    pub(super) first_sequence: u64,
    pub(super) lanes: Vec<Stream>,
    pub(super) producers: &'a [Producer],
}

impl<'a> Streams<'a> {
    pub(super) fn new(director: &Director, producers: &'a [Producer]) -> Result<Streams<'a>> {
        let mut lanes: Vec<_> = (0..director.lanes).map(|_| Stream::default()).collect();
        let mut attached: Vec<_> =
            producers.iter().enumerate().filter_map(|(i, p)| p.attached.map(|a| (a.stamp, i, a))).collect();
        // Each took its stamp while the lane was its own.
        attached.sort_unstable_by_key(|(stamp, ..)| *stamp);
        for (_, index, at) in attached {
            ensure!(at.lane < lanes.len(), "p{index} is in lane {}, which there is not", at.lane);
            let place = at.sequence.wrapping_sub(director.first_sequence);
            lanes[at.lane].join(index, producers, place)?;
        }
        let (is_total, first_sequence) = (director.is_total, director.first_sequence);
        Ok(Streams { is_total, first_sequence, lanes, producers })
    }
}

impl Stream {
    /// A producer comes, and its first message has this place. That tells what
    /// became of the last operation of the one before.
    fn join(&mut self, index: usize, producers: &[Producer], place: u64) -> Result<()> {
        let about = || format!("p{index} goes on at place {place} of its lane");
        let known = self.entries.len() as u64;
        ensure!(self.sure <= place, "{}: of {} sends that returned, some are lost", about(), self.sure);
        ensure!(place <= known, "{}: {known} were sent at most", about());
        let taken = place - self.sure;
        if let Some(kind) = self.open {
            let all = known - self.sure;
            ensure!(kind != Kind::All || taken == 0 || taken == all, "{}: a batch was torn", about());
            self.cut_short += 1;
            self.took_effect += u64::from(taken > 0);
        }
        self.entries.truncate(place as usize);
        if let Some(before) = self.tenures.last() {
            let left = &producers[before.producer];
            let own = producers[index].attached.map_or(0, |at| at.stamp);
            // The lane is another's once it is gone, or has closed.
            let free = left.closing.or(left.died).unwrap_or(left.life.gone);
            ensure!(free <= own, "p{index} came while p{} was in its lane", before.producer);
        }
        let producer = &producers[index];
        self.entries.extend(producer.sent.iter().map(|entry| Entry { producer: index as u32, ..*entry }));
        self.sure = self.entries.len() as u64;
        self.tenures.push(Tenure { producer: index, sure: self.entries.len() });
        self.open = producer.open.as_ref().map(|open| open.kind);
        if let Some(Open { kind, begun, items }) = &producer.open {
            self.entries.extend(items.iter().map(|&item| Entry {
                item,
                or_dropped: *kind == Kind::SentOrDropped,
                producer: index as u32,
                begun: *begun,
                done: u64::MAX,
            }));
        }
        Ok(())
    }

    /// True if all from this place up to `end` are drops.
    pub(super) fn is_dropped(&self, place: u64, end: u64) -> bool {
        let these = self.entries.get(place as usize..end as usize);
        these.is_some_and(|these| these.iter().all(|e| e.or_dropped || e.item == Item::Dropped))
    }
}
