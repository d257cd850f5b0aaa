//! The lane's orderings, each under a model checker: all interleavings and all
//! values that a relaxed load may return.
//!
//! One short scenario for each race, on a ring of 64 bytes. Each scenario also
//! runs with twins of the memory in which one ordering is weaker or two stores
//! are exchanged; every twin must be found, so a model that sees nothing fails.
//!
//! How a twin is found:
//!
//! * PUBLISH, CHECK, COMMIT, STATE by content: payload words are relaxed
//!   atomics, and a reader that is too early sees old ones.
//! * FREE by a race: what has to be excluded is a load that takes effect after
//!   a later store of the same thread. The checker runs loads in program order
//!   and cannot show that, but it knows what happens before what, so each
//!   place also has a cell that is read where payload is read, and written
//!   where anything is written.
//!
//! CHECK and COMMIT are read by a new owner only, after the kernel handed it
//! the lock. If that hand-over orders the old owner's stores before the new
//! owner's loads, relaxed accesses would do: `the_lock_alone_is_enough_*` shows
//! it. The pairs matter where it orders nothing, for example because the old
//! owner's lock went away while one of its stores was still on its way; the
//! `unordered_*` models have a hand-over that orders nothing.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use shmring::internals::layout::record::Kind;
use shmring::internals::layout::{Slot, Word};
use shmring::internals::ring::{Claim, Corrupt, Fault, Memory, Reader, Record, Shape, Writer};

const BOUND: usize = 3;
const SHAPE: Shape = Shape { capacity: 64, align: 8 };
/// The first record's position: the position wraps inside every scenario.
const START: u64 = 0u64.wrapping_sub(64);
/// The first message's sequence: its low 24 bits wrap inside every scenario.
const FIRST: u64 = (1 << 24) - 1;

/// The words that a lane's owners rely on. Others are neither stored nor
/// loaded: hints, and counters and positions of the caller's, which go with
/// their slots.
const WORDS: [Word; 13] = [
    Word::CheckGeneration,
    Word::CheckTail(Slot::A),
    Word::CheckTail(Slot::B),
    Word::CheckSequence(Slot::A),
    Word::CheckSequence(Slot::B),
    Word::CheckBytes(Slot::A),
    Word::CheckBytes(Slot::B),
    Word::Head,
    Word::HeadGeneration,
    Word::HeadPosition(Slot::A),
    Word::HeadPosition(Slot::B),
    Word::HeadSequence(Slot::A),
    Word::HeadSequence(Slot::B),
];

/// What one memory does worse than the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    Sound,
    PublishStoreRelaxed,
    PublishLoadRelaxed,
    FreeStoreRelaxed,
    FreeLoadRelaxed,
    CheckStoreRelaxed,
    CheckLoadRelaxed,
    CommitStoreRelaxed,
    CommitLoadRelaxed,
    StateStoreRelaxed,
    StateLoadRelaxed,
    /// The header is stored before the payload.
    HeaderBeforePayload,
    /// The header is stored before the zero word after the record.
    HeaderBeforeZero,
    /// A batch's first header is stored before its others.
    FirstHeaderFirst,
    /// A generation is stored before its slot.
    GenerationBeforeSlot,
}

/// Eight bytes of the ring.
struct Place {
    word: AtomicU64,
    /// Read with payload, written with every store.
    quiet: Mutex<UnsafeCell<()>>,
}

/// The shared part of a lane.
struct Shared {
    words: Vec<AtomicU64>,
    state: AtomicU64,
    data: Vec<Place>,
    step: AtomicU64,
}

/// A store that a twin makes later than the program says.
enum Late {
    Word(Word, u64),
    Data(u64, u64),
}

/// One owner's access to a lane.
struct Lane {
    shared: Arc<Shared>,
    twin: Twin,
    /// The owner is killed before it stores this word.
    killed_before: Cell<Option<Word>>,
    dead: Cell<bool>,
    late: RefCell<Vec<Late>>,
}

impl Lane {
    fn new(twin: Twin) -> Lane {
        let initial = |word| match word {
            Word::CheckTail(Slot::A) | Word::Head | Word::HeadPosition(Slot::A) => START,
            Word::CheckSequence(Slot::A) | Word::HeadSequence(Slot::A) => FIRST,
            _ => 0,
        };
        let place = || Place { word: AtomicU64::new(0), quiet: Mutex::new(UnsafeCell::new(())) };
        let shared = Shared {
            words: WORDS.map(|word| AtomicU64::new(initial(word))).into(),
            state: AtomicU64::new(0),
            data: (0..SHAPE.capacity / 8).map(|_| place()).collect(),
            step: AtomicU64::new(0),
        };
        Lane::of(Arc::new(shared), twin)
    }

    fn of(shared: Arc<Shared>, twin: Twin) -> Lane {
        Lane { shared, twin, killed_before: Cell::default(), dead: Cell::default(), late: RefCell::default() }
    }

    /// The same lane for another owner.
    fn share(&self) -> Lane {
        Lane::of(self.shared.clone(), self.twin)
    }

    /// From now on the owner is killed before it stores `word`.
    fn kill_before(&self, word: Word) {
        self.killed_before.set(Some(word));
    }

    fn is(&self, twin: Twin) -> bool {
        self.twin == twin
    }

    fn weaken(&self, twin: Twin, ordering: Ordering) -> Ordering {
        if self.is(twin) { Ordering::Relaxed } else { ordering }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.may_be_preempted();
        let at = WORDS.iter().position(|&w| w == word).expect("a word that owners read");
        &self.shared.words[at]
    }

    fn place(&self, position: u64) -> &Place {
        self.may_be_preempted();
        &self.shared.data[(position / 8 % (SHAPE.capacity / 8)) as usize]
    }

    /// Lets the checker try every other thread here. On its own it does so
    /// where two accesses to one word may race, but remembers one access for
    /// each word: a thread that loads a word and then stores it hides the load
    /// of another thread before. A store to one word for all cannot be hidden.
    fn may_be_preempted(&self) {
        self.shared.step.store(0, Ordering::Relaxed);
    }

    /// Only the sound memory and the twins of FREE: the others have to be
    /// found by what a reader sees.
    fn watches_races(&self) -> bool {
        matches!(self.twin, Twin::Sound | Twin::FreeStoreRelaxed | Twin::FreeLoadRelaxed)
    }

    fn put(&self, position: u64, value: u64, ordering: Ordering) {
        if self.dead.get() {
            return;
        }
        let place = self.place(position);
        if self.watches_races() {
            place.quiet.lock().unwrap().with_mut(|_| ());
        }
        place.word.store(value, ordering);
    }

    fn put_word(&self, word: Word, value: u64, ordering: Ordering) {
        if self.killed_before.get() == Some(word) {
            self.dead.set(true);
        }
        if !self.dead.get() {
            self.word(word).store(value, ordering);
        }
    }

    fn store_late_ones(&self) {
        for late in self.late.take() {
            match late {
                Late::Word(word, value) => self.put_word(word, value, Ordering::Relaxed),
                Late::Data(position, value) => self.put(position, value, Ordering::Relaxed),
            }
        }
    }
}

impl Memory for Lane {
    fn load(&self, word: Word) -> u64 {
        if !WORDS.contains(&word) {
            return 0;
        }
        self.word(word).load(Ordering::Relaxed)
    }

    fn load_acquire(&self, word: Word) -> u64 {
        let twin = match word {
            Word::Head => Twin::FreeLoadRelaxed,
            Word::CheckGeneration => Twin::CheckLoadRelaxed,
            Word::HeadGeneration => Twin::CommitLoadRelaxed,
            other => panic!("{other:?} is in no model"),
        };
        self.word(word).load(self.weaken(twin, Ordering::Acquire))
    }

    fn store(&self, word: Word, value: u64) {
        match word {
            _ if !WORDS.contains(&word) => {}
            _ if self.is(Twin::GenerationBeforeSlot) => self.late.borrow_mut().push(Late::Word(word, value)),
            _ => self.put_word(word, value, Ordering::Relaxed),
        }
    }

    fn store_release(&self, word: Word, value: u64) {
        let twin = match word {
            Word::Head => Twin::FreeStoreRelaxed,
            Word::CheckGeneration => Twin::CheckStoreRelaxed,
            Word::HeadGeneration => Twin::CommitStoreRelaxed,
            other => panic!("{other:?} is in no model"),
        };
        self.put_word(word, value, self.weaken(twin, Ordering::Release));
        self.store_late_ones();
    }

    fn replace(&self, _: Word, _: u64, _: u64) -> bool {
        unreachable!("the lane's owners replace nothing")
    }

    fn header_acquire(&self, position: u64) -> u64 {
        self.place(position).word.load(self.weaken(Twin::PublishLoadRelaxed, Ordering::Acquire))
    }

    fn store_header(&self, position: u64, value: u64) {
        let twin = if value == 0 { Twin::HeaderBeforeZero } else { Twin::FirstHeaderFirst };
        if self.is(twin) {
            self.late.borrow_mut().push(Late::Data(position, value));
        } else {
            self.put(position, value, Ordering::Relaxed);
        }
    }

    fn store_header_release(&self, position: u64, value: u64) {
        self.put(position, value, self.weaken(Twin::PublishStoreRelaxed, Ordering::Release));
        self.store_late_ones();
    }

    /// Whole words only: more would add steps and no race.
    fn write(&self, position: u64, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty() && position.is_multiple_of(8));
        for (i, word) in words.iter().enumerate() {
            let (at, value) = (position.wrapping_add(8 * i as u64), u64::from_le_bytes(*word));
            if self.is(Twin::HeaderBeforePayload) {
                self.late.borrow_mut().push(Late::Data(at, value));
            } else {
                self.put(at, value, Ordering::Relaxed);
            }
        }
    }

    fn read(&self, position: u64, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut::<8>();
        assert!(rest.is_empty() && position.is_multiple_of(8));
        for (i, word) in words.iter_mut().enumerate() {
            let place = self.place(position.wrapping_add(8 * i as u64));
            *word = place.word.load(Ordering::Relaxed).to_le_bytes();
            if self.watches_races() {
                place.quiet.lock().unwrap().with(|_| ());
            }
        }
    }

    /// The checker runs the program in its order.
    fn keep_program_order(&self) {}
}

/// The payload of a message: each word tells whose it is. Taken for a header
/// it has no length, an unknown kind and an unknown flag.
fn payload(sequence: u64, words: usize) -> Vec<u8> {
    (0..words as u64).flat_map(|i| (sequence << 40 | (0xF0 + i) << 32).to_le_bytes()).collect()
}

fn stage(writer: &mut Writer<Lane>, words: usize) -> Result<(), Claim> {
    writer.claim(8 * words)?;
    writer.write(0, &payload(writer.sequence() + writer.staged(), words));
    writer.stage(0, 8 * words);
    Ok(())
}

fn send(writer: &mut Writer<Lane>, words: usize) -> Result<(), Claim> {
    stage(writer, words)?;
    writer.publish();
    Ok(())
}

/// Steps over the next message, if it is there, and checks every byte.
fn receive(reader: &mut Reader<Lane>, words: usize) -> bool {
    let Some(record) = reader.peek().expect("no damage") else {
        return false;
    };
    check(reader, &record, words);
    reader.advance(&record);
    true
}

fn check(reader: &Reader<Lane>, record: &Record, words: usize) {
    assert_eq!((record.kind, record.len), (Kind::Data, 8 * words), "another record than was sent");
    let mut bytes = vec![0; record.len];
    reader.read(record, &mut bytes);
    assert_eq!(bytes, payload(record.sequence, words), "another payload than was sent");
}

fn owners(twin: Twin) -> (Writer<Lane>, Reader<Lane>) {
    let lane = Lane::new(twin);
    let reader = Reader::take_over(lane.share(), SHAPE).unwrap();
    (Writer::take_over(lane, SHAPE).unwrap(), reader)
}

/// Every interleaving with at most three preemptions. Two find every twin.
fn model(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.check(scenario);
}

/// Makes a test of the sound memory, and one of each twin that has to fail.
macro_rules! held_by {
    ($scenario:ident: $($twin:ident $seen:literal),+) => {
        mod $scenario {
            #[test]
            fn holds() {
                super::model(|| super::$scenario(super::Twin::Sound));
            }
            $(
                #[test]
                #[should_panic(expected = $seen)]
                #[allow(non_snake_case)]
                fn $twin() {
                    super::model(|| super::$scenario(super::Twin::$twin));
                }
            )+
        }
    };
}

/// Two messages: what the reader sees of them is whole and in order, and both
/// are there in the end.
fn messages_are_whole(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        for _ in 0..2 {
            send(&mut writer, 1).expect("room");
        }
    });
    let mut seen = 0;
    for _ in 0..3 {
        seen += receive(&mut reader, 1) as u64;
    }
    producer.join().unwrap();
    while receive(&mut reader, 1) {
        seen += 1;
    }
    assert_eq!((seen, reader.sequence()), (2, FIRST + 2));
}

held_by!(messages_are_whole:
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload",
    HeaderBeforePayload "another payload");

/// A batch of two: once the first is there, so is the second, and then nothing.
fn a_batch_is_all_or_nothing(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        stage(&mut writer, 1).expect("room");
        stage(&mut writer, 1).expect("room");
        writer.publish();
    });
    if let Some(first) = reader.peek().expect("no damage") {
        reader.advance(&first);
        let second = reader.peek().expect("no damage").expect("the other half of the batch");
        reader.advance(&second);
        assert_eq!(reader.peek(), Ok(None), "more than the batch");
        check(&reader, &first, 1);
        check(&reader, &second, 1);
    }
    producer.join().unwrap();
}

held_by!(a_batch_is_all_or_nothing:
    PublishStoreRelaxed "the other half",
    PublishLoadRelaxed "the other half",
    FirstHeaderFirst "the other half");

/// The ring is full of two messages, so that the third's payload lies over the
/// first's header and its zero word over the first's payload. The producer
/// writes only what is committed, and the reader never takes old payload for
/// the next header.
fn only_committed_bytes_are_overwritten(twin: Twin) {
    let (mut writer, mut reader) = owners(twin);
    send(&mut writer, 2).expect("room");
    send(&mut writer, 2).expect("room");
    let producer = thread::spawn(move || {
        let sent = send(&mut writer, 2);
        assert!(matches!(sent, Ok(()) | Err(Claim::Full)), "{sent:?}");
        (writer, sent.is_ok())
    });
    assert!(receive(&mut reader, 2));
    reader.commit();
    assert!(receive(&mut reader, 2));
    let early = receive(&mut reader, 2) && receive(&mut reader, 2);
    assert!(!early, "a message that was not sent");
    let (mut writer, sent) = producer.join().unwrap();
    if !sent {
        send(&mut writer, 2).expect("room after the commit");
    }
    receive(&mut reader, 2);
    assert_eq!(reader.sequence(), FIRST + 3);
}

held_by!(only_committed_bytes_are_overwritten:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation",
    HeaderBeforeZero "no damage",
    PublishStoreRelaxed "another payload",
    PublishLoadRelaxed "another payload");

/// A consumer is killed between its commit and the head word. The next one
/// stores that word for it and thereby frees what the first one had read.
fn a_new_consumer_frees_what_the_old_one_read(twin: Twin) {
    let lane = Lane::new(twin);
    let mut writer = Writer::take_over(lane.share(), SHAPE).unwrap();
    send(&mut writer, 2).expect("room");
    send(&mut writer, 2).expect("room");
    let mut old = Reader::take_over(lane.share(), SHAPE).unwrap();
    old.memory().kill_before(Word::Head);
    let consumer = thread::spawn(move || {
        assert!(receive(&mut old, 2));
        old.commit();
        let mut reader = Reader::take_over(lane, SHAPE).expect("no damage");
        assert_eq!(reader.sequence(), FIRST + 1);
        assert!(receive(&mut reader, 2));
    });
    let sent = send(&mut writer, 2);
    assert!(matches!(sent, Ok(()) | Err(Claim::Full)), "{sent:?}");
    consumer.join().unwrap();
}

held_by!(a_new_consumer_frees_what_the_old_one_read:
    FreeStoreRelaxed "Causality violation",
    FreeLoadRelaxed "Causality violation");

/// A producer was killed between a message and its check point. The next one
/// finds the message, although the consumer is already ahead of the check
/// point, and goes on behind it.
///
/// No twin: what a walk reads the dead owner stored, under the lock, and FREE
/// has its twins above. That the head is loaded after the walk is not an
/// ordering but the program's order.
#[test]
fn a_takeover_meets_a_consumer_ahead_of_the_check_point() {
    model(|| {
        let lane = Lane::new(Twin::Sound);
        let mut reader = Reader::take_over(lane.share(), SHAPE).unwrap();
        let mut dead = Writer::take_over(lane.share(), SHAPE).unwrap();
        dead.memory().kill_before(Word::CheckGeneration);
        send(&mut dead, 1).expect("room");
        let producer = thread::spawn(move || {
            let mut writer = Writer::take_over(lane, SHAPE).expect("no damage");
            assert_eq!((writer.sequence(), writer.bytes()), (FIRST + 1, 8));
            send(&mut writer, 1).expect("room");
        });
        let mut seen = 0;
        for _ in 0..2 {
            seen += receive(&mut reader, 1) as u64;
            reader.commit();
        }
        producer.join().unwrap();
        while receive(&mut reader, 1) {
            seen += 1;
        }
        assert_eq!(seen, 2);
    });
}

/// The end mark and then the state: who sees the state sees the end mark. The
/// words go as the two endpoints store and load them.
fn the_end_mark_is_there_before_the_state(twin: Twin) {
    const CLOSED: u64 = 2;
    let (mut writer, mut reader) = owners(twin);
    let producer = thread::spawn(move || {
        send(&mut writer, 1).expect("room");
        writer.end().expect("no damage");
        let lane = writer.memory();
        lane.shared.state.store(CLOSED, lane.weaken(Twin::StateStoreRelaxed, Ordering::Release));
    });
    let lane = reader.memory();
    let state = lane.shared.state.load(lane.weaken(Twin::StateLoadRelaxed, Ordering::Acquire));
    if state == CLOSED {
        assert!(receive(&mut reader, 1), "closed, and a message was missed");
        let end = reader.peek().unwrap().map(|record| record.kind);
        assert_eq!(end, Some(Kind::End), "closed, and the end mark was missed");
    }
    producer.join().unwrap();
}

held_by!(the_end_mark_is_there_before_the_state:
    StateStoreRelaxed "was missed",
    StateLoadRelaxed "was missed");

mod takeover;
