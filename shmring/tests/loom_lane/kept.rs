//! A lane that is kept for a name. The steps are those of the endpoint, with a
//! name of one word.

use loom::sync::atomic::fence;

use super::memory::NAME;
use super::*;

fn bind(lane: &Lane, name: u64) {
    lane.store_release(Word::Named, 0); // KEPT
    lane.store_release(NAME, name);
    lane.store_release(Word::Named, 1); // KEPT
}

fn name_of(lane: &Lane) -> Option<u64> {
    (lane.load_acquire(Word::Named) == 1).then(|| lane.load_acquire(NAME)) // KEPT
}

/// Who sees that a lane has a name sees the name.
fn a_name_is_whole(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 1);
    let theirs = lane.share();
    let producer = thread::spawn(move || bind(&theirs, 7));
    assert!([None, Some(7)].contains(&name_of(&lane)), "half a name");
    producer.join().unwrap();
}

held_by!(a_name_is_whole:
    KeptStoreRelaxed "half a name",
    KeptLoadRelaxed "half a name");

/// Two that come with one name each bind a lane, and look for another one: one
/// of the two at least sees the other.
fn of_two_with_one_name_one_gives_way(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 2);
    let sees_other = |own: usize| {
        let lane = lane.share();
        move || {
            bind(&lane.beside(own), 7);
            if twin != Twin::NoKeptFence {
                fence(Ordering::SeqCst); // KEPT
            }
            name_of(&lane.beside(1 - own)).is_some()
        }
    };
    let one = thread::spawn(sees_other(0));
    let two = sees_other(1)();
    assert!(one.join().unwrap() || two, "two lanes of one name");
}

held_by!(of_two_with_one_name_one_gives_way:
    NoKeptFence "two lanes of one name");
