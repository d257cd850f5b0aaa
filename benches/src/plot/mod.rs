//! Charts of what was measured, as SVG.

mod canvas;
mod lines;
mod look;
mod rows;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::report::{CaseResult, Series};
use lines::Across;
use look::Looks;

/// The size whose latencies are drawn.
const SIZE: usize = 64;

/// Draws what there are figures for into `folder`; `machine` is a line about
/// the machine and the day. Gives the files that were written.
pub(crate) fn write(results: &[CaseResult], folder: &Path, machine: &str) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let looks = Looks::of(results);
    let mut written = Vec::new();
    for (name, case, title) in [
        ("latency", "round_trip", "Round trip of 64 bytes"),
        ("wake", "wake", "Waking a sleeping receiver with 64 bytes"),
    ] {
        if let Some(rows) = rows_of(results, case) {
            let path = folder.join(name).with_extension("svg");
            rows::draw(&path, &rows.titled(title, machine), &looks)?;
            written.push(path);
        }
    }
    for (name, case, title, across) in [
        ("throughput", "one_way", "Messages one way, by size", Across::Size),
        ("in_place", "in_place", "Messages written and read in place, by size", Across::Size),
        ("producers", "producers", "Many producers, one consumer, 64 bytes", Across::Producers),
    ] {
        if let Some(lines) = lines_of(results, case, across) {
            let path = folder.join(name).with_extension("svg");
            lines::draw(&path, &lines.titled(title, machine), across, &looks)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// What is written above a chart, and what is drawn.
struct Chart<D> {
    title: String,
    /// The machine, and what is not at the default.
    subtitle: String,
    data: D,
}

impl<D> Chart<D> {
    fn titled(self, title: &str, machine: &str) -> Chart<D> {
        let parts = [machine, &self.subtitle].into_iter().filter(|part| !part.is_empty());
        let subtitle = parts.collect::<Vec<_>>().join("; ");
        Chart { title: title.to_owned(), subtitle, ..self }
    }
}

/// Who, and p50, p99, p99.9 and the maximum in nanoseconds.
type Rows = Vec<(String, [u64; 4])>;

/// X, and low, median and high of y.
type Point = (f64, [f64; 3]);

/// Lines of a chart, and what their figures are.
struct Lines {
    unit: &'static str,
    more_is_better: bool,
    lines: Vec<(String, Vec<Point>)>,
}

fn has_figures(series: &Series) -> bool {
    series.skipped.is_none() && series.spread().is_some()
}

/// The results of a case that have figures, one for each place on the x axis:
/// the one at the defaults, else the first. With what is not at the default, in
/// words.
fn chosen<'a>(results: &'a [CaseResult], case: &str, across: Across) -> (Vec<(u64, &'a CaseResult)>, String) {
    let mut found: BTreeMap<u64, (String, &CaseResult)> = BTreeMap::new();
    for result in results.iter().filter(|result| result.case == case && result.series.iter().any(has_figures))
    {
        let Some((x, options)) = across.of(result) else { continue };
        if found.get(&x).is_none_or(|(before, _)| options.is_empty() && !before.is_empty()) {
            found.insert(x, (options, result));
        }
    }
    // Neighbours with the same options are told together.
    let mut notes: Vec<(&str, u64, u64)> = Vec::new();
    for (x, (options, _)) in &found {
        match notes.last_mut() {
            Some((same, _, last)) if same == options => *last = *x,
            _ => notes.push((options, *x, *x)),
        }
    }
    let is_one = notes.len() == 1;
    let notes = notes.into_iter().filter(|(options, ..)| !options.is_empty());
    let notes = notes.map(|(options, first, last)| match first == last {
        _ if is_one => options.to_owned(),
        true => format!("{}: {options}", across.label(first)),
        false => format!("{} to {}: {options}", across.label(first), across.label(last)),
    });
    let notes = notes.collect::<Vec<_>>().join("; ");
    (found.into_iter().map(|(x, (_, result))| (x, result)).collect(), notes)
}

fn rows_of(results: &[CaseResult], case: &str) -> Option<Chart<Rows>> {
    let of_size: Vec<CaseResult> = results.iter().filter(|result| result.size == SIZE).cloned().collect();
    let (found, subtitle) = chosen(&of_size, case, Across::Size);
    let (_, result) = found.first()?;
    let figures = |series: &Series| Some((series.who.clone(), series.percentiles?));
    let mut data: Rows = result.series.iter().filter(|s| has_figures(s)).filter_map(figures).collect();
    data.sort_by_key(|(_, percentiles)| *percentiles);
    (!data.is_empty()).then_some(Chart { title: String::new(), subtitle, data })
}

fn lines_of(results: &[CaseResult], case: &str, across: Across) -> Option<Chart<Lines>> {
    let (found, subtitle) = chosen(results, case, across);
    let (_, first) = found.first()?;
    let mut data = Lines { unit: first.unit, more_is_better: first.more_is_better, lines: Vec::new() };
    for (x, result) in found {
        for series in result.series.iter().filter(|series| has_figures(series)) {
            // A logarithm has no place for less.
            let Some(spread) = series.spread().filter(|spread| spread.low > 0.0) else { continue };
            let point = (x as f64, [spread.low, spread.median, spread.high]);
            match data.lines.iter_mut().find(|(who, _)| *who == series.who) {
                Some((_, points)) => points.push(point),
                None => data.lines.push((series.who.clone(), vec![point])),
            }
        }
    }
    (!data.lines.is_empty()).then_some(Chart { title: String::new(), subtitle, data })
}

#[cfg(test)]
mod tests;
