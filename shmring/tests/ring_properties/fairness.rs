//! Which lane is next, where there are many: nobody starves, and nothing that
//! is there is overlooked.

use super::hostile::{Counted, new_reader};
use super::*;

/// How many records a lane gives while others wait.
const TURN: usize = 64;
/// So many looks that find nothing, and a lane is cold.
const PATIENCE: u32 = 64;
/// A lane that has something after so many looks stays hot.
const SELDOM: u32 = PATIENCE / 10;
/// How many of them are looked at each time.
const COLD_LOOKS: usize = 8;

fn region(shape: Shape, lanes: usize) -> Vec<Heap> {
    Start { shape, lanes, position: 0, sequence: 0 }.heaps()
}

fn writers(heaps: &[Heap], shape: Shape) -> Vec<Writer<&Heap>> {
    heaps.iter().map(|heap| Writer::take_over(heap, shape).unwrap()).collect()
}

fn send(writer: &mut Writer<&Heap>) -> bool {
    let has_room = writer.claim(0).is_ok();
    if has_room {
        writer.stage(0, 0);
        writer.publish();
    }
    has_room
}

fn read(reader: &mut Reader<&Heap>) -> Option<u32> {
    let record = find(reader).expect("no damage")?;
    reader.advance(&record);
    reader.commit();
    Some(record.lane)
}

/// The lane of the next message, as a consumer finds it that waits.
fn wait(reader: &mut Reader<&Heap>) -> Option<u32> {
    take(reader, &mut [], true).map_or_else(|| read(reader), |message| Some(message.lane))
}

#[test]
fn busy_lanes_take_turns() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    for next in [read, wait] {
        let heaps = region(shape, 4);
        let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
        // The first turn is one that a glance begins.
        assert_eq!(next(&mut reader), None);
        let mut order = Vec::new();
        for _ in 0..TURN * 20 {
            writers.iter_mut().for_each(|writer| while send(writer) {});
            order.extend(next(&mut reader));
            reader.commit();
        }
        let runs: Vec<_> = order.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        assert!(runs.iter().all(|&(_, len)| len == TURN), "{runs:?}");
        for four in runs.windows(4) {
            let mut lanes: Vec<_> = four.iter().map(|&(lane, _)| lane).collect();
            lanes.sort();
            assert_eq!(lanes, [0, 1, 2, 3], "a lane without its turn");
        }
    }
}

/// Where one lane always has something, another one's single message comes
/// after one turn.
#[test]
fn a_single_message_waits_for_one_turn() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    let heaps = region(shape, 2);
    let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
    for _ in 0..50 {
        while send(&mut writers[0]) {}
        assert!(send(&mut writers[1]));
        let waited = std::iter::from_fn(|| read(&mut reader)).take_while(|&lane| lane == 0).count();
        assert!(waited <= TURN, "{waited}");
    }
}

/// The lanes that glances give their turns to have no more than one turn of all
/// together, whether they run dry at each message or never.
#[test]
fn a_glance_begins_no_turn() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    for busy in [1, 2, 3] {
        for dry in [true, false] {
            let heaps = region(shape, 4);
            let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
            // The last lane is cold: it has nothing for long, and the others seldom.
            for look in 0..2 * PATIENCE {
                assert_eq!(reader.scan(false), Ok(None));
                assert!(look % SELDOM != 0 || send(&mut writers[(look / SELDOM % 3) as usize]));
                while reader.glance() && reader.take(&mut []).is_some() {}
                reader.commit();
            }
            assert!(send(&mut writers[3]));
            let mut waited = 0;
            loop {
                for writer in &mut writers[..busy] {
                    while send(writer) && !dry {}
                }
                if wait(&mut reader).expect("a message") == 3 {
                    break;
                }
                reader.commit();
                waited += 1;
                // What is left of the turn, and one of each lane.
                assert!(waited <= (busy + 1) * TURN, "{busy} {dry}");
            }
        }
    }
}

/// After a look that found something, glances give no more than the rest of that turn,
/// whatever the look before it found.
#[test]
fn a_glance_makes_no_turn_longer() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    let heaps = region(shape, 1);
    let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
    assert_eq!(reader.scan(true), Ok(None));
    assert!(send(&mut writers[0]));
    assert_eq!(read(&mut reader), Some(0));
    let mut taken = 1;
    while send(&mut writers[0]) && reader.glance() && reader.take(&mut []).is_some() {
        reader.commit();
        taken += 1;
        assert!(taken <= TURN);
    }
    assert_eq!(taken, TURN);
}

/// A lane that gives what it has at glances is as hot as one that looks find.
#[test]
fn a_glance_keeps_a_lane_hot() {
    let shape = Shape { capacity: 256, align: 8, prefix: 0 };
    let heaps = region(shape, 2);
    let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
    for _ in 0..3 {
        (1..PATIENCE).for_each(|_| assert_eq!(reader.scan(false), Ok(None)));
        assert!(send(&mut writers[1]));
        assert!(reader.glance());
        assert_eq!(reader.take(&mut []).map(|message| message.lane), Some(1));
        reader.commit();
    }
    assert!(send(&mut writers[0]));
    assert!(!reader.glance(), "it is cold");
    assert_eq!(reader.scan(true).unwrap().map(|message| message.lane), Some(0));
}

/// An end mark that nothing follows stays until the end of all: it takes nobody's
/// turn, and its lane turns cold.
#[test]
fn an_end_that_waits_for_others_is_not_glanced_at() {
    for prefix in [0, 8] {
        let shape = Shape { capacity: 256, align: 8, prefix };
        let heaps = region(shape, 2);
        let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
        writers[0].end().unwrap();
        for look in 0..=PATIENCE {
            assert!(!reader.glance());
            reader.begin();
            assert_eq!(reader.scan(true), Ok(None));
            if look % SELDOM == 0 {
                assert!(send(&mut writers[1]));
                assert!(reader.glance());
                assert_eq!(wait(&mut reader), Some(1));
            }
        }
        // Another stream follows, in a lane that is cold.
        assert!(send(&mut writers[0]));
        assert!(!reader.glance());
        assert_eq!(wait(&mut reader), Some(0));
    }
}

/// Lanes that had nothing for long are looked at less often, a few at a time.
#[test]
#[cfg_attr(miri, ignore = "two hundred thousand looks")]
fn a_cold_lane_is_found_again() {
    let shape = Shape { capacity: 256, align: 8, prefix: 0 };
    let heaps = region(shape, 40);
    let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
    for (lane, all) in [(0, true), (39, true), (17, false), (0, false), (39, false)] {
        (0..=PATIENCE).for_each(|_| assert_eq!(reader.scan(true), Ok(None)));
        assert!(send(&mut writers[lane]));
        let looks = if all { 1 } else { 40 / COLD_LOOKS };
        let found = (0..looks).find_map(|_| reader.scan(all).unwrap()).expect("looked at all lanes");
        assert_eq!(found.lane, lane as u32);
        reader.advance(&found);
    }
}

/// Lanes that turn cold while others have something, at every moment.
#[test]
fn a_look_at_all_lanes_finds_whatever_is_there() {
    let shape = Shape { capacity: 256, align: 8, prefix: 0 };
    let rounds = if cfg!(miri) { 1 } else { 200 };
    for round in 0..rounds {
        let heaps = region(shape, 4);
        let (mut writers, mut reader) = (writers(&heaps, shape), read_lanes(&heaps, shape).unwrap());
        let mut waiting = 0;
        let mut random = 77u64 + round;
        for _ in 0..2 * PATIENCE {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The first lane has nothing, ever; the others seldom.
            if let lane @ 1..=3 = (random >> 33) % 40 {
                waiting += send(&mut writers[lane as usize]) as u32;
            }
            let found = read(&mut reader);
            assert_eq!(found.is_some(), waiting > 0, "a message was overlooked");
            waiting -= found.is_some() as u32;
        }
    }
}

/// Each lane is looked at as often as it has to be, and no more.
#[test]
fn cold_lanes_cost_little() {
    const LANES: u64 = 20;
    let shape = Shape { capacity: 256, align: 8, prefix: 0 };
    let heaps = region(shape, LANES as usize);
    let lanes: Vec<_> = heaps.iter().map(Counted::new).collect();
    let mut reader = new_reader(&lanes, shape);
    let looks = |reader: &mut Reader<_>, all| {
        assert_eq!(reader.scan(all), Ok(None));
        lanes.iter().map(|lane| lane.headers.take()).sum::<u64>()
    };
    for look in 0..PATIENCE {
        assert_eq!(looks(&mut reader, look % 2 == 0), LANES, "look {look}");
    }
    for _ in 0..PATIENCE {
        assert_eq!(looks(&mut reader, false), COLD_LOOKS as u64);
        assert_eq!(looks(&mut reader, true), LANES);
    }
    assert!(send(&mut Writer::take_over(&heaps[7], shape).unwrap()));
    let found = reader.scan(true).unwrap().expect("a message");
    reader.advance(&found);
    lanes.iter().for_each(|lane| lane.headers.set(0));
    for look in 1..PATIENCE {
        assert_eq!(looks(&mut reader, true), LANES, "one is hot, look {look}");
    }
    // Now it turns cold, and may be looked at as a cold one too.
    looks(&mut reader, true);
    assert_eq!(looks(&mut reader, false), COLD_LOOKS as u64, "none is hot");
}
