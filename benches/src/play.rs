//! A case with one size: each contestant plays a round, in turn, and then all
//! the next one. So a machine that changes its speed changes it for all, and
//! what is divided was measured side by side.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench_kit::{Measure, Outcome, Plan};

use crate::contestant::Contestant;
use crate::report::{CaseResult, Kind, Series};
use crate::roster::Roster;
use crate::round::Cores;

/// What is measured side by side.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) case: &'static str,
    pub(crate) size: usize,
    /// What is not at the defaults, in words.
    pub(crate) options: String,
    pub(crate) figure: Figure,
    /// Ours first.
    pub(crate) entries: Vec<Entry>,
    /// With whom ours is compared in more rounds than with the others.
    pub(crate) rival: Option<&'static str>,
}

/// A contestant and what it does.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What it is called in this group.
    pub(crate) who: String,
    /// The contestant's name.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) plan: Plan,
    pub(crate) cores: Cores,
}

/// What is taken from a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Messages in a second, in millions.
    Rate,
    /// Half of the messages took at most so many nanoseconds.
    HalfNanos,
    /// Or microseconds.
    HalfMicros,
}

impl Figure {
    fn unit(self) -> &'static str {
        match self {
            Figure::Rate => "M/s",
            Figure::HalfNanos => "ns",
            Figure::HalfMicros => "us",
        }
    }

    fn of(self, outcome: &Outcome) -> Result<f64> {
        let half = || Ok(outcome.latency.context("it took no times")?.p50 as f64);
        match self {
            Figure::Rate => {
                ensure!(outcome.messages > 0 && outcome.nanos > 0, "nothing was timed");
                Ok(outcome.messages as f64 * 1e3 / outcome.nanos as f64)
            }
            Figure::HalfNanos => half(),
            Figure::HalfMicros => Ok(half()? / 1e3),
        }
    }
}

/// How long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Of each contestant.
    pub(crate) rounds: usize,
    /// Of those that a target compares.
    pub(crate) rival_rounds: usize,
    /// What a round takes.
    pub(crate) round: Duration,
}

impl Pace {
    pub(crate) fn of(quick: bool) -> Pace {
        match quick {
            true => Pace { rounds: 5, rival_rounds: 9, round: Duration::from_millis(15) },
            false => Pace { rounds: 15, rival_rounds: 31, round: Duration::from_millis(40) },
        }
    }
}

/// So many messages are tried first, and not fewer are sent in a round: it
/// takes longer then for those who are slow.
const FEWEST: u64 = 16;
const MOST: u64 = 1 << 28;

/// Plays one round: [`crate::round::play`], and something else in tests.
pub(crate) type PlayRound<'a> = dyn Fn(&Contestant, &Plan, Cores) -> Result<Outcome> + 'a;

/// Plays a group's rounds.
pub(crate) struct Player<'a> {
    pub(crate) roster: &'a Roster,
    pub(crate) pace: Pace,
    pub(crate) round: &'a PlayRound<'a>,
    /// Set by a signal: no further round then.
    pub(crate) stop: &'a AtomicBool,
}

impl Player<'_> {
    /// All rounds of a group. Who fails is left out from then on.
    pub(crate) fn play(&self, group: &Group) -> Result<CaseResult> {
        let mut tables: Vec<Table> = Vec::new();
        for entry in &group.entries {
            tables.push(Table::of(entry, self.prepare(entry)));
            self.go_on()?;
        }
        for round in 0..self.pace.rival_rounds {
            let rivals = [Some("ours"), group.rival]
                .map(|name| tables.iter().position(|t| name == Some(&t.series.who)));
            let rivals_go_on = rivals.iter().all(|at| at.is_some_and(|at| tables[at].ready.is_some()));
            if round >= self.pace.rounds && !rivals_go_on {
                break;
            }
            let is_in = |at: &usize| round < self.pace.rounds || rivals.contains(&Some(*at));
            let players: Vec<usize> = (0..tables.len()).filter(is_in).collect();
            for place in 0..players.len() {
                let at = players[(round + place) % players.len()];
                tables[at].round(group.figure, &group.entries[at], self);
                self.go_on()?;
            }
        }
        Ok(CaseResult {
            case: group.case.to_owned(),
            size: group.size,
            options: group.options.clone(),
            unit: group.figure.unit(),
            more_is_better: group.figure == Figure::Rate,
            series: tables.into_iter().map(Table::end).collect(),
        })
    }

    /// Fails once a signal came.
    pub(crate) fn go_on(&self) -> Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), "stopped by a signal");
        Ok(())
    }

    /// The contestant, and the plan with as many messages as fill a round.
    fn prepare(&self, entry: &Entry) -> Result<Ready<'_>> {
        let known = self.roster.find(&entry.name).map_err(anyhow::Error::msg)?;
        let contestant =
            known.contestant.as_ref().map_err(|why| anyhow::anyhow!("cannot be built: {why}"))?;
        (known.can)(&entry.plan)?;
        let plan = self.calibrate(entry, |plan| (self.round)(contestant, plan, entry.cores))?;
        Ok((contestant, plan))
    }

    fn calibrate(&self, entry: &Entry, round: impl Fn(&Plan) -> Result<Outcome>) -> Result<Plan> {
        if let Measure::Wake { every, .. } = entry.plan.measure {
            let messages = (2 * self.pace.round.as_micros() as u64 / every.max(1)).max(FEWEST);
            let mut plan = entry.plan.clone();
            plan.measure = Measure::Wake { messages, every };
            // Whether it can do it at all.
            round(&plan)?;
            return Ok(plan);
        }
        let wanted = self.pace.round.as_nanos() as u64;
        let mut messages = FEWEST;
        loop {
            let outcome = round(&with_messages(entry, messages, messages / 8))?;
            let nanos = outcome.nanos.max(1);
            if nanos >= wanted / 4 || messages >= MOST {
                return Ok(self.filling(entry, messages, nanos));
            }
            messages = (messages * (wanted / 2 / nanos).clamp(2, 64)).min(MOST);
        }
    }

    /// As many messages as fill a round, when so many took so long.
    fn filling(&self, entry: &Entry, messages: u64, nanos: u64) -> Plan {
        let wanted = self.pace.round.as_nanos();
        let messages = (messages as u128 * wanted / nanos.max(1) as u128) as u64;
        let messages = messages.clamp(FEWEST, MOST);
        with_messages(entry, messages, warmup(entry, messages))
    }
}

/// Messages before those that count: where a ring has pages to be touched, all
/// of them, unless that took much longer than the round.
fn warmup(entry: &Entry, messages: u64) -> u64 {
    let is_ring = matches!(entry.kind, Kind::Ours | Kind::Floor);
    let is_one_way = matches!(entry.plan.measure, Measure::OneWay { .. });
    let lap = entry.plan.settings.capacity / (entry.plan.size as u64 + 8) + 1;
    if is_ring && is_one_way { (messages / 8).max(lap.min(4 * messages)) } else { messages / 8 }
}

fn with_messages(entry: &Entry, messages: u64, warmup: u64) -> Plan {
    let mut plan = entry.plan.clone();
    plan.measure = match plan.measure {
        Measure::OneWay { batch, work, .. } => Measure::OneWay { messages, warmup, batch, work },
        Measure::RoundTrip { .. } => Measure::RoundTrip { messages, warmup },
        other => other,
    };
    plan
}

/// A contestant and the plan that fills its rounds.
type Ready<'a> = (&'a Contestant, Plan);

/// What one entry has shown so far.
struct Table<'a> {
    series: Series,
    percentiles: Vec<[u64; 4]>,
    ready: Option<Ready<'a>>,
}

impl<'a> Table<'a> {
    fn of(entry: &Entry, prepared: Result<Ready<'a>>) -> Table<'a> {
        let (ready, skipped) = match prepared {
            Ok(ready) => (Some(ready), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let series = Series {
            who: entry.who.clone(),
            kind: entry.kind,
            rounds: Vec::new(),
            percentiles: None,
            lost: 0,
            wrong: 0,
            skipped,
        };
        Table { series, percentiles: Vec::new(), ready }
    }

    fn round(&mut self, figure: Figure, entry: &Entry, player: &Player) {
        let Some((contestant, plan)) = &mut self.ready else { return };
        let played = (player.round)(contestant, plan, entry.cores).and_then(|outcome| {
            // Something held it up when its messages were counted.
            if outcome.nanos < player.pace.round.as_nanos() as u64 / 2 {
                *plan = player.filling(entry, outcome.messages / plan.settings.senders as u64, outcome.nanos);
            }
            self.series.lost += outcome.lost;
            self.series.wrong += outcome.wrong;
            Ok((figure.of(&outcome)?, outcome.latency))
        });
        match played {
            Ok((figure, latency)) => {
                self.series.rounds.push(figure);
                self.percentiles.extend(latency.map(|l| [l.p50, l.p99, l.p999, l.max]));
            }
            Err(error) => {
                self.series.skipped = Some(format!("{error:#}"));
                self.ready = None;
            }
        }
    }

    fn end(self) -> Series {
        let middle = |at: usize| {
            let mut sorted: Vec<u64> = self.percentiles.iter().map(|of_round| of_round[at]).collect();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).copied()
        };
        let percentiles = (0..4).map(middle).collect::<Option<Vec<_>>>();
        let percentiles = percentiles.and_then(|all| all.try_into().ok());
        Series { percentiles, ..self.series }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use anyhow::bail;
    use bench_kit::Percentiles;

    use super::*;
    use crate::roster::tests::candidate;
    use crate::round::one_way;

    const PACE: Pace = Pace { rounds: 4, rival_rounds: 7, round: Duration::from_millis(40) };

    fn entry(who: &str, kind: Kind, plan: Plan) -> Entry {
        Entry { who: who.to_owned(), name: who.to_owned(), kind, plan, cores: Cores::Pinned }
    }

    fn group(rival: Option<&'static str>) -> Group {
        let kinds = [("ours", Kind::Ours), ("cache line", Kind::Floor), ("pipe", Kind::Peer)];
        let entries = kinds.map(|(who, kind)| entry(who, kind, one_way(64, 0))).into();
        Group { case: "one_way", size: 64, options: String::new(), figure: Figure::Rate, entries, rival }
    }

    fn play(group: &Group, round: &PlayRound) -> Result<CaseResult> {
        let all = [("ours", Kind::Ours), ("cache line", Kind::Floor), ("pipe", Kind::Peer)];
        let all = all.map(|(name, kind)| candidate(name, kind)).into();
        let roster = Roster::new(all, None).unwrap();
        Player { roster: &roster, pace: PACE, round, stop: &AtomicBool::new(false) }.play(group)
    }

    /// A message takes so many nanoseconds, and each is timed.
    fn outcome(plan: &Plan, nanos_each: u64) -> Outcome {
        let (Measure::OneWay { messages, .. } | Measure::RoundTrip { messages, .. }) = plan.measure else {
            panic!("{plan:?}")
        };
        let half = Percentiles { p50: nanos_each, ..Percentiles::default() };
        Outcome { messages, nanos: messages * nanos_each, latency: Some(half), ..Outcome::default() }
    }

    #[test]
    fn rounds_take_turns_in_an_order_that_rotates_and_rivals_play_more() {
        let log = RefCell::new(Vec::new());
        let result = play(&group(Some("cache line")), &|contestant, plan, _| {
            let outcome = outcome(plan, 100);
            // What is shorter than half a round serves to find how many fill one.
            if outcome.nanos > 20_000_000 {
                log.borrow_mut().push(&contestant.name[..1]);
            }
            Ok(outcome)
        });
        assert_eq!(log.borrow().concat(), "ocp cpo poc ocp oc co oc".replace(' ', ""));
        let rounds: Vec<_> = result.unwrap().series.iter().map(|series| series.rounds.len()).collect();
        assert_eq!(rounds, [7, 7, 4]);
    }

    #[test]
    fn each_contestant_sends_what_fills_a_round_and_no_fewer_than_some() {
        let nanos = HashMap::from([("ours", 10), ("cache line", 7_000), ("pipe", 50_000_000)]);
        let last = RefCell::new(HashMap::new());
        let result = play(&group(None), &|contestant, plan, _| {
            last.borrow_mut().insert(contestant.name, plan.measure);
            Ok(outcome(plan, nanos[contestant.name]))
        });
        let messages = |name| match last.borrow()[name] {
            Measure::OneWay { messages, warmup, .. } => (messages, warmup),
            other => panic!("{other:?}"),
        };
        assert_eq!(messages("ours"), (4_000_000, 500_000));
        // A ring is gone through once before it counts.
        assert_eq!(messages("cache line"), (5_714, (1 << 20) / 72 + 1));
        assert_eq!(messages("pipe"), (FEWEST, 2));
        let rates: Vec<_> = result.unwrap().series.iter().map(|s| s.spread().unwrap().median).collect();
        assert_eq!(rates, [100.0, 1e3 / 7e3, 1e3 / 5e7]);
    }

    #[test]
    fn who_was_held_up_while_it_was_counted_sends_more_in_the_next_round() {
        let (is_first, sent) = (RefCell::new(true), RefCell::new(Vec::new()));
        let result = play(&group(None), &|contestant, plan, _| {
            let is_held_up = contestant.name == "ours" && is_first.replace(false);
            let outcome = outcome(plan, if is_held_up { 2_000_000 } else { 100 });
            if contestant.name == "ours" {
                sent.borrow_mut().push(outcome.messages);
            }
            Ok(outcome)
        });
        assert_eq!(*sent.borrow(), [16, 20, 400_000, 400_000, 400_000]);
        assert_eq!(result.unwrap().series[0].rounds.len(), 4);
    }

    #[test]
    fn who_fails_is_skipped_with_the_reason_and_the_others_go_on() {
        let played = RefCell::new(0);
        let result = play(&group(Some("cache line")), &|contestant, plan, _| {
            let outcome = outcome(plan, 100);
            match contestant.name {
                "pipe" => bail!("no pipe"),
                "cache line" if outcome.nanos > 20_000_000 => {
                    *played.borrow_mut() += 1;
                    ensure!(*played.borrow() < 3, "it hangs");
                    Ok(outcome)
                }
                _ => Ok(outcome),
            }
        });
        let series = result.unwrap().series;
        let rounds: Vec<_> = series.iter().map(|series| series.rounds.len()).collect();
        // Without its rival ours needs no further rounds.
        assert_eq!(rounds, [4, 2, 0]);
        let skipped: Vec<_> = series.iter().map(|series| series.skipped.as_deref()).collect();
        assert_eq!(skipped, [None, Some("it hangs"), Some("no pipe")]);
    }

    #[test]
    fn who_is_not_there_is_skipped() {
        let mut group = group(None);
        group.entries.push(entry("pigeon", Kind::Peer, one_way(64, 0)));
        let result = play(&group, &|_, plan, _| Ok(outcome(plan, 100))).unwrap();
        assert_eq!(result.series[3].skipped.as_deref(), Some("not in this build"));
    }

    #[test]
    fn losses_of_all_rounds_are_added_up() {
        let result = play(&group(None), &|contestant, plan, _| {
            let bad = if contestant.name == "pipe" { (2, 3) } else { (0, 0) };
            Ok(Outcome { lost: bad.0, wrong: bad.1, ..outcome(plan, 100) })
        });
        let series = result.unwrap().series;
        assert_eq!((series[0].lost, series[0].wrong), (0, 0));
        assert_eq!((series[2].lost, series[2].wrong), (2 * 4, 3 * 4));
    }

    #[test]
    fn a_round_trip_is_judged_by_its_half_and_keeps_its_percentiles() {
        let mut group = group(None);
        group.figure = Figure::HalfMicros;
        for entry in &mut group.entries {
            entry.plan = crate::round::round_trip(64, 0);
        }
        let result = play(&group, &|_, plan, _| Ok(outcome(plan, 1500))).unwrap();
        assert_eq!((result.unit, result.more_is_better), ("us", false));
        assert_eq!(result.series[0].rounds, [1.5; 4]);
        assert_eq!(result.series[0].percentiles, Some([1500, 0, 0, 0]));
    }

    #[test]
    fn a_signal_ends_it() {
        let roster = Roster::new(vec![], None).unwrap();
        let stop = AtomicBool::new(true);
        let round: &PlayRound = &|_, plan, _| Ok(outcome(plan, 100));
        let player = Player { roster: &roster, pace: PACE, round, stop: &stop };
        assert_eq!(player.play(&group(None)).unwrap_err().to_string(), "stopped by a signal");
    }
}
