//! All owners of a region, and the oracle beside them.

use super::*;

/// What the owners may do. Lengths are parts of the longest message, in 256ths:
/// most are short, some are exact. Lanes count from 0 again behind the last.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    Send {
        lane: u8,
        part: u16,
        flags: u8,
    },
    /// In one go if nothing else is due, else step by step.
    SendAtOnce {
        lane: u8,
        part: u16,
        flags: u8,
    },
    Stage {
        lane: u8,
        part: u16,
        used: u8,
        flags: u8,
    },
    TooLong {
        lane: u8,
    },
    Publish {
        lane: u8,
    },
    Abort {
        lane: u8,
    },
    Drop {
        lane: u8,
        cause: Cause,
    },
    End {
        lane: u8,
    },
    NewWriter {
        lane: u8,
    },
    /// A further lane is read from the next look on.
    UseLane,
    NewReader,
    Read(u8),
    /// In one go if it can be, after a glance if the turn is over.
    Take {
        count: u8,
        buffer: u16,
        glance: bool,
    },
    ReadAll,
    /// Tells the end of all, if it is there.
    TellEnd,
    /// Looks so often at all lanes, or at those where a record is likely.
    Look {
        times: u16,
        all: bool,
    },
    Sink(u64),
    Commit,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let part = || prop_oneof![4 => 0u16..64, 2 => 0u16..=256, 1 => Just(256)];
    let flags = 0..=KNOWN_FLAGS;
    let lane = 0u8..4;
    let stage = (lane.clone(), part(), any::<u8>(), flags.clone());
    let send = (lane.clone(), part(), flags.clone());
    let take = (1u8..70, part(), any::<bool>());
    let look = (prop_oneof![8 => 0u16..4, 1 => 300u16..1100], any::<bool>());
    let cause = select(Cause::ALL.to_vec());
    prop_oneof![
        9 => (lane.clone(), part(), flags).prop_map(|(lane, part, flags)| Op::Send { lane, part, flags }),
        9 => send.prop_map(|(lane, part, flags)| Op::SendAtOnce { lane, part, flags }),
        4 => stage.prop_map(|(lane, part, used, flags)| Op::Stage { lane, part, used, flags }),
        1 => lane.clone().prop_map(|lane| Op::TooLong { lane }),
        4 => lane.clone().prop_map(|lane| Op::Publish { lane }),
        1 => lane.clone().prop_map(|lane| Op::Abort { lane }),
        3 => (lane.clone(), cause).prop_map(|(lane, cause)| Op::Drop { lane, cause }),
        2 => lane.clone().prop_map(|lane| Op::End { lane }),
        1 => lane.prop_map(|lane| Op::NewWriter { lane }),
        1 => Just(Op::UseLane),
        1 => Just(Op::NewReader),
        8 => (1u8..5).prop_map(Op::Read),
        8 => take.prop_map(|(count, buffer, glance)| Op::Take { count, buffer, glance }),
        1 => Just(Op::ReadAll),
        1 => Just(Op::TellEnd),
        1 => look.prop_map(|(times, all)| Op::Look { times, all }),
        1 => any::<u64>().prop_map(Op::Sink),
        4 => Just(Op::Commit),
    ]
}

pub(super) struct Group<'a> {
    heaps: &'a [Heap],
    oracle: Oracle,
    writers: Vec<Writer<&'a Heap>>,
    reader: Reader<&'a Heap>,
    /// How many lanes the reader is to read.
    wanted: usize,
    is_changed: bool,
}

impl<'a> Group<'a> {
    pub(super) fn new(heaps: &'a [Heap], start: Start) -> Group<'a> {
        let writers = heaps.iter().map(|heap| Writer::take_over(heap, start.shape).unwrap()).collect();
        let reader = read_lanes(&heaps[..1], start.shape).unwrap();
        Group { heaps, oracle: Oracle::new(start), writers, reader, wanted: 1, is_changed: false }
    }

    fn lane(&self, lane: u8) -> usize {
        lane as usize % self.heaps.len()
    }

    fn used(&self) -> usize {
        self.reader.lane_count() as usize
    }

    fn len(&self, part: u16) -> usize {
        (self.oracle.shape.max_len() * part as u64 / 256) as usize
    }

    /// As a producer does: a gap that is due comes before the message.
    fn stage(&mut self, lane: usize, claimed: usize, len: usize, flags: u8) {
        let (writer, oracle) = (&mut self.writers[lane], &mut self.oracle.lanes[lane]);
        let gap = writer.publish_gap(claimed);
        if oracle.pending > 0 && !oracle.publish_gap(claimed) {
            return assert_eq!(gap, Err(Claim::Full));
        }
        assert_eq!(gap, Ok(()));
        let claim = writer.claim(claimed);
        if !oracle.has_room(claimed) {
            return assert_eq!(claim, Err(Claim::Full));
        }
        assert_eq!(claim, Ok(()));
        let bytes = payload(oracle.next_sequence(), len);
        let (first, second) = bytes.split_at(len / 3);
        writer.write(0, first);
        writer.write(first.len(), second);
        writer.stage(flags, len);
        oracle.stage(flags, len);
    }

    /// As a producer does that sends one message.
    fn send_at_once(&mut self, lane: usize, len: usize, flags: u8) {
        let (writer, oracle) = (&mut self.writers[lane], &mut self.oracle.lanes[lane]);
        let is_known = writer.has_room(len);
        let bytes = payload(oracle.next_sequence(), len);
        let is_sent = writer.send(flags, &bytes);
        let is_alone = oracle.staged.is_empty() && self.oracle.shape.prefix == 0;
        assert_eq!(is_sent, is_known && is_alone);
        assert!(!is_known || (oracle.pending == 0 && oracle.has_room(len)), "something else is due");
        if is_sent {
            oracle.stage(flags, len);
            oracle.publish(&mut self.oracle.tickets);
        } else {
            self.stage(lane, len, len, flags);
            self.publish(lane);
        }
    }

    fn publish(&mut self, lane: usize) {
        self.writers[lane].publish();
        self.oracle.publish(lane);
    }

    fn drop_message(&mut self, lane: usize, cause: Cause) {
        self.writers[lane].drop_message(cause);
        self.oracle.publish(lane);
        let oracle = &mut self.oracle.lanes[lane];
        oracle.drop_message(cause);
        let is_read = oracle.unread().is_none() && lane < self.reader.lane_count() as usize;
        if is_read {
            assert_eq!(self.reader.lane(lane as u32).untold_drops(), oracle.pending);
        }
    }

    /// The next record, as a consumer finds it.
    fn find(&mut self, all: bool) -> Option<Record> {
        let mut found = self.reader.peek().expect("no damage");
        if found.is_none() {
            self.reader.begin();
            for lane in self.used()..self.wanted {
                self.reader.add(&self.heaps[lane]).expect("no damage");
            }
            found = self.reader.scan(all).expect("no damage");
        }
        self.step_over_ends();
        let used = self.used();
        if found.is_none() && all {
            assert!(self.oracle.lanes[..used].iter().all(|lane| lane.is_done()), "a record was overlooked");
        }
        found
    }

    /// The ends of streams that the reader stepped over: something follows each.
    fn step_over_ends(&mut self) {
        for lane in 0..self.used() {
            while self.oracle.lanes[lane].uncommitted() != self.reader.lane(lane as u32).uncommitted() {
                assert!(self.oracle.lanes[lane].is_past_end(), "stepped over more than ends");
                self.oracle.advance(lane);
            }
        }
    }

    fn read(&mut self) -> bool {
        let Some(record) = self.find(true) else {
            return false;
        };
        self.check(&record, &bytes_of(&self.reader, &record));
        self.reader.advance(&record);
        true
    }

    /// As a consumer does that waits for a message.
    fn take(&mut self, buffer: &mut [u8], glance: bool) -> bool {
        self.step_over_ends();
        let mut taken = self.reader.take(buffer);
        if taken.is_none() && glance && self.reader.glance() {
            let is_news = |lane: &oracle::Lane| lane.unread().is_some_and(|(next, _)| next.kind != Kind::End);
            assert!(self.oracle.lanes[..self.used()].iter().any(is_news), "nothing is there");
            taken = self.reader.take(buffer);
        }
        let Some(record) = taken else { return self.read() };
        assert_eq!(record.kind, Kind::Data);
        self.check(&record, &buffer[..record.len]);
        true
    }

    /// The oracle has that record too.
    fn check(&mut self, record: &Record, bytes: &[u8]) {
        let lane = record.lane as usize;
        let tickets = self.oracle.lanes[..self.used()].iter().filter_map(|lane| lane.ticket());
        let lowest = tickets.min();
        let (kept, number) = self.oracle.advance(lane);
        assert_eq!(Kept::of(*record), kept);
        match record.kind {
            Kind::Data => {
                assert_eq!(bytes, payload(record.sequence, record.len));
                if self.oracle.shape.prefix > 0 {
                    assert_eq!(lowest, Some(number), "not in the order of sending");
                }
            }
            Kind::Gap => assert_eq!(self.reader.gap(record), number),
            Kind::End => panic!("the end of a stream is not for the reader"),
        }
    }

    fn tell_end(&mut self) {
        if self.find(true).is_some() {
            return;
        }
        for lane in 0..self.used() {
            let mark = self.reader.peek_lane(lane as u32).expect("no damage");
            assert_eq!(mark.map(Kept::of), self.oracle.lanes[lane].unread().map(|(kept, _)| kept));
            if let Some(mark) = mark {
                self.reader.advance(&mark);
                self.oracle.advance(lane);
            }
        }
        self.reader.set_ends(0);
        self.is_changed |= self.oracle.ends != 0;
        self.oracle.ends = 0;
    }

    fn commit(&mut self) {
        let read = |lane: &usize| self.oracle.lanes[*lane].read > 0;
        let moved: Vec<_> = (0..self.used()).filter(read).map(|lane| lane as u32).collect();
        let committed = self.reader.commit();
        assert_eq!(committed, self.is_changed || !moved.is_empty());
        if committed {
            let mut freed = self.reader.freed().to_vec();
            freed.sort();
            assert_eq!(freed, moved);
            self.oracle.commit();
            self.is_changed = false;
        }
    }

    pub(super) fn apply(&mut self, op: Op) {
        match op {
            Op::Send { lane, part, flags } => {
                let lane = self.lane(lane);
                self.stage(lane, self.len(part), self.len(part), flags);
                self.publish(lane);
            }
            Op::SendAtOnce { lane, part, flags } => self.send_at_once(self.lane(lane), self.len(part), flags),
            Op::Stage { lane, part, used, flags } => {
                let claimed = self.len(part);
                self.stage(self.lane(lane), claimed, claimed * used as usize / 255, flags);
            }
            Op::TooLong { lane } => {
                let longest = self.oracle.shape.max_len() as usize;
                let lane = self.lane(lane);
                assert_eq!(self.writers[lane].claim(longest + 1), Err(Claim::TooLarge));
                assert_eq!(self.writers[lane].claim(usize::MAX), Err(Claim::TooLarge));
            }
            Op::Publish { lane } => self.publish(self.lane(lane)),
            Op::Abort { lane } => {
                let lane = self.lane(lane);
                self.writers[lane].abort();
                self.oracle.lanes[lane].staged.clear();
            }
            Op::Drop { lane, cause } => self.drop_message(self.lane(lane), cause),
            Op::End { lane } => {
                let lane = self.lane(lane);
                self.writers[lane].end().expect("no damage");
                self.oracle.publish(lane);
                self.oracle.lanes[lane].end_gap();
                self.oracle.lanes[lane].end();
            }
            Op::NewWriter { lane } => {
                let lane = self.lane(lane);
                self.writers[lane] =
                    Writer::take_over(&self.heaps[lane], self.oracle.shape).expect("no damage");
                self.oracle.lanes[lane].staged.clear();
            }
            Op::UseLane => self.wanted = self.heaps.len().min(self.wanted + 1),
            Op::NewReader => {
                let lanes = &self.heaps[..self.wanted];
                self.reader = read_lanes(lanes, self.oracle.shape).expect("no damage");
                self.oracle.forget_reads();
                self.is_changed = false;
            }
            Op::Read(count) => {
                (0..count).all(|_| self.read());
            }
            Op::Take { count, buffer, glance } => {
                let mut buffer = vec![0; self.len(buffer)];
                (0..count).all(|_| self.take(&mut buffer, glance));
            }
            Op::ReadAll => while self.read() {},
            Op::TellEnd => self.tell_end(),
            Op::Look { times, all } => {
                (0..times).map(|_| self.find(all)).for_each(drop);
            }
            Op::Sink(position) => {
                let sink = Sink { id: [position | 1; 4], position };
                self.reader.set_sink(sink);
                self.is_changed |= self.oracle.sink != sink;
                self.oracle.sink = sink;
            }
            Op::Commit => self.commit(),
        }
        self.step_over_ends();
    }

    pub(super) fn compare(&self) {
        let Group { oracle, reader, .. } = self;
        assert_eq!((reader.ends(), reader.sink()), (oracle.ends, oracle.sink));
        for (lane, (oracle, writer)) in oracle.lanes.iter().zip(&self.writers).enumerate() {
            assert_eq!(
                (writer.tail(), writer.bytes(), writer.unterminated(), writer.staged()),
                (oracle.tail, oracle.bytes, oracle.unterminated, oracle.staged.len() as u64)
            );
            assert_eq!(writer.sequence(), oracle.sequence.wrapping_add(oracle.pending));
            assert_eq!(Cause::ALL.map(|cause| writer.dropped(cause)), oracle.dropped);
            if lane < self.used() {
                let cursor = reader.lane(lane as u32);
                assert_eq!(
                    (cursor.head(), cursor.uncommitted(), cursor.sequence()),
                    (oracle.head, oracle.uncommitted(), oracle.expected())
                );
            }
            compare_wanted_heads(oracle, writer);
        }
    }
}

/// A message fits from the needed head on, and not 8 bytes before; the wanted
/// head is not before it and is reached once all is read.
fn compare_wanted_heads(oracle: &oracle::Lane, writer: &Writer<&Heap>) {
    let max_len = writer.shape().max_len() as usize;
    for len in [0, max_len / 2, max_len] {
        let needed = writer.head_needed(len);
        let (is_reached, has_room) = (oracle.head.wrapping_sub(needed) as i64 >= 0, oracle.has_room(len));
        // A gap that is due may have to go alone.
        assert!(is_reached == has_room || (is_reached && oracle.pending > 0 && oracle.records.is_empty()));
        let wanted = writer.head_wanted(len);
        assert!(wanted.wrapping_sub(needed) as i64 >= 0);
        if oracle.staged.is_empty() {
            assert!(oracle.tail.wrapping_sub(wanted) as i64 >= 0);
        }
    }
}
