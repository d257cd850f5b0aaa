//! Who can take part in this run.

use std::sync::Arc;

use anyhow::{Result, bail};
use bench_kit::Plan;

use crate::contestant::{self, Contestant};
use crate::report::Kind;

/// Everybody, and who was not asked for.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    known: Vec<Known>,
    left_out: Vec<String>,
}

/// One who can take part.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) contestant: Arc<Contestant>,
    pub(crate) kind: Kind,
    /// Refuses the plans that are not for it, and says why.
    pub(crate) can: fn(&Plan) -> Result<()>,
}

impl Known {
    /// One that finds out by itself which plans are not for it.
    pub(crate) fn new(contestant: Contestant, kind: Kind) -> Known {
        Known { contestant: Arc::new(contestant), kind, can: |_| Ok(()) }
    }
}

impl Roster {
    /// Ours, the floors, and of the others those in `asked`; `None`: all.
    pub(crate) fn new(all: Vec<Known>, asked: Option<&[String]>) -> Result<Roster> {
        let mut roster = Roster::default();
        for known in all {
            let is_other = matches!(known.kind, Kind::Peer | Kind::Threads);
            let name = known.contestant.name;
            match asked {
                Some(asked) if is_other && !asked.iter().any(|asked| asked == name) => {
                    roster.left_out.push(name.to_owned());
                }
                _ => roster.known.push(known),
            }
        }
        let others = || roster.others().map(|known| known.contestant.name.to_owned());
        for name in asked.unwrap_or_default() {
            if !others().any(|other| other == *name) {
                let names: Vec<_> = others().chain(roster.left_out.iter().cloned()).collect();
                bail!("there is no peer {name:?}; there are: {}", names.join(", "));
            }
        }
        Ok(roster)
    }

    /// The one of that name, or why it cannot take part.
    pub(crate) fn find(&self, name: &str) -> Result<&Known, String> {
        let found = self.known.iter().find(|known| known.contestant.name == name);
        found.ok_or_else(|| {
            let is_left_out = self.left_out.iter().any(|left_out| left_out == name);
            if is_left_out { "not asked for (--peers)" } else { "not in this build" }.to_owned()
        })
    }

    /// Those that are neither ours nor floors.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(|known| matches!(known.kind, Kind::Peer | Kind::Threads))
    }

    /// All that can take part.
    pub(crate) fn all(&self) -> &[Known] {
        &self.known
    }
}

/// Those that this program has in itself.
pub(crate) fn built_in() -> Vec<Known> {
    let known = |one: &contestant::BuiltIn| Known {
        contestant: Arc::new(contestant::built_in(one.name)),
        kind: one.kind,
        can: one.can,
    };
    contestant::BUILT_IN.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Known> {
        let all = [
            ("ours", Kind::Ours),
            ("cache line", Kind::Floor),
            ("pipe", Kind::Peer),
            ("rtrb", Kind::Threads),
        ];
        all.map(|(name, kind)| Known::new(contestant::built_in(name), kind)).into()
    }

    fn names(roster: &Roster) -> Vec<&str> {
        roster.others().map(|known| known.contestant.name).collect()
    }

    #[test]
    fn peers_take_part_as_asked_and_floors_always() {
        assert_eq!(names(&Roster::new(all(), None).unwrap()), ["pipe", "rtrb"]);
        let none = Roster::new(all(), Some(&[])).unwrap();
        assert!(names(&none).is_empty());
        assert!(none.find("cache line").is_ok() && none.find("ours").is_ok());
        assert_eq!(none.find("pipe").unwrap_err(), "not asked for (--peers)");
        assert_eq!(none.find("carrier pigeon").unwrap_err(), "not in this build");
        assert_eq!(names(&Roster::new(all(), Some(&["rtrb".to_owned()])).unwrap()), ["rtrb"]);
    }

    #[test]
    fn an_unknown_peer_is_refused_and_all_are_named() {
        let error = Roster::new(all(), Some(&["pigeon".to_owned()])).unwrap_err().to_string();
        assert_eq!(error, "there is no peer \"pigeon\"; there are: pipe, rtrb");
    }
}
