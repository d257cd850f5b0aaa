//! Lines, points and words on a white page, and logarithmic scales.

use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::element::{
    Circle, DashedPathElement, DottedPathElement, PathElement, Polygon, Rectangle, Text,
};
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::look::{Look, Shape, Stroke};

pub(super) const INK: RGBColor = RGBColor(30, 30, 30);
pub(super) const PALE: RGBColor = RGBColor(95, 95, 95);
pub(super) const GRID: RGBColor = RGBColor(225, 225, 225);

/// Where words begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Center,
    Right,
}

/// A page.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl Canvas<'_> {
    pub(super) fn new(path: &Path, width: i32, height: i32) -> Result<Canvas<'_>> {
        let area = SVGBackend::new(path, (width as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        Ok(Canvas(area))
    }

    pub(super) fn finish(self) -> Result<()> {
        Ok(self.0.present()?)
    }

    /// The title of the page, and the line below it.
    pub(super) fn head(&self, title: &str, subtitle: &str) -> Result<()> {
        self.words(title, (24, 30), 20, INK, Side::Left, true)?;
        self.words(subtitle, (24, 53), 12, PALE, Side::Left, false)
    }

    /// Words in the middle of whose height `at` is; `size` in pixels.
    pub(super) fn words(
        &self,
        words: &str,
        at: (i32, i32),
        size: i32,
        color: RGBColor,
        side: Side,
        is_bold: bool,
    ) -> Result<()> {
        let style = if is_bold { FontStyle::Bold } else { FontStyle::Normal };
        // The backend takes a font for smaller than it is by this much.
        let font = ("sans-serif", size as f64 * 1.24, style).into_font();
        let side = match side {
            Side::Left => HPos::Left,
            Side::Center => HPos::Center,
            Side::Right => HPos::Right,
        };
        let style = TextStyle::from(font).color(&color).pos(Pos::new(side, VPos::Center));
        Ok(self.0.draw(&Text::new(words, at, style))?)
    }

    /// A thin line.
    pub(super) fn rule(&self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Result<()> {
        Ok(self.0.draw(&PathElement::new(vec![from, to], color.stroke_width(1)))?)
    }

    /// A line as that contestant's are.
    pub(super) fn path(&self, points: &[(i32, i32)], look: &Look) -> Result<()> {
        let style: ShapeStyle = look.color.stroke_width(look.width);
        let points = points.to_vec();
        match look.stroke {
            Stroke::Solid => self.0.draw(&PathElement::new(points, style))?,
            Stroke::Dashed => self.0.draw(&DashedPathElement::new(points, 7, 4, style))?,
            Stroke::Dotted => {
                let color = look.color;
                let dot = move |at| Circle::new(at, 1, color.filled());
                self.0.draw(&DottedPathElement::new(points, 0, 4, dot))?;
            }
        }
        Ok(())
    }

    /// A point; `radius` in pixels.
    pub(super) fn point(&self, (x, y): (i32, i32), shape: Shape, radius: i32, color: RGBColor) -> Result<()> {
        let (r, filled) = (radius, color.filled());
        match shape {
            Shape::Circle => self.0.draw(&Circle::new((x, y), r, filled))?,
            Shape::Ring => {
                self.0.draw(&Circle::new((x, y), r, WHITE.filled()))?;
                self.0.draw(&Circle::new((x, y), r, color.stroke_width(2)))?;
            }
            Shape::Square => self.0.draw(&Rectangle::new([(x - r, y - r), (x + r, y + r)], filled))?,
            Shape::Triangle => self
                .0
                .draw(&Polygon::new(vec![(x, y - r - 1), (x - r - 1, y + r), (x + r + 1, y + r)], filled))?,
            Shape::Diamond => {
                let far = r + 1;
                self.0.draw(&Polygon::new(
                    vec![(x, y - far), (x + far, y), (x, y + far), (x - far, y)],
                    filled,
                ))?
            }
            Shape::Cross => {
                for way in [1, -1] {
                    let ends = vec![(x - r, y - r * way), (x + r, y + r * way)];
                    self.0.draw(&PathElement::new(ends, color.stroke_width(2)))?;
                }
            }
        }
        Ok(())
    }
}

/// From figures to pixels, by their logarithm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    figures: (f64, f64),
    pixels: (i32, i32),
}

impl Scale {
    /// From the first figure at the first pixel to the second at the second.
    pub(super) fn new(low: f64, high: f64, from: i32, to: i32) -> Scale {
        // One figure alone is in the middle.
        let (low, high) = if low < high { (low, high) } else { (low / 2.0, high * 2.0) };
        Scale { figures: (low.ln(), high.ln()), pixels: (from, to) }
    }

    pub(super) fn at(&self, figure: f64) -> i32 {
        let part = (figure.ln() - self.figures.0) / (self.figures.1 - self.figures.0);
        let (from, to) = (self.pixels.0 as f64, self.pixels.1 as f64);
        (from + part * (to - from)).round() as i32
    }
}

/// From a round figure that is at most `low` to one that is at least `high`,
/// and the round ones between to be written at the axis.
pub(super) fn axis(low: f64, high: f64) -> (f64, f64, Vec<f64>) {
    let decades = low.log10().floor() as i32 - 1..=high.log10().ceil() as i32 + 1;
    let round: Vec<f64> =
        decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade))).collect();
    // What differs by a rounding only is the same.
    let first = round.iter().rposition(|&tick| tick <= low * 1.000_001).unwrap_or(0);
    let last = round.iter().position(|&tick| tick >= high * 0.999_999).unwrap_or(round.len() - 1);
    // Every third begins a decade.
    let step = if last - first > 8 { 3 } else { 1 };
    let ticks =
        round.iter().copied().enumerate().filter(|(at, _)| (first..=last).contains(at) && at % step == 0);
    (round[first], round[last], ticks.map(|(_, tick)| tick).collect())
}
