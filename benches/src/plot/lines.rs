//! Throughput: a line for each contestant, with its name at its end.

use std::path::Path;

use anyhow::Result;

use super::canvas::{Canvas, GRID, INK, PALE, Scale, Side, axis};
use super::look::Looks;
use super::{Chart, Lines, Point};
use crate::report::{CaseResult, Kind};

const WIDTH: i32 = 1000;
const LEFT: i32 = 76;
const RIGHT: i32 = 730;
const TOP: i32 = 104;
const LEAST_HEIGHT: i32 = 400;
/// From one name to the next.
const GAP: i32 = 19;
/// From one size to the next, at least.
const ROOM: i32 = 52;

/// What the x axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Across {
    Size,
    Producers,
}

impl Across {
    /// Where a result is, and its other options; `None`: nowhere. Producers are
    /// told by options like `4 producers, unpinned`.
    pub(super) fn of(self, result: &CaseResult) -> Option<(u64, String)> {
        if self == Across::Size {
            return Some((result.size as u64, result.options.clone()));
        }
        let count = |part: &str| {
            let (count, what) = part.split_once(' ')?;
            count.parse().ok().filter(|_| ["producer", "producers"].contains(&what))
        };
        let parts = || result.options.split(", ");
        let rest: Vec<_> = parts().filter(|part| count(part).is_none()).collect();
        Some((parts().find_map(count)?, rest.join(", ")))
    }

    /// A place on the axis, in words.
    pub(super) fn label(self, x: u64) -> String {
        match x {
            _ if self == Across::Producers => x.to_string(),
            _ if x >= 1 << 20 && x.is_multiple_of(1 << 20) => format!("{} MiB", x >> 20),
            _ if x >= 1 << 10 && x.is_multiple_of(1 << 10) => format!("{} KiB", x >> 10),
            _ => format!("{x} B"),
        }
    }
}

pub(super) fn draw(path: &Path, chart: &Chart<Lines>, across: Across, looks: &Looks) -> Result<()> {
    let Lines { unit, more_is_better, lines } = &chart.data;
    let bottom = TOP + LEAST_HEIGHT.max(lines.len() as i32 * GAP);
    let canvas = Canvas::new(path, WIDTH, bottom + 66)?;
    canvas.head(&chart.title, &chart.subtitle)?;

    let points = || lines.iter().flat_map(|(_, points)| points);
    let figures = || points().flat_map(|(_, spread)| *spread);
    let (low, high, ticks) = axis(figures().fold(f64::INFINITY, f64::min), figures().fold(0.0, f64::max));
    let y_scale = Scale::new(low, high, bottom, TOP);
    for &tick in &ticks {
        let y = y_scale.at(tick);
        canvas.rule((LEFT, y), (RIGHT, y), GRID)?;
        canvas.words(&figure(tick), (LEFT - 10, y), 12, PALE, Side::Right, false)?;
    }
    let what = if *unit == "M/s" { "million messages a second" } else { unit };
    let better = if *more_is_better { "more is better" } else { "less is better" };
    canvas.words(&format!("{what} (log scale), {better}"), (24, TOP - 24), 13, INK, Side::Left, false)?;

    let mut xs: Vec<f64> = points().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let x_scale = Scale::new(xs[0], xs[xs.len() - 1], LEFT + 16, RIGHT - 16);
    let mut free = i32::MIN;
    for &x in &xs {
        let at = x_scale.at(x);
        canvas.rule((at, TOP), (at, bottom), GRID)?;
        let room = if across == Across::Size { ROOM } else { 24 };
        if at >= free {
            canvas.words(&across.label(x as u64), (at, bottom + 16), 12, PALE, Side::Center, false)?;
            free = at + room;
        }
    }
    let what = match across {
        Across::Size => "bytes of a message (log scale)",
        Across::Producers => "producers (log scale)",
    };
    canvas.words(what, ((LEFT + RIGHT) / 2, bottom + 44), 13, INK, Side::Center, false)?;

    // Ours last, so that it is on top.
    let mut order: Vec<_> = lines.iter().map(|(who, points)| (who, points, looks.get(who))).collect();
    order.sort_by_key(|(_, _, look)| match look.kind {
        Kind::Threads => 0,
        Kind::Peer => 1,
        Kind::Floor => 2,
        Kind::Ours => 3,
    });
    for (_, points, look) in &order {
        let at = |(x, spread): &Point| (x_scale.at(*x), y_scale.at(spread[1]));
        canvas.path(&points.iter().map(at).collect::<Vec<_>>(), look)?;
        for point in points.iter() {
            let (x, y) = at(point);
            canvas.rule((x, y_scale.at(point.1[0])), (x, y_scale.at(point.1[2])), look.color)?;
            canvas.point((x, y), look.shape, if look.kind == Kind::Ours { 5 } else { 3 }, look.color)?;
        }
    }

    // The names, as near to the ends of their lines as there is room.
    let end =
        |points: &[Point]| points.last().map_or((LEFT, TOP), |(x, y)| (x_scale.at(*x), y_scale.at(y[1])));
    order.sort_by_key(|(_, points, _)| end(points).1);
    let wanted: Vec<i32> = order.iter().map(|(_, points, _)| end(points).1).collect();
    for ((who, points, look), y) in order.iter().zip(spread_out(&wanted, TOP, bottom)) {
        let (last_x, last_y) = end(points);
        if points.last().map(|(x, _)| x) == xs.last() {
            canvas.rule((last_x + 6, last_y), (RIGHT + 14, y), GRID)?;
        }
        canvas.path(&[(RIGHT + 18, y), (RIGHT + 46, y)], look)?;
        let is_ours = look.kind == Kind::Ours;
        canvas.point((RIGHT + 32, y), look.shape, if is_ours { 5 } else { 3 }, look.color)?;
        let label = format!("{who}{}", look.note());
        canvas.words(&label, (RIGHT + 54, y), 13, INK, Side::Left, is_ours)?;
    }
    canvas.finish()
}

/// Places near the wanted ones, which are in order, a gap apart.
fn spread_out(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut places = wanted.to_vec();
    let mut least = top;
    for place in &mut places {
        *place = (*place).max(least);
        least = *place + GAP;
    }
    let mut most = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(most);
        most = *place - GAP;
    }
    places
}

fn figure(figure: f64) -> String {
    let digits = (-figure.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{figure:.digits$}")
}
