//! A region's file, and what a hostile peer writes into it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use arbitrary::{Arbitrary, Result, Unstructured};
use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::blocks::{control, extent, lane, owner};
use shmring::internals::layout::{Geometry, Order, Place, Slot, Word, header, record};
use shmring::{Region, RegionOptions};
use tempfile::TempDir;

use super::codec::seal;

/// A small region of its own.
pub(super) struct Image {
    folder: TempDir,
    /// To write past everybody.
    pub(super) file: File,
    pub(super) geometry: Geometry,
    pub(super) options: RegionOptions,
    /// Its users survive a cut.
    pub(super) is_guarded: bool,
}

impl Image {
    /// A whole one, with nothing in it, and an end to its positions near or far.
    pub(super) fn create(input: &mut Unstructured) -> Result<(Image, Region)> {
        let align = *input.choose(&[8, 16, 64])?;
        let lanes = input.int_in_range(1..=3)?;
        let order = *input.choose(&[Order::Fifo, Order::Total])?;
        let before_wrap = u64::from(input.int_in_range(0..=40u16)?) * 4096;
        let is_guarded = input.ratio(1, 4)?;
        let options = RegionOptions::new()
            .capacity(64 << 10)
            .record_align(align)
            .max_producers(lanes)
            .order(order)
            .start_at(0u64.wrapping_sub(before_wrap), (1 << 24) - input.int_in_range(0..=300u64)?)
            .guard_truncation(is_guarded);
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a temporary folder");
        let path = folder.path().join("ring");
        let region = options.create(&path).expect("room for a small region");
        let file = File::options().read(true).write(true).open(&path).expect("it was created");
        let geometry = Geometry::plan(64 << 10, align, lanes).expect("possible sizes");
        Ok((Image { folder, file, geometry, options, is_guarded }, region))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("ring")
    }

    /// The most records that all rings hold.
    pub(super) fn records(&self) -> u64 {
        self.geometry.lane_count() as u64 * self.geometry.capacity() / self.geometry.record_align()
    }

    /// The word at `at`; 0 where there is none.
    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    /// Writes what `damage` says, unless the file was cut there.
    pub(super) fn damage(&self, damage: &Damage) {
        let (at, word) = damage.resolve(&self.geometry, |at| self.word(at));
        let len = self.file.metadata().expect("it is open").len();
        if at + 8 > len {
            return;
        }
        self.file.write_all_at(&word.to_le_bytes(), at).expect("it is open");
        if let (Spot::Header { sealed: true, .. }, true) = (damage.spot, len >= header::LEN as u64) {
            let mut page = [0; header::LEN];
            self.file.read_exact_at(&mut page, 0).expect("it is as long");
            seal(&mut page);
            self.file.write_all_at(&page, 0).expect("it is open");
        }
    }

    /// Cuts the file or makes it longer.
    pub(super) fn cut(&self, len: u64) {
        self.file.set_len(len).expect("it is open");
    }

    /// Punches a hole.
    pub(super) fn punch(&self, at: u64, len: u64) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Where the file system has no holes there is none.
        let _ = fallocate(&self.file, flags, at as i64, len as i64);
    }
}

/// A word that is overwritten.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Damage {
    pub(super) spot: Spot,
    pub(super) value: Value,
}

/// Where. All numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Spot {
    /// A word that the ring works on.
    Control { lane: u8, word: u8 },
    /// The consumer's sleep word, or a producer's.
    Sleep { lane: Option<u8> },
    /// The next record to be read, and the words after it.
    Head { lane: u8, words: u8 },
    /// Where the next record goes.
    Tail { lane: u8, words: u8 },
    /// Anywhere in a ring.
    Data { lane: u8, at: u16 },
    /// Who holds the roles, as people read it.
    Owners { at: u16 },
    /// The table that is checked at open.
    Extents { at: u16 },
    /// The header and the section table, with the check sum that goes with it.
    Header { at: u8, sealed: bool },
}

/// With what.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Value {
    /// Any.
    Word(u64),
    Zero,
    One,
    Max,
    /// What is there, with a bit flipped.
    Flipped(u8),
    /// What is there, more or less by some words.
    Moved(i16),
    /// What is there, more or less by a ring, and some words.
    Lapped {
        up: bool,
        words: i8,
    },
    /// The header of a record, mostly of the right sequence.
    Record {
        kind: u8,
        flags: u8,
        len: Len,
        behind: u8,
    },
}

/// The length of a payload.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Len {
    Small(u8),
    Any(u32),
    /// That of a gap.
    Gap,
    /// So much less than a ring.
    Ring(u8),
}

impl Value {
    /// In place of `old`.
    pub(super) fn of(self, old: u64) -> u64 {
        self.with(old, old)
    }

    fn with(self, old: u64, sequence: u64) -> u64 {
        const RING: u64 = 64 << 10;
        match self {
            Value::Word(word) => word,
            Value::Zero => 0,
            Value::One => 1,
            Value::Max => u64::MAX,
            Value::Flipped(bit) => old ^ 1 << (bit % 64),
            Value::Moved(words) => old.wrapping_add_signed(i64::from(words) * 8),
            Value::Lapped { up, words } => {
                let lap = if up { RING } else { 0u64.wrapping_sub(RING) };
                old.wrapping_add(lap).wrapping_add_signed(i64::from(words) * 8)
            }
            Value::Record { kind, flags, len, behind } => {
                let len = match len {
                    Len::Small(len) => u64::from(len),
                    Len::Any(len) => u64::from(len),
                    Len::Gap => record::GAP_BYTES,
                    Len::Ring(less) => RING - u64::from(less),
                };
                let sequence = sequence.wrapping_add(u64::from(behind.saturating_sub(200)));
                // Kinds and flags that nobody writes among them.
                (len + 1) & 0xFFFF_FFFF
                    | u64::from(kind % 4) << 32
                    | u64::from(flags % 9) << 36
                    | sequence << (64 - record::SEQUENCE_BITS)
            }
        }
    }
}

impl Damage {
    /// Where in the file, and what then stands there; `load` says what does now.
    pub(super) fn resolve(&self, geometry: &Geometry, load: impl Fn(u64) -> u64) -> (u64, u64) {
        let lane = |lane: u8| u32::from(lane) % geometry.lane_count();
        let block = |lane: u32, word: Word| match word.place() {
            Place::Region(at) => geometry.control_offset() + at as u64,
            Place::Lane(at) => geometry.lane_offset(lane) + at as u64,
        };
        let data = |lane: u32, position: u64| {
            geometry.data_offset(lane) + (position & (geometry.capacity() - 1) & !7)
        };
        let mut sequence = 0;
        let at = match self.spot {
            Spot::Control { lane: number, word } => {
                block(lane(number), Word::ALL[usize::from(word) % Word::ALL.len()])
            }
            // Two words of 4 bytes, of which the second is not used.
            Spot::Sleep { lane: None } => geometry.control_offset() + control::CONSUMER_SLEEP.offset as u64,
            Spot::Sleep { lane: Some(number) } => {
                geometry.lane_offset(lane(number)) + lane::PRODUCER_SLEEP.offset as u64
            }
            Spot::Head { lane: number, words } => {
                let lane = lane(number);
                let slot = Slot::of(load(block(lane, Word::CommitGeneration)));
                sequence = load(block(lane, Word::HeadSequence(slot)));
                let head = load(block(lane, Word::HeadPosition(slot)));
                data(lane, head.wrapping_add(u64::from(words % 4) * 8))
            }
            Spot::Tail { lane: number, words } => {
                let lane = lane(number);
                sequence = load(block(lane, Word::SequenceHint));
                data(lane, load(block(lane, Word::TailHint)).wrapping_add(u64::from(words % 4) * 8))
            }
            Spot::Data { lane: number, at } => data(lane(number), u64::from(at)),
            Spot::Owners { at } => {
                let slots = 1 + u64::from(geometry.lane_count());
                geometry.consumer_owner_offset() + u64::from(at) * 8 % (slots * owner::STRIDE as u64)
            }
            Spot::Extents { at } => {
                let len = u64::from(geometry.lane_count()) * extent::STRIDE as u64;
                geometry.extent_offset(0) + u64::from(at) * 8 % len
            }
            Spot::Header { at, .. } => u64::from(at % 0x60) * 8,
        };
        (at, self.value.with(load(at), sequence))
    }
}
