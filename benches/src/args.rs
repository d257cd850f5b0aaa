//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::cases::{self, Case};

/// Measures shmring beside its peers and the floors of the machine.
///
/// Each case plays its contestants in turn, round after round, so that what is
/// divided was measured side by side. docs/BENCHMARKS.md tells what each case and
/// contestant is, and how to read it. Ends with 0 if all was measured, with 1 if a
/// message of ours was lost or wrong, with 2 if it could not go on.
#[derive(Debug, Parser)]
#[command(name = "benches", max_term_width = 100)]
pub(crate) struct Args {
    /// Fewer and shorter rounds: for a look, not for a figure
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only this case; may be given several times
    #[arg(long = "case", value_name = "NAME", value_parser = case)]
    pub(crate) cases: Vec<&'static Case>,

    /// Write a row for each result to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write charts to the folder DIR, as SVG
    #[arg(long, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,

    /// Only these peers, by name and with commas between them, or none of them
    #[arg(long, value_name = "none|NAME,..")]
    peers: Option<String>,

    /// Print the cases and end
    #[arg(long)]
    pub(crate) list: bool,
}

impl Args {
    /// What was asked for, each once and in the order of the list.
    pub(crate) fn cases(&self) -> Vec<&'static Case> {
        let is_asked = |case: &Case| self.cases.iter().any(|asked| asked.id == case.id);
        cases::ALL.iter().filter(|case| self.cases.is_empty() || is_asked(case)).collect()
    }

    /// The names after `--peers`; `None`: all.
    pub(crate) fn peers(&self) -> Option<Vec<String>> {
        let peers = self.peers.as_deref()?;
        let names = peers.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none");
        Some(names.map(str::to_owned).collect())
    }
}

fn case(name: &str) -> Result<&'static Case, String> {
    cases::find(name).ok_or_else(|| {
        let names: Vec<_> = cases::ALL.iter().map(|case| case.id).collect();
        format!("there is no such case; there are: {}", names.join(", "))
    })
}

/// What `--list` prints.
pub(crate) fn list() -> String {
    cases::ALL.iter().map(|case| format!("{:<20} {}\n", case.id, case.about)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["benches"], arguments].concat())
    }

    #[test]
    fn an_unknown_case_is_refused_and_all_are_named() {
        Args::command().debug_assert();
        let error = parse(&["--case", "round_trip", "--case", "around"]).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ValueValidation, 2));
        let text = error.to_string();
        assert!(text.contains("'around'"), "{text}");
        for case in cases::ALL {
            assert!(text.contains(case.id), "{} is not in {text}", case.id);
            assert!(list().contains(case.id));
        }
    }

    #[test]
    fn cases_are_those_that_were_asked_for_once_and_in_order() {
        let ids = |arguments: &[&str]| {
            parse(arguments).unwrap().cases().iter().map(|case| case.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["--case", "wake", "--case", "one_way", "--case", "wake"]), ["one_way", "wake"]);
        assert_eq!(ids(&[]).len(), cases::ALL.len());
    }

    #[test]
    fn every_case_of_the_issue_can_be_asked_for() {
        let ids = "round_trip one_way one_way_batch near_empty one_way_128k_to_1m in_place producers \
            producers_4_to_cas producers_8_to_1 wake idle_cpu_percent loaded_to_quiet attach_1gib \
            fast_path_syscalls fast_path_allocs capacities alignments total_order idle_lanes one_core memory \
            floors";
        for id in ids.split_whitespace() {
            assert_eq!(parse(&["--case", id]).unwrap().cases()[0].id, id);
        }
    }

    #[test]
    fn peers_are_all_or_none_or_names() {
        let peers = |arguments: &[&str]| parse(arguments).unwrap().peers();
        assert_eq!(peers(&[]), None);
        assert_eq!(peers(&["--peers", "none"]), Some(vec![]));
        let two = Some(vec!["unix stream".to_owned(), "pipe".to_owned()]);
        assert_eq!(peers(&["--peers", "unix stream, pipe"]), two);
    }

    #[test]
    fn other_mistakes_are_refused() {
        for arguments in [&["--case"][..], &["--json"], &["--plot"], &["--peers"], &["--fast"], &["all"]] {
            assert_eq!(parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
