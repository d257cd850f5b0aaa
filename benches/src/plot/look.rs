//! How each contestant is drawn, the same in every chart: ours broad, floors
//! dashed, the others thin. Colours are those of Okabe and Ito, which everybody
//! can tell apart, and shapes say the same once more.

use plotters::style::RGBColor;

use crate::report::{CaseResult, Kind};

const OURS: RGBColor = RGBColor(0, 114, 178);
const OURS_OTHERWISE: RGBColor = RGBColor(100, 160, 205);
const OTHERS: [RGBColor; 6] = [
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 94, 60),
];
const FLOORS: [RGBColor; 3] = [RGBColor(0, 0, 0), RGBColor(85, 85, 85), RGBColor(130, 130, 130)];

/// What a point looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Ring,
}

const SHAPES: [Shape; 6] =
    [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond, Shape::Cross, Shape::Ring];

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

/// How a contestant is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) color: RGBColor,
    pub(super) width: u32,
    pub(super) stroke: Stroke,
    pub(super) shape: Shape,
}

/// Those of all.
#[derive(Debug)]
pub(super) struct Looks(Vec<(String, Look)>);

impl Looks {
    pub(super) fn of(results: &[CaseResult]) -> Looks {
        let mut looks: Vec<(String, Look)> = Vec::new();
        for series in results.iter().flat_map(|result| &result.series) {
            if looks.iter().all(|(who, _)| *who != series.who) {
                let number = looks.iter().filter(|(_, look)| look.kind == series.kind).count();
                looks.push((series.who.clone(), Look::of(series.kind, number)));
            }
        }
        Looks(looks)
    }

    /// That of a contestant of the results.
    pub(super) fn get(&self, who: &str) -> Look {
        let found = self.0.iter().find(|(name, _)| name == who);
        found.map_or(Look::of(Kind::Peer, 0), |(_, look)| *look)
    }
}

impl Look {
    fn of(kind: Kind, number: usize) -> Look {
        let (color, width, stroke) = match kind {
            Kind::Ours if number == 0 => (OURS, 4, Stroke::Solid),
            // Ours with something else chosen.
            Kind::Ours => (OURS_OTHERWISE, 2, Stroke::Solid),
            Kind::Floor => (FLOORS[number % FLOORS.len()], 2, Stroke::Dashed),
            Kind::Peer => (OTHERS[number % OTHERS.len()], 1, Stroke::Solid),
            Kind::Threads => (OTHERS[number % OTHERS.len()], 1, Stroke::Dotted),
        };
        // The same colour comes again with another shape.
        let round = number / if kind == Kind::Floor { FLOORS.len() } else { OTHERS.len() };
        let shape = SHAPES[if kind == Kind::Ours { number } else { number + round } % SHAPES.len()];
        Look { kind, color, width, stroke, shape }
    }

    /// What it is, where the name does not say so.
    pub(super) fn note(&self) -> &'static str {
        match self.kind {
            Kind::Ours | Kind::Peer => "",
            Kind::Floor => " (floor)",
            Kind::Threads => " (threads)",
        }
    }
}
