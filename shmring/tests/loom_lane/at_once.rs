//! Messages that are sent and taken in one go, as most are: `Writer::send` and
//! `Reader::take`. The step by step forms have the scenarios of the first page.

use super::*;

/// An eighth is one message: after each that goes at once one goes by steps, and
/// writes a check point.
const EIGHTH: Shape = Shape { capacity: 128, align: 8, prefix: 0 };

fn owners(twin: Twin) -> (Writer<Lane>, Reader<Lane>) {
    let lane = Lane::new(twin, EIGHTH, 1);
    let mut reader = new_reader(lane.share(), 1).expect("a fresh lane");
    look(&mut reader);
    (new_writer(lane), reader)
}

/// A look that finds nothing: the next message may be taken at once.
fn look(reader: &mut Reader<Lane>) {
    reader.begin();
    assert_eq!(reader.scan(true), Ok(None));
}

/// Sends a message of one word in one go; false, and nothing is done, if that
/// does not go.
fn send_at_once(writer: &mut Writer<Lane>) -> bool {
    writer.send(0, &payload(writer.sequence(), 1))
}

/// Takes the next message in one go, if it is there, and checks every byte.
fn take(reader: &mut Reader<Lane>) -> bool {
    let mut bytes = [0; 8];
    let mut taken = reader.take(&mut bytes);
    if taken.is_none() && reader.glance() {
        taken = reader.take(&mut bytes);
    }
    let Some(record) = taken else { return false };
    assert_eq!((record.kind, record.len), (Kind::Data, 8), "another record than was sent");
    assert_eq!(bytes[..], payload(record.sequence, 1), "another payload than was sent");
    true
}

/// A message at once, one by steps: what is taken is whole and in order, and both
/// are there in the end.
pub(super) fn messages_at_once_are_whole(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        assert!(send_at_once(&mut writer));
        assert!(!send_at_once(&mut writer), "a check point is due");
        send(&mut writer, 1).expect("room");
    });
    let mut seen = 0;
    for _ in 0..3 {
        seen += take(&mut reader) as u64;
    }
    producer.join().unwrap();
    while take(&mut reader) {
        seen += 1;
    }
    assert_eq!((seen, reader.lane(0).sequence()), (2, FIRST + 2));
}

held_by!(messages_at_once_are_whole:
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload",
    HeaderBeforePayload "another payload");

/// The ring is full. A look at the head finds room once something is committed,
/// and a message goes there at once; the gap and the end mark behind it then lie
/// over the first one.
pub(super) fn a_message_at_once_goes_where_it_is_free(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    for _ in 0..6 {
        send(&mut writer, 1).expect("room");
    }
    let producer = thread::spawn(move || {
        let claim = writer.claim(8);
        assert!(matches!(claim, Ok(()) | Err(Claim::Full)), "{claim:?}");
        let is_sent = claim.is_ok();
        assert_eq!(send_at_once(&mut writer), is_sent, "no room is known of");
        writer.drop_message(Cause::Full);
        writer.end().expect("no damage");
        is_sent
    });
    assert!(take(&mut reader));
    reader.commit();
    let mut seen = 1 + (0..6).filter(|_| take(&mut reader)).count() as u64;
    let is_sent = producer.join().unwrap();
    while take(&mut reader) {
        seen += 1;
    }
    assert_eq!(seen, 6 + is_sent as u64);
}

held_by!(a_message_at_once_goes_where_it_is_free, 2:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation",
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload");

/// Old bytes lie behind a message at once: it never shows without the zero after it.
fn a_message_at_once_is_the_last(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    // Messages of which each is the header of the next one, a lap later.
    for _ in 0..4 {
        let word = 1 << 40 | 0xF << 32 | 9u64;
        writer.claim(24).expect("room");
        writer.write(0, &[word; 3].map(u64::to_le_bytes).concat());
        writer.stage(0, 24);
        writer.publish();
        let record = find(&mut reader).expect("a message");
        reader.advance(&record);
        reader.commit();
    }
    look(&mut reader);
    let producer = thread::spawn(move || assert!(send_at_once(&mut writer)));
    if take(&mut reader) {
        assert_eq!(find(&mut reader), None);
    }
    producer.join().unwrap();
}

fn find(reader: &mut Reader<Lane>) -> Option<Record> {
    reader.begin();
    reader.scan(true).expect("no damage")
}

held_by!(a_message_at_once_is_the_last: HeaderBeforeZero "no damage");

/// A consumer takes in one go, and is killed between its commit and the head word;
/// a producer that was killed between two messages has not moved its check point.
fn owners_that_were_killed_are_followed(twin: Twin) {
    let lane = Lane::new(twin, EIGHTH, 1);
    let mut dead = new_writer(lane.share());
    assert!(send_at_once(&mut dead));
    let mut old = new_reader(lane.share(), 1).expect("no damage");
    look_and_take(&mut old);
    old.lane(0).memory().kill_before(Word::Head);
    old.commit();
    let consumer = lane.share();
    let consumer = thread::spawn(move || {
        let mut reader = new_reader(consumer, 1).expect("no damage");
        assert_eq!(reader.lane(0).sequence(), FIRST + 1);
        if let Some(record) = find(&mut reader) {
            check(&reader, &record, 1);
        }
    });
    let mut writer = new_writer(lane);
    assert_eq!((writer.sequence(), writer.bytes()), (FIRST + 1, 8));
    assert!(send_at_once(&mut writer));
    consumer.join().unwrap();
}

fn look_and_take(reader: &mut Reader<Lane>) {
    let record = find(reader).expect("a message");
    let mut bytes = [0; 8];
    assert_eq!(reader.take(&mut bytes), Some(record));
    assert_eq!(bytes[..], payload(record.sequence, 1));
}

held_by!(owners_that_were_killed_are_followed:
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload",
    HeaderBeforePayload "another payload");
