//! Our ring beside its peers and the floors of the machine: see `--help`.

mod contestant;
mod floors;
mod ours;
#[allow(dead_code)]
mod plot;
mod report;
mod round;
mod special;

use anyhow::Result;

fn main() -> Result<()> {
    if contestant::is_side() {
        return contestant::play();
    }
    if let Some(played) = special::play() {
        return played;
    }
    if let Some(name) = std::env::args().nth(1) {
        for (_, measure) in special::ALL.iter().filter(|(id, _)| *id == name) {
            for result in measure(std::env::args().nth(2).is_some())? {
                println!("{} {} [{}] {}", result.case, result.size, result.options, result.unit);
                for s in &result.series {
                    println!(
                        "    {}: {:?} {:?} {:?} {} {}",
                        s.who,
                        s.spread().map(|s| s.median),
                        s.percentiles,
                        s.skipped,
                        s.lost,
                        s.wrong
                    );
                }
            }
        }
        return Ok(());
    }
    // TODO in this change: arguments, cases, table, JSON, plots.
    for size in [8usize, 56, 64, 1024, 65536] {
        for name in ["ours", "record ring"] {
            let contestant = contestant::built_in(name);
            let plan = round::one_way(size, 4_000_000_000 / (size as u64 + 400) / 4);
            let outcome = round::play(&contestant, &plan, round::Cores::Pinned)?;
            println!(
                "{name} {size} {:.1} M/s {outcome:?}",
                outcome.messages as f64 * 1e3 / outcome.nanos as f64
            );
        }
    }
    for size in [8, 48, 56, 64, 256, 1024] {
        for name in ["ours", "cache line", "record ring"] {
            let contestant = contestant::built_in(name);
            let plan = round::round_trip(size, 300_000);
            let outcome = round::play(&contestant, &plan, round::Cores::Pinned)?;
            println!("{name} {size} {} ns {outcome:?}", outcome.nanos / outcome.messages);
        }
    }
    Ok(())
}
