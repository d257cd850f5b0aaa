//! The proof by killing at every instruction, as part of the tests.
//!
//! `prove` does the work: see its help. Where a process may not trace its
//! child, nothing can be shown and these tests say so.

use std::process::{Command, Output};

use serde_json::Value;

/// The rows of the report.
const OPERATIONS: [&str; 13] = [
    "create",
    "attach",
    "send",
    "reserve_commit",
    "batch",
    "read_commit",
    "file_commit",
    "takeover",
    "close",
    "lane_take",
    "total_send",
    "drop_message",
    "lanes_commit",
];
const NOT_PERMITTED: i32 = 77;
/// Kill points that are enough to call it a proof, and of each operation.
const ENOUGH: u64 = 100_000;
const ENOUGH_OF_EACH: u64 = 100;

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
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let Some(output) = prove(&["--short", "--json", path.to_str().unwrap()]) else { return };
    let report = String::from_utf8(output.stdout).unwrap();
    println!("{report}");
    assert_eq!(output.status.code(), Some(0), "{report}{}", String::from_utf8_lossy(&output.stderr));

    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let operations = json["operations"].as_array().unwrap();
    for name in OPERATIONS {
        let operation = operations.iter().find(|row| row["name"] == name);
        let operation = operation.unwrap_or_else(|| panic!("no {name}: {json:#}"));
        let number = |key: &str| operation[key].as_u64().unwrap();
        let [points, images, scenarios] = ["kill_points", "images", "scenarios"].map(number);
        assert!(points >= ENOUGH_OF_EACH && points > images && images >= scenarios, "{name}: {json:#}");
        assert!(scenarios > 0, "{name}: {json:#}");
    }
    let sum = |rows: &Value, key: &str| -> u64 {
        rows.as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum()
    };
    assert_eq!(json["kill_points"], sum(&json["operations"], "kill_points"), "{json:#}");
    assert!(json["kill_points"].as_u64().unwrap() >= ENOUGH, "{json:#}");
    assert_eq!(json["violations"], 0, "{json:#}");
    for part in ["operations", "variants"] {
        assert_eq!(sum(&json[part], "violations"), 0, "{part}: {json:#}");
    }
    let bugs = json["bugs"].as_array().unwrap();
    assert_eq!((&json["planted"], bugs.len()), (&PLANTS.len().into(), PLANTS.len()), "{json:#}");
    assert!(PLANTS.iter().all(|plant| bugs.iter().any(|bug| bug["name"] == *plant)), "{json:#}");
    assert_eq!(json["caught"], json["planted"], "{json:#}");
    assert!(bugs.iter().all(|bug| bug["name"].is_string() && bug["caught_by"].is_string()), "{json:#}");
}

/// The planted bugs.
const PLANTS: [&str; 24] = [
    "published-before-copied",
    "no-zero-after-record",
    "tag-instead-of-zero",
    "tail-trusted-blindly",
    "check-point-not-written",
    "head-checked-against-stored-tail",
    "sequence-in-its-own-word",
    "no-spare-word",
    "batch-first-header-first",
    "terminator-at-reserve",
    "head-before-the-user-is-done",
    "freed-before-copied",
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
