//! A commit is one store in all lanes: whoever takes over finds each lane
//! where the commit put it, or each where it was before.

use super::*;

/// Where a consumer is in each of two lanes: head and sequence.
type Heads = [(u64, u64); 2];

fn heads(reader: &Reader<Lane>) -> Heads {
    [0, 1].map(|lane| (reader.lane(lane).head(), reader.lane(lane).sequence()))
}

/// What a consumer has that read and committed so many messages of each lane.
fn after(messages: [u64; 2]) -> Heads {
    messages.map(|n| (START.wrapping_add(16 * n), FIRST + n))
}

/// Two lanes with two messages each.
fn two_lanes(twin: Twin) -> Lane {
    let lane = Lane::new(twin, SHAPE, 2);
    for index in 0..2 {
        let mut writer = new_writer(lane.share().beside(index));
        send(&mut writer, 1).expect("room");
        send(&mut writer, 1).expect("room");
    }
    lane
}

/// Reads the next message of a lane.
fn read(reader: &mut Reader<Lane>, lane: u32) {
    let record = reader.peek_lane(lane).expect("no damage").expect("a message");
    check(reader, &record, 1);
    reader.advance(&record);
}

/// Without any order from the lock, a new consumer finds a whole commit in
/// both lanes: the second of two, which moves only one of them, or the first.
fn unordered_commit_of_two_lanes(twin: Twin) {
    let lane = two_lanes(twin);
    let mut old = new_reader(lane.share(), 2).expect("no damage");
    read(&mut old, 0);
    read(&mut old, 1);
    old.commit();
    let consumer = thread::spawn(move || {
        read(&mut old, 0);
        old.commit();
    });
    let found = new_reader(lane, 2);
    consumer.join().unwrap();
    match found {
        Ok(reader) => {
            let found = heads(&reader);
            assert!([after([1, 1]), after([2, 1])].contains(&found), "a torn commit: {found:?}");
        }
        // The head word may be newer than the slot: refused, never misread.
        Err(broken) => assert_eq!((broken.lane, broken.corrupt.fault), (0, Fault::Head), "a torn commit"),
    }
}

held_by!(unordered_commit_of_two_lanes:
    CommitStoreRelaxed "a torn commit",
    CommitLoadRelaxed "a torn commit",
    GenerationBeforeSlot "a torn commit",
    LaggingLaneNotWritten "a torn commit");
