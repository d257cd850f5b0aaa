//! The proof by killing at every instruction, as part of the tests.
//!
//! `prove` does the work: see its help. Where a process may not trace its
//! child, nothing can be shown and these tests say so.

use std::process::{Command, Output};

const NOT_PERMITTED: i32 = 77;
/// Kill points that are enough to call it a proof.
const ENOUGH: u64 = 50_000;

/// Runs `prove`; `None` if tracing is not permitted here.
fn prove(arguments: &[&str]) -> Option<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_prove")).args(arguments).output().unwrap();
    if output.status.code() == Some(NOT_PERMITTED) {
        let why = String::from_utf8_lossy(&output.stdout);
        tests::skipped("kill_points", why.trim().trim_start_matches("skipped: "));
        return None;
    }
    Some(output)
}

/// The numbers in the report's row that begins with `name`.
fn row(report: &str, name: &str) -> Vec<u64> {
    let rows = report.lines().filter_map(|line| line.strip_prefix(name));
    let mut numbers = rows.map(|rest| rest.split_whitespace().map(str::parse).collect::<Result<_, _>>());
    numbers.find_map(Result::ok).unwrap_or_else(|| panic!("no row {name} in:\n{report}"))
}

#[test]
fn a_kill_at_any_instruction_loses_nothing() {
    let Some(output) = prove(&[]) else { return };
    let report = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{report}");
    assert_eq!(output.status.code(), Some(0), "{report}{errors}");
    for operation in [
        "send",
        "reserve_commit",
        "batch",
        "read_commit",
        "file_commit",
        "takeover",
        "consumer_attach",
        "close",
        "lane_take",
        "total_send",
        "drop_message",
        "lanes_commit",
    ] {
        let [scenarios, points, images, violations] = row(&report, operation)[..] else { panic!("{report}") };
        assert!(scenarios >= 12 && points > images && images >= scenarios, "{operation}:\n{report}");
        assert_eq!(violations, 0, "{operation}:\n{report}");
    }
    let points = |operation| row(&report, operation)[1];
    assert!(points("lane_take") + points("takeover") + points("total_send") >= ENOUGH, "{report}");
    let [_, points, _, violations] = row(&report, "total")[..] else { panic!("{report}") };
    assert!(points >= ENOUGH, "{report}");
    assert_eq!(violations, 0, "{report}");
    let caught = format!("\nplanted bugs caught: {0} of {0}\n", PLANTS.len());
    assert!(report.contains(&caught), "{report}");
}

/// The planted bugs.
const PLANTS: [&str; 22] = [
    "published-before-copied",
    "no-zero-after-record",
    "tag-instead-of-zero",
    "tail-trusted-blindly",
    "head-checked-against-stored-tail",
    "sequence-in-its-own-word",
    "no-spare-word",
    "batch-first-header-first",
    "terminator-at-reserve",
    "head-before-the-user-is-done",
    "redo-words-stored-apart",
    "lane-commits-apart",
    "lane-not-rewritten",
    "ticket-after-publish",
    "gaps-counted-apart",
    "ready-before-space",
    "trusts-peer-length",
    "lock-on-the-wrong-byte",
    "no-barrier",
    "no-second-look",
    "publish-before-registering",
    "fence-bit-ignored",
];

/// Run by itself, a planted bug is a failed proof.
#[test]
fn a_planted_bug_alone_is_a_failed_proof() {
    for plant in PLANTS {
        let Some(output) = prove(&["--plant", plant]) else { return };
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{report}{}", String::from_utf8_lossy(&output.stderr));
        let [.., violations] = row(&report, plant)[..] else { panic!("{report}") };
        assert!(violations > 0, "{report}");
        // In words, what was violated.
        assert!(report.contains(&format!("\n{plant}: ")), "{report}");
    }
}
