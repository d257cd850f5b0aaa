//! Latencies: a row for each contestant, with its percentiles as points and as
//! figures.

use std::path::Path;

use anyhow::Result;

use super::canvas::{Canvas, GRID, INK, PALE, Scale, Side, axis};
use super::look::{Looks, Shape};
use super::{Chart, Rows};
use crate::report::Kind;

const WIDTH: i32 = 1000;
const LEFT: i32 = 224;
const RIGHT: i32 = 690;
const TOP: i32 = 118;
const ROW: i32 = 26;
/// Where the figures end.
const COLUMNS: [i32; 4] = [768, 840, 912, 984];

const PERCENTILES: [(&str, Shape); 4] =
    [("p50", Shape::Circle), ("p99", Shape::Diamond), ("p99.9", Shape::Triangle), ("max", Shape::Cross)];

pub(super) fn draw(path: &Path, chart: &Chart<Rows>, looks: &Looks) -> Result<()> {
    let rows = &chart.data;
    let bottom = TOP + rows.len() as i32 * ROW;
    let canvas = Canvas::new(path, WIDTH, bottom + 62)?;
    canvas.head(&chart.title, &chart.subtitle)?;

    let all = || rows.iter().flat_map(|(_, percentiles)| percentiles).map(|&nanos| nanos.max(1) as f64);
    let (low, high, ticks) = axis(all().fold(f64::INFINITY, f64::min), all().fold(1.0, f64::max));
    let scale = Scale::new(low, high, LEFT, RIGHT);
    for &tick in &ticks {
        let x = scale.at(tick);
        canvas.rule((x, TOP - 6), (x, bottom), GRID)?;
        canvas.words(&time(tick), (x, bottom + 14), 12, PALE, Side::Center, false)?;
    }
    let what = "time (log scale), less is better";
    canvas.words(what, ((LEFT + RIGHT) / 2, bottom + 40), 13, INK, Side::Center, false)?;

    // What the points mean is said where the figures are.
    for ((name, shape), x) in PERCENTILES.into_iter().zip(COLUMNS) {
        canvas.words(name, (x, TOP - 14), 13, INK, Side::Right, true)?;
        canvas.point((x - 14 - 8 * name.len() as i32, TOP - 14), shape, 4, INK)?;
    }
    for ((who, percentiles), y) in rows.iter().zip((TOP + ROW / 2..).step_by(ROW as usize)) {
        let look = looks.get(who);
        let is_ours = look.kind == Kind::Ours;
        let label = format!("{who}{}", look.note());
        canvas.words(&label, (LEFT - 14, y), 13, INK, Side::Right, is_ours)?;
        let at = percentiles.map(|nanos| scale.at(nanos.max(1) as f64));
        canvas.path(&[(at[0], y), (at[3], y)], &look)?;
        // The median on top.
        for ((_, shape), x) in PERCENTILES.into_iter().zip(at).rev() {
            canvas.point((x, y), shape, if is_ours { 6 } else { 4 }, look.color)?;
        }
        for (nanos, x) in percentiles.iter().zip(COLUMNS) {
            canvas.words(&time(*nanos as f64), (x, y), 12, INK, Side::Right, is_ours)?;
        }
    }
    canvas.finish()
}

/// Nanoseconds as people say them.
fn time(nanos: f64) -> String {
    let (figure, unit) = match nanos {
        _ if nanos < 999.5 => (nanos, "ns"),
        _ if nanos < 999_500.0 => (nanos / 1e3, "µs"),
        _ if nanos < 999_500_000.0 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if figure < 9.95 && unit != "ns" && figure.fract() > 0.04 { 1 } else { 0 };
    format!("{figure:.digits$} {unit}")
}
