//! The model's memory: a region's words and each lane's, as the checker's
//! atomics, and what an owner of good or of ill does with them.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Mutex;

use loom::cell::UnsafeCell;

use super::sites::Site;
use super::*;

/// The region's words that owners rely on, and a lane's. Others are neither
/// stored nor loaded: hints, and counters and positions of the caller's, which
/// go with their slots.
const REGION_WORDS: [Word; 3] = [Word::CommitGeneration, Word::Attaches, Word::Tickets];
/// One word of a name stands for all.
pub(super) const NAME: Word = Word::Name(Part::ALL[0]);
const LANE_WORDS: [Word; 19] = [
    Word::CheckGeneration,
    Word::CheckTail(Slot::A),
    Word::CheckTail(Slot::B),
    Word::CheckSequence(Slot::A),
    Word::CheckSequence(Slot::B),
    Word::CheckBytes(Slot::A),
    Word::CheckBytes(Slot::B),
    Word::CheckDropped(Slot::A, Cause::Full),
    Word::CheckDropped(Slot::B, Cause::Full),
    Word::Head,
    Word::HeadPosition(Slot::A),
    Word::HeadPosition(Slot::B),
    Word::HeadSequence(Slot::A),
    Word::HeadSequence(Slot::B),
    Word::State,
    Word::Ready,
    Word::Named,
    NAME,
    Word::WantedHead,
];

/// What one memory, or one endpoint, does worse than the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twin {
    Sound,
    /// This one call of the ring's code is Relaxed.
    Relaxed(Site),
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
    ReadyStoreRelaxed,
    ReadyLoadRelaxed,
    /// Neither the state nor that the lane is ready is stored with Release.
    StateAndReadyStoreRelaxed,
    StateAndReadyLoadRelaxed,
    AttachAddRelaxed,
    AttachLoadRelaxed,
    WantStoreRelaxed,
    WantLoadRelaxed,
    KeptStoreRelaxed,
    KeptLoadRelaxed,
    /// Who bound a name looks for the others without a fence.
    NoKeptFence,
    TicketAddRelaxed,
    TicketLoadRelaxed,
    /// The header is stored before the payload.
    HeaderBeforePayload,
    /// The header is stored before the zero word after the record.
    HeaderBeforeZero,
    /// A batch's first header is stored before its others.
    FirstHeaderFirst,
    /// A generation is stored before its slots.
    GenerationBeforeSlot,
    /// A lane that did not move since the last commit is not written.
    LaggingLaneNotWritten,
    /// The attach is counted before the state is stored.
    AttachBeforeState,
    /// The end is told without a second look at the count of attaches.
    AttachesNotReadAgain,
    /// A lane's next record is looked at before its state.
    StateReadLast,
    /// A ticket is drawn before the message is made.
    TicketAtClaim,
    /// The lanes are looked at before the counter is loaded.
    LanesBeforeCounter,
    /// Lanes in use are looked for before the counter is loaded.
    LanesFoundBeforeCounter,
    /// Every ticket is below the watermark.
    NoWatermark,
}

/// Eight bytes of the ring.
struct Place {
    word: AtomicU64,
    /// Read with payload, written with every store.
    quiet: Mutex<UnsafeCell<()>>,
}

struct Region {
    shape: Shape,
    words: Vec<AtomicU64>,
    lanes: Vec<Words>,
    step: AtomicU64,
}

/// The shared part of a lane.
struct Words {
    words: Vec<AtomicU64>,
    data: Vec<Place>,
    /// Written when the lane gets its space, read with every touch of it.
    space: Mutex<UnsafeCell<()>>,
}

/// A store that a twin makes later than the program says.
enum Late {
    Word(usize, Word, u64),
    Data(usize, u64, u64),
}

/// Who accesses lanes: a process, which may be killed.
struct Owner {
    twin: Twin,
    /// It is killed before it stores this word.
    killed_before: Cell<Option<Word>>,
    dead: Cell<bool>,
    late: RefCell<Vec<Late>>,
    /// The last head position stored was that of a lane that did not move.
    is_lagging: Cell<bool>,
    /// A ticket that was drawn early.
    ticket: Cell<Option<u64>>,
    /// Headers that were looked at early: lane, position, header.
    looked: RefCell<Vec<(usize, u64, u64)>>,
}

/// One owner's access to a lane.
pub(super) struct Lane {
    region: Arc<Region>,
    index: usize,
    owner: Rc<Owner>,
}

impl Lane {
    /// The first lane of a fresh region.
    pub(super) fn new(twin: Twin, shape: Shape, lanes: usize) -> Lane {
        let initial = |word| match word {
            Word::CheckTail(Slot::A) | Word::Head | Word::HeadPosition(_) => START,
            Word::CheckSequence(Slot::A) | Word::HeadSequence(_) => FIRST,
            _ => 0,
        };
        let place = || Place { word: AtomicU64::new(0), quiet: Mutex::new(UnsafeCell::new(())) };
        let words = || Words {
            words: LANE_WORDS.map(|word| AtomicU64::new(initial(word))).into(),
            data: (0..shape.capacity / 8).map(|_| place()).collect(),
            space: Mutex::new(UnsafeCell::new(())),
        };
        let region = Region {
            shape,
            words: REGION_WORDS.map(|_| AtomicU64::new(0)).into(),
            lanes: (0..lanes).map(|_| words()).collect(),
            step: AtomicU64::new(0),
        };
        Lane { region: Arc::new(region), index: 0, owner: Owner::new(twin) }
    }

    /// The same lane for another owner.
    pub(super) fn share(&self) -> Lane {
        Lane { region: self.region.clone(), index: self.index, owner: Owner::new(self.owner.twin) }
    }

    /// Another lane for the same owner.
    pub(super) fn beside(&self, index: usize) -> Lane {
        Lane { region: self.region.clone(), index, owner: self.owner.clone() }
    }

    pub(super) fn shape(&self) -> Shape {
        self.region.shape
    }

    /// From now on the owner is killed before it stores `word`.
    pub(super) fn kill_before(&self, word: Word) {
        self.owner.killed_before.set(Some(word));
    }

    pub(super) fn is(&self, twin: Twin) -> bool {
        self.owner.twin == twin
    }

    /// Gives the lane its space.
    pub(super) fn reserve(&self) {
        self.words().space.lock().unwrap().with_mut(|_| ());
    }

    /// Draws the next ticket now, for a twin.
    pub(super) fn draw_early(&self) {
        let ticket = self.word(Word::Tickets).fetch_add(1, Ordering::Release);
        self.owner.ticket.set(Some(ticket));
    }

    /// Looks at a header now, for a twin; until [`forget`](Self::forget).
    pub(super) fn look_early(&self, position: u64) {
        let header = self.header_acquire(position);
        self.owner.looked.borrow_mut().push((self.index, position, header));
    }

    pub(super) fn forget(&self) {
        self.owner.looked.take();
    }

    #[track_caller]
    fn weaken(&self, twins: &[Twin], ordering: Ordering) -> Ordering {
        let is_weak = match self.owner.twin {
            Twin::Relaxed(site) => site.is_at(Location::caller()),
            twin => twins.contains(&twin),
        };
        if is_weak { Ordering::Relaxed } else { ordering }
    }

    fn words(&self) -> &Words {
        &self.region.lanes[self.index]
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        self.may_be_preempted();
        let at = |words: &[Word]| words.iter().position(|&w| w == word);
        match (at(&REGION_WORDS), at(&LANE_WORDS)) {
            (Some(at), _) => &self.region.words[at],
            (_, Some(at)) => &self.words().words[at],
            _ => panic!("{word:?} is in no model"),
        }
    }

    fn place(&self, position: u64) -> &Place {
        self.may_be_preempted();
        let words = self.words();
        words.space.lock().unwrap().with(|_| ());
        &words.data[(position / 8 % (self.region.shape.capacity / 8)) as usize]
    }

    /// Lets the checker try every other thread here. On its own it does so
    /// where two accesses to one word may race, but remembers one access for
    /// each word: a thread that loads a word and then stores it hides the load
    /// of another thread before. A store to one word for all cannot be hidden.
    fn may_be_preempted(&self) {
        self.region.step.store(0, Ordering::Relaxed);
    }

    /// Only the sound memory and the twins of FREE: the others have to be
    /// found by what a reader sees.
    fn watches_races(&self) -> bool {
        match self.owner.twin {
            Twin::Relaxed(site) => site.is_free(),
            twin => matches!(twin, Twin::Sound | Twin::FreeStoreRelaxed | Twin::FreeLoadRelaxed),
        }
    }

    fn put(&self, position: u64, value: u64, ordering: Ordering) {
        if !self.owner.dead.get() {
            let place = self.place(position);
            if self.watches_races() {
                place.quiet.lock().unwrap().with_mut(|_| ());
            }
            place.word.store(value, ordering);
        }
    }

    fn put_word(&self, word: Word, value: u64, ordering: Ordering) {
        if self.owner.killed_before.get() == Some(word) {
            self.owner.dead.set(true);
        }
        if !self.owner.dead.get() {
            self.word(word).store(value, ordering);
        }
    }

    fn put_late(&self, late: Late) {
        self.owner.late.borrow_mut().push(late);
    }

    fn store_late_ones(&self) {
        for late in self.owner.late.take() {
            match late {
                Late::Word(lane, word, value) => self.beside(lane).put_word(word, value, Ordering::Relaxed),
                Late::Data(lane, at, value) => self.beside(lane).put(at, value, Ordering::Relaxed),
            }
        }
    }

    /// True for both words of the slot of a lane that did not move, which the
    /// twin does not write.
    fn leaves_out(&self, word: Word, value: u64) -> bool {
        if !self.is(Twin::LaggingLaneNotWritten) {
            return false;
        }
        if let Word::HeadPosition(_) = word {
            self.owner.is_lagging.set(self.load(Word::Head) == value);
        }
        matches!(word, Word::HeadPosition(_) | Word::HeadSequence(_)) && self.owner.is_lagging.get()
    }
}

impl Owner {
    fn new(twin: Twin) -> Rc<Owner> {
        Rc::new(Owner {
            twin,
            killed_before: Cell::default(),
            dead: Cell::default(),
            late: RefCell::default(),
            is_lagging: Cell::default(),
            ticket: Cell::default(),
            looked: RefCell::default(),
        })
    }
}

impl Memory for Lane {
    fn load(&self, word: Word) -> u64 {
        if !REGION_WORDS.contains(&word) && !LANE_WORDS.contains(&word) {
            return 0;
        }
        self.word(word).load(Ordering::Relaxed)
    }

    #[track_caller]
    fn load_acquire(&self, word: Word) -> u64 {
        let twins: &[Twin] = match word {
            Word::Head => &[Twin::FreeLoadRelaxed],
            Word::CheckGeneration => &[Twin::CheckLoadRelaxed],
            Word::CommitGeneration => &[Twin::CommitLoadRelaxed],
            Word::State => &[Twin::StateLoadRelaxed, Twin::StateAndReadyLoadRelaxed],
            Word::Ready => &[Twin::ReadyLoadRelaxed, Twin::StateAndReadyLoadRelaxed],
            Word::Attaches => &[Twin::AttachLoadRelaxed],
            Word::WantedHead => &[Twin::WantLoadRelaxed],
            Word::Named | Word::Name(_) => &[Twin::KeptLoadRelaxed],
            Word::Tickets if self.is(Twin::NoWatermark) => return u64::MAX,
            Word::Tickets => &[Twin::TicketLoadRelaxed],
            other => panic!("{other:?} is in no model"),
        };
        self.word(word).load(self.weaken(twins, Ordering::Acquire))
    }

    fn store(&self, word: Word, value: u64) {
        if !LANE_WORDS.contains(&word) || self.leaves_out(word, value) {
            return;
        }
        if self.is(Twin::GenerationBeforeSlot) {
            self.put_late(Late::Word(self.index, word, value));
        } else {
            self.put_word(word, value, Ordering::Relaxed);
        }
    }

    #[track_caller]
    fn store_release(&self, word: Word, value: u64) {
        let twins: &[Twin] = match word {
            Word::Head => &[Twin::FreeStoreRelaxed],
            Word::CheckGeneration => &[Twin::CheckStoreRelaxed],
            Word::CommitGeneration => &[Twin::CommitStoreRelaxed],
            Word::State => &[Twin::StateStoreRelaxed, Twin::StateAndReadyStoreRelaxed],
            Word::Ready => &[Twin::ReadyStoreRelaxed, Twin::StateAndReadyStoreRelaxed],
            Word::WantedHead => &[Twin::WantStoreRelaxed],
            Word::Named | Word::Name(_) => &[Twin::KeptStoreRelaxed],
            other => panic!("{other:?} is in no model"),
        };
        self.put_word(word, value, self.weaken(twins, Ordering::Release));
        self.store_late_ones();
    }

    fn replace(&self, _: Word, _: u64, _: u64) -> bool {
        unreachable!("the lane's owners replace nothing")
    }

    #[track_caller]
    fn add(&self, word: Word, value: u64) -> u64 {
        let twin = match word {
            Word::Attaches => Twin::AttachAddRelaxed,
            Word::Tickets => Twin::TicketAddRelaxed,
            other => panic!("{other:?} is in no model"),
        };
        let early = self.owner.ticket.take().filter(|_| word == Word::Tickets);
        let ordering = self.weaken(&[twin], Ordering::Release);
        early.unwrap_or_else(|| self.word(word).fetch_add(value, ordering))
    }

    #[track_caller]
    fn header_acquire(&self, position: u64) -> u64 {
        let ordering = self.weaken(&[Twin::PublishLoadRelaxed], Ordering::Acquire);
        let looked = self.owner.looked.borrow();
        let early = looked.iter().find(|(lane, at, _)| (*lane, *at) == (self.index, position));
        early.map_or_else(|| self.place(position).word.load(ordering), |(.., header)| *header)
    }

    fn header(&self, position: u64) -> u64 {
        self.place(position).word.load(Ordering::Relaxed)
    }

    fn store_header(&self, position: u64, value: u64) {
        let twin = if value == 0 { Twin::HeaderBeforeZero } else { Twin::FirstHeaderFirst };
        if self.is(twin) {
            self.put_late(Late::Data(self.index, position, value));
        } else {
            self.put(position, value, Ordering::Relaxed);
        }
    }

    #[track_caller]
    fn store_header_release(&self, position: u64, value: u64) {
        self.put(position, value, self.weaken(&[Twin::PublishStoreRelaxed], Ordering::Release));
        self.store_late_ones();
    }

    /// Whole words only: more would add steps and no race.
    fn write(&self, position: u64, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty() && position.is_multiple_of(8));
        for (i, word) in words.iter().enumerate() {
            let (at, value) = (position.wrapping_add(8 * i as u64), u64::from_le_bytes(*word));
            if self.is(Twin::HeaderBeforePayload) {
                self.put_late(Late::Data(self.index, at, value));
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
