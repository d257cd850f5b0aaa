//! What was measured, as tables, JSON and charts take it.

use serde::Serialize;

/// What one case with one size and one set of options gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CaseResult {
    /// Its id, as `--case` takes it.
    pub(crate) case: String,
    /// Bytes of a message; 0 where there is none.
    pub(crate) size: usize,
    /// Capacity, alignment, cores, senders: what is not at the default, in words.
    pub(crate) options: String,
    /// Of the figures: `M/s`, `ns`, `us`, `KiB`, `%`.
    pub(crate) unit: &'static str,
    /// Whether more of it is better.
    pub(crate) more_is_better: bool,
    /// One for each contestant, ours first.
    pub(crate) series: Vec<Series>,
}

/// What one contestant gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) who: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// One figure a round; the same place is the same round for all.
    pub(crate) rounds: Vec<f64>,
    /// Of the latencies in nanoseconds, where there are any: p50, p99, p99.9, max, each the median of the rounds.
    pub(crate) percentiles: Option<[u64; 4]>,
    /// Messages that never came, and that came wrong, in all rounds.
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
    /// Why there are no figures.
    pub(crate) skipped: Option<String>,
}

/// What a contestant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// This library.
    Ours,
    /// What the machine gives.
    Floor,
    /// Another way for two processes.
    Peer,
    /// For threads of one process only.
    Threads,
}

/// A median and the quarters around it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` without figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        // Between two figures, in proportion.
        let at = |part: f64| {
            let place = sorted.len().checked_sub(1)? as f64 * part;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            Some(if below == above { below } else { below + (above - below) * place.fract() })
        };
        Some(Spread { low: at(0.25)?, median: at(0.5)?, high: at(0.75)? })
    }
}

impl Series {
    /// Of its figures.
    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().copied())
    }

    /// Of its figures divided by those of `reference`, round by round.
    pub(crate) fn ratio_to(&self, reference: &Series) -> Option<Spread> {
        Spread::of(self.rounds.iter().zip(&reference.rounds).map(|(ours, theirs)| ours / theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(figures: &[f64]) -> Option<[f64; 3]> {
        Spread::of(figures.iter().copied()).map(|spread| [spread.low, spread.median, spread.high])
    }

    #[test]
    fn a_spread_is_the_median_and_the_quarters_of_figures_in_any_order() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7.0]), Some([7.0; 3]));
        assert_eq!(spread(&[3.0, 1.0]), Some([1.5, 2.0, 2.5]));
        assert_eq!(spread(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(spread(&[8.0, 0.0, 4.0]), Some([2.0, 4.0, 6.0]));
        // One round that went wrong moves nothing.
        assert_eq!(spread(&[2.0, 2.0, 2.0, 2.0, 1e9]), Some([2.0; 3]));
        assert_eq!(spread(&[f64::INFINITY; 4]), Some([f64::INFINITY; 3]));
    }

    #[test]
    fn ratios_are_taken_round_by_round_as_far_as_both_played() {
        let series = |rounds: &[f64]| Series {
            who: String::new(),
            kind: Kind::Ours,
            rounds: rounds.to_vec(),
            percentiles: None,
            lost: 0,
            wrong: 0,
            skipped: None,
        };
        let ratio = series(&[1.0, 4.0, 9.0]).ratio_to(&series(&[1.0, 2.0])).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (1.25, 1.5, 1.75));
        assert!(series(&[1.0]).ratio_to(&series(&[])).is_none());
    }
}
