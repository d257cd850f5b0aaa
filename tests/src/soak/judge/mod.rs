//! Holds the transcripts of a round against what the ring promises. It knows
//! nothing but the transcripts: no code of the ring or of those who wrote them.
//!
//! ```text
//! parse     what the transcripts say           sent      what each lane's stream was
//! read      what a consumer may have read of it
//! ```

mod parse;
mod read;
mod sent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use parse::{Consumer, Director, Event, Producer};
use read::State;
use sent::Streams;

/// The texts of a round, as `mod.rs` above describes them. Whoever was killed
/// before the first word left an empty one.
#[derive(Debug, Default, Clone)]
pub(crate) struct Transcripts {
    pub(crate) director: String,
    pub(crate) producers: Vec<String>,
    pub(crate) consumers: Vec<String>,
}

/// What was seen in rounds in which all was as promised.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages that were delivered and committed, each once.
    pub(crate) messages: u64,
    /// Messages that were delivered again to a consumer that came after.
    pub(crate) again: u64,
    /// Messages that were dropped, of which gaps told.
    pub(crate) gaps: u64,
    /// Operations that were cut short, and those of them that took effect.
    pub(crate) cut_short: u64,
    pub(crate) took_effect: u64,
    /// Deaths and ends of all that were told.
    pub(crate) deaths: u64,
    pub(crate) ends: u64,
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.messages += other.messages;
        self.again += other.again;
        self.gaps += other.gaps;
        self.cut_short += other.cut_short;
        self.took_effect += other.took_effect;
        self.deaths += other.deaths;
        self.ends += other.ends;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { messages, again, gaps, cut_short, took_effect, deaths, ends } = self;
        write!(f, "{messages} messages, {again} of them told again to another consumer, {gaps} dropped; ")?;
        write!(f, "{cut_short} sends cut short, of which {took_effect} took effect; ")?;
        write!(f, "{deaths} deaths and {ends} ends told")
    }
}

impl Transcripts {
    /// Those of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Transcripts> {
        let text = |name: String| match fs::read_to_string(folder.join(&name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.context(name),
        };
        let director = text("director".into())?;
        let all = |letter: &str| -> Result<Vec<String>> {
            let who = |line: &str| line.split(' ').nth(2).is_some_and(|who| who.starts_with(letter));
            let started = director.lines().filter(|line| line.starts_with("start ") && who(line)).count();
            (0..started).map(|index| text(format!("{letter}{index}"))).collect()
        };
        Ok(Transcripts { producers: all("p")?, consumers: all("c")?, director })
    }
}

/// Fails if anything was not as promised.
pub(crate) fn judge(transcripts: &Transcripts) -> Result<Verdict> {
    let director = Director::parse(&transcripts.director).context("director")?;
    ensure!(director.producers.len() == transcripts.producers.len(), "not a transcript of each producer");
    ensure!(director.consumers.len() == transcripts.consumers.len(), "not a transcript of each consumer");
    let mut producers = Vec::new();
    for (i, (text, life)) in transcripts.producers.iter().zip(&director.producers).enumerate() {
        producers.push(Producer::parse(text, *life).with_context(|| format!("p{i}"))?);
    }
    let streams = Streams::new(&director, &producers)?;
    let mut verdict = Verdict::default();
    // What may be committed: two, while nobody knows if the last commit of one
    // that was killed in it took effect.
    let mut states = vec![State::new(&director)];
    let mut is_finished = false;
    for (i, (text, life)) in transcripts.consumers.iter().zip(&director.consumers).enumerate() {
        let consumer = Consumer::parse(text, *life).with_context(|| format!("c{i}"))?;
        is_finished = consumer.is_finished;
        states = after(&consumer, states, &streams, &mut verdict).with_context(|| format!("c{i}"))?;
    }
    ensure!(is_finished, "the last consumer did not read to the end");
    // Of two, where only an end or a death was cut short, either may be so.
    let (whole, broken): (Vec<_>, Vec<_>) =
        states.iter().map(|s| (s, s.check_end(&streams))).partition(|c| c.1.is_ok());
    let Some((state, _)) = whole.first() else {
        return Err(broken.into_iter().find_map(|(_, checked)| checked.err()).context("no consumer")?);
    };
    verdict.messages = state.messages;
    verdict.gaps = state.gaps;
    verdict.deaths = state.told.len() as u64;
    verdict.ends = state.ends;
    for lane in &streams.lanes {
        verdict.cut_short += lane.cut_short;
        verdict.took_effect += lane.took_effect;
    }
    for (lane, next) in streams.lanes.iter().zip(&state.next) {
        // The last one of a lane: only who read it knows.
        verdict.cut_short += u64::from(lane.open.is_some());
        verdict.took_effect += u64::from(*next > lane.sure);
    }
    Ok(verdict)
}

/// What may be committed after this consumer, if it began with one of `states`.
fn after(
    consumer: &Consumer,
    states: Vec<State>,
    streams: &Streams<'_>,
    verdict: &mut Verdict,
) -> Result<Vec<State>> {
    let events = &consumer.events;
    let committed = events.iter().rposition(|event| matches!(event, Event::Committed));
    let (sure, rest) = events.split_at(committed.map_or(0, |at| at + 1));
    let mut found: Vec<State> = Vec::new();
    let mut refused = None;
    for mut state in states {
        let mut then = state.clone();
        let read = then.read(sure, streams).and_then(|()| {
            state.clone_from(&then);
            then.read(rest, streams).map_err(|(at, e)| (sure.len() + at, e))
        });
        if let Err((at, error)) = read {
            // The one that holds longest says best what is wrong.
            if refused.as_ref().is_none_or(|(longest, _)| at >= *longest) {
                refused = Some((at, error));
            }
            continue;
        }
        if matches!(rest.last(), Some(Event::Commit)) {
            found.push(then);
        } else {
            verdict.again += then.messages - state.messages;
        }
        found.push(state);
    }
    match refused {
        Some((_, error)) if found.is_empty() => Err(error),
        _ => Ok(distinct(found)),
    }
}

/// Those that differ in more than what was counted.
fn distinct(states: Vec<State>) -> Vec<State> {
    let mut kept: Vec<State> = Vec::new();
    for mut state in states {
        state.forget_names();
        if !kept.iter().any(|other| other.is_like(&state)) {
            kept.push(state);
        }
    }
    kept
}
