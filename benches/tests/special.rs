//! What is measured in a way of its own is measured, by the program itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The rows that a quick run of a case gives.
fn rows(case: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("rows.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_benches"));
    let done =
        command.args(["--quick", "--peers", "none", "--case", case, "--json"]).arg(&json).output().unwrap();
    assert!(done.status.success(), "{case}: {}", String::from_utf8_lossy(&done.stderr));
    let rows: Vec<Value> = serde_json::from_str(&fs::read_to_string(Path::new(&json)).unwrap()).unwrap();
    assert!(!rows.is_empty(), "{case} has no rows");
    assert!(rows.iter().all(|row| row["case"] == case), "{rows:?}");
    rows
}

/// Our figures of the rows that could be measured here; the others say why not.
fn figures(case: &str) -> Vec<(String, f64)> {
    let rows = rows(case);
    let measured = rows.iter().filter_map(|row| {
        let Some(ours) = row["ours"].as_f64() else {
            assert!(!row["why"].as_str().unwrap_or_default().is_empty(), "{row}");
            return None;
        };
        Some((row["options"].as_str().unwrap().to_owned(), ours))
    });
    measured.collect()
}

#[test]
fn a_message_needs_neither_the_kernel_nor_the_allocator() {
    for case in ["fast_path_syscalls", "fast_path_allocs"] {
        for (options, count) in figures(case) {
            // A look at the file and the producers, which comes once in 50 ms.
            let most =
                if options.ends_with("send and read") && case == "fast_path_syscalls" { 1000.0 } else { 0.0 };
            assert!(count <= most, "{case}, {options}: {count}");
        }
    }
}

#[test]
fn who_attaches_takes_what_was_promised() {
    let figures = figures("memory");
    let find = |words: &[&str]| {
        let found: Vec<_> = figures.iter().filter(|(o, _)| words.iter().all(|w| o.contains(w))).collect();
        let [(_, figure)] = found[..] else { panic!("{words:?}: {found:?}") };
        *figure
    };
    let small = |what, how, when| find(&[what, "1 producer", how, "4 KiB", when]);
    // The ring has 2 MiB, which are 512 pages.
    assert!(small("Pss", "lazily", "after attach") < 1024.0);
    assert!(small("Pss", "lazily", "after one lap") >= 2048.0);
    assert!(small("Pss", "prefaulted", "after attach") >= 2048.0);
    assert!(small("faults", "lazily", "after one lap") >= 400.0);
    assert!(small("faults", "prefaulted", "after one lap") < 100.0);
    assert!(find(&["Pss", "9 producers", "lazily", "4 KiB", "after one lap"]) >= 9.0 * 2048.0);
}

#[test]
fn attaching_and_waiting_are_measured() {
    for case in ["attach_1gib", "idle_cpu_percent", "loaded_to_quiet"] {
        for (options, figure) in figures(case) {
            assert!(figure.is_finite() && figure > 0.0, "{case}, {options}: {figure}");
        }
    }
    assert_eq!(rows("checked")[0]["ours"], Value::Null);
}
