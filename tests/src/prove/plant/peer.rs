//! A reader beside a hostile peer, which writes another length into the header
//! of a record, at each access of the reader's.

use std::cell::{Cell, RefCell};
use std::path::Path;

use anyhow::Result;
use shmring::internals::layout::{Word, record};
use shmring::internals::ring::{Memory, Reader, Shape};

use super::alone::Rings;
use super::{Plant, Planted};
use crate::prove::product::{Output, create, prepare};
use crate::prove::replica::{LaneCopy, Replica};
use crate::prove::scenario::{CAPACITY, Scenario};
use crate::prove::watch::Tally;

/// What the peer makes of a length: a longer one, one of nearly the ring's, and
/// one that no ring of this size has.
const LIES: [fn(u32) -> u32; 3] = [|len| len + 8, |_| CAPACITY as u32 - 64, |_| 1 << 20];

/// Reads the messages of one scenario, with each lie at each access.
pub(super) fn run(plant: Option<Plant>, scenario: Scenario, path: &Path) -> Result<Tally> {
    let (plan, shape) = (scenario.plan(), scenario.shape());
    let (_region, view) = create(&scenario, &plan, path)?;
    let lane = Planted::new(view.lane(0), shape, None);
    let mut rings = Rings::new(&lane, shape, Output::new(path)?)?;
    prepare(&scenario, &plan, &mut rings)?;
    rings.read(plan.pending.len())?;
    rings.reader.commit();

    let mut replica = Replica::new(&view.image());
    let mut tally = Tally { scenarios: 1, ..Tally::default() };
    for lie in LIES {
        for at in 0.. {
            let peer = Hostile::new(replica.lane(0), shape, lie, at);
            let seen = Planted::new(&peer, shape, plant);
            seen.arm();
            // An error is as good as a message: the bytes are a peer's.
            let _ = read_all(seen, shape);
            let (accesses, violation) = (peer.accesses.get(), peer.violation.take());
            replica.roll_back();
            if accesses <= at {
                break;
            }
            tally.images += 1;
            if let Some(violation) = violation {
                tally.violated(|| {
                    format!("{violation} ({scenario}; the peer acts before access {at} to shared memory)")
                });
            }
        }
    }
    Ok(tally)
}

fn read_all<M: Memory>(lane: M, shape: Shape) -> Result<()> {
    let mut reader = Reader::take_over(&lane, shape, 1);
    reader.add(lane)?;
    while let Some(record) = reader.peek_lane(0)? {
        reader.read(&record, &mut vec![0; record.len]);
        reader.advance(&record);
    }
    reader.commit();
    Ok(())
}

/// A lane with a hostile peer, and an eye on what is copied out of it.
struct Hostile<'a> {
    lane: LaneCopy<'a>,
    shape: Shape,
    lie: fn(u32) -> u32,
    /// The access before which the peer acts.
    at: u64,
    accesses: Cell<u64>,
    /// The record that was looked at last: where it is, and its length when it
    /// was checked.
    record: Cell<(u64, u32)>,
    violation: RefCell<Option<String>>,
}

impl<'a> Hostile<'a> {
    fn new(lane: LaneCopy<'a>, shape: Shape, lie: fn(u32) -> u32, at: u64) -> Hostile<'a> {
        let record = Cell::new((lane.load(Word::Head), 0));
        Hostile { lane, shape, lie, at, accesses: Cell::new(0), record, violation: RefCell::default() }
    }

    /// Counts an access; before the chosen one the peer acts.
    fn lane(&self) -> &LaneCopy<'a> {
        if self.accesses.replace(self.accesses.get() + 1) == self.at {
            let (position, _) = self.record.get();
            let word = self.lane.header_acquire(position);
            if let Some(head) = record::decode(word) {
                let len = (self.lie)(head.len);
                self.lane.store_header(position, word >> 32 << 32 | (len as u64 + 1));
            }
        }
        &self.lane
    }
}

impl Memory for Hostile<'_> {
    fn load(&self, word: Word) -> u64 {
        self.lane().load(word)
    }
    fn load_acquire(&self, word: Word) -> u64 {
        self.lane().load_acquire(word)
    }
    fn store(&self, word: Word, value: u64) {
        self.lane().store(word, value)
    }
    fn store_release(&self, word: Word, value: u64) {
        self.lane().store_release(word, value)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.lane().replace(word, current, new)
    }
    fn add(&self, word: Word, value: u64) -> u64 {
        self.lane().add(word, value)
    }
    fn header_acquire(&self, position: u64) -> u64 {
        let word = self.lane().header_acquire(position);
        let (last, checked) = self.record.get();
        if position != last || checked == 0 {
            self.record.set((position, record::decode(word).map_or(0, |head| head.len)));
        }
        word
    }
    fn store_header(&self, position: u64, value: u64) {
        self.lane().store_header(position, value)
    }
    fn store_header_release(&self, position: u64, value: u64) {
        self.lane().store_header_release(position, value)
    }
    fn write(&self, position: u64, bytes: &[u8]) {
        self.lane().write(position, bytes)
    }
    fn read(&self, position: u64, bytes: &mut [u8]) {
        let lane = self.lane();
        let (_, checked) = self.record.get();
        let end = position.wrapping_add(bytes.len() as u64);
        let what = if bytes.len() > checked as usize {
            format!("a record that was checked to have {checked}")
        } else if end.wrapping_sub(self.lane.load(Word::Head)) > self.shape.max_used() {
            format!("a record that reaches beyond a ring of {CAPACITY}")
        } else {
            return lane.read(position, bytes);
        };
        let copied = format!("{} bytes are copied of {what}", bytes.len());
        self.violation.borrow_mut().get_or_insert(copied);
    }
    fn keep_program_order(&self) {
        self.lane.keep_program_order()
    }
}
