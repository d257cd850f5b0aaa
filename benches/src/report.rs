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
        let at = |part: usize| sorted.get((sorted.len().checked_sub(1)? * part + 2) / 4).copied();
        Some(Spread { low: at(1)?, median: at(2)?, high: at(3)? })
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
