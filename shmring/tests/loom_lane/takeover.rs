//! A lane that passes from owner to owner: with a lock that orders memory, and
//! without, where check point and commit have to hold alone.

use super::*;

/// A role's lock, as much as a new owner sees of it.
struct Lock {
    free: AtomicBool,
    ordered: bool,
}

impl Lock {
    fn held(ordered: bool) -> Arc<Lock> {
        Arc::new(Lock { free: AtomicBool::new(false), ordered })
    }

    fn release(&self) {
        self.free.store(true, if self.ordered { Ordering::Release } else { Ordering::Relaxed });
    }

    fn taken(&self) -> bool {
        self.free.load(if self.ordered { Ordering::Acquire } else { Ordering::Relaxed })
    }
}

/// The old producer publishes a message, writes its check point and goes. What
/// the new one starts with, if the lock was free.
fn after_a_producer(twin: Twin, ordered: bool) -> Option<(u64, u64, u64)> {
    let lane = Lane::new(twin, SHAPE, 1);
    let mut old = new_writer(lane.share());
    let lock = Lock::held(ordered);
    let theirs = lock.clone();
    let producer = thread::spawn(move || {
        send(&mut old, 1).expect("room");
        theirs.release();
    });
    let found = lock.taken().then(|| Writer::take_over(lane, SHAPE).expect("not a torn check point"));
    producer.join().unwrap();
    found.map(|writer| (writer.tail(), writer.sequence(), writer.bytes()))
}

/// The same with a consumer that reads a message and commits. In a hand-over
/// that orders nothing the head word may be newer than the slot: that pair is
/// refused, never misread.
fn after_a_consumer(twin: Twin, ordered: bool) -> Option<(u64, u64)> {
    let lane = Lane::new(twin, SHAPE, 1);
    let mut writer = new_writer(lane.share());
    send(&mut writer, 1).expect("room");
    let mut old = new_reader(lane.share(), 1).expect("no damage");
    let lock = Lock::held(ordered);
    let theirs = lock.clone();
    let consumer = thread::spawn(move || {
        assert!(receive(&mut old, 1));
        old.commit();
        theirs.release();
    });
    let found = lock.taken().then(|| new_reader(lane, 1));
    consumer.join().unwrap();
    match found? {
        Ok(reader) => Some((reader.lane(0).head(), reader.lane(0).sequence())),
        Err(Broken { corrupt: Corrupt { fault: Fault::Head, .. }, .. }) if !ordered => None,
        Err(broken) => panic!("{broken}"),
    }
}

const FRESH_TAIL: (u64, u64, u64) = (START, FIRST, 0);
const NEW_TAIL: (u64, u64, u64) = (START.wrapping_add(16), FIRST + 1, 8);
const FRESH_HEAD: (u64, u64) = (START, FIRST);
const NEW_HEAD: (u64, u64) = (START.wrapping_add(16), FIRST + 1);

/// Without any order from the lock, a new producer finds a whole check point:
/// the last or the one before.
pub(super) fn unordered_check_point(twin: Twin) {
    let found = after_a_producer(twin, false).unwrap_or(FRESH_TAIL);
    assert!([FRESH_TAIL, NEW_TAIL].contains(&found), "a torn check point: {found:?}");
}

held_by!(unordered_check_point:
    CheckStoreRelaxed "a torn check point",
    CheckLoadRelaxed "a torn check point",
    GenerationBeforeSlot "a torn check point");

/// Without any order from the lock, a new producer finds a batch whole or not
/// at all: PUBLISH at the walk. The old one died before its check point.
pub(super) fn unordered_walk(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 1);
    let mut old = new_writer(lane.share());
    old.memory().kill_before(Word::CheckGeneration);
    let producer = thread::spawn(move || {
        stage(&mut old, 1).expect("room");
        stage(&mut old, 1).expect("room");
        old.publish();
    });
    let writer = Writer::take_over(lane, SHAPE).expect("no damage");
    producer.join().unwrap();
    let sent = writer.sequence() - FIRST;
    assert!(sent == 0 || sent == 2, "a takeover in the middle of a batch");
}

held_by!(unordered_walk:
    PublishStoreRelaxed "in the middle of a batch",
    PublishLoadRelaxed "in the middle of a batch",
    FirstHeaderFirst "in the middle of a batch");

/// Without any order from the lock, a consumer that tells a death finds as many
/// drops as one of the last two check points says.
pub(super) fn unordered_drops(twin: Twin) {
    let lane = Lane::new(twin, SHAPE, 1);
    let reader = new_reader(lane.share(), 1).expect("no damage");
    let mut writer = new_writer(lane);
    writer.drop_message(Cause::Full);
    let producer = thread::spawn(move || writer.drop_message(Cause::Full));
    let drops = reader.lane(0).untold_drops();
    producer.join().unwrap();
    assert!(drops == 1 || drops == 2, "{drops} drops, and there were one or two");
}

held_by!(unordered_drops:
    CheckStoreRelaxed "0 drops",
    CheckLoadRelaxed "0 drops",
    GenerationBeforeSlot "0 drops");

/// Without any order from the lock, a new consumer finds a whole commit.
pub(super) fn unordered_commit(twin: Twin) {
    let found = after_a_consumer(twin, false).unwrap_or(FRESH_HEAD);
    assert!([FRESH_HEAD, NEW_HEAD].contains(&found), "a torn commit: {found:?}");
}

held_by!(unordered_commit:
    CommitStoreRelaxed "a torn commit",
    CommitLoadRelaxed "a torn commit",
    GenerationBeforeSlot "a torn commit");

fn exact_tail(twin: Twin, ordered: bool) {
    assert_eq!(after_a_producer(twin, ordered).unwrap_or(NEW_TAIL), NEW_TAIL, "not the last tail");
}

fn exact_head(twin: Twin, ordered: bool) {
    assert_eq!(after_a_consumer(twin, ordered).unwrap_or(NEW_HEAD), NEW_HEAD, "not the last head");
}

/// With a lock that orders, the new owner finds the old one's last state, and
/// CHECK and COMMIT add nothing to that.
#[test]
fn the_lock_alone_is_enough_for_the_tail() {
    for twin in [Twin::Sound, Twin::CheckStoreRelaxed, Twin::CheckLoadRelaxed] {
        model(3, move || exact_tail(twin, true));
    }
}

#[test]
fn the_lock_alone_is_enough_for_the_head() {
    for twin in [Twin::Sound, Twin::CommitStoreRelaxed, Twin::CommitLoadRelaxed] {
        model(3, move || exact_head(twin, true));
    }
}

#[test]
#[should_panic(expected = "not the last tail")]
fn without_the_lock_the_tail_may_be_old() {
    model(3, || exact_tail(Twin::Sound, false));
}

#[test]
#[should_panic(expected = "not the last head")]
fn without_the_lock_the_head_may_be_old() {
    model(3, || exact_head(Twin::Sound, false));
}
