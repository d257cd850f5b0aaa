//! `--verify`: what came, producer by producer.

use shmring_grammar::{Tally, say};

/// What people call a producer.
pub(crate) fn name_of(lane: u32, name: Option<&str>) -> String {
    name.map_or_else(|| format!("lane{lane}"), str::to_owned)
}

/// A tally a lane, and one of what was in it before it got a name.
#[derive(Debug, Default)]
pub(crate) struct Check {
    lanes: Vec<Lane>,
}

#[derive(Debug, Default, Clone)]
struct Lane {
    unnamed: Option<Tally>,
    name: Option<String>,
    named: Option<Tally>,
}

impl Check {
    /// The tally of the producer in this lane.
    #[inline]
    pub(crate) fn tally(&mut self, lane: u32, name: Option<&str>) -> &mut Tally {
        let lane = lane as usize;
        if lane >= self.lanes.len() {
            self.lanes.resize(lane + 1, Lane::default());
        }
        let lane = &mut self.lanes[lane];
        let Some(name) = name else { return lane.unnamed.get_or_insert_default() };
        if lane.name.is_none() {
            lane.name = Some(name.to_owned());
        }
        lane.named.get_or_insert_with(|| lane.unnamed.as_ref().map(Tally::next).unwrap_or_default())
    }

    /// Prints a line a producer, one at least; false if anything is wrong.
    pub(crate) fn finish(&mut self) -> bool {
        if self.lanes.is_empty() {
            self.tally(0, None);
        }
        let mut is_clean = true;
        for (number, lane) in (0..).zip(&self.lanes) {
            for (name, tally) in [(None, &lane.unnamed), (lane.name.as_deref(), &lane.named)] {
                let Some(tally) = tally else { continue };
                say(&format!("verify: producer={} {tally}", name_of(number, name)));
                is_clean &= tally.is_clean();
            }
        }
        is_clean
    }
}
