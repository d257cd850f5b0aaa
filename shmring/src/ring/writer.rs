use super::{Corrupt, Fault, Memory, Shape};
use crate::layout::record::{self, GAP_BYTES, HEADER_BYTES, Kind, UNTERMINATED};
use crate::layout::{Cause, Slot, Word};

/// The producer's half of a lane.
///
/// A record is made in three steps: [`claim`](Writer::claim) room, write the
/// payload, [`stage`](Writer::stage). Staged records become visible together,
/// in one store, by [`publish`](Writer::publish).
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    shape: Shape,
    /// Published up to here.
    tail: u64,
    /// Of the next record.
    sequence: u64,
    bytes: u64,
    unterminated: u64,
    /// Dropped messages that published gaps tell of.
    gaps: u64,
    /// Dropped messages that no gap tells of yet.
    untold: u64,
    /// Messages ever dropped, by cause.
    dropped: [u64; Cause::ALL.len()],
    /// Records behind `tail`, complete and not visible.
    staged: Staged,
    /// The header that will publish them.
    first_header: u64,
    /// The last head seen; the true one is at or after it.
    head: u64,
    check_tail: u64,
    generation: u64,
    /// Bytes that records may take behind what is staged before anything else is due:
    /// a look at the head, a check point, a gap. Most messages ask only this.
    room: u64,
    /// The head was impossible once: no room is known of any more.
    is_corrupt: bool,
}

/// What is staged adds to the lane when it is published.
#[derive(Debug, Clone, Copy, Default)]
struct Staged {
    /// Bytes of the ring; 0: nothing is staged.
    size: u64,
    messages: u64,
    bytes: u64,
    unterminated: u64,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The consumer has to free bytes first.
    Full,
    /// The lane never accepts a payload of this length.
    TooLarge,
    /// The consumer's words are impossible.
    Corrupt(Corrupt),
}

/// How many messages the gap at `position` says were dropped.
pub(super) fn gap<M: Memory>(memory: &M, position: u64, shape: Shape) -> u64 {
    let mut bytes = [0; GAP_BYTES as usize];
    memory.read(position.wrapping_add(shape.before_payload()), &mut bytes);
    u64::from_le_bytes(bytes)
}

/// 1 for a message with the flag UNTERMINATED, else 0.
#[inline(always)]
fn unterminated(flags: u8) -> u64 {
    (flags & UNTERMINATED != 0) as u64
}

impl<M: Memory> Writer<M> {
    /// Takes the lane over from whoever had it, at its exact end: nothing
    /// published is lost, nothing unpublished appears. The caller holds the
    /// lane's lock. Doing it twice is the same as doing it once.
    pub fn take_over(memory: M, shape: Shape) -> Result<Writer<M>, Corrupt> {
        let generation = memory.load_acquire(Word::CheckGeneration); // CHECK
        let slot = Slot::of(generation);
        let check_tail = memory.load(Word::CheckTail(slot));
        let mut writer = Writer {
            shape,
            tail: check_tail,
            sequence: memory.load(Word::CheckSequence(slot)),
            bytes: memory.load(Word::CheckBytes(slot)),
            unterminated: memory.load(Word::CheckUnterminated(slot)),
            gaps: memory.load(Word::CheckGaps(slot)),
            dropped: Cause::ALL.map(|cause| memory.load(Word::CheckDropped(slot, cause))),
            staged: Staged::default(),
            untold: 0,
            first_header: 0,
            head: 0,
            check_tail,
            generation,
            room: 0,
            is_corrupt: false,
            memory,
        };
        writer.walk_to_end()?;
        // Only now: the consumer may be ahead of a stored tail.
        let head = writer.memory.load_acquire(Word::Head); // FREE
        if writer.tail.wrapping_sub(head) > shape.max_used() {
            return Err(Corrupt { fault: Fault::Head, position: writer.tail, value: head });
        }
        writer.head = head;
        let dropped = writer.dropped.iter().fold(0u64, |sum, &count| sum.wrapping_add(count));
        writer.untold = dropped.wrapping_sub(writer.gaps);
        writer.check_point();
        writer.store_hints();
        Ok(writer)
    }

    /// Steps over every record from the check point to the first zero header.
    fn walk_to_end(&mut self) -> Result<(), Corrupt> {
        let corrupt = |fault, position, value| Err(Corrupt { fault, position, value });
        if !self.tail.is_multiple_of(self.shape.align) {
            return corrupt(Fault::Position, self.tail, self.tail);
        }
        loop {
            let word = self.memory.header_acquire(self.tail); // PUBLISH
            if word == 0 {
                return Ok(());
            }
            let Some(head) = record::decode(word) else {
                return corrupt(Fault::Header, self.tail, word);
            };
            if !record::carries(head.sequence_low, self.sequence) {
                return corrupt(Fault::Sequence, self.tail, word);
            }
            let after = self.tail.wrapping_add(self.shape.record_size(head.len as u64));
            if after.wrapping_sub(self.check_tail) > self.shape.max_used() {
                return corrupt(Fault::Length, self.tail, word);
            }
            match head.kind {
                Kind::Data => {
                    self.sequence = self.sequence.wrapping_add(1);
                    self.bytes = self.bytes.wrapping_add(head.len as u64);
                    self.unterminated = self.unterminated.wrapping_add(unterminated(head.flags));
                }
                Kind::Gap => {
                    let dropped = gap(&self.memory, self.tail, self.shape);
                    self.sequence = self.sequence.wrapping_add(dropped);
                    self.gaps = self.gaps.wrapping_add(dropped);
                }
                Kind::End => {}
            }
            self.tail = after;
        }
    }

    /// Sends a message at once: all the steps below for one message alone, where
    /// none of them has anything else to do. False, and nothing is done, if one
    /// has, or if something is staged.
    #[inline(always)]
    pub fn send(&mut self, flags: u8, payload: &[u8]) -> bool {
        let (at, len) = (self.tail, payload.len());
        let size = self.shape.record_size(len as u64);
        if size > self.room || self.staged.size > 0 || self.shape.prefix > 0 {
            return false;
        }
        let header = record::encode(Kind::Data, flags, len as u32, self.sequence);
        let after = at.wrapping_add(size);
        self.memory.write(at.wrapping_add(HEADER_BYTES), payload);
        self.show(at, after, header);
        self.memory.prepare(after.wrapping_add(size.max(64)));
        self.room -= size;
        self.tail = after;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len as u64);
        self.unterminated = self.unterminated.wrapping_add(unterminated(flags));
        self.store_hints();
        true
    }

    /// True if there is room for a message of `len` bytes, and nothing else is
    /// due before it.
    #[inline(always)]
    pub fn has_room(&self, len: usize) -> bool {
        // The first keeps the second from wrapping.
        (len as u64) < self.room && self.shape.record_size(len as u64) <= self.room
    }

    /// Finds room for a message of `len` bytes behind what is staged.
    #[inline]
    pub fn claim(&mut self, len: usize) -> Result<(), Claim> {
        if self.has_room(len) { Ok(()) } else { self.claim_anew(len) }
    }

    #[inline(never)]
    fn claim_anew(&mut self, len: usize) -> Result<(), Claim> {
        let len = len as u64;
        if len > self.shape.max_len() {
            return Err(Claim::TooLarge);
        }
        self.make_room(self.shape.record_size(len) + self.shape.reserve())
    }

    /// Finds room for `size` bytes of records behind what is staged, and a zero
    /// word.
    fn make_room(&mut self, size: u64) -> Result<(), Claim> {
        let after = self.next().wrapping_add(size + HEADER_BYTES);
        if after.wrapping_sub(self.head) > self.shape.capacity {
            self.refresh_head().map_err(Claim::Corrupt)?;
            if after.wrapping_sub(self.head) > self.shape.capacity {
                return Err(Claim::Full);
            }
        }
        // The bytes at a stored tail must not be overwritten while it is the
        // one a takeover would start from.
        if after.wrapping_sub(self.check_tail) > self.shape.capacity {
            self.check_point();
        }
        Ok(())
    }

    fn refresh_head(&mut self) -> Result<(), Corrupt> {
        let head = self.memory.load_acquire(Word::Head); // FREE
        if head.wrapping_sub(self.head) > self.tail.wrapping_sub(self.head) {
            (self.room, self.is_corrupt) = (0, true);
            return Err(Corrupt { fault: Fault::Head, position: self.tail, value: head });
        }
        self.head = head;
        self.measure_room();
        Ok(())
    }

    /// True if the consumer has freed something since the last look at the head.
    #[inline(always)]
    pub fn is_freed(&self) -> bool {
        self.memory.load(Word::Head) != self.head
    }

    /// Finds out how far messages may go before something is due.
    fn measure_room(&mut self) {
        let capacity = self.shape.capacity;
        let after = self.next().wrapping_add(self.shape.reserve() + HEADER_BYTES);
        let free = capacity.saturating_sub(after.wrapping_sub(self.head));
        let before_check_point = (capacity / 8).saturating_sub(self.next().wrapping_sub(self.check_tail));
        // An eighth of a large ring is more than one message may have.
        let room = free.min(before_check_point).min(self.shape.max_len());
        self.room = if self.pending_gap() == 0 && !self.is_corrupt { room } else { 0 };
    }

    /// Writes payload bytes of the claimed message, from `offset` on. The
    /// caller stays within the length that it claimed.
    #[inline(always)]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.memory.write(self.payload_at().wrapping_add(offset as u64), bytes);
    }

    /// The position of the claimed message's payload.
    #[inline(always)]
    pub fn payload_at(&self) -> u64 {
        self.next().wrapping_add(self.shape.before_payload())
    }

    /// Completes a message of `len` bytes, at most what was claimed; it is
    /// not visible yet.
    #[inline(always)]
    pub fn stage(&mut self, flags: u8, len: usize) {
        self.stage_record(Kind::Data, flags, len, self.sequence.wrapping_add(self.staged.messages));
        self.staged.messages += 1;
        self.staged.bytes += len as u64;
        self.staged.unterminated += unterminated(flags);
    }

    #[inline(always)]
    fn stage_record(&mut self, kind: Kind, flags: u8, len: usize, sequence: u64) {
        let word = record::encode(kind, flags, len as u32, sequence);
        if self.staged.size == 0 {
            self.first_header = word;
        } else {
            self.memory.store_header(self.next(), word);
        }
        let size = self.shape.record_size(len as u64);
        self.staged.size += size;
        self.room = self.room.saturating_sub(size);
    }

    /// Makes the records from `at` to `after` visible, of which `header` is the
    /// first one's.
    #[inline(always)]
    fn show(&self, at: u64, after: u64, header: u64) {
        self.memory.store_header(after, 0);
        self.memory.store_header_release(at, header); // PUBLISH
    }

    /// Makes all that is staged visible, in one store.
    #[inline(always)]
    pub fn publish(&mut self) {
        if self.staged.size > 0 {
            self.publish_staged(0);
        }
    }

    /// Publishes what is staged, of which a gap is that many sequences.
    #[inline(always)]
    fn publish_staged(&mut self, gap: u64) {
        if self.shape.prefix > 0 {
            self.draw_tickets();
        }
        let after = self.next();
        self.show(self.tail, after, self.first_header);
        self.tail = after;
        self.sequence = self.sequence.wrapping_add(self.staged.messages).wrapping_add(gap);
        self.gaps = self.gaps.wrapping_add(gap);
        self.untold = self.untold.wrapping_sub(gap);
        self.bytes = self.bytes.wrapping_add(self.staged.bytes);
        self.unterminated = self.unterminated.wrapping_add(self.staged.unterminated);
        self.staged = Staged::default();
        self.store_hints();
        if self.tail.wrapping_sub(self.check_tail) >= self.shape.capacity / 8 {
            self.check_point();
        }
    }

    /// Gives each staged message its ticket. Only now: with a ticket drawn
    /// earlier, a message that was published meanwhile, and known to be, could
    /// come after this one.
    #[inline(never)]
    fn draw_tickets(&mut self) {
        let count = self.staged.messages;
        if count == 0 {
            return;
        }
        let first = self.memory.add(Word::Tickets, count); // TICKET
        let mut at = self.tail;
        let mut header = self.first_header;
        for ticket in (0..count).map(|i| first.wrapping_add(i)) {
            self.memory.store_header(at.wrapping_add(HEADER_BYTES), ticket);
            let len = record::decode(header).map_or(0, |head| head.len);
            at = at.wrapping_add(self.shape.record_size(len as u64));
            if at != self.next() {
                header = self.memory.header(at);
            }
        }
    }

    /// Drops a message: it takes a sequence, and never comes. What is staged
    /// is published first. A check point tells whoever comes after.
    pub fn drop_message(&mut self, cause: Cause) {
        self.publish();
        let count = &mut self.dropped[cause as usize];
        *count = count.wrapping_add(1);
        self.untold = self.untold.wrapping_add(1);
        self.check_point();
        self.store_hints();
    }

    /// Publishes a gap for the messages that were dropped since the last one,
    /// if there are any, and if there is room for it and for the message of
    /// `len` bytes that follows: no gap for each message that is dropped.
    pub fn publish_gap(&mut self, len: usize) -> Result<(), Claim> {
        if self.pending_gap() == 0 {
            return Ok(());
        }
        if len as u64 > self.shape.max_len() {
            return Err(Claim::TooLarge);
        }
        self.publish();
        let gap = self.shape.record_size(GAP_BYTES);
        self.make_room(match self.gap_beside(len) {
            0 => gap + self.shape.reserve(),
            gap => gap + self.shape.record_size(len as u64) + self.shape.reserve(),
        })?;
        self.put_gap();
        Ok(())
    }

    /// Bytes of the gap that is due, if the ring can hold it and a message of
    /// `len` bytes at a time; else it goes alone, and the message later.
    fn gap_beside(&self, len: usize) -> u64 {
        let gap = self.shape.record_size(GAP_BYTES);
        let both = gap + self.shape.record_size(len as u64) + self.shape.reserve();
        if self.pending_gap() > 0 && both <= self.shape.max_used() { gap } else { 0 }
    }

    fn put_gap(&mut self) {
        let gap = self.pending_gap();
        self.write(0, &gap.to_le_bytes());
        self.stage_record(Kind::Gap, 0, GAP_BYTES as usize, self.sequence);
        self.publish_staged(gap);
        self.measure_room();
    }

    /// Messages that were dropped and that no gap tells of yet.
    #[inline(always)]
    pub fn pending_gap(&self) -> u64 {
        self.untold
    }

    /// Forgets what is staged and not published.
    #[inline(always)]
    pub fn abort(&mut self) {
        if self.staged.size > 0 {
            self.abort_staged();
        }
    }

    #[cold]
    fn abort_staged(&mut self) {
        self.staged = Staged::default();
        self.measure_room();
    }

    /// Publishes what is staged, a gap if one is due, then an end mark. Never
    /// waits: every message left room for them. Without room the last record
    /// already is an end mark that nobody consumed.
    pub fn end(&mut self) -> Result<(), Corrupt> {
        self.publish();
        let room = |claim| match claim {
            Ok(()) => Ok(true),
            Err(Claim::Corrupt(corrupt)) => Err(corrupt),
            Err(Claim::Full | Claim::TooLarge) => Ok(false),
        };
        if self.pending_gap() > 0 && room(self.make_room(self.shape.reserve()))? {
            self.put_gap();
        }
        self.check_point();
        if room(self.make_room(self.shape.record_size(0)))? {
            self.stage_record(Kind::End, 0, 0, self.sequence);
            self.publish_staged(0);
        }
        Ok(())
    }

    /// Writes down where the tail is, for the next owner: one of two slots,
    /// then the generation that makes it valid.
    #[inline(never)]
    pub fn check_point(&mut self) {
        let generation = self.generation.wrapping_add(1);
        let slot = Slot::of(generation);
        self.memory.store(Word::CheckTail(slot), self.tail);
        self.memory.store(Word::CheckSequence(slot), self.sequence);
        self.memory.store(Word::CheckBytes(slot), self.bytes);
        self.memory.store(Word::CheckUnterminated(slot), self.unterminated);
        self.memory.store(Word::CheckGaps(slot), self.gaps);
        for cause in Cause::ALL {
            self.memory.store(Word::CheckDropped(slot, cause), self.dropped[cause as usize]);
        }
        self.memory.store_release(Word::CheckGeneration, generation); // CHECK
        // What is overwritten next may lie behind the old check point.
        self.memory.keep_program_order();
        self.generation = generation;
        self.check_tail = self.tail;
        self.measure_room();
    }

    #[inline(always)]
    fn store_hints(&self) {
        self.memory.store(Word::TailHint, self.tail);
        self.memory.store(Word::SequenceHint, self.sequence());
    }

    /// The head position from which on a message of `len` bytes fits and an
    /// eighth of the ring is free: what a blocked producer waits for.
    pub fn head_wanted(&self, len: usize) -> u64 {
        let need = self.head_needed(len);
        let eighth = self.tail.wrapping_add(self.shape.capacity / 8).wrapping_sub(self.shape.capacity);
        if need.wrapping_sub(eighth) as i64 > 0 { need } else { eighth }
    }

    /// The head position from which on a message of `len` bytes fits.
    pub fn head_needed(&self, len: usize) -> u64 {
        let size =
            self.gap_beside(len) + self.shape.record_size(len as u64) + self.shape.reserve() + HEADER_BYTES;
        self.next().wrapping_add(size).wrapping_sub(self.shape.capacity)
    }

    /// The position behind what is staged.
    #[inline(always)]
    fn next(&self) -> u64 {
        self.tail.wrapping_add(self.staged.size)
    }

    /// Messages staged and not published.
    #[inline(always)]
    pub fn staged(&self) -> u64 {
        self.staged.messages
    }

    /// The sequence that the next message takes, dropped or published.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.sequence.wrapping_add(self.pending_gap())
    }

    /// Messages ever dropped in this lane for that cause.
    pub fn dropped(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize]
    }

    /// Payload bytes ever published in this lane.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages with the flag UNTERMINATED ever published in this lane.
    pub fn unterminated(&self) -> u64 {
        self.unterminated
    }

    /// True if all that is published was committed but for end marks, as far as
    /// it knows: at takeover it does. They stay until the end of all is told.
    pub fn is_drained(&self) -> bool {
        let mark = self.shape.record_size(0);
        let mut left = self.tail.wrapping_sub(self.head);
        while left >= mark {
            let word = self.memory.header(self.tail.wrapping_sub(left));
            if record::decode(word).is_none_or(|head| head.kind != Kind::End) {
                return false;
            }
            left -= mark;
        }
        left == 0
    }

    /// The position of the next record to be published.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The memory below.
    pub fn memory(&self) -> &M {
        &self.memory
    }
}
