//! Who can take part in this run.

use anyhow::{Result, bail, ensure};
use bench_kit::{Measure, Plan};

use crate::contestant::{self, Contestant};
use crate::peers::{self, Peer};
use crate::report::Kind;

/// Refuses the plans that are not for a contestant, and says why.
pub(crate) type Can = Box<dyn Fn(&Plan) -> Result<()>>;

/// One who may be asked to take part.
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) can: Can,
    /// Makes it ready, if it was asked for.
    pub(crate) build: Box<dyn FnOnce() -> Result<Contestant>>,
}

/// One who was asked.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) can: Can,
    /// Or why there is none.
    pub(crate) contestant: Result<Contestant, String>,
}

/// Everybody, and who was not asked.
#[derive(Default)]
pub(crate) struct Roster {
    known: Vec<Known>,
    left_out: Vec<&'static str>,
}

impl Roster {
    /// Ours, the floors, and of the others those in `asked`; `None`: all.
    pub(crate) fn new(all: Vec<Candidate>, asked: Option<&[String]>) -> Result<Roster> {
        let is_other = |one: &Candidate| matches!(one.kind, Kind::Peer | Kind::Threads);
        let others: Vec<_> = all.iter().filter(|one| is_other(one)).map(|one| one.name).collect();
        if let Some(name) = asked.unwrap_or_default().iter().find(|name| !others.contains(&name.as_str())) {
            bail!("there is no peer {name:?}; there are: {}", others.join(", "));
        }
        let mut roster = Roster::default();
        for one in all {
            let is_asked = asked.is_none_or(|asked| asked.iter().any(|asked| asked == one.name));
            if is_other(&one) && !is_asked {
                roster.left_out.push(one.name);
                continue;
            }
            let contestant = (one.build)().map_err(|error| format!("{error:#}"));
            roster.known.push(Known { name: one.name, kind: one.kind, can: one.can, contestant });
        }
        Ok(roster)
    }

    /// The one of that name, or why it cannot take part.
    pub(crate) fn find(&self, name: &str) -> Result<&Known, &'static str> {
        self.known.iter().find(|known| known.name == name).ok_or_else(|| {
            if self.left_out.contains(&name) { "not asked for (--peers)" } else { "not in this build" }
        })
    }

    /// Those that are neither ours nor floors.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| matches!(known.kind, Kind::Peer | Kind::Threads))
    }

    /// All that were asked.
    pub(crate) fn all(&self) -> &[Known] {
        &self.known
    }
}

/// Those that this program has in itself.
pub(crate) fn built_in() -> Vec<Candidate> {
    let candidate = |one: &'static contestant::BuiltIn| Candidate {
        name: one.name,
        kind: one.kind,
        can: Box::new(one.can),
        build: Box::new(|| Ok(contestant::built_in(one.name))),
    };
    contestant::BUILT_IN.iter().map(candidate).collect()
}

/// Those that are packages of their own.
pub(crate) fn peers() -> Vec<Candidate> {
    let candidate = |one: &'static Peer| Candidate {
        name: one.name,
        kind: if one.is_pair { Kind::Threads } else { Kind::Peer },
        can: Box::new(|plan| allows(&one.can, plan)),
        build: Box::new(|| peers::build(one)),
    };
    peers::PEERS.iter().map(candidate).collect()
}

fn allows(can: &peers::Can, plan: &Plan) -> Result<()> {
    let settings = &plan.settings;
    ensure!(plan.size <= can.max_size, "its messages have {} bytes at most", can.max_size);
    ensure!(settings.senders <= can.senders, "so many senders are too many: it takes {}", can.senders);
    ensure!(can.in_place || !settings.in_place, "it copies");
    match plan.measure {
        Measure::RoundTrip { .. } => ensure!(can.round_trip, "it goes one way"),
        Measure::Wake { .. } | Measure::Idle { .. } => ensure!(can.wake, "it does not sleep"),
        Measure::OneWay { batch, .. } => ensure!(can.batch || batch == 1, "it hands over one by one"),
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::round;

    /// One that can do everything.
    pub(crate) fn candidate(name: &'static str, kind: Kind) -> Candidate {
        Candidate {
            name,
            kind,
            can: Box::new(|_| Ok(())),
            build: Box::new(move || Ok(contestant::built_in(name))),
        }
    }

    fn all() -> Vec<Candidate> {
        let broken = || Err(anyhow::anyhow!("no linker").context("cargo build"));
        vec![
            candidate("ours", Kind::Ours),
            candidate("cache line", Kind::Floor),
            Candidate { build: Box::new(broken), ..candidate("pipe", Kind::Peer) },
            candidate("rtrb", Kind::Threads),
        ]
    }

    #[test]
    fn a_peer_is_asked_for_what_it_can_only() {
        let all = peers::Can {
            round_trip: true,
            batch: true,
            senders: 4,
            wake: true,
            max_size: 1024,
            in_place: true,
        };
        let refused = |can: peers::Can, plan: &Plan| {
            assert!(allows(&all, plan).is_ok());
            allows(&can, plan).unwrap_err().to_string()
        };
        let trip = round::round_trip(64, 1);
        assert_eq!(refused(peers::Can { round_trip: false, ..all }, &trip), "it goes one way");
        let mut plan = round::one_way(64, 1);
        let text = "so many senders are too many: it takes 1";
        plan.settings.senders = 4;
        assert_eq!(refused(peers::Can { senders: 1, ..all }, &plan), text);
        plan.settings.in_place = true;
        assert_eq!(refused(peers::Can { in_place: false, ..all }, &plan), "it copies");
        plan.measure = Measure::OneWay { messages: 1, warmup: 0, batch: 64, work: 0 };
        assert_eq!(refused(peers::Can { batch: false, ..all }, &plan), "it hands over one by one");
        plan.measure = Measure::Wake { messages: 1, every: 1 };
        assert_eq!(refused(peers::Can { wake: false, ..all }, &plan), "it does not sleep");
        assert!(allows(&all, &round::one_way(1025, 1)).is_err());
    }

    fn names(roster: &Roster) -> Vec<&str> {
        roster.others().map(|known| known.name).collect()
    }

    #[test]
    fn peers_take_part_as_asked_and_floors_always() {
        assert_eq!(names(&Roster::new(all(), None).unwrap()), ["pipe", "rtrb"]);
        let none = Roster::new(all(), Some(&[])).unwrap();
        assert!(names(&none).is_empty());
        assert!(none.find("cache line").is_ok() && none.find("ours").is_ok());
        assert_eq!(none.find("pipe").err(), Some("not asked for (--peers)"));
        assert_eq!(none.find("carrier pigeon").err(), Some("not in this build"));
        assert_eq!(names(&Roster::new(all(), Some(&["rtrb".to_owned()])).unwrap()), ["rtrb"]);
    }

    #[test]
    fn who_is_not_asked_is_not_built_and_who_cannot_be_says_why() {
        let roster = Roster::new(all(), None).unwrap();
        assert_eq!(roster.find("pipe").unwrap().contestant.as_ref().unwrap_err(), "cargo build: no linker");
        let never = || panic!("it was built");
        let all = vec![Candidate { build: Box::new(never), ..candidate("pipe", Kind::Peer) }];
        assert!(Roster::new(all, Some(&[])).unwrap().find("pipe").is_err());
    }

    #[test]
    fn an_unknown_peer_is_refused_and_all_are_named() {
        let error = Roster::new(all(), Some(&["pigeon".to_owned()])).err().unwrap().to_string();
        assert_eq!(error, "there is no peer \"pigeon\"; there are: pipe, rtrb");
    }
}
