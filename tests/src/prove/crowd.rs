//! The survivors of steps: new producers of all lanes and a new consumer, in
//! both orders, on a copy of what the dead one left.

use std::collections::VecDeque;

use shmring::internals::layout::record::Kind;
use shmring::internals::layout::{Cause, Word};
use shmring::internals::ring::{Claim, Memory, Reader, Record, Writer};

use super::expected::{AFTER, LAP_LEN};
use super::replica::{LaneCopy, Replica};
use super::scenario::{Plan, Scenario, payload};
use super::states::{State, States, Tail, Told, What, sort};
use super::watch::{First, Left, Survivors, Verdict};

/// They find one of the states.
pub(crate) struct Crowd<'a> {
    pub(crate) scenario: Scenario,
    pub(crate) plan: &'a Plan,
    pub(crate) states: &'a States,
}

impl Survivors for Crowd<'_> {
    /// Which of the states.
    type Found = usize;

    fn come(&self, left: Left<'_>, first: First, lap: bool) -> Verdict<usize> {
        let mut rings = Rings {
            scenario: &self.scenario,
            believable: self.plan.believable,
            replica: left.replica,
            after: vec![VecDeque::new(); self.scenario.lanes],
            tails: vec![],
            ticket: None,
        };
        let state = match first {
            First::Producer => rings.writers_first(lap)?,
            First::Consumer => rings.reader_first(lap)?,
        };
        let states = self.states.all();
        states.iter().position(|known| *known == state).ok_or_else(|| {
            let (before, after) = (&states[0], &states[states.len() - 1]);
            format!(
                "neither a state before, between nor after, {state:?}; before: {before:?}, after: {after:?}"
            )
        })
    }

    fn judge(&self, found: &usize, last: Option<&usize>, returned: bool) -> Verdict<()> {
        let after = self.states.all().len() - 1;
        match last {
            _ if returned && *found != after => {
                Err(format!("state {found} although the operation returned: {after}"))
            }
            Some(last) if found < last => Err(format!("state {found}, an instruction after {last}")),
            _ => Ok(()),
        }
    }
}

type LaneReader<'a> = Reader<LaneCopy<'a>>;
type LaneWriter<'a> = Writer<LaneCopy<'a>>;

/// The survivors' rings over a replica.
struct Rings<'a> {
    scenario: &'a Scenario,
    believable: u64,
    replica: &'a Replica,
    /// What the new producers sent and the new consumer has not read.
    after: Vec<VecDeque<What>>,
    /// What the new producers found, once they have come.
    tails: Vec<Tail>,
    /// The last ticket that the new consumer read.
    ticket: Option<u64>,
}

impl<'a> Rings<'a> {
    /// The producers' successors come first and send; then the consumer's.
    fn writers_first(&mut self, lap: bool) -> Verdict<State> {
        let mut writers = self.new_writers()?;
        let mut sent = vec![0; writers.len()];
        for (lane, writer) in writers.iter_mut().enumerate() {
            while sent[lane] < AFTER.len() && self.send(writer, lane, AFTER[sent[lane]])? {
                sent[lane] += 1;
            }
        }
        let mut reader = self.new_reader()?;
        let (committed, sink) = (self.sequences(&reader), reader.sink());
        let told = self.read_all(&mut reader)?;
        reader.commit();
        for (lane, writer) in writers.iter_mut().enumerate() {
            for &len in &AFTER[sent[lane]..] {
                self.must_send(writer, lane, len)?;
            }
        }
        self.drain(&mut reader, &writers)?;
        if lap {
            self.go_round(&mut reader, &mut writers)?;
        }
        Ok(State { told, tails: self.tails.clone(), committed, sink })
    }

    /// The consumer's successor comes first, reads of one lane and dies; the
    /// next one empties the rings; then the producers' come.
    fn reader_first(&mut self, lap: bool) -> Verdict<State> {
        let mut reader = self.new_reader()?;
        let (committed, sink) = (self.sequences(&reader), reader.sink());
        let mut told = Vec::from_iter(self.read_next(&mut reader)?);
        reader.commit();
        let mut reader = self.new_reader()?;
        if reader.sink() != sink {
            return Err(format!("a commit without a word of the sink makes it {:?}", reader.sink()));
        }
        told.extend(self.read_all(&mut reader)?);
        sort(self.scenario, &mut told);
        reader.commit();
        let again = self.sequences(&self.new_reader()?);
        if again != self.sequences(&reader) {
            return Err(format!("all is committed, and a new consumer begins at {again:x?}"));
        }
        let mut writers = self.new_writers()?;
        for (lane, tail) in self.tails.iter().enumerate() {
            let cursor = reader.lane(lane as u32);
            if cursor.untold_drops() != tail.untold {
                return Err(format!("the new consumer counts {} drops untold", cursor.untold_drops()));
            }
        }
        for (lane, writer) in writers.iter_mut().enumerate() {
            for len in AFTER {
                self.must_send(writer, lane, len)?;
            }
        }
        self.drain(&mut reader, &writers)?;
        if lap {
            self.go_round(&mut reader, &mut writers)?;
        }
        Ok(State { told, tails: self.tails.clone(), committed, sink })
    }

    fn lanes(&self) -> impl Iterator<Item = LaneCopy<'a>> + use<'a> {
        let replica = self.replica;
        (0..replica.lanes()).map(|lane| replica.lane(lane))
    }

    fn new_reader(&self) -> Verdict<LaneReader<'a>> {
        let lanes = self.replica.lanes();
        let mut reader = Reader::take_over(&self.replica.lane(0), self.scenario.shape(), lanes);
        for lane in self.lanes() {
            reader.add(lane).map_err(|broken| format!("the new consumer: {broken}"))?;
        }
        Ok(reader)
    }

    /// They take over twice, which must be the same as once.
    fn new_writers(&mut self) -> Verdict<Vec<LaneWriter<'a>>> {
        let shape = self.scenario.shape();
        let take_over = || {
            let writers = self.lanes().map(|lane| Writer::take_over(lane, shape));
            writers.collect::<Result<Vec<_>, _>>().map_err(|corrupt| format!("a new producer: {corrupt}"))
        };
        let tails = |writers: &[LaneWriter<'_>]| {
            let tail = |writer: &LaneWriter<'_>| Tail {
                next: writer.sequence(),
                bytes: writer.bytes(),
                dropped: Cause::ALL.map(|cause| writer.dropped(cause)),
                untold: writer.pending_gap(),
            };
            writers.iter().map(tail).collect::<Vec<_>>()
        };
        let first = tails(&take_over()?);
        let writers = take_over()?;
        if tails(&writers) != first {
            return Err(format!("second takeovers find {:?}, the first found {first:?}", tails(&writers)));
        }
        self.tails = first;
        Ok(writers)
    }

    fn sequences(&self, reader: &LaneReader<'_>) -> Vec<u64> {
        (0..reader.lane_count()).map(|lane| reader.lane(lane).sequence()).collect()
    }

    /// Sends a message, and before it the gap that is due; false if there is no
    /// room, which is checked to be true.
    fn send(&mut self, writer: &mut LaneWriter<'_>, lane: usize, len: usize) -> Verdict<bool> {
        let untold = writer.pending_gap();
        let needed = writer.head_needed(len);
        let done = writer.publish_gap(len);
        if done.is_ok() && untold > 0 {
            self.after[lane].push_back(What::Gap(untold));
        }
        match done.and_then(|()| writer.claim(len)) {
            Ok(()) => {
                // Told from the operation's message with the same sequence.
                let message = payload(self.believable, !writer.sequence() ^ (lane as u64) << 60, len);
                writer.write(0, &message);
                writer.stage(0, len);
                writer.publish();
                self.after[lane].push_back(What::Message(message));
                Ok(true)
            }
            Err(Claim::Full) => {
                let missing = needed.wrapping_sub(writer.memory().load(Word::Head));
                let full = missing != 0 && missing <= self.scenario.shape().capacity;
                if full { Ok(false) } else { Err("a ring is called full and is not".into()) }
            }
            Err(claim) => Err(format!("a new producer cannot send: {claim:?}")),
        }
    }

    fn must_send(&mut self, writer: &mut LaneWriter<'_>, lane: usize, len: usize) -> Verdict<()> {
        match self.send(writer, lane, len)? {
            true => Ok(()),
            false => Err("an empty ring is called full".into()),
        }
    }

    /// What comes next; one end mark of a lane where nothing else comes.
    fn find(&self, reader: &mut LaneReader<'_>) -> Verdict<Option<Record>> {
        let broken = |broken| format!("the new consumer: {broken}");
        if self.scenario.shape().prefix > 0 {
            reader.begin();
            return reader.scan(true).map_err(broken);
        }
        // Lane after lane: `scan` would not tell of end marks.
        for lane in (0..reader.lane_count()).rev() {
            if let Some(record) = reader.peek_lane(lane).map_err(broken)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Reads what comes next, unless a new producer sent it: that is checked.
    fn read_next(&mut self, reader: &mut LaneReader<'_>) -> Verdict<Option<Told>> {
        while let Some(record) = self.find(reader)? {
            let told = self.read(reader, &record)?;
            reader.advance(&record);
            let after = &mut self.after[told.lane];
            let is_after = self.tails.get(told.lane).is_some_and(|tail| {
                let before = told.sequence.wrapping_sub(tail.next.wrapping_sub(tail.untold)) as i64 >= 0;
                before && told.what != What::End
            });
            if !is_after {
                return Ok(Some(told));
            }
            if after.pop_front().as_ref() != Some(&told.what) {
                return Err(format!("a new producer's message is another: {told:?}"));
            }
        }
        Ok(None)
    }

    fn read(&mut self, reader: &LaneReader<'_>, record: &Record) -> Verdict<Told> {
        let what = match record.kind {
            Kind::Data => {
                if self.scenario.shape().prefix > 0 {
                    self.check_ticket(reader, record)?;
                }
                let mut bytes = vec![0; record.len];
                reader.read(record, &mut bytes);
                What::Message(bytes)
            }
            Kind::Gap => What::Gap(reader.gap(record)),
            Kind::End => What::End,
        };
        Ok(Told { lane: record.lane as usize, sequence: record.sequence, what })
    }

    /// Tickets were drawn and are in order, whoever has died.
    fn check_ticket(&mut self, reader: &LaneReader<'_>, record: &Record) -> Verdict<()> {
        let cursor = reader.lane(record.lane);
        let position = cursor.head().wrapping_add(cursor.uncommitted());
        let ticket = cursor.memory().header_acquire(position.wrapping_add(8));
        let drawn = cursor.memory().load(Word::Tickets);
        let last = self.ticket.replace(ticket);
        if ticket >= drawn || last.is_some_and(|last| last >= ticket) {
            return Err(format!("ticket {ticket} comes after {last:?}, with {drawn} drawn"));
        }
        Ok(())
    }

    fn read_all(&mut self, reader: &mut LaneReader<'_>) -> Verdict<Vec<Told>> {
        let shape = self.scenario.shape();
        let mut all = vec![];
        for _ in 0..=shape.capacity / shape.align * self.scenario.lanes as u64 {
            match self.read_next(reader)? {
                Some(told) => all.push(told),
                None => {
                    sort(self.scenario, &mut all);
                    return Ok(all);
                }
            }
        }
        Err("the new consumer reads without end".into())
    }

    /// Reads and commits what the new producers sent: all of it, nothing else.
    fn drain(&mut self, reader: &mut LaneReader<'_>, writers: &[LaneWriter<'_>]) -> Verdict<()> {
        let more = self.read_all(reader)?;
        reader.commit();
        if !more.is_empty() || !self.after.iter().all(VecDeque::is_empty) {
            return Err(format!("too much: {more:?}; too little: {:?}", self.after));
        }
        for (lane, writer) in (0..).zip(writers) {
            let cursor = reader.lane(lane);
            let (read, sent) = ([cursor.sequence(), cursor.head()], [writer.sequence(), writer.tail()]);
            if read != sent {
                return Err(format!(
                    "lane {lane}, sequence and position: read to {read:x?}, sent to {sent:x?}"
                ));
            }
        }
        Ok(())
    }

    /// More than a whole lap of messages, one at a time.
    fn go_round(&mut self, reader: &mut LaneReader<'_>, writers: &mut [LaneWriter<'_>]) -> Verdict<()> {
        for _ in 0..=(self.scenario.shape().capacity as usize / LAP_LEN) {
            for (lane, writer) in writers.iter_mut().enumerate() {
                self.must_send(writer, lane, LAP_LEN)?;
            }
            self.drain(reader, writers)?;
        }
        Ok(())
    }
}
