//! What was counted and found: a table for people, the same as JSON.

use serde::{Serialize, Serializer};

use super::watch::Tally;

/// All of it. Field by field it is the JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of all operations; the variants have theirs besides.
    kill_points: u64,
    /// Of everything.
    violations: u64,
    planted: usize,
    caught: usize,
    operations: Section,
    variants: Section,
    bugs: Vec<Bug>,
}

impl Report {
    pub(crate) fn new(operations: Section, variants: Section, control: &Tally, bugs: Vec<Bug>) -> Report {
        Report {
            kill_points: operations.total().points,
            violations: operations.total().violations + variants.total().violations + control.violations,
            planted: bugs.len(),
            caught: bugs.iter().filter(|bug| bug.caught_by.is_some()).count(),
            operations,
            variants,
            bugs,
        }
    }

    /// True if nothing was violated and every planted bug was caught, and
    /// something was looked at in every row.
    pub(crate) fn holds(&self) -> bool {
        let rows = [&self.operations, &self.variants];
        let is_looked_at = |row: &Row| row.tally.scenarios > 0 && row.tally.images > 0;
        self.violations == 0
            && self.planted > 0
            && self.caught == self.planted
            && rows.iter().all(|section| !section.0.is_empty() && section.0.iter().all(is_looked_at))
    }

    /// Prints what comes of it all.
    pub(crate) fn print(&self) {
        let Report { kill_points, violations, planted, caught, .. } = self;
        println!();
        for bug in self.bugs.iter().filter(|bug| bug.caught_by.is_none()) {
            println!("NOT CAUGHT: {}", bug.name);
        }
        println!("planted bugs caught: {caught} of {planted}");
        println!("kill points: {kill_points}, and of variants {}", self.variants.total().points);
        println!("violations: {violations}");
        if !self.holds() {
            println!("NOT PROVED");
        }
    }
}

/// Rows of the same kind, each printed as soon as it is there.
#[derive(Debug, Default)]
pub(crate) struct Section(Vec<Row>);

/// What was counted under one name.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    tally: Tally,
}

impl Section {
    /// Prints the heading.
    pub(crate) fn new(what: &str) -> Section {
        let section = Section::default();
        section.begin(what);
        section
    }

    /// Prints a heading for the rows that follow.
    pub(crate) fn begin(&self, what: &str) {
        println!(
            "\n{what:<28} {:>9} {:>11} {:>15} {:>10}",
            "scenarios", "kill points", "distinct images", "violations"
        );
    }

    /// Adds a row; says what was violated first.
    pub(crate) fn add(&mut self, name: &str, tally: Tally) {
        print_row(name, &tally);
        if let Some(violation) = &tally.first_violation {
            println!("{name}: {violation}");
        }
        self.0.push(Row { name: name.into(), tally });
    }

    /// The sum of all rows.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.iter().for_each(|row| total.add(&row.tally));
        total
    }

    /// Prints the sum.
    pub(crate) fn print_total(&self) {
        print_row("total", &self.total());
    }
}

impl Serialize for Section {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

fn print_row(name: &str, tally: &Tally) {
    let Tally { scenarios, points, images, violations, .. } = tally;
    println!("{name:<28} {scenarios:>9} {points:>11} {images:>15} {violations:>10}");
}

/// A planted bug.
#[derive(Debug, Serialize)]
pub(crate) struct Bug {
    pub(crate) name: String,
    /// What was run, and what was violated.
    pub(crate) caught_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_in_which_nothing_was_looked_at_proves_nothing() {
        let tally = |images, violations| Tally { scenarios: 1, images, violations, ..Tally::default() };
        let bug = |caught_by| Bug { name: "bug".into(), caught_by };
        let report = |row: Tally, control: Tally, bugs| {
            let section = |name: &str, tally| Section(vec![Row { name: name.into(), tally }]);
            Report::new(section("one", row), section("other", tally(1, 0)), &control, bugs)
        };
        let caught = || vec![bug(Some("it".into()))];
        assert!(report(tally(1, 0), tally(1, 0), caught()).holds());
        assert!(!report(tally(0, 0), tally(1, 0), caught()).holds(), "no image");
        assert!(!report(tally(1, 1), tally(1, 0), caught()).holds(), "a violation");
        assert!(!report(tally(1, 0), tally(1, 1), caught()).holds(), "the control shows what is no bug");
        assert!(!report(tally(1, 0), tally(1, 0), vec![bug(None)]).holds(), "not caught");
        assert!(!report(tally(1, 0), tally(1, 0), vec![]).holds(), "no bug");
        let empty = Report::new(Section::default(), Section::default(), &tally(1, 0), caught());
        assert!(!empty.holds(), "no row");
    }
}
