//! What comes after the kill: a new producer and a new consumer, in both
//! orders, on a copy of what the dead one left.

use shmring::internals::layout::Word;
use shmring::internals::layout::blocks::{LaneState, Phase};
use shmring::internals::layout::record::Kind;
use shmring::internals::ring::{Claim, Memory, Reader, Shape, Writer};

use super::expected::{AFTER, Expected, Found, LAP_LEN};
use super::plant::{self, Plant, Planted};
use super::replica::LaneCopy;
use super::watch::{First, Left, Survivors, Verdict};

/// The survivors of an operation on a region's only lane.
pub(crate) struct OneLane<'a> {
    /// The sizes.
    pub(crate) shape: Shape,
    /// What they may find.
    pub(crate) expected: &'a Expected,
    /// The planted bug, which they may have.
    pub(crate) plant: Option<Plant>,
}

impl Survivors for OneLane<'_> {
    type Found = Found;

    fn come(&self, left: Left<'_>, first: First, lap: bool) -> Verdict<Found> {
        let OneLane { shape, expected, plant } = *self;
        let rings = Rings { lane: left.replica.lane(0), shape, expected, plant };
        match first {
            First::Producer => rings.writer_first(lap),
            First::Consumer => rings.reader_first(lap),
        }
    }

    fn judge(&self, found: &Found, last: Option<&Found>, returned: bool) -> Verdict<()> {
        self.expected.judge(*found, last.copied(), returned)
    }
}

type LaneReader<'a> = Reader<Planted<LaneCopy<'a>>>;
type LaneWriter<'a> = Writer<Planted<LaneCopy<'a>>>;

/// Their rings.
struct Rings<'a> {
    /// What they work on.
    lane: LaneCopy<'a>,
    shape: Shape,
    expected: &'a Expected,
    plant: Option<Plant>,
}

impl<'a> Rings<'a> {
    /// The producer's successor comes first and sends; then the consumer's.
    fn writer_first(&self, lap: bool) -> Verdict<Found> {
        let mut writer = self.new_writer()?;
        let end = writer.sequence();
        let mut sent = 0;
        while sent < AFTER.len() && self.send(&mut writer, sent, end)? {
            sent += 1;
        }
        let mut reader = self.new_reader()?;
        let committed = self.expected.index(reader.lane(0).sequence());
        self.expected.check_file(reader.sink(), committed)?;
        let end_marks = self.drain(&mut reader, &writer, end)?;
        for i in sent..AFTER.len() {
            self.must_send(&mut writer, i, end)?;
        }
        self.drain(&mut reader, &writer, end)?;
        if lap {
            self.go_round(&mut writer, &mut reader, end)?;
        }
        let found = Found { committed, published: self.expected.index(end), end_marks };
        self.check_state(found)?;
        Ok(found)
    }

    /// The consumer's successor comes first and empties the ring; then the
    /// producer's.
    fn reader_first(&self, lap: bool) -> Verdict<Found> {
        let mut reader = self.new_reader()?;
        let committed = self.expected.index(reader.lane(0).sequence());
        self.expected.check_file(reader.sink(), committed)?;
        let all = self.expected.first.wrapping_add(self.expected.messages.len() as u64);
        let end_marks = self.read_all(&mut reader, all)?;
        reader.commit();
        let mut writer = self.new_writer()?;
        let end = writer.sequence();
        if (end, writer.tail()) != (reader.lane(0).sequence(), reader.lane(0).head()) {
            return Err(format!(
                "the new producer goes on at sequence {end:#x}, position {:#x}; the new consumer had read to {:#x}, {:#x}",
                writer.tail(),
                reader.lane(0).sequence(),
                reader.lane(0).head()
            ));
        }
        for i in 0..AFTER.len() {
            self.must_send(&mut writer, i, end)?;
        }
        self.drain(&mut reader, &writer, end)?;
        if lap {
            self.go_round(&mut writer, &mut reader, end)?;
        }
        Ok(Found { committed, published: self.expected.index(end), end_marks })
    }

    /// The lane as those see it who have such a bug.
    fn seen(&self, has: fn(Plant) -> bool) -> Planted<LaneCopy<'a>> {
        let seen = Planted::new(self.lane, self.shape, self.plant.filter(|&plant| has(plant)));
        seen.arm();
        seen
    }

    fn new_reader(&self) -> Verdict<LaneReader<'a>> {
        let seen = self.seen(Plant::is_of_new_consumers);
        let mut reader = Reader::take_over(&seen, self.shape, 1);
        reader.add(seen).map_err(|broken| format!("the new consumer: {broken}"))?;
        Ok(reader)
    }

    /// Takes over twice, which must be the same as once.
    fn new_writer(&self) -> Verdict<LaneWriter<'a>> {
        let take_over = || {
            plant::take_over(self.seen(Plant::is_of_new_producers), self.shape)
                .map_err(|corrupt| format!("the new producer: {corrupt}"))
        };
        let state = |w: &Writer<_>| (w.tail(), w.sequence(), w.bytes());
        let first = state(&take_over()?);
        let writer = take_over()?;
        if state(&writer) != first {
            return Err(format!("a second takeover finds {:?}, the first found {first:?}", state(&writer)));
        }
        let published = self.expected.index(writer.sequence());
        if published > self.expected.messages.len() {
            return Err(format!("the new producer goes on at sequence {:#x}", writer.sequence()));
        }
        let bytes = self.expected.bytes(published);
        // There is no hint that says how many bytes.
        if self.plant != Some(Plant::TailTrustedBlindly) && writer.bytes() != bytes {
            return Err(format!("the new producer counts {} bytes of {bytes}", writer.bytes()));
        }
        Ok(writer)
    }

    /// Sends the `i`th message of the new producer; false if there is no room,
    /// which is checked to be true.
    fn send(&self, writer: &mut LaneWriter<'a>, i: usize, end: u64) -> Verdict<bool> {
        let message = self.expected.after(i, end);
        match writer.claim(message.len()) {
            Ok(()) => {
                writer.write(0, &message);
                writer.stage(0, message.len());
                writer.publish();
                Ok(true)
            }
            Err(Claim::Full) => {
                let head = self.lane.load(Word::Head);
                let missing = writer.head_needed(message.len()).wrapping_sub(head);
                let full = missing != 0 && missing <= self.shape.capacity;
                if full { Ok(false) } else { Err("the ring is called full and is not".into()) }
            }
            Err(claim) => Err(format!("the new producer cannot send: {claim:?}")),
        }
    }

    fn must_send(&self, writer: &mut LaneWriter<'a>, i: usize, end: u64) -> Verdict<()> {
        match self.send(writer, i, end)? {
            true => Ok(()),
            false => Err("an empty ring is called full".into()),
        }
    }

    /// Reads everything, commits it and checks that nothing is left; says how
    /// many end marks there were.
    fn drain(&self, reader: &mut LaneReader<'a>, writer: &LaneWriter<'a>, end: u64) -> Verdict<usize> {
        let end_marks = self.read_all(reader, end)?;
        reader.commit();
        let (read, sent) =
            ([reader.lane(0).sequence(), reader.lane(0).head()], [writer.sequence(), writer.tail()]);
        if read != sent {
            return Err(format!(
                "sequence and position: the new consumer reads to {read:x?}, the new producer sent to {sent:x?}"
            ));
        }
        Ok(end_marks)
    }

    fn read_all(&self, reader: &mut LaneReader<'a>, end: u64) -> Verdict<usize> {
        let mut end_marks = 0;
        let mut buffer = Vec::new();
        for _ in 0..=self.shape.capacity / self.shape.align {
            let Some(record) = reader.peek_lane(0).map_err(|broken| format!("the new consumer: {broken}"))?
            else {
                return Ok(end_marks);
            };
            if record.kind == Kind::End {
                end_marks += 1;
            } else {
                buffer.resize(record.len, 0);
                reader.read(&record, &mut buffer);
                let index = self.expected.index(record.sequence);
                match self.expected.content(record.sequence, end) {
                    Some(content) if content == buffer => {}
                    Some(content) if content.len() == record.len => {
                        return Err(format!("message {index} is torn"));
                    }
                    _ => return Err(format!("message {index} is another: {} bytes", record.len)),
                }
            }
            reader.advance(&record);
        }
        Err("the new consumer reads without end".into())
    }

    /// More than a whole lap of messages, one at a time.
    fn go_round(&self, writer: &mut LaneWriter<'a>, reader: &mut LaneReader<'a>, end: u64) -> Verdict<()> {
        for i in 0..=(self.shape.capacity as usize / LAP_LEN) {
            self.must_send(writer, AFTER.len() + i, end)?;
            self.drain(reader, writer, end)?;
        }
        Ok(())
    }

    /// A lane that says it is closed has its end mark.
    fn check_state(&self, found: Found) -> Verdict<()> {
        let word = self.lane.load(Word::State);
        let state = LaneState::decode(word).ok_or_else(|| format!("the lane's state is {word:#x}"))?;
        if state.phase == Phase::Closed && found.end_marks == 0 {
            return Err("the lane is closed and has no end mark".into());
        }
        Ok(())
    }
}
