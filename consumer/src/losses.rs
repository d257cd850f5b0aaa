//! What went wrong on the other side: told when it is found, and at the end.

use std::collections::BTreeMap;

use shmring::{Damage, Death, Gap};
use shmring_grammar::{Exit, say};
use tracing::warn;

use crate::check::name_of;

/// The end names no more deaths than these; each was told when it was found.
const NAMED: usize = 16;

#[derive(Debug)]
pub(crate) struct Losses {
    report_gaps: bool,
    dropped: u64,
    /// By lane, the sequence behind the last drop that was told.
    told: BTreeMap<u32, u64>,
    deaths: u64,
    /// The first of them, in words.
    dead: Vec<String>,
    damages: Vec<Damage>,
}

impl Losses {
    pub(crate) fn new(report_gaps: bool) -> Losses {
        Losses {
            report_gaps,
            dropped: 0,
            told: BTreeMap::new(),
            deaths: 0,
            dead: Vec::new(),
            damages: Vec::new(),
        }
    }

    pub(crate) fn gap(&mut self, gap: &Gap<'_>) {
        self.drops(gap.lane, gap.name, gap.sequence, gap.count);
    }

    /// What a dead producer dropped last is told at its death, since nobody may
    /// come after it; of the gap that its successor leaves, the rest is new.
    fn drops(&mut self, lane: u32, name: Option<&str>, sequence: u64, count: u64) {
        let behind = sequence.wrapping_add(count);
        let told = self.told.insert(lane, behind).unwrap_or(sequence);
        let known = u64::try_from(told.wrapping_sub(sequence) as i64).unwrap_or(0);
        let count = count.saturating_sub(known);
        self.dropped = self.dropped.saturating_add(count);
        if self.report_gaps && count > 0 {
            let (name, first) = (name_of(lane, name), sequence.wrapping_add(known));
            say(&format!("gap: producer={name} first={first} count={count}"));
        }
    }

    pub(crate) fn died(&mut self, death: &Death) {
        let name = name_of(death.lane, death.name.as_deref());
        if death.is_replaced {
            // The stream that the other one closes ends in order.
            return warn!("a producer died without closing, and another one took {name}; all was delivered");
        }
        let who = match &death.producer {
            Some(owner) => format!("{name}, {owner}"),
            None => format!("{name}, which has not said who it was"),
        };
        warn!("{}", one_death(&who));
        if death.dropped > 0 {
            self.drops(death.lane, death.name.as_deref(), death.sequence, death.dropped);
        }
        self.deaths += 1;
        if self.dead.len() < NAMED {
            self.dead.push(who);
        }
    }

    /// Takes note of a damaged lane; false if it was known, so that no lane is left.
    pub(crate) fn damaged(&mut self, damage: Damage) -> bool {
        if self.damages.iter().any(|known| known.lane == damage.lane) {
            return false;
        }
        warn!("{damage}; other lanes, if there are any, go on");
        self.damages.push(damage);
        true
    }

    pub(crate) fn tell_drops(&self) {
        if self.dropped > 0 && !self.report_gaps {
            warn!("{} messages were dropped by their producers; --report-gaps tells where", self.dropped);
        }
    }

    /// The result of a session that came to its end.
    pub(crate) fn finish(&self) -> Result<(), Exit> {
        if let Some(damage) = self.damages.first() {
            return Err((*damage).into());
        }
        let more = self.deaths - self.dead.len() as u64;
        let others = if more > 0 { format!("; and {more} more") } else { String::new() };
        match self.dead.as_slice() {
            [] => Ok(()),
            [who] => Err(Exit::died(one_death(who))),
            all => Err(Exit::died(format!(
                "{} producers died without closing: {}{others}; everything they sent was delivered",
                self.deaths,
                all.join("; ")
            ))),
        }
    }
}

fn one_death(who: &str) -> String {
    format!("a producer died without closing: {who}; everything it sent was delivered")
}
