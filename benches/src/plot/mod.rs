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
    let by_size = |result: &CaseResult| Some((result.size as u64, result.options.clone()));
    for (name, case, title, of) in [
        ("throughput", "one_way", "Messages one way, by size", &by_size as &dyn Fn(&CaseResult) -> Across),
        ("in_place", "in_place", "Messages written and read in place, by size", &by_size),
        ("producers", "producers", "Many producers, one consumer, 64 bytes", &by_producers),
    ] {
        if let Some(lines) = lines_of(results, case, of) {
            let path = folder.join(name).with_extension("svg");
            let across = if name == "producers" { lines::Across::Producers } else { lines::Across::Size };
            lines::draw(&path, &lines.titled(title, machine), across, &looks)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// What is written above a chart, and what is drawn.
struct Chart<D> {
    title: String,
    machine: String,
    /// What is not at the default.
    options: String,
    data: D,
}

impl<D> Chart<D> {
    fn titled(self, title: &str, machine: &str) -> Chart<D> {
        Chart { title: title.to_owned(), machine: machine.to_owned(), ..self }
    }

    fn subtitle(&self) -> String {
        let parts = [&self.machine, &self.options].into_iter().filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

/// Who, and p50, p99, p99.9 and the maximum in nanoseconds.
type Rows = Vec<(String, [u64; 4])>;

/// Where a result is on the x axis, and its other options; `None`: nowhere.
type Across = Option<(u64, String)>;

/// Lines of a chart, and what their figures are.
struct Lines {
    unit: &'static str,
    more_is_better: bool,
    /// Who, and x, and low, median and high of y.
    lines: Vec<(String, Vec<(f64, [f64; 3])>)>,
}

fn has_figures(series: &Series) -> bool {
    series.skipped.is_none() && series.spread().is_some()
}

/// Those of the best known options: the defaults if there are such, else those
/// with the most to draw, which come first.
fn chosen<T>(groups: BTreeMap<String, Vec<T>>, weight: impl Fn(&T) -> usize) -> Option<(String, Vec<T>)> {
    let weight = |of: &[T]| of.iter().map(&weight).sum::<usize>();
    let rated = groups.into_iter().filter(|(_, of)| weight(of) > 0);
    rated.min_by_key(|(options, of)| (!options.is_empty(), usize::MAX - weight(of)))
}

fn rows_of(results: &[CaseResult], case: &str) -> Option<Chart<Rows>> {
    let mut groups: BTreeMap<String, Vec<&CaseResult>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.case == case && result.size == SIZE) {
        groups.entry(result.options.clone()).or_default().push(result);
    }
    let of = |result: &CaseResult| -> Rows {
        let figures = |series: &Series| Some((series.who.clone(), series.percentiles?));
        result.series.iter().filter(|series| has_figures(series)).filter_map(figures).collect()
    };
    let (options, group) = chosen(groups, |result| of(result).len())?;
    let mut data: Rows = group.into_iter().flat_map(of).collect();
    data.sort_by_key(|(_, percentiles)| *percentiles);
    Some(Chart { title: String::new(), machine: String::new(), options, data })
}

fn lines_of(
    results: &[CaseResult],
    case: &str,
    across: &dyn Fn(&CaseResult) -> Across,
) -> Option<Chart<Lines>> {
    let mut groups: BTreeMap<String, Vec<(u64, &CaseResult)>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.case == case) {
        if let Some((x, options)) = across(result) {
            groups.entry(options).or_default().push((x, result));
        }
    }
    let weight = |(_, result): &(u64, &CaseResult)| result.series.iter().filter(|s| has_figures(s)).count();
    let (options, mut group) = chosen(groups, weight)?;
    group.sort_by_key(|(x, _)| *x);
    let (_, first) = group.first()?;
    let mut data = Lines { unit: first.unit, more_is_better: first.more_is_better, lines: Vec::new() };
    for (x, result) in &group {
        for series in result.series.iter().filter(|series| has_figures(series)) {
            // A logarithm has no place for less.
            let Some(spread) = series.spread().filter(|spread| spread.low > 0.0) else { continue };
            let point = (*x as f64, [spread.low, spread.median, spread.high]);
            match data.lines.iter_mut().find(|(who, _)| *who == series.who) {
                Some((_, points)) => points.push(point),
                None => data.lines.push((series.who.clone(), vec![point])),
            }
        }
    }
    Some(Chart { title: String::new(), machine: String::new(), options, data })
}

/// A result whose options have `producers=N` among them, separated by commas.
fn by_producers(result: &CaseResult) -> Across {
    let parts = || result.options.split(',').map(str::trim);
    let count = parts().find_map(|part| part.strip_prefix("producers=")?.parse().ok())?;
    let rest: Vec<_> = parts().filter(|part| !part.starts_with("producers=")).collect();
    (result.size == SIZE).then(|| (count, rest.join(", ")))
}

#[cfg(test)]
mod tests;
