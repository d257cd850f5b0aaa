//! A lane comes into use, and the end of all. Both endpoints' steps are here
//! as they are made there; ring and memory are the shipped ones.

use super::*;

/// Takes a lane as a producer does, and gives it a name.
fn attach(lane: Lane) -> Writer<Lane> {
    if lane.load_acquire(Word::Ready) != 1 {
        lane.reserve();
    }
    lane.store_release(Word::Ready, 1); // READY
    let writer = new_writer(lane);
    let lane = writer.memory();
    lane.store(Word::Named, 1);
    let state = LaneState::decode(lane.load(Word::State)).expect("no damage").opened(false);
    if lane.is(Twin::AttachBeforeState) {
        lane.add(Word::Attaches, 1);
    }
    lane.store_release(Word::State, state.encode()); // STATE
    if !lane.is(Twin::AttachBeforeState) {
        lane.add(Word::Attaches, 1); // ATTACH
    }
    writer
}

fn close(writer: &mut Writer<Lane>) {
    writer.end().expect("no damage");
    let lane = writer.memory();
    let state = LaneState::decode(lane.load(Word::State)).expect("no damage").closed();
    lane.store_release(Word::State, state.encode()); // STATE
}

/// A consumer of two lanes, as far as it goes without the kernel.
struct Consumer {
    reader: Reader<Lane>,
    lane: Lane,
    is_in_use: [bool; 2],
    /// The numbers of those in use, by the reader's numbers.
    numbers: Vec<usize>,
    attaches: Option<u64>,
    /// The numbers of the lanes whose messages came.
    seen: Vec<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Message,
    End,
    Empty,
}

/// How far a lane is from the end of its streams.
#[derive(PartialEq, Eq)]
enum Stand {
    Busy,
    Quiet,
    Ended,
}

impl Consumer {
    fn new(lane: Lane) -> Consumer {
        let reader = Reader::take_over(&lane, lane.shape(), 2);
        let (numbers, seen) = (Vec::new(), Vec::new());
        Consumer { reader, lane, is_in_use: [false; 2], numbers, attaches: None, seen }
    }

    fn activate(&mut self) {
        let count = self.lane.load_acquire(Word::Attaches); // ATTACH
        if self.attaches != Some(count) {
            self.find_lanes();
            self.attaches = Some(count);
        }
    }

    fn find_lanes(&mut self) {
        for number in 0..2 {
            if self.is_in_use[number] {
                continue;
            }
            let lane = self.lane.beside(number);
            let is_fresh = phase(&lane) == Phase::Fresh;
            if !is_fresh && lane.load_acquire(Word::Ready) == 1 {
                self.is_in_use[number] = true;
                self.numbers.push(number);
                self.reader.add(lane).expect("no damage");
            }
        }
    }

    /// Reads the next message, or finds the end of all.
    fn read(&mut self) -> Found {
        let mut found = self.reader.peek().expect("no damage");
        if found.is_none() {
            if self.lane.is(Twin::LanesFoundBeforeCounter) {
                self.activate();
                self.reader.begin();
            } else {
                self.reader.begin();
                self.activate();
            }
            found = self.reader.scan(true).expect("no damage");
        }
        if let Some(record) = found {
            check(&self.reader, &record, 1);
            assert_eq!(self.reader.lane(record.lane).memory().load(Word::Named), 1, "without its name");
            self.reader.advance(&record);
            self.seen.push(self.numbers[record.lane as usize]);
            return Found::Message;
        }
        if self.is_over() { Found::End } else { Found::Empty }
    }

    fn is_over(&self) -> bool {
        if self.numbers.is_empty() || (0..self.reader.lane_count()).any(|i| self.stand(i) == Stand::Busy) {
            return false;
        }
        self.lane.is(Twin::AttachesNotReadAgain)
            || self.attaches == Some(self.lane.load_acquire(Word::Attaches)) // ATTACH
    }

    /// The state first: what was published before it is seen after.
    fn stand(&self, index: u32) -> Stand {
        let cursor = self.reader.lane(index);
        let look = || self.reader.peek_lane(index).expect("no damage");
        let early = cursor.memory().is(Twin::StateReadLast).then(look);
        let is_open = phase(cursor.memory()) == Phase::Open;
        match early.unwrap_or_else(look) {
            Some(mark) if !mark.is_end() || cursor.is_followed(&mark) => Stand::Busy,
            _ if is_open => Stand::Busy,
            Some(_) => Stand::Ended,
            None => Stand::Quiet,
        }
    }
}

fn phase(lane: &Lane) -> Phase {
    LaneState::decode(lane.load_acquire(Word::State)).expect("no damage").phase // STATE
}

/// A producer takes a lane that nobody had and sends. Who sees the attach
/// counted sees the lane; who sees the message sees it whole, in a lane that
/// has its space, and the name; and it is never missed for good.
fn a_lane_comes_into_use(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    let mut consumer = Consumer::new(lane.share());
    let producer = thread::spawn(move || {
        let mut writer = attach(lane.share().beside(1));
        send(&mut writer, 1).expect("room");
    });
    let mut seen = 0;
    for _ in 0..2 {
        seen += (consumer.read() == Found::Message) as u64;
        let is_in_use = consumer.is_in_use[1] as u64;
        assert!(consumer.attaches <= Some(is_in_use), "counted, and the lane was not found");
    }
    producer.join().unwrap();
    while consumer.read() == Found::Message {
        seen += 1;
    }
    assert_eq!(seen, 1);
}

held_by!(a_lane_comes_into_use:
    AttachBeforeState "counted, and the lane was not found",
    AttachAddRelaxed "counted, and the lane was not found",
    AttachLoadRelaxed "counted, and the lane was not found",
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload");

/// A consumer that attaches looks at the lanes whatever the count. READY and
/// STATE each make sure that a lane it finds has its space.
fn a_lane_that_is_found_has_its_space(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    let mut consumer = Consumer::new(lane.share());
    let producer = thread::spawn(move || drop(attach(lane.share().beside(1))));
    consumer.find_lanes();
    if consumer.is_in_use[1] {
        assert_eq!(peek(&consumer.reader), None);
    }
    producer.join().unwrap();
}

held_by!(a_lane_that_is_found_has_its_space:
    StateAndReadyStoreRelaxed "Causality violation",
    StateAndReadyLoadRelaxed "Causality violation");

#[test]
fn either_ready_or_state_is_enough_for_the_space() {
    let half =
        [Twin::StateStoreRelaxed, Twin::StateLoadRelaxed, Twin::ReadyStoreRelaxed, Twin::ReadyLoadRelaxed];
    half.into_iter().for_each(|twin| model(3, move || a_lane_that_is_found_has_its_space(twin)));
}

/// A producer takes a lane at whose last end mark the consumer is, drops a
/// message and is killed. Who sees the state sees that it attached there.
pub(super) fn an_attach_behind_an_end_mark_is_seen(twin: Twin) {
    // An end mark alone is no reason for a check point.
    let lane = Lane::new(twin, Shape { capacity: 128, ..SHAPE }, 1);
    close(&mut attach(lane.share()));
    let reader = new_reader(lane.share(), 1).expect("no damage");
    let mark = peek(&reader).expect("an end mark");
    let new = lane.share();
    let producer = thread::spawn(move || attach(new).drop_message(Cause::Full));
    if phase(&lane) == Phase::Open {
        assert!(reader.lane(0).is_attached_behind(&mark), "an attach that was not seen");
    }
    producer.join().unwrap();
}

held_by!(an_attach_behind_an_end_mark_is_seen:
    StateStoreRelaxed "not seen",
    StateLoadRelaxed "not seen",
    CheckStoreRelaxed "not seen",
    CheckLoadRelaxed "not seen");

/// A producer sends, finds the ring full, and says what it waits for. A consumer
/// with something uncommitted that sees the wish sees the message: it is no error
/// that nobody can go on.
fn a_wish_comes_after_the_messages_before_it(twin: Twin) {
    let (mut writer, reader) = owners(twin);
    let wanted = START.wrapping_add(48);
    reader.lane(0).memory().store_release(Word::WantedHead, START); // WANT
    let producer = thread::spawn(move || {
        send(&mut writer, 1).expect("room");
        writer.memory().store_release(Word::WantedHead, wanted); // WANT
    });
    let lane = reader.lane(0);
    let waits = lane.memory().load_acquire(Word::WantedHead).wrapping_sub(lane.head()) as i64 > 0; // WANT
    assert!(!waits || peek(&reader).is_some(), "called stuck, with a message there");
    producer.join().unwrap();
}

held_by!(a_wish_comes_after_the_messages_before_it:
    WantStoreRelaxed "called stuck",
    WantLoadRelaxed "called stuck");

/// The end is told only after the last message: who sees the state "closed"
/// sees the end mark and all before it.
fn the_end_comes_after_the_last_message(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    let mut writer = attach(lane.share());
    let mut consumer = Consumer::new(lane);
    consumer.activate();
    let producer = thread::spawn(move || {
        send(&mut writer, 1).expect("room");
        close(&mut writer);
    });
    let mut reads = vec![consumer.read(), consumer.read()];
    producer.join().unwrap();
    reads.extend([consumer.read(), consumer.read()]);
    reads.retain(|found| *found != Found::Empty);
    assert_eq!(reads[0], Found::Message, "the end was told, and a message missed");
    assert!(reads[1..].iter().all(|found| *found == Found::End));
}

held_by!(the_end_comes_after_the_last_message:
    StateStoreRelaxed "a message missed",
    StateLoadRelaxed "a message missed",
    StateReadLast "a message missed");

/// A producer takes a lane that nobody had and sends, and only then another
/// one closes: there is no end of all.
fn no_end_while_a_lane_comes_into_use(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    let mut other = attach(lane.share());
    let mut consumer = Consumer::new(lane.share());
    consumer.activate();
    let producers = thread::spawn(move || {
        let mut writer = attach(lane.share().beside(1));
        send(&mut writer, 1).expect("room");
        close(&mut other);
    });
    let mut reads = vec![consumer.read(), consumer.read()];
    producers.join().unwrap();
    reads.extend([consumer.read(), consumer.read()]);
    assert!(!reads.contains(&Found::End), "the end was told, and a producer missed");
    assert_eq!(reads.iter().filter(|found| **found == Found::Message).count(), 1);
}

held_by!(no_end_while_a_lane_comes_into_use:
    AttachesNotReadAgain "a producer missed",
    AttachBeforeState "a producer missed",
    AttachAddRelaxed "a producer missed",
    AttachLoadRelaxed "a producer missed");

/// The same with a lane that was used before and at whose end the consumer
/// has looked already.
fn no_end_while_a_lane_is_taken_again(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    close(&mut attach(lane.share()));
    let mut other = attach(lane.share().beside(1));
    let mut consumer = Consumer::new(lane.share());
    consumer.activate();
    let producers = thread::spawn(move || {
        let mut writer = attach(lane.share());
        send(&mut writer, 1).expect("room");
        close(&mut other);
    });
    let mut reads = vec![consumer.read()];
    producers.join().unwrap();
    reads.extend([consumer.read(), consumer.read()]);
    assert!(!reads.contains(&Found::End), "the end was told, and a producer missed");
    assert_eq!(reads.iter().filter(|found| **found == Found::Message).count(), 1);
}

held_by!(no_end_while_a_lane_is_taken_again:
    AttachesNotReadAgain "a producer missed");

/// In total order: a producer takes a lane that nobody had and sends, and only
/// then another one sends.
fn a_lane_that_comes_into_use_keeps_the_order(twin: Twin) {
    let lane = Lane::new(twin, TOTAL, 2);
    let mut other = attach(lane.share());
    let mut consumer = Consumer::new(lane.share());
    let producers = thread::spawn(move || {
        let mut writer = attach(lane.share().beside(1));
        send(&mut writer, 1).expect("room");
        send(&mut other, 1).expect("room");
    });
    consumer.read();
    consumer.read();
    producers.join().unwrap();
    while consumer.read() == Found::Message {}
    assert_eq!(consumer.seen, [1, 0], "another order than they were sent in");
}

held_by!(a_lane_that_comes_into_use_keeps_the_order, 2:
    LanesFoundBeforeCounter "another order",
    AttachBeforeState "another order");
