//! What people read: a table for each case, and what was reached.

use std::fmt::Write;

use crate::report::{CaseResult, Kind, Series};
use crate::targets::{Row, Sense};

/// `bytes` as people write them, if they are whole.
pub(crate) fn bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// Four digits that count.
fn figure(figure: f64) -> String {
    let digits = if figure.abs() >= 1000.0 {
        0
    } else if figure.abs() >= 100.0 {
        1
    } else if figure.abs() >= 10.0 {
        2
    } else {
        3
    };
    format!("{figure:.digits$}")
}

/// A case with one size: a line for each contestant.
pub(crate) fn of(result: &CaseResult) -> String {
    let mut text = format!("{}, {}", result.case, title(result));
    let ours = result.series.iter().find(|series| series.kind == Kind::Ours);
    let _ = writeln!(
        text,
        "\n  {:<22}{:>10} {:>19}{:>12}{:>19}",
        result.unit, "median", "quartiles", "ours / it", "quartiles"
    );
    for series in &result.series {
        let name = format!("{}{}", series.who, mark(series.kind));
        let Some(spread) = series.spread() else {
            let _ = writeln!(text, "  {name:<22} skipped: {}", reason(series));
            continue;
        };
        let middle = |low, high| format!("{} .. {}", figure(low), figure(high));
        let _ =
            write!(text, "  {name:<22}{:>10} {:>19}", figure(spread.median), middle(spread.low, spread.high));
        let ratio = ours.filter(|ours| !std::ptr::eq(*ours, series)).and_then(|ours| ours.ratio_to(series));
        match ratio.filter(|ratio| ratio.median.is_finite()) {
            Some(ratio) => {
                let _ = write!(
                    text,
                    "{:>12.3}{:>19}",
                    ratio.median,
                    format!("{:.3} .. {:.3}", ratio.low, ratio.high)
                );
            }
            None => text.push_str(&" ".repeat(31)),
        }
        if let Some([p50, p99, p999, max]) = series.percentiles {
            let _ = write!(text, "  p50 {p50} p99 {p99} p99.9 {p999} max {max} ns");
        }
        if series.lost + series.wrong > 0 {
            let _ = write!(text, "  LOST {} WRONG {}", series.lost, series.wrong);
        }
        if series.skipped.is_some() {
            let _ = write!(text, "  skipped after {} rounds: {}", series.rounds.len(), reason(series));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn title(result: &CaseResult) -> String {
    let size = Some(bytes(result.size as u64)).filter(|_| result.size > 0);
    let options = Some(result.options.clone()).filter(|options| !options.is_empty());
    let better = if result.more_is_better { "more is better" } else { "less is better" };
    let parts = size.into_iter().chain(options).chain([format!("{}, {better}", result.unit)]);
    parts.collect::<Vec<_>>().join(", ")
}

fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours | Kind::Peer => "",
        Kind::Floor => " (floor)",
        Kind::Threads => " (threads)",
    }
}

fn reason(series: &Series) -> String {
    // A reason may be several lines of what a process said.
    let reason = series.skipped.as_deref().unwrap_or("it has no figures");
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was to be reached, a line for each row that has a target.
pub(crate) fn of_targets(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let (Some(target), Some(sense), Some(met)) = (row.target, row.sense, row.met) else { continue };
        let sign = if sense == Sense::Max { "<=" } else { ">=" };
        let size = if row.size > 0 { bytes(row.size as u64) } else { String::new() };
        // Without a reference our figure is compared, unless it should have one.
        let compared = row.ratio.or(row.ours.filter(|_| row.why.is_none()));
        let found = compared.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.3}"));
        let _ = write!(
            text,
            "{:<8} {:<20}{size:>8}  {found:>8} {sign} {target:<5}",
            if met { "met" } else { "NOT MET" },
            row.case
        );
        for (word, part) in [("with", Some(row.options.as_str())), ("because", row.why.as_deref())] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                let _ = write!(text, "  {word} {part}");
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(who: &str, kind: Kind, rounds: &[f64]) -> Series {
        let rounds = rounds.to_vec();
        Series { who: who.to_owned(), kind, rounds, percentiles: None, lost: 0, wrong: 0, skipped: None }
    }

    #[test]
    fn targets_show_what_was_compared_and_why_it_does_not_count() {
        let row = |size, ratio, why: Option<&str>| Row {
            case: "wake".to_owned(),
            size,
            ours: Some(5.0),
            reference: ratio,
            ratio,
            target: Some(1.1),
            sense: Some(Sense::Max),
            met: Some(why.is_none()),
            options: "align 8".to_owned(),
            why: why.map(str::to_owned),
        };
        let plain = Row { target: None, sense: None, met: None, ..row(8, None, None) };
        let rows = [row(64, Some(1.0), None), row(0, None, None), row(8, None, Some("it\nhangs")), plain];
        let text = of_targets(&rows);
        let words: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            words,
            [
                "met wake 64 B 1.000 <= 1.1 with align 8",
                "met wake 5.000 <= 1.1 with align 8",
                "NOT MET wake 8 B - <= 1.1 with align 8 because it hangs",
            ]
        );
    }

    #[test]
    fn bytes_are_written_in_the_largest_whole_unit() {
        let found = [8, 1023, 1024, 1536, 131072, 1 << 20, 64 << 30].map(bytes);
        assert_eq!(found, ["8 B", "1023 B", "1 KiB", "1536 B", "128 KiB", "1 MiB", "64 GiB"]);
    }

    #[test]
    fn a_table_shows_medians_quartiles_ratios_losses_and_who_was_skipped() {
        let mut losing = series("pipe", Kind::Peer, &[1.0, 2.0, 4.0]);
        (losing.lost, losing.wrong) = (7, 9);
        let mut absent = series("rtrb", Kind::Threads, &[]);
        absent.skipped = Some("it\nhangs".to_owned());
        let ours = Series { percentiles: Some([1, 2, 3, 4]), ..series("ours", Kind::Ours, &[4.0, 4.0, 4.0]) };
        let result = CaseResult {
            case: "one_way".to_owned(),
            size: 1024,
            options: "align 8".to_owned(),
            unit: "M/s",
            more_is_better: true,
            series: vec![ours, losing, absent],
        };
        let text = of(&result);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "one_way, 1 KiB, align 8, M/s, more is better");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[2]), "ours 4.000 4.000 .. 4.000 p50 1 p99 2 p99.9 3 max 4 ns");
        let pipe = "pipe 2.000 1.500 .. 3.000 2.000 1.500 .. 3.000 LOST 7 WRONG 9";
        assert_eq!(words(lines[3]), pipe);
        assert_eq!(words(lines[4]), "rtrb (threads) skipped: it hangs");
    }
}
