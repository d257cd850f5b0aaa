//! What the benchmarks of two threads share: cores of their own, and medians
//! with their spread.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread on one core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("one of our own cores");
}

/// Two cores that this process may use.
pub(crate) fn our_cores() -> Option<[usize; 2]> {
    let set = sched_getaffinity(None).ok()?;
    let mut ours = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    Some([ours.next()?, ours.next()?])
}

/// Prints a median, the quarters around it, and all that there was.
pub(crate) fn print(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    let [least, quarter, median, three, most] = [0.0, 0.25, 0.5, 0.75, 1.0].map(at);
    println!("  {what:<24} {median:>7.3}   {quarter:.3} to {three:.3}   {least:.3} to {most:.3}");
}
