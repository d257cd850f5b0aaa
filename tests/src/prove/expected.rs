//! What a survivor may find.

use std::fs::File;
use std::os::unix::fs::FileExt;

use shmring::internals::ring::Sink;

use super::scenario::{Operation, Plan, Scenario, payload};

/// Lengths of the messages that the new producer sends; then [`LAP_LEN`].
pub(crate) const AFTER: [usize; 3] = [24, 0, 100];
/// Length of the messages that go once round the ring.
pub(crate) const LAP_LEN: usize = 6000;

/// Either the state before the operation or the one after it, never another.
/// Messages are counted from the first that was not committed before it.
#[derive(Debug)]
pub(crate) struct Expected {
    /// The sequence of the first message.
    pub(crate) first: u64,
    /// The messages, those of the operation included.
    pub(crate) messages: Vec<Vec<u8>>,
    /// Before and after: how many are committed.
    pub(crate) committed: [usize; 2],
    /// Before and after: how many are published.
    pub(crate) published: [usize; 2],
    /// Before and after: how many end marks follow the messages.
    pub(crate) end_marks: [usize; 2],
    /// Payload bytes published before the first message.
    bytes_before: u64,
    believable: u64,
    /// How many of the messages the operation is about: the last ones.
    subjects: usize,
    /// The file that the messages are written to, if they are.
    pub(crate) file: Option<File>,
}

/// What is in that file before the first message.
pub(crate) const FILE_BEFORE: &[u8] = b"written and committed before";

/// What the survivors found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Messages committed.
    pub(crate) committed: usize,
    /// Messages published.
    pub(crate) published: usize,
    /// End marks after them.
    pub(crate) end_marks: usize,
}

impl Expected {
    /// What may be found while `scenario` runs.
    pub(crate) fn new(scenario: &Scenario, plan: &Plan) -> Expected {
        let lens = || plan.pending.iter().chain(&plan.subjects).copied();
        let sequences = (0..).map(|i| plan.first_sequence.wrapping_add(i));
        let mut messages: Vec<_> =
            sequences.zip(lens()).map(|(sequence, len)| payload(plan.believable, sequence, len)).collect();
        let (pending, all) = (plan.pending.len(), messages.len());
        let mut expected = Expected {
            first: plan.first_sequence,
            messages: vec![],
            committed: [0, 0],
            published: [all, all],
            end_marks: [0, 0],
            bytes_before: plan.bytes_before,
            believable: plan.believable,
            subjects: plan.subjects.len(),
            file: None,
        };
        match scenario.operation {
            Operation::Send | Operation::ReserveCommit | Operation::Batch => expected.published[0] = pending,
            Operation::ReadCommit | Operation::FileCommit => expected.committed[1] = pending + READS,
            Operation::Takeover | Operation::FirstConsumer | Operation::FirstProducer => {}
            Operation::NextProducer => expected.end_marks = [1, 1],
            Operation::ConsumerAttach => {
                // The dead one had committed these.
                expected.first = expected.first.wrapping_add(pending as u64);
                expected.bytes_before += messages.drain(..pending).map(|m| m.len() as u64).sum::<u64>();
                expected.published = [messages.len(); 2];
            }
            Operation::Close => expected.end_marks[1] = 1,
            other => unreachable!("{} is not about one lane alone", other.name()),
        }
        expected.messages = messages;
        expected
    }

    /// What may be found before anything else is done, once so much was found.
    pub(crate) fn behind(&self, found: Found) -> std::io::Result<Expected> {
        Ok(Expected {
            messages: self.messages.clone(),
            committed: [found.committed; 2],
            published: [found.published; 2],
            end_marks: [found.end_marks; 2],
            file: self.file.as_ref().map(File::try_clone).transpose()?,
            ..*self
        })
    }

    /// The messages that the operation is about.
    pub(crate) fn subjects(&self) -> &[Vec<u8>] {
        &self.messages[self.messages.len() - self.subjects..]
    }

    /// Judges the file: with so many messages committed, it has exactly them
    /// up to the position that was committed, and perhaps more behind it.
    pub(crate) fn check_file(&self, sink: Sink, committed: usize) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let messages = self.messages.get(..committed).ok_or("more is committed than there is")?;
        let written = [FILE_BEFORE, &messages.concat()].concat();
        if sink.position != written.len() as u64 {
            let (at, right) = (sink.position, written.len());
            return Err(format!("{committed} messages are committed, and the file to {at}, not to {right}"));
        }
        let mut found = vec![0; written.len()];
        match file.read_exact_at(&mut found, 0) {
            Ok(()) if found == written => Ok(()),
            Ok(()) => Err("a byte of the file that is committed is another".into()),
            Err(e) => Err(format!("the file is shorter than what is committed: {e}")),
        }
    }

    /// How far `sequence` is from the first message's.
    pub(crate) fn index(&self, sequence: u64) -> usize {
        sequence.wrapping_sub(self.first) as usize
    }

    /// The payload of the message with this sequence, if the new producer
    /// began at `end`; `None` if there is no such message.
    pub(crate) fn content(&self, sequence: u64, end: u64) -> Option<std::borrow::Cow<'_, [u8]>> {
        if self.index(sequence) < self.index(end) {
            return self.messages.get(self.index(sequence)).map(|m| m.as_slice().into());
        }
        Some(self.after(sequence.wrapping_sub(end) as usize, end).into())
    }

    /// The `i`th message of a new producer that begins at `end`.
    pub(crate) fn after(&self, i: usize, end: u64) -> Vec<u8> {
        let len = AFTER.get(i).copied().unwrap_or(LAP_LEN);
        // Told from the operation's message with the same sequence.
        payload(self.believable, !end.wrapping_add(i as u64), len)
    }

    /// Payload bytes ever published when `published` of the messages are.
    pub(crate) fn bytes(&self, published: usize) -> u64 {
        self.bytes_before + self.messages[..published].iter().map(|m| m.len() as u64).sum::<u64>()
    }

    /// Judges what was found, after `last` was found at an earlier point;
    /// `returned`: the operation has come back with success.
    pub(crate) fn judge(&self, found: Found, last: Option<Found>, returned: bool) -> Result<(), String> {
        let rules = [
            ("messages committed", found.committed, self.committed, last.map(|l| l.committed)),
            ("messages published", found.published, self.published, last.map(|l| l.published)),
            ("end marks", found.end_marks, self.end_marks, last.map(|l| l.end_marks)),
        ];
        for (what, count, [before, after], last) in rules {
            if count != before && count != after {
                return Err(format!("{count} {what}: neither {before} as before nor {after} as after"));
            }
            if returned && count != after {
                return Err(format!("{count} {what} although the operation returned: {after}"));
            }
            if let Some(last) = last.filter(|&l| l > count) {
                return Err(format!("{count} {what}, an instruction after {last}"));
            }
        }
        Ok(())
    }
}

/// Messages that [`Operation::ReadCommit`] reads.
pub(crate) const READS: usize = 2;
