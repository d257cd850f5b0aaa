//! What is to be reached, and whether it was: one entry for each row of the
//! table that docs/BENCHMARKS.md shows.

use serde::Serialize;

use crate::cases::Case;
use crate::report::{CaseResult, Kind, Series};

/// Which side of the target is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sense {
    /// It is the most that there may be.
    Max,
    /// It is the least that there may be.
    Min,
}

impl Sense {
    /// Whether `figure` is on the good side of `target`.
    fn holds(self, figure: f64, target: f64) -> bool {
        match self {
            Sense::Max => figure <= target,
            Sense::Min => figure >= target,
        }
    }
}

/// Ring options that are not the defaults, for a one-way row that names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(crate) capacity: Option<u64>,
    pub(crate) align: Option<u64>,
}

/// The defaults.
pub(crate) const NOTHING: Tuning = Tuning { capacity: None, align: None };

impl Tuning {
    /// In words; nothing for the defaults.
    pub(crate) fn text(self) -> String {
        let capacity = self.capacity.map(|bytes| format!("capacity {}", crate::table::bytes(bytes)));
        let align = self.align.map(|bytes| format!("align {bytes}"));
        capacity.into_iter().chain(align).collect::<Vec<_>>().join(", ")
    }
}

/// A row to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) case: &'static str,
    pub(crate) size: usize,
    /// Whom ours is divided by; `None`: the figure itself is compared.
    pub(crate) reference: Option<&'static str>,
    pub(crate) target: f64,
    pub(crate) sense: Sense,
    /// What it is reached with, for the reference as well.
    pub(crate) tuning: Tuning,
    /// Words in the options of the results that it is for; `None`: the first
    /// result of its case and size, which is at the defaults.
    pub(crate) words: Option<&'static str>,
}

const fn row(
    case: &'static str,
    size: usize,
    reference: Option<&'static str>,
    sense: Sense,
    target: f64,
) -> Target {
    Target { case, size, reference, target, sense, tuning: NOTHING, words: None }
}

const fn with(tuning: Tuning, target: Target) -> Target {
    Target { tuning, ..target }
}

/// For each result of the case with those words in its options.
const fn each(words: &'static str, target: Target) -> Target {
    Target { words: Some(words), ..target }
}

/// More than a message of 1 KiB wants more than the default: see
/// `RegionOptions::DEFAULT_CAPACITY`.
const LARGE: Tuning = Tuning { capacity: Some(8 << 20), align: None };

/// All of them.
pub(crate) const ALL: &[Target] = &[
    row("round_trip", 8, Some("cache line"), Sense::Max, 1.10),
    row("round_trip", 56, Some("cache line"), Sense::Max, 1.20),
    row("round_trip", 64, Some("cache line"), Sense::Max, 1.45),
    row("one_way", 8, Some("record ring"), Sense::Min, 1.4),
    row("one_way_batch", 8, Some("record ring"), Sense::Min, 1.5),
    row("one_way", 64, Some("record ring"), Sense::Min, 1.2),
    row("near_empty", 64, Some("record ring"), Sense::Min, 2.0),
    row("one_way_128k_to_1m", 64, Some("ours, 1 MiB"), Sense::Min, 0.3),
    with(LARGE, row("one_way", 1024, Some("record ring"), Sense::Min, 1.0)),
    with(LARGE, row("one_way", 65536, Some("record ring"), Sense::Min, 1.0)),
    row("in_place", 1 << 20, Some("iceoryx2"), Sense::Min, 5.0),
    row("producers_4_to_cas", 64, Some("CAS ring"), Sense::Min, 6.0),
    row("producers_8_to_1", 64, Some("ours, 1 producer"), Sense::Min, 0.9),
    row("wake", 64, Some("futex wake"), Sense::Max, 1.1),
    each("consumer", row("idle_cpu_percent", 0, None, Sense::Max, 0.1)),
    row("loaded_to_quiet", 64, Some("ours, quiet"), Sense::Min, 0.4),
    each("until attached", row("attach_1gib", 0, Some("bare open+mmap"), Sense::Max, 4.0)),
    each("", row("fast_path_syscalls", 0, None, Sense::Max, 0.0)),
    each("", row("fast_path_allocs", 0, None, Sense::Max, 0.0)),
];

impl Target {
    /// That of a result, if it has one.
    pub(crate) fn of(results: &[CaseResult], result: &CaseResult) -> Option<&'static Target> {
        ALL.iter().find(|target| target.results(results).iter().any(|found| std::ptr::eq(*found, result)))
    }

    /// Its results. A case and a size have several where options differ.
    fn results<'a>(&self, results: &'a [CaseResult]) -> Vec<&'a CaseResult> {
        let of_it = results.iter().filter(|result| self.is_about(result.case.as_str(), result.size));
        match (self.words, self.tuning) {
            (Some(words), _) => of_it.filter(|result| result.options.contains(words)).collect(),
            (None, NOTHING) => of_it.take(1).collect(),
            (None, tuning) => of_it.filter(|result| result.options == tuning.text()).collect(),
        }
    }

    fn is_about(&self, case: &str, size: usize) -> bool {
        // A size of 0 stands for no messages: who measured may have given one.
        self.case == case && (self.size == size || self.size == 0)
    }
}

/// A row of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) size: usize,
    /// The median of our figures.
    pub(crate) ours: Option<f64>,
    /// The median of what it is compared with.
    pub(crate) reference: Option<f64>,
    /// The median of the ratios, each of one round.
    pub(crate) ratio: Option<f64>,
    pub(crate) target: Option<f64>,
    pub(crate) sense: Option<Sense>,
    /// `None`: there is nothing to meet.
    pub(crate) met: Option<bool>,
    /// What is not at the defaults.
    pub(crate) options: String,
    /// Why it could not be measured, or does not count.
    pub(crate) why: Option<String>,
}

/// The rows of the cases that were asked for: each result, and each target of
/// which there is none, because of `failure`.
pub(crate) fn rows(
    cases: &[&Case],
    results: &[CaseResult],
    failure: impl Fn(&str) -> Option<String>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases {
        for result in results.iter().filter(|result| result.case == case.id) {
            rows.push(measured(case, result, Target::of(results, result)));
        }
        for target in ALL.iter().filter(|target| target.case == case.id) {
            if target.results(results).is_empty() {
                let why = failure(case.id).unwrap_or_else(|| "it was not measured".to_owned());
                rows.push(missing(target, why));
            }
        }
    }
    rows
}

fn missing(target: &Target, why: String) -> Row {
    Row {
        case: target.case.to_owned(),
        size: target.size,
        ours: None,
        reference: None,
        ratio: None,
        target: Some(target.target),
        sense: Some(target.sense),
        met: Some(false),
        options: target.tuning.text(),
        why: Some(why),
    }
}

fn measured(case: &Case, result: &CaseResult, target: Option<&Target>) -> Row {
    let name = target.map_or(case.reference, |target| target.reference);
    let ours = result.series.iter().find(|series| series.kind == Kind::Ours);
    let reference = result.series.iter().find(|series| name == Some(series.who.as_str()));
    let ratio = ours.zip(reference).and_then(|(ours, reference)| ours.ratio_to(reference));
    let median = |series: Option<&Series>| Some(series?.spread()?.median).filter(|figure| figure.is_finite());
    let mut row = Row {
        case: result.case.clone(),
        size: result.size,
        ours: median(ours),
        reference: median(reference),
        ratio: ratio.map(|ratio| ratio.median).filter(|ratio| ratio.is_finite()),
        target: target.map(|target| target.target),
        sense: target.map(|target| target.sense),
        met: None,
        options: result.options.clone(),
        why: doubt(ours, "ours").or_else(|| name.and_then(|name| doubt(reference, name))),
    };
    if let Some(target) = target {
        let compared = if target.reference.is_some() { row.ratio } else { row.ours };
        if row.why.is_none() && compared.is_none() {
            row.why = Some("the figures cannot be compared".to_owned());
        }
        let holds = compared.is_some_and(|figure| target.sense.holds(figure, target.target));
        row.met = Some(holds && row.why.is_none());
    }
    row
}

/// Why the figures of a series do not count.
fn doubt(series: Option<&Series>, name: &str) -> Option<String> {
    let Some(series) = series else { return Some(format!("{name} did not take part")) };
    if let Some(reason) = &series.skipped {
        return Some(format!("{name} was skipped: {reason}"));
    }
    if series.lost + series.wrong > 0 {
        return Some(format!("{name}: {} messages lost, {} wrong", series.lost, series.wrong));
    }
    series.rounds.is_empty().then(|| format!("{name} has no figures"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    fn series(who: &str, kind: Kind, rounds: &[f64]) -> Series {
        let rounds = rounds.to_vec();
        Series { who: who.to_owned(), kind, rounds, percentiles: None, lost: 0, wrong: 0, skipped: None }
    }

    fn result(case: &str, size: usize, options: &str, series: Vec<Series>) -> CaseResult {
        let (case, options) = (case.to_owned(), options.to_owned());
        CaseResult { case, size, options, unit: "M/s", more_is_better: true, series }
    }

    fn ring(options: &str, ours: &[f64], reference: &[f64]) -> CaseResult {
        let ours = series("ours", Kind::Ours, ours);
        let reference = series("record ring", Kind::Floor, reference);
        result("one_way", 1024, options, vec![ours, reference])
    }

    fn only(case: &str, results: &[CaseResult]) -> Vec<Row> {
        rows(&[cases::find(case).unwrap()], results, |_| Some("a reason".to_owned()))
    }

    #[test]
    fn the_ratio_is_that_of_rounds_and_is_compared_in_its_sense() {
        // Divided round by round: 2, 1 and 0.5, though the medians are 2 and 2.
        let rows = only("one_way", &[ring("capacity 8 MiB", &[2.0, 2.0, 1.0], &[1.0, 2.0, 2.0])]);
        let row = rows.iter().find(|row| row.size == 1024).unwrap();
        assert_eq!((row.ours, row.reference, row.ratio), (Some(2.0), Some(2.0), Some(1.0)));
        assert_eq!((row.target, row.sense, row.met), (Some(1.0), Some(Sense::Min), Some(true)));
        let rows = only("one_way", &[ring("capacity 8 MiB", &[1.0], &[1.1])]);
        assert_eq!(rows[0].met, Some(false));

        let trip = |figure| {
            let ours = series("ours", Kind::Ours, &[figure]);
            let line = series("cache line", Kind::Floor, &[100.0]);
            only("round_trip", &[result("round_trip", 8, "", vec![ours, line])]).remove(0).met
        };
        assert_eq!((trip(110.0), trip(111.0)), (Some(true), Some(false)));
    }

    #[test]
    fn a_row_with_losses_or_without_figures_is_not_met_and_says_why() {
        let good = || ring("capacity 8 MiB", &[2.0], &[1.0]);
        for side in 0..2 {
            for (lost, wrong) in [(1, 0), (0, 1)] {
                let mut bad = good();
                (bad.series[side].lost, bad.series[side].wrong) = (lost, wrong);
                let row = only("one_way", &[bad]).remove(0);
                assert_eq!((row.ratio, row.met), (Some(2.0), Some(false)));
                assert!(row.why.unwrap().contains(&format!("{lost} messages lost, {wrong} wrong")));
            }
            let mut skipped = good();
            skipped.series[side].skipped = Some("it hangs".to_owned());
            let row = only("one_way", &[skipped]).remove(0);
            assert_eq!(row.met, Some(false));
            assert!(row.why.unwrap().ends_with("was skipped: it hangs"));
            let mut absent = good();
            absent.series.remove(side);
            let row = only("one_way", &[absent]).remove(0);
            assert_eq!((row.ratio, row.met), (None, Some(false)));
            assert!(row.why.unwrap().ends_with("did not take part"));
        }
        let zero = only("one_way", &[ring("capacity 8 MiB", &[1.0], &[0.0])]).remove(0);
        assert_eq!((zero.ratio, zero.met), (None, Some(false)));
    }

    #[test]
    fn beside_a_row_with_options_stands_one_at_the_defaults_without_a_target() {
        let rows = only("one_way", &[ring("", &[1.0], &[2.0]), ring("capacity 8 MiB", &[2.0], &[1.0])]);
        let default = &rows[0];
        assert_eq!((default.options.as_str(), default.ratio), ("", Some(0.5)));
        assert_eq!((default.target, default.sense, default.met), (None, None, None));
        assert_eq!((rows[1].options.as_str(), rows[1].met), ("capacity 8 MiB", Some(true)));
    }

    #[test]
    fn a_figure_without_a_reference_is_compared_itself() {
        let calls = |figure| {
            let ours = series("ours", Kind::Ours, &[figure]);
            only("fast_path_syscalls", &[result("fast_path_syscalls", 64, "", vec![ours])]).remove(0)
        };
        assert_eq!((calls(0.0).met, calls(0.0).reference, calls(0.0).ratio), (Some(true), None, None));
        assert_eq!(calls(1.0).met, Some(false));
    }

    #[test]
    fn a_target_for_several_results_holds_for_each_that_has_its_words() {
        let of = |options, figures: [f64; 2]| {
            let [ours, bare] = figures;
            let bare = series("bare open+mmap", Kind::Floor, &[bare]);
            result("attach_1gib", 0, options, vec![series("ours", Kind::Ours, &[ours]), bare])
        };
        let rows = only(
            "attach_1gib",
            &[
                of("producer, until attached", [4.0, 1.0]),
                of("producer, until it has left again", [9.0, 1.0]),
                of("consumer, until attached", [5.0, 1.0]),
            ],
        );
        let met: Vec<_> = rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [Some(true), None, Some(false)]);
    }

    #[test]
    fn every_target_that_was_asked_for_has_a_row() {
        let all: Vec<&Case> = cases::ALL.iter().collect();
        let rows = rows(&all, &[], |_| Some("a reason".to_owned()));
        assert_eq!(rows.len(), ALL.len());
        for (row, target) in rows
            .iter()
            .filter(|row| row.case == "wake")
            .zip(ALL.iter().filter(|target| target.case == "wake"))
        {
            assert_eq!((row.target, row.met), (Some(target.target), Some(false)));
        }
        assert!(rows.iter().all(|row| row.met == Some(false) && row.why.as_deref() == Some("a reason")));
        assert!(only("capacities", &[]).is_empty());
    }
}
