use super::cursor::{Cursor, Record};
use super::lanes::{Broken, Lanes};
use super::order::{Fair, Tickets};
use super::{Memory, Shape};
use crate::layout::record::Kind;
use crate::layout::{Part, Slot, Word};

/// The consumer's half of a region: all lanes that are in use.
///
/// Reading and committing are separate: [`peek`](Reader::peek) and
/// [`advance`](Reader::advance) move private positions,
/// [`commit`](Reader::commit) gives the bytes before them back to the
/// producers, in all lanes at once.
///
/// Which lane is next, [`begin`](Reader::begin) and [`scan`](Reader::scan)
/// find out, in one of two orders: see the module `order`.
#[derive(Debug)]
pub struct Reader<M> {
    shape: Shape,
    lanes: Lanes<M>,
    turns: Turns,
    generation: u64,
    sink: Sink,
    /// Sink or count of ends were set since the last commit.
    is_changed: bool,
    /// They were set before that one: the next writes the other slot.
    is_lagging: bool,
    /// Lanes whose other slot is behind: the next commit writes it.
    lagging: Vec<u32>,
}

/// Whose turn it is.
#[derive(Debug)]
enum Turns {
    Fair(Fair),
    Total(Tickets),
}

/// Where a consumer puts what it reads, as far as it tells the ring: committed
/// in the same store as what was read. All 0: nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sink {
    /// What the caller calls it.
    pub id: [u64; 4],
    /// How far it is.
    pub position: u64,
}

impl<M: Memory> Reader<M> {
    /// Takes the region over from whoever read it last. The caller holds the
    /// consumer's lock, and adds the lanes that are in use, at most `most`.
    /// `region` is any lane's memory.
    pub fn take_over(region: &M, shape: Shape, most: usize) -> Reader<M> {
        let generation = region.load_acquire(Word::CommitGeneration); // COMMIT
        let slot = Slot::of(generation);
        let sink = Sink {
            id: Part::ALL.map(|part| region.load(Word::SinkId(slot, part))),
            position: region.load(Word::SinkPosition(slot)),
        };
        let turns = match shape.prefix {
            0 => Turns::Fair(Fair::new(most)),
            _ => Turns::Total(Tickets::new(most)),
        };
        Reader {
            shape,
            lanes: Lanes::new(most, region.load(Word::Ends(slot))),
            turns,
            generation,
            sink,
            is_changed: false,
            is_lagging: true,
            lagging: Vec::with_capacity(most),
        }
    }

    /// Reads this lane too, from the first message that was not committed on.
    /// Its number is how many were added before. If what it says of that is
    /// impossible, it is set aside at once.
    pub fn add(&mut self, lane: M) -> Result<(), Broken> {
        let index = self.lanes.len();
        let mut cursor = Cursor::new(lane, self.shape, Slot::of(self.generation));
        let taken = cursor.take_over().map_err(|corrupt| Broken { lane: index, corrupt });
        self.lanes.cursors.push(cursor);
        // Whoever committed last may have been killed while it wrote the other slot.
        self.lagging.push(index);
        match &mut self.turns {
            Turns::Fair(fair) => fair.add(index),
            Turns::Total(tickets) => tickets.add(),
        }
        taken
    }

    /// The next message or gap, as long as the last look at the lanes serves;
    /// `None`: look at them again.
    #[inline(always)]
    pub fn peek(&self) -> Result<Option<Record>, Broken> {
        match &self.turns {
            Turns::Fair(fair) => match fair.lane() {
                Some(lane) => Ok(self.lanes.peek(lane)?.filter(|record| record.kind != Kind::End)),
                None => Ok(None),
            },
            Turns::Total(tickets) => Ok(tickets.first()),
        }
    }

    /// Copies the next message to `buffer` and steps over it, as long as the last
    /// look at the lanes serves, and if it fits there. `None`, and nothing is
    /// done: go step by step.
    #[inline(always)]
    pub fn take(&mut self, buffer: &mut [u8]) -> Option<Record> {
        let Turns::Fair(fair) = &mut self.turns else { return self.take_in_order(buffer) };
        let message = self.lanes.take(fair.lane()?, buffer)?;
        fair.taken();
        Some(message)
    }

    /// [`take`](Reader::take) in total order.
    #[inline(never)]
    fn take_in_order(&mut self, buffer: &mut [u8]) -> Option<Record> {
        let message = self.peek().ok()??;
        if message.kind != Kind::Data || message.len > buffer.len() {
            return None;
        }
        self.read(&message, &mut buffer[..message.len]);
        self.advance(&message);
        Some(message)
    }

    /// True if [`scan`](Reader::scan) is to be asked before anything else; else
    /// the lane whose turn it was has nothing now.
    #[inline(always)]
    pub fn is_turn_over(&self) -> bool {
        match &self.turns {
            Turns::Fair(fair) => fair.is_over(),
            Turns::Total(_) => true,
        }
    }

    /// True if one of the lanes that [`scan`](Reader::scan) looks at each time has
    /// something, a message or not, but for an end mark. In fair order it is its
    /// turn then, if anything is left of one.
    #[inline(always)]
    pub fn glance(&mut self) -> bool {
        match &mut self.turns {
            Turns::Fair(fair) => fair.glance(&self.lanes),
            Turns::Total(_) => self.lanes.cursors.iter().any(Cursor::is_news_there),
        }
    }

    /// Starts a look at the lanes. Those that came into use are to be added
    /// after this and before [`scan`](Reader::scan).
    #[inline]
    pub fn begin(&mut self) {
        if let (Turns::Total(tickets), Some(region)) = (&mut self.turns, self.lanes.cursors.first()) {
            tickets.begin(region.memory());
        }
    }

    /// Looks at the lanes for the next message or gap; at all of them if `all`
    /// is true, else at those where it is likely, and at some of the others.
    pub fn scan(&mut self, all: bool) -> Result<Option<Record>, Broken> {
        match &mut self.turns {
            Turns::Fair(fair) => fair.scan(&mut self.lanes, all),
            Turns::Total(tickets) => tickets.scan(&mut self.lanes),
        }
    }

    /// The next record of one lane, an end mark too.
    #[inline]
    pub fn peek_lane(&self, lane: u32) -> Result<Option<Record>, Broken> {
        self.lanes.peek(lane)
    }

    /// Copies the payload of `record` to `bytes`, which is as long as it.
    #[inline]
    pub fn read(&self, record: &Record, bytes: &mut [u8]) {
        self.lanes.get(record.lane).read(record, bytes);
    }

    /// How many messages the gap `record` says were dropped.
    pub fn gap(&self, record: &Record) -> u64 {
        self.lanes.get(record.lane).gap(record)
    }

    /// Steps over `record`. It stays in the ring until the next commit.
    #[inline]
    pub fn advance(&mut self, record: &Record) {
        self.lanes.advance(record);
        match &mut self.turns {
            Turns::Fair(fair) => fair.taken(),
            Turns::Total(tickets) if record.kind != Kind::End => tickets.taken(&mut self.lanes),
            Turns::Total(_) => {}
        }
    }

    /// Looks at this lane no more: it holds something impossible. What was read
    /// of it before can be committed.
    pub fn set_aside(&mut self, lane: u32) {
        self.lanes.cursors[lane as usize].is_aside = true;
        if let Turns::Fair(fair) = &mut self.turns {
            fair.end_turn();
        }
    }

    /// The sink as the last commit left it, or as it was set since.
    pub fn sink(&self) -> Sink {
        self.sink
    }

    /// Says how far the sink is, from the next commit on.
    pub fn set_sink(&mut self, sink: Sink) {
        self.is_changed |= self.sink != sink;
        self.sink = sink;
    }

    /// Says that the death of the producer that left this state word was told,
    /// from the next commit on.
    pub fn set_death(&mut self, lane: u32, state: u64) {
        self.lanes.touch(lane).set_death(state);
    }

    /// Streams that ended since the end of all was told last.
    pub fn ends(&self) -> u64 {
        self.lanes.ends
    }

    /// Says how many streams ended, from the next commit on.
    pub fn set_ends(&mut self, ends: u64) {
        self.is_changed |= self.lanes.ends != ends;
        self.lanes.ends = ends;
    }

    /// Commits everything read so far, in all lanes, and the sink, in one
    /// store: a consumer that takes over goes on behind it, and the producers
    /// may overwrite it. False if there was nothing to commit.
    ///
    /// Each lane's position is in two slots, and one generation makes the same
    /// one valid in all lanes. So a lane that moves is written in this commit
    /// and in the next; in a lane that is not written both slots are equal.
    #[inline]
    pub fn commit(&mut self) -> bool {
        let Lanes { cursors, touched, ends, .. } = &mut self.lanes;
        if (touched.is_empty() && !self.is_changed) || cursors.is_empty() {
            return false;
        }
        let generation = self.generation.wrapping_add(1);
        let slot = Slot::of(generation);
        for &lane in touched.iter() {
            cursors[lane as usize].store(slot);
        }
        for &lane in &self.lagging {
            if !cursors[lane as usize].is_touched {
                cursors[lane as usize].store(slot);
            }
        }
        let region = cursors[0].memory();
        if self.is_changed || self.is_lagging {
            region.store(Word::SinkPosition(slot), self.sink.position);
            for (part, word) in Part::ALL.into_iter().zip(self.sink.id) {
                region.store(Word::SinkId(slot, part), word);
            }
        }
        region.store(Word::Ends(slot), *ends);
        region.store_release(Word::CommitGeneration, generation); // COMMIT
        region.keep_program_order();
        for &lane in touched.iter() {
            cursors[lane as usize].free();
        }
        self.generation = generation;
        self.is_lagging = std::mem::take(&mut self.is_changed);
        std::mem::swap(touched, &mut self.lagging);
        touched.clear();
        true
    }

    /// The lanes that the last commit moved: their producers gained room.
    pub fn freed(&self) -> &[u32] {
        &self.lagging
    }

    /// Bytes read and not committed, in all lanes.
    pub fn uncommitted(&self) -> u64 {
        self.lanes.touched.iter().map(|&lane| self.lanes.get(lane).uncommitted()).sum()
    }

    /// One of the lanes.
    pub fn lane(&self, lane: u32) -> &Cursor<M> {
        self.lanes.get(lane)
    }

    /// How many lanes there are.
    pub fn lane_count(&self) -> u32 {
        self.lanes.len()
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}
