//! What happens in a round, drawn from a seed: the same again for the same one.

use std::time::Duration;

use ::tests::Random;
use shmring::{Order, RegionOptions};

/// Somebody who takes part: 0 is the consumer, the others are producers.
pub(super) type Part = usize;

/// The set of all parts whose bit is set.
pub(super) type Parts = u64;

/// A round: its region, who takes part, and what comes to pass.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) order: Order,
    pub(super) lanes: u32,
    capacity: u64,
    record_align: u64,
    start_position: u64,
    pub(super) start_sequence: u64,
    /// The names of the producers, of those that have one.
    pub(super) names: Vec<Option<String>>,
    pub(super) length: Duration,
    /// One of so many that are gone comes back at each event.
    patience: u64,
    /// Events are up to so many microseconds apart.
    pause: u64,
    /// What the processes draw from comes from this.
    seeds: u64,
    events: Random,
}

/// What happens after a while.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) pause: Duration,
    pub(super) kill: Option<Part>,
    pub(super) stop: Option<Part>,
    /// These go on, if they are stopped.
    pub(super) go_on: Parts,
    /// These come back, if they are gone.
    pub(super) start: Parts,
}

/// One of the given.
fn one_of<T: Copy>(random: &mut Random, these: &[T]) -> T {
    these[random.among(0..these.len() as u64) as usize]
}

impl Plan {
    /// The plan of one of the rounds.
    pub(super) fn of(seed: u64, round: u64) -> Plan {
        let mut random = Random::of(seed.wrapping_add(round.wrapping_mul(0xD1B5_4A32_D192_ED03)));
        let lanes = one_of(&mut random, &[1, 2, 3, 4, 8, 40]);
        // At times one more than there is a lane for.
        let producers = 1 + random.among(0..u64::from(lanes + 1).min(6)) as usize;
        let named = random.among(0..u64::from(lanes).min(producers as u64) + 1) as usize;
        let is_late = random.among(0..4) == 0;
        Plan {
            order: one_of(&mut random, &[Order::Fifo, Order::Total]),
            lanes,
            capacity: one_of(&mut random, &[64 << 10, 64 << 10, 128 << 10, 1 << 20]),
            record_align: one_of(&mut random, &[16, 64]),
            // Both wrap soon.
            start_position: if is_late { u64::MAX - 0xF_FFFF } else { 0 },
            start_sequence: if is_late { u64::MAX - 5000 } else { 0 },
            names: (0..producers).map(|i| (i < named).then(|| format!("till-{i}"))).collect(),
            length: Duration::from_millis(random.among(1000..4000)),
            patience: one_of(&mut random, &[2, 4, 8]),
            pause: one_of(&mut random, &[5000, 20_000, 40_000]),
            seeds: random.word(),
            events: Random::of(random.word()),
        }
    }

    /// How its region is made.
    pub(super) fn region(&self) -> RegionOptions {
        RegionOptions::new()
            .capacity(self.capacity)
            .record_align(self.record_align)
            .max_producers(self.lanes)
            .order(self.order)
            .start_at(self.start_position, self.start_sequence)
    }

    /// What one process draws from: the `count`th of the consumers or producers.
    /// Not from among the events, which must not depend on who came.
    pub(super) fn seed(&self, part: Part, count: u32) -> u64 {
        Random::of(self.seeds ^ (u64::from(count) << 1 | u64::from(part > 0))).word()
    }

    /// The next thing that happens.
    pub(super) fn event(&mut self) -> Event {
        let parts = 1 + self.names.len();
        let random = &mut self.events;
        // At times at once: somebody has just come, or has just been stopped.
        let most = if random.among(0..4) == 0 { 1000 } else { self.pause };
        let mut set = |one_in: u64| -> Parts {
            (0..parts).filter(|_| random.among(0..one_in) == 0).fold(0, |set, part| set | 1 << part)
        };
        let (go_on, start) = (set(2), set(self.patience));
        let mut somebody = |one_in: u64| {
            // The consumer as often as all producers together.
            let part = random.among(0..2) * random.among(1..parts as u64);
            (random.among(0..one_in) == 0).then_some(part as usize)
        };
        let (kill, stop) = (somebody(2), somebody(3));
        Event { pause: Duration::from_micros(random.among(0..most)), kill, stop, go_on, start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_plan_and_another_one_does_not() {
        let events = |seed, round| {
            let mut plan = Plan::of(seed, round);
            let heading = format!("{plan:?}");
            let seeds = [plan.seed(0, 5), plan.seed(1, 5), plan.seed(1, 6)];
            assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
            (heading, seeds, (0..100).map(|_| plan.event()).collect::<Vec<_>>())
        };
        assert_eq!(events(7, 3), events(7, 3));
        assert_ne!(events(7, 3), events(7, 4));
        assert_ne!(events(7, 3), events(8, 3));
    }
}
