//! The blocks that change while a region is in use: control, lane, owner, extent.
//!
//! Every place has one access width for its whole life: 64-bit words, except
//! the two sleep words, which are 32 bits and alone in their 128 bytes. What
//! different processes write is 128 bytes apart (two cache lines, because
//! processors fetch them in pairs).

use super::field::{Field, well_placed};

/// Distance in bytes between words that different processes write.
pub const SEPARATION: usize = 128;

/// The region-wide block, one page.
pub mod control {
    use super::*;

    /// Bytes.
    pub const LEN: usize = 0x1000;

    /// The consumer's sleep word, u32: every producer wakes this one.
    pub const CONSUMER_SLEEP: Field = Field::new("consumer_sleep", 0x000, 4);

    // The consumer's line: what it commits besides each lane's position.
    pub(crate) const COMMIT_GENERATION: Field = Field::new("commit_generation", 0x080, 8);
    pub(crate) const SINK_POSITION_A: Field = Field::new("sink_position_a", 0x088, 8);
    pub(crate) const SINK_POSITION_B: Field = Field::new("sink_position_b", 0x090, 8);
    pub(crate) const ENDS_A: Field = Field::new("ends_a", 0x098, 8);
    pub(crate) const ENDS_B: Field = Field::new("ends_b", 0x0A0, 8);
    pub(crate) const SINK_ID_A: Field = Field::new("sink_id_a", 0x0C0, 32);
    pub(crate) const SINK_ID_B: Field = Field::new("sink_id_b", 0x0E0, 32);

    /// Counts producer attaches, in all lanes.
    pub const ATTACHES: Field = Field::new("attaches", 0x100, 8);

    /// The next ticket, in a region of total order.
    pub const TICKETS: Field = Field::new("tickets", 0x180, 8);

    /// All fields of format 1.0, ascending.
    pub const FIELDS: &[Field] = &[
        CONSUMER_SLEEP,
        COMMIT_GENERATION,
        SINK_POSITION_A,
        SINK_POSITION_B,
        ENDS_A,
        ENDS_B,
        SINK_ID_A,
        SINK_ID_B,
        ATTACHES,
        TICKETS,
    ];
    const _: () = {
        assert!(well_placed(FIELDS, LEN));
        assert!(COMMIT_GENERATION.offset == SEPARATION && SINK_ID_B.end() <= 2 * SEPARATION);
        assert!(ATTACHES.offset == 2 * SEPARATION && TICKETS.offset == 3 * SEPARATION);
    };
}

/// A lane's control block.
pub mod lane {
    use super::*;

    /// Bytes from one lane's block to the next.
    pub const STRIDE: usize = 0x800;

    // The producer's lines.
    pub(crate) const CHECK_GENERATION: Field = Field::new("check_generation", 0x000, 8);
    /// Where the next record will go: a hint for people, never trusted.
    pub const TAIL_HINT: Field = Field::new("tail_hint", 0x008, 8);
    /// The sequence of the next message: a hint for people, never trusted.
    pub const SEQUENCE_HINT: Field = Field::new("sequence_hint", 0x010, 8);
    pub(crate) const CHECK_TAIL_A: Field = Field::new("check_tail_a", 0x040, 8);
    pub(crate) const CHECK_SEQUENCE_A: Field = Field::new("check_sequence_a", 0x048, 8);
    pub(crate) const CHECK_BYTES_A: Field = Field::new("check_bytes_a", 0x050, 8);
    pub(crate) const CHECK_UNTERMINATED_A: Field = Field::new("check_unterminated_a", 0x058, 8);
    pub(crate) const CHECK_GAPS_A: Field = Field::new("check_gaps_a", 0x060, 8);
    pub(crate) const CHECK_DROPPED_FULL_A: Field = Field::new("check_dropped_full_a", 0x068, 8);
    pub(crate) const CHECK_DROPPED_LATE_A: Field = Field::new("check_dropped_late_a", 0x070, 8);
    pub(crate) const CHECK_TAIL_B: Field = Field::new("check_tail_b", 0x080, 8);
    pub(crate) const CHECK_SEQUENCE_B: Field = Field::new("check_sequence_b", 0x088, 8);
    pub(crate) const CHECK_BYTES_B: Field = Field::new("check_bytes_b", 0x090, 8);
    pub(crate) const CHECK_UNTERMINATED_B: Field = Field::new("check_unterminated_b", 0x098, 8);
    pub(crate) const CHECK_GAPS_B: Field = Field::new("check_gaps_b", 0x0A0, 8);
    pub(crate) const CHECK_DROPPED_FULL_B: Field = Field::new("check_dropped_full_b", 0x0A8, 8);
    pub(crate) const CHECK_DROPPED_LATE_B: Field = Field::new("check_dropped_late_b", 0x0B0, 8);

    // The consumer's line.
    /// Everything before this position is free for the producer.
    pub const HEAD: Field = Field::new("head", 0x100, 8);
    pub(crate) const HEAD_POSITION_A: Field = Field::new("head_position_a", 0x108, 8);
    pub(crate) const HEAD_SEQUENCE_A: Field = Field::new("head_sequence_a", 0x110, 8);
    pub(crate) const HEAD_POSITION_B: Field = Field::new("head_position_b", 0x118, 8);
    pub(crate) const HEAD_SEQUENCE_B: Field = Field::new("head_sequence_b", 0x120, 8);
    pub(crate) const HEAD_DEATH_A: Field = Field::new("head_death_a", 0x128, 8);
    pub(crate) const HEAD_DEATH_B: Field = Field::new("head_death_b", 0x130, 8);

    /// The producer's sleep word, u32: the consumer wakes it when there is room.
    pub const PRODUCER_SLEEP: Field = Field::new("producer_sleep", 0x180, 4);

    // Seldom written.
    /// Who had the lane last and how that ended: see [`super::LaneState`].
    pub const STATE: Field = Field::new("state", 0x200, 8);
    /// The head position that a blocked producer waits for.
    pub(crate) const WANTED_HEAD: Field = Field::new("wanted_head", 0x208, 8);
    /// 1 once the lane's data has its disk or memory space.
    pub const READY: Field = Field::new("ready", 0x210, 8);
    /// 1 while all messages of the lane come from the source in `source_id`.
    pub(crate) const SOURCE_BOUND: Field = Field::new("source_bound", 0x218, 8);
    /// What the caller calls that source.
    pub(crate) const SOURCE_ID: Field = Field::new("source_id", 0x220, 32);
    /// 1 if the lane is kept for the producer called `name`.
    pub(crate) const NAMED: Field = Field::new("named", 0x240, 8);
    /// That producer's name.
    pub(crate) const NAME: Field = Field::new("name", 0x248, 32);

    /// All fields of format 1.0, ascending.
    pub const FIELDS: &[Field] = &[
        CHECK_GENERATION,
        TAIL_HINT,
        SEQUENCE_HINT,
        CHECK_TAIL_A,
        CHECK_SEQUENCE_A,
        CHECK_BYTES_A,
        CHECK_UNTERMINATED_A,
        CHECK_GAPS_A,
        CHECK_DROPPED_FULL_A,
        CHECK_DROPPED_LATE_A,
        CHECK_TAIL_B,
        CHECK_SEQUENCE_B,
        CHECK_BYTES_B,
        CHECK_UNTERMINATED_B,
        CHECK_GAPS_B,
        CHECK_DROPPED_FULL_B,
        CHECK_DROPPED_LATE_B,
        HEAD,
        HEAD_POSITION_A,
        HEAD_SEQUENCE_A,
        HEAD_POSITION_B,
        HEAD_SEQUENCE_B,
        HEAD_DEATH_A,
        HEAD_DEATH_B,
        PRODUCER_SLEEP,
        STATE,
        WANTED_HEAD,
        READY,
        SOURCE_BOUND,
        SOURCE_ID,
        NAMED,
        NAME,
    ];
    const _: () = {
        assert!(well_placed(FIELDS, STRIDE));
        assert!(CHECK_DROPPED_LATE_B.end() <= 2 * SEPARATION);
        assert!(HEAD.offset == 2 * SEPARATION && HEAD_DEATH_B.end() <= 3 * SEPARATION);
        assert!(PRODUCER_SLEEP.offset == 3 * SEPARATION && STATE.offset == 4 * SEPARATION);
    };
}

/// An owner slot: who holds a role. For people, never evidence; slot 0 is the
/// consumer's, slot 1 + i is that of lane i's producer.
pub mod owner {
    use super::*;

    /// Bytes from one slot to the next.
    pub const STRIDE: usize = 128;

    /// Process id in its own pid namespace.
    pub const PID: Field = Field::new("pid", 0x00, 8);
    /// Inode of that pid namespace.
    pub const PID_NAMESPACE: Field = Field::new("pid_namespace", 0x08, 8);
    /// Start time of the process in clock ticks after boot.
    pub const START_TICKS: Field = Field::new("start_ticks", 0x10, 8);
    /// Effective user id.
    pub const UID: Field = Field::new("uid", 0x18, 8);
    /// The first 16 bytes of the command's name.
    pub const COMMAND: Field = Field::new("command", 0x20, 16);
    /// When it attached, in nanoseconds since 1970.
    pub const ATTACHED_NS: Field = Field::new("attached_ns", 0x30, 8);

    /// All fields of format 1.0, ascending.
    pub const FIELDS: &[Field] = &[PID, PID_NAMESPACE, START_TICKS, UID, COMMAND, ATTACHED_NS];
    const _: () = assert!(well_placed(FIELDS, STRIDE));
}

/// A lane's extent table: where its data lies. Format 1.0 uses the first entry.
pub mod extent {
    use super::*;

    /// Bytes from one lane's table to the next: 8 entries of 32 bytes.
    pub const STRIDE: usize = 256;

    /// The position of the extent's first byte.
    pub const FIRST_POSITION: Field = Field::new("first_position", 0x00, 8);
    /// Bytes from the start of the file.
    pub const FILE_OFFSET: Field = Field::new("file_offset", 0x08, 8);
    /// Bytes.
    pub const CAPACITY: Field = Field::new("capacity", 0x10, 8);

    /// All fields of format 1.0, ascending.
    pub const FIELDS: &[Field] = &[FIRST_POSITION, FILE_OFFSET, CAPACITY];
    const _: () = assert!(well_placed(FIELDS, STRIDE));
}

/// One of two slots that are written in turn, so that one is always whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Valid while the generation is even.
    A,
    /// Valid while the generation is odd.
    B,
}

impl Slot {
    /// The slot that `generation` makes valid.
    #[inline(always)]
    pub fn of(generation: u64) -> Slot {
        if generation.is_multiple_of(2) { Slot::A } else { Slot::B }
    }
}

/// The 64-bit words that the ring works on: those of the region-wide block, and
/// those of one lane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Which commit slots are valid, the region's and each lane's.
    CommitGeneration,
    /// How far the consumer's sink is with that commit.
    SinkPosition(Slot),
    /// Streams that ended since the consumer last told the end of all.
    Ends(Slot),
    /// What the caller calls that sink, a word of four; all 0: there is none.
    SinkId(Slot, Part),
    /// See [`control::ATTACHES`].
    Attaches,
    /// See [`control::TICKETS`].
    Tickets,

    /// Which check-point slot is valid.
    CheckGeneration,
    /// See [`lane::TAIL_HINT`].
    TailHint,
    /// See [`lane::SEQUENCE_HINT`].
    SequenceHint,
    /// A position that the true tail is at or after.
    CheckTail(Slot),
    /// The sequence at that position.
    CheckSequence(Slot),
    /// Payload bytes ever published before that position.
    CheckBytes(Slot),
    /// Messages with the flag UNTERMINATED ever published before that position.
    CheckUnterminated(Slot),
    /// Dropped messages that gap records before that position tell of.
    CheckGaps(Slot),
    /// Messages ever dropped for that cause.
    CheckDropped(Slot, Cause),
    /// See [`lane::HEAD`].
    Head,
    /// The lane's committed position.
    HeadPosition(Slot),
    /// The sequence of the first message that is not committed.
    HeadSequence(Slot),
    /// The state word as of the last death that was told.
    HeadDeath(Slot),
    /// See [`LaneState`].
    State,
    /// The head position that a blocked producer waits for.
    WantedHead,
    /// See [`lane::READY`].
    Ready,
    /// 1 while all messages of the lane come from one source of the caller's.
    SourceBound,
    /// What the caller calls that source, a word of four.
    SourceId(Part),
    /// 1 if the lane is kept for the producer of that name.
    Named,
    /// That producer's name, a word of four.
    Name(Part),
}

/// Why a message was dropped instead of sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The ring was full.
    Full,
    /// The ring was full until a deadline passed.
    Deadline,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 2] = [Cause::Full, Cause::Deadline];
}

/// One word of an id of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are numbers")]
pub enum Part {
    First = 0,
    Second = 1,
    Third = 2,
    Fourth = 3,
}

impl Part {
    /// All four, in the order of their places.
    pub const ALL: [Part; 4] = [Part::First, Part::Second, Part::Third, Part::Fourth];

    const fn bytes(self) -> usize {
        self as usize * 8
    }
}

/// Bytes from the start of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The region-wide block.
    Region(usize),
    /// A lane's block.
    Lane(usize),
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 52] = [
        Word::CommitGeneration,
        Word::SinkPosition(Slot::A),
        Word::SinkPosition(Slot::B),
        Word::Ends(Slot::A),
        Word::Ends(Slot::B),
        Word::SinkId(Slot::A, Part::First),
        Word::SinkId(Slot::A, Part::Second),
        Word::SinkId(Slot::A, Part::Third),
        Word::SinkId(Slot::A, Part::Fourth),
        Word::SinkId(Slot::B, Part::First),
        Word::SinkId(Slot::B, Part::Second),
        Word::SinkId(Slot::B, Part::Third),
        Word::SinkId(Slot::B, Part::Fourth),
        Word::Attaches,
        Word::Tickets,
        Word::CheckGeneration,
        Word::TailHint,
        Word::SequenceHint,
        Word::CheckTail(Slot::A),
        Word::CheckTail(Slot::B),
        Word::CheckSequence(Slot::A),
        Word::CheckSequence(Slot::B),
        Word::CheckBytes(Slot::A),
        Word::CheckBytes(Slot::B),
        Word::CheckUnterminated(Slot::A),
        Word::CheckUnterminated(Slot::B),
        Word::CheckGaps(Slot::A),
        Word::CheckGaps(Slot::B),
        Word::CheckDropped(Slot::A, Cause::Full),
        Word::CheckDropped(Slot::B, Cause::Full),
        Word::CheckDropped(Slot::A, Cause::Deadline),
        Word::CheckDropped(Slot::B, Cause::Deadline),
        Word::Head,
        Word::HeadPosition(Slot::A),
        Word::HeadPosition(Slot::B),
        Word::HeadSequence(Slot::A),
        Word::HeadSequence(Slot::B),
        Word::HeadDeath(Slot::A),
        Word::HeadDeath(Slot::B),
        Word::State,
        Word::WantedHead,
        Word::Ready,
        Word::SourceBound,
        Word::SourceId(Part::First),
        Word::SourceId(Part::Second),
        Word::SourceId(Part::Third),
        Word::SourceId(Part::Fourth),
        Word::Named,
        Word::Name(Part::First),
        Word::Name(Part::Second),
        Word::Name(Part::Third),
        Word::Name(Part::Fourth),
    ];

    /// Where it is.
    #[inline(always)]
    pub const fn place(self) -> Place {
        match self {
            Word::CommitGeneration => Place::Region(control::COMMIT_GENERATION.offset),
            Word::SinkPosition(Slot::A) => Place::Region(control::SINK_POSITION_A.offset),
            Word::SinkPosition(Slot::B) => Place::Region(control::SINK_POSITION_B.offset),
            Word::Ends(Slot::A) => Place::Region(control::ENDS_A.offset),
            Word::Ends(Slot::B) => Place::Region(control::ENDS_B.offset),
            Word::SinkId(Slot::A, part) => Place::Region(control::SINK_ID_A.offset + part.bytes()),
            Word::SinkId(Slot::B, part) => Place::Region(control::SINK_ID_B.offset + part.bytes()),
            Word::Attaches => Place::Region(control::ATTACHES.offset),
            Word::Tickets => Place::Region(control::TICKETS.offset),
            Word::CheckGeneration => Place::Lane(lane::CHECK_GENERATION.offset),
            Word::TailHint => Place::Lane(lane::TAIL_HINT.offset),
            Word::SequenceHint => Place::Lane(lane::SEQUENCE_HINT.offset),
            Word::CheckTail(Slot::A) => Place::Lane(lane::CHECK_TAIL_A.offset),
            Word::CheckTail(Slot::B) => Place::Lane(lane::CHECK_TAIL_B.offset),
            Word::CheckSequence(Slot::A) => Place::Lane(lane::CHECK_SEQUENCE_A.offset),
            Word::CheckSequence(Slot::B) => Place::Lane(lane::CHECK_SEQUENCE_B.offset),
            Word::CheckBytes(Slot::A) => Place::Lane(lane::CHECK_BYTES_A.offset),
            Word::CheckBytes(Slot::B) => Place::Lane(lane::CHECK_BYTES_B.offset),
            Word::CheckUnterminated(Slot::A) => Place::Lane(lane::CHECK_UNTERMINATED_A.offset),
            Word::CheckUnterminated(Slot::B) => Place::Lane(lane::CHECK_UNTERMINATED_B.offset),
            Word::CheckGaps(Slot::A) => Place::Lane(lane::CHECK_GAPS_A.offset),
            Word::CheckGaps(Slot::B) => Place::Lane(lane::CHECK_GAPS_B.offset),
            Word::CheckDropped(Slot::A, Cause::Full) => Place::Lane(lane::CHECK_DROPPED_FULL_A.offset),
            Word::CheckDropped(Slot::B, Cause::Full) => Place::Lane(lane::CHECK_DROPPED_FULL_B.offset),
            Word::CheckDropped(Slot::A, Cause::Deadline) => Place::Lane(lane::CHECK_DROPPED_LATE_A.offset),
            Word::CheckDropped(Slot::B, Cause::Deadline) => Place::Lane(lane::CHECK_DROPPED_LATE_B.offset),
            Word::Head => Place::Lane(lane::HEAD.offset),
            Word::HeadPosition(Slot::A) => Place::Lane(lane::HEAD_POSITION_A.offset),
            Word::HeadPosition(Slot::B) => Place::Lane(lane::HEAD_POSITION_B.offset),
            Word::HeadSequence(Slot::A) => Place::Lane(lane::HEAD_SEQUENCE_A.offset),
            Word::HeadSequence(Slot::B) => Place::Lane(lane::HEAD_SEQUENCE_B.offset),
            Word::HeadDeath(Slot::A) => Place::Lane(lane::HEAD_DEATH_A.offset),
            Word::HeadDeath(Slot::B) => Place::Lane(lane::HEAD_DEATH_B.offset),
            Word::State => Place::Lane(lane::STATE.offset),
            Word::WantedHead => Place::Lane(lane::WANTED_HEAD.offset),
            Word::Ready => Place::Lane(lane::READY.offset),
            Word::SourceBound => Place::Lane(lane::SOURCE_BOUND.offset),
            Word::SourceId(part) => Place::Lane(lane::SOURCE_ID.offset + part.bytes()),
            Word::Named => Place::Lane(lane::NAMED.offset),
            Word::Name(part) => Place::Lane(lane::NAME.offset + part.bytes()),
        }
    }
}

/// A lane's state word: `{epoch: 32, deaths: 24, phase: 8}` from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneState {
    /// Counts producer attaches, wrapping.
    pub epoch: u32,
    /// Producers that were found dead without an end mark, wrapping at 24 bits.
    pub deaths: u32,
    /// Where the lane is in its life.
    pub phase: Phase,
}

/// Where a lane is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No producer ever attached.
    Fresh = 0,
    /// A producer attached and has not closed. Whether it lives its lock tells.
    Open = 1,
    /// The last producer closed.
    Closed = 2,
    /// The last producer died, and a consumer has taken note of it.
    Dead = 3,
}

impl LaneState {
    /// The word.
    pub fn encode(self) -> u64 {
        (self.epoch as u64) << 32 | (self.deaths as u64 & 0xFF_FFFF) << 8 | self.phase as u64
    }

    /// Takes a word apart; `None` for a phase that format 1.0 does not know.
    pub fn decode(word: u64) -> Option<LaneState> {
        let phase = match word as u8 {
            0 => Phase::Fresh,
            1 => Phase::Open,
            2 => Phase::Closed,
            3 => Phase::Dead,
            _ => return None,
        };
        Some(LaneState { epoch: (word >> 32) as u32, deaths: (word >> 8) as u32 & 0xFF_FFFF, phase })
    }

    /// The state when a producer takes the lane: one that was open has died,
    /// unless it `is_back`.
    pub fn opened(self, is_back: bool) -> LaneState {
        let died = self.phase == Phase::Open && !is_back;
        LaneState { epoch: self.epoch.wrapping_add(1), deaths: self.deaths + died as u32, phase: Phase::Open }
    }

    /// The state after the producer's orderly end.
    pub fn closed(self) -> LaneState {
        LaneState { phase: Phase::Closed, ..self }
    }

    /// The state after a consumer took note of the producer's death.
    pub fn died(self) -> LaneState {
        LaneState { deaths: self.deaths + 1, phase: Phase::Dead, ..self }
    }

    /// How many producers died before this state and after `told`, the state
    /// that the last one left of whom that was told.
    pub fn deaths_since(self, told: Option<LaneState>) -> u32 {
        let before = told.map_or(0, |told| told.died().deaths);
        let since = self.deaths.wrapping_sub(before) & 0xFF_FFFF;
        // One that came back was told to be dead, and does not count.
        if since < 0x80_0000 { since } else { 0 }
    }

    /// A state to note instead of the one that a producer left whose death
    /// another one hid by taking the lane.
    pub fn hidden(self, told: Option<LaneState>) -> LaneState {
        let deaths = told.map_or(0, |told| told.died().deaths) & 0xFF_FFFF;
        LaneState { epoch: self.epoch.wrapping_sub(1), deaths, phase: Phase::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_place_of_its_own() {
        let places = Word::ALL.map(Word::place);
        for (i, place) in places.iter().enumerate() {
            assert!(!places[..i].contains(place), "{place:?} twice");
            let (at, len) = match *place {
                Place::Region(at) => (at, control::LEN),
                Place::Lane(at) => (at, lane::STRIDE),
            };
            assert!(at % 8 == 0 && at + 8 <= len);
        }
    }

    #[test]
    fn a_state_comes_back_as_it_went_in() {
        for phase in [Phase::Fresh, Phase::Open, Phase::Closed, Phase::Dead] {
            let state = LaneState { epoch: u32::MAX, deaths: 0xFF_FFFF, phase };
            assert_eq!(LaneState::decode(state.encode()), Some(state));
        }
        assert_eq!(LaneState::decode(4), None);
    }

    #[test]
    fn a_lane_found_open_counts_a_death() {
        let fresh = LaneState::decode(0).unwrap();
        let open = fresh.opened(false);
        assert_eq!((open.epoch, open.deaths, open.phase), (1, 0, Phase::Open));
        assert_eq!((open.opened(false).deaths, open.opened(true).deaths), (1, 0));
        assert_eq!(open.closed().opened(false).deaths, 0);
        assert_eq!((open.died().deaths, open.died().opened(false).deaths), (1, 1));
        let wrapped = LaneState { deaths: 0xFF_FFFF, ..open }.opened(false);
        assert_eq!(LaneState::decode(wrapped.encode()).unwrap().deaths, 0);
    }

    #[test]
    fn deaths_that_nobody_was_told_of_are_known() {
        let first = LaneState::decode(0).unwrap().opened(false);
        assert_eq!((first.deaths_since(None), first.died().deaths_since(Some(first))), (0, 0));
        let third = first.opened(false).opened(false);
        assert_eq!(third.deaths_since(None), 2);
        let told = third.hidden(None);
        assert_eq!(third.deaths_since(Some(told)), 1);
        let told = third.hidden(Some(told));
        assert_eq!((third.deaths_since(Some(told)), third.closed().deaths_since(Some(told))), (0, 0));
        assert_eq!(third.died().deaths_since(Some(told)), 1);
        // It was told, and came back.
        assert_eq!(third.opened(true).deaths_since(Some(third)), 0);
    }
}
