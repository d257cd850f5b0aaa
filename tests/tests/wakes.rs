//! No wake-up between two real processes is lost: `wakes` does the work, see
//! its help. With `--count 1000000` it does more of it.

use std::sync::{Mutex, PoisonError};

use tests::{Child, Lab, skipped};

const NOT_PERMITTED: i32 = 77;

/// Runs a form; its exit status, its sleeps, and those that were lost. `None`
/// if the form is not to be had here.
fn wakes(form: &str, count: u64) -> Option<(i32, u64, u64)> {
    // One at a time: each keeps two cores busy.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_wakes").as_ref());
    let done = Child::start(command.args(["--form", form, "--count", &count.to_string()])).finish();
    let report = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{form}: {report}{}", done.stderr);
    if done.code() == NOT_PERMITTED {
        skipped(&format!("wakes, {form}"), report.lines().last().unwrap_or_default());
        return None;
    }
    let number = |name: &str| {
        let (_, after) = report.split_once(name).unwrap_or_else(|| panic!("no {name:?} in {report:?}"));
        let digits = after.trim_start().split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|d| d.parse().ok()).unwrap_or_else(|| panic!("no number of{name} in {report:?}"))
    };
    Some((done.code(), number("sleeps "), number(" lost ")))
}

fn assert_none_lost(form: &str, count: u64) {
    if let Some((code, sleeps, lost)) = wakes(form, count) {
        assert!(code == 0 && sleeps >= count && lost == 0, "exit status {code}");
    }
}

#[test]
fn no_wake_up_is_lost_where_the_sleeper_fences_for_all() {
    assert_none_lost("barrier", 100_000);
}

#[test]
fn no_wake_up_is_lost_where_wakers_fence_themselves() {
    assert_none_lost("fenced", 20_000);
}

#[test]
fn no_wake_up_is_lost_where_wakers_fence_for_a_sleeper_without_barrier() {
    assert_none_lost("no-barrier", 20_000);
}

/// The moments are the right ones: without any fence they lose one.
#[test]
fn a_wake_up_is_lost_where_nobody_fences() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return skipped("a_wake_up_is_lost_where_nobody_fences", "one core sees its own stores in order");
    }
    let Some((code, _, lost)) = wakes("nobody", 300_000) else { return };
    assert!(code == 1 && lost > 0, "exit status {code}");
}
