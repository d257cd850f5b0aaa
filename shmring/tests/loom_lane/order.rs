//! Total order: a message that was sent before another was begun comes first.

use super::*;

fn lanes(twin: Twin) -> ([Writer<Lane>; 2], Consumer) {
    let lane = Lane::new(twin, TOTAL, 2);
    let owner = lane.share();
    let mut reader = Reader::take_over(&owner, TOTAL, 2);
    for index in 0..2 {
        reader.add(owner.beside(index)).expect("a fresh lane");
    }
    let writers = [0, 1].map(|index| new_writer(lane.share().beside(index)));
    (writers, Consumer { reader, seen: Vec::new(), last: None })
}

/// An empty message: its ticket is what counts.
fn send_ticketed(writer: &mut Writer<Lane>) {
    writer.claim(0).expect("room");
    writer.stage(0, 0);
    writer.publish();
}

/// Of the next record.
fn position(lane: &Cursor<Lane>) -> u64 {
    lane.head().wrapping_add(lane.uncommitted())
}

struct Consumer {
    reader: Reader<Lane>,
    /// Of which lanes the messages were, as they came.
    seen: Vec<u32>,
    /// The last ticket of this round.
    last: Option<u64>,
}

impl Consumer {
    /// Takes the next message, if there is one.
    fn read(&mut self) -> bool {
        let mut found = self.reader.peek().expect("no damage");
        if found.is_none() {
            self.last = None;
            let lanes = [0, 1].map(|lane| self.reader.lane(lane));
            if lanes[0].memory().is(Twin::LanesBeforeCounter) {
                lanes.iter().for_each(|lane| lane.memory().look_early(position(lane)));
            }
            self.reader.begin();
            found = self.reader.scan(true).expect("no damage");
            self.reader.lane(0).memory().forget();
        }
        let Some(record) = found else { return false };
        let lane = self.reader.lane(record.lane);
        let ticket = lane.memory().header_acquire(position(lane).wrapping_add(8));
        assert!(self.last < Some(ticket), "not the lowest ticket");
        self.last = Some(ticket);
        self.reader.advance(&record);
        self.seen.push(record.lane);
        true
    }

    fn read_all(&mut self) {
        while self.read() {}
    }
}

/// One producer sends and tells the other one, which then sends.
pub(super) fn what_was_sent_first_comes_first(twin: Twin) {
    let ([mut first, mut second], mut consumer) = lanes(twin);
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    let one = thread::spawn(move || {
        send_ticketed(&mut first);
        tell.store(true, Ordering::Release);
    });
    let two = thread::spawn(move || {
        if twin == Twin::TicketAtClaim {
            second.memory().draw_early();
        }
        let is_told = told.load(Ordering::Acquire);
        if is_told {
            send_ticketed(&mut second);
        }
        is_told
    });
    consumer.read();
    consumer.read();
    one.join().unwrap();
    let both = two.join().unwrap();
    consumer.read_all();
    let expected: &[u32] = if both { &[0, 1] } else { &[0] };
    assert_eq!(consumer.seen, expected, "another order than they were sent in");
}

held_by!(what_was_sent_first_comes_first:
    TicketLoadRelaxed "another order",
    TicketAddRelaxed "another order",
    TicketAtClaim "another order",
    LanesBeforeCounter "another order",
    NoWatermark "another order");

/// Two producers that know nothing of each other: each round is in the order
/// of the tickets, each lane in its own, and nothing is lost.
fn each_round_is_in_the_order_of_tickets(twin: Twin) {
    let (writers, mut consumer) = lanes(twin);
    let [mut one, mut two] = writers;
    let producer = thread::spawn(move || {
        send_ticketed(&mut one);
        send_ticketed(&mut one);
    });
    let other = thread::spawn(move || send_ticketed(&mut two));
    consumer.read();
    consumer.read();
    producer.join().unwrap();
    other.join().unwrap();
    consumer.read_all();
    consumer.seen.sort();
    assert_eq!(consumer.seen, [0, 0, 1], "something was lost");
}

held_by!(each_round_is_in_the_order_of_tickets, 2:
    PublishStoreRelaxed "not the lowest ticket",
    PublishLoadRelaxed "not the lowest ticket",
    FirstHeaderFirst "not the lowest ticket");
