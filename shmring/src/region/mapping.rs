//! A mapped region: what is before the rings, once, and the rings of some lanes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};

use super::copy::{self, copy_in, copy_out};
use crate::layout::blocks::{control, lane, owner};
use crate::layout::{Geometry, Place, Word};
use crate::os::advice::{self, MapOptions, Part};
use crate::os::guard::{Guard, Mark};
use crate::os::mirror::Mirror;
use crate::ring::Memory;

/// Everything of a region before its lanes' rings, mapped once for a handle and
/// shared by the lanes that it maps.
#[derive(Debug)]
pub struct Control {
    /// The rings that were mapped. They stay until nobody can touch any part of
    /// the region through this any more, as their guards ask for. The first
    /// field, for they are dropped before their leader is.
    rings: Mutex<Vec<Ring>>,
    /// Dropped before what it guards.
    guard: Option<Guard>,
    map: MmapRaw,
    geometry: Geometry,
    options: MapOptions,
    region_at: usize,
    /// Where the first lane's block is.
    lanes_at: usize,
}

/// A lane's data, mapped twice back to back.
#[derive(Debug)]
struct Ring {
    lane: u32,
    /// Dropped before what it guards.
    guard: Option<Guard>,
    data: Mirror,
}

/// A lane's control block and its data, and the region's block.
#[derive(Debug)]
pub struct Mapping {
    // Into what `control` keeps mapped.
    region: NonNull<u8>,
    lane: NonNull<u8>,
    data: NonNull<u8>,
    /// The capacity, a power of two, less one.
    mask: u64,
    /// The same for whole words.
    word_mask: u64,
    /// That of `control`'s guard.
    mark: Option<Mark>,
    control: Arc<Control>,
}

// SAFETY: what the pointers point to belongs to `control`, which is Send and
// Sync, and is accessed only as other processes access it at the same time: as
// atomics, by the copies of `copy`, which allow for that, and as whoever made a
// `Trust` answers for.
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

/// One of the region's two sleep words.
#[derive(Debug, Clone, Copy)]
pub enum SleepWord {
    /// All producers wake this one.
    Consumer,
    /// The lane's consumer wakes this one.
    Producer,
}

fn too_large<E>(_: E) -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

impl Control {
    /// Maps it as `options` say, and the lanes likewise. `geometry` has been
    /// verified against the length of `file`.
    pub fn new(file: &File, geometry: &Geometry, options: &MapOptions) -> io::Result<Arc<Control>> {
        let len = usize::try_from(geometry.data_offset(0)).map_err(too_large)?;
        let mut control = Control {
            rings: Mutex::new(Vec::new()),
            guard: None,
            map: MmapOptions::new().len(len).map_raw(file)?,
            geometry: *geometry,
            options: options.clone(),
            region_at: geometry.control_offset() as usize,
            lanes_at: geometry.lane_offset(0) as usize,
        };
        // What the accesses below rely on.
        let lanes_end = control.lanes_at + geometry.lane_count() as usize * lane::STRIDE;
        assert!(control.lanes_at.is_multiple_of(8) && lanes_end <= len);
        assert!(control.region_at.is_multiple_of(8) && control.region_at + control::LEN <= len);
        if options.guard {
            // SAFETY: by their order the field is dropped before the map, and
            // after the rings, whose guards it leads.
            control.guard = Some(unsafe { Guard::new(&Part::Control(&control.map))? });
        }
        // A handle has one ring at least.
        advice::apply(options, file, &Part::Control(&control.map), control.needed(1))?;
        Ok(Arc::new(control))
    }

    /// What a handle with so many rings maps, in bytes.
    fn needed(&self, rings: usize) -> u64 {
        self.map.len() as u64 + rings as u64 * 2 * self.geometry.capacity()
    }

    /// The first byte of a lane's data, which it maps unless it is mapped.
    fn map_ring(&self, file: &File, lane: u32) -> io::Result<NonNull<u8>> {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match rings.iter().position(|ring| ring.lane == lane) {
            Some(at) => at,
            None => {
                let len = usize::try_from(self.geometry.capacity()).map_err(too_large)?;
                let align = self.geometry.data_align() as usize;
                let data = Mirror::new(file, self.geometry.data_offset(lane), len, align)?;
                let lead = |leader: &Guard| {
                    // SAFETY: both go into `rings` and stay there until `self`
                    // is dropped, when nobody can touch anything through it.
                    unsafe { leader.lead(&Part::Ring(&data)) }
                };
                let guard = self.guard.as_ref().map(lead).transpose()?;
                rings.push(Ring { lane, guard, data });
                rings.len() - 1
            }
        };
        let (ring, mapped) = (&rings[at], rings.len());
        if let Some(guard) = &ring.guard {
            guard.catch_up()?;
        }
        // Zeros that nobody else has need no care.
        if !self.is_cut() {
            advice::apply(&self.options, file, &Part::Ring(&ring.data), self.needed(mapped))?;
        }
        Ok(ring.data.base())
    }

    fn mark(&self) -> Option<Mark> {
        self.guard.as_ref().map(Guard::mark)
    }

    /// True if it asks [`is_cut`](Self::is_cut) for a reason.
    #[inline(always)]
    pub(crate) fn is_guarded(&self) -> bool {
        self.options.guard
    }

    /// True if a touch, through this or through a lane's mapping, found that the
    /// file had been truncated; only a guarded one lives to tell. What was read
    /// or written since the last look may have been private zeros. Never false
    /// again.
    pub(crate) fn is_cut(&self) -> bool {
        self.mark().is_some_and(Mark::is_cut)
    }

    /// Where `at` bytes after the start of the map are.
    #[inline(always)]
    fn place(&self, at: usize) -> NonNull<u8> {
        assert!(at < self.map.len());
        // SAFETY: a mapping is not at 0, and `at` is inside it.
        unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(at)) }
    }

    fn lane(&self, lane: u32) -> NonNull<u8> {
        assert!(lane < self.geometry.lane_count());
        self.place(self.lanes_at + lane as usize * lane::STRIDE)
    }

    #[inline(always)]
    fn word(&self, lane: u32, word: Word) -> &AtomicU64 {
        // SAFETY: both blocks are inside the map, as `new` checked, and `self`
        // keeps it.
        unsafe { word_in(self.place(self.region_at), || self.lane(lane), word) }
    }

    /// Loads a word of a lane's block, mapped or not, Acquire; or one of the
    /// region's block, whatever the lane.
    pub(crate) fn load_acquire(&self, lane: u32, word: Word) -> u64 {
        self.word(lane, word).load(Ordering::Acquire)
    }

    /// Stores one of them, Release.
    pub(crate) fn store_release(&self, lane: u32, word: Word, value: u64) {
        self.word(lane, word).store(value, Ordering::Release)
    }

    /// The consumer's sleep word.
    #[inline(always)]
    pub fn consumer_sleep(&self) -> &AtomicU32 {
        let at = self.place(self.region_at + control::CONSUMER_SLEEP.offset);
        // SAFETY: the block lies inside the map, as `new` checked; the field is
        // aligned to 4 and only ever accessed as AtomicU32.
        unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
    }

    /// Writes words for people into an owner slot at `offset` of the file.
    pub(crate) fn write_owner(&self, offset: u64, words: [u64; 7]) {
        let at = offset as usize;
        assert!(at.is_multiple_of(8) && at + owner::STRIDE <= self.map.len());
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: 7 words from `at` on lie inside the slot, which was just
            // checked to lie inside the mapping, aligned to 8.
            unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast::<u64>().add(i)) }
                .store(word, Ordering::Relaxed);
        }
    }
}

/// A word of the region's block or of a lane's.
///
/// # Safety
/// Both point to a whole block that stays mapped for `'a`, aligned to 8.
#[inline(always)]
unsafe fn word_in<'a>(region: NonNull<u8>, lane: impl FnOnce() -> NonNull<u8>, word: Word) -> &'a AtomicU64 {
    let (block, at) = match word.place() {
        Place::Region(at) => (region, at),
        Place::Lane(at) => (lane(), at),
    };
    // SAFETY: every word's offset is a multiple of 8 inside its block (a test in
    // layout holds that); this word is only ever accessed as AtomicU64.
    unsafe { AtomicU64::from_ptr(block.as_ptr().add(at).cast()) }
}

impl Mapping {
    /// Maps one lane's ring beside its control block, as the control's options
    /// say; once, however often it is asked for. It stays mapped as long as the
    /// control is. `file` is the one that the control is of.
    pub fn new(control: &Arc<Control>, file: &File, lane: u32) -> io::Result<Mapping> {
        let mapping = Mapping {
            region: control.place(control.region_at),
            lane: control.lane(lane),
            data: control.map_ring(file, lane)?,
            mask: control.geometry.capacity() - 1,
            word_mask: (control.geometry.capacity() - 1) & !7,
            mark: control.mark(),
            control: control.clone(),
        };
        // What the accesses below rely on.
        assert!(control.geometry.capacity().is_power_of_two() && mapping.mask >= 7);
        Ok(mapping)
    }

    /// What it shares with the handle's other lanes.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// [`Control::is_cut`], for those who ask often.
    #[inline(always)]
    pub(crate) fn is_cut(&self) -> bool {
        self.mark.is_some_and(Mark::is_cut)
    }

    #[inline(always)]
    fn word(&self, word: Word) -> &AtomicU64 {
        // SAFETY: `control` checked that both blocks lie inside its map, and is kept.
        unsafe { word_in(self.region, || self.lane, word) }
    }

    /// The header word at a position: whole words only, in the first alias.
    #[inline(always)]
    fn header_word(&self, position: u64) -> &AtomicU64 {
        let at = position & self.word_mask;
        // SAFETY: `at` is a multiple of 8 below the capacity, a power of two of
        // at least 8, so the word lies inside the first alias, which is
        // page-aligned. Payload bytes there are accessed through `copy` only, or
        // as a whole by whoever was given a `Trust`.
        unsafe { AtomicU64::from_ptr(self.data.as_ptr().add(at as usize).cast()) }
    }

    /// Where `len` payload bytes at a position are: they may run into the
    /// second alias. Panics if they are as many as the ring has.
    #[inline(always)]
    pub(super) fn payload(&self, position: u64, len: usize) -> *mut u8 {
        assert!(len as u64 <= self.mask);
        let at = position & self.mask;
        // SAFETY: at < capacity and len <= capacity, so [at, at + len) lies
        // inside the two aliases.
        unsafe { self.data.as_ptr().add(at as usize) }
    }

    /// A sleep word.
    #[inline(always)]
    pub fn sleep_word(&self, which: SleepWord) -> &AtomicU32 {
        let (block, at) = match which {
            SleepWord::Consumer => (self.region, control::CONSUMER_SLEEP.offset),
            SleepWord::Producer => (self.lane, lane::PRODUCER_SLEEP.offset),
        };
        // SAFETY: `control` checked that both blocks lie inside its map, and is
        // kept; both fields are aligned to 4; they are only ever accessed as
        // AtomicU32.
        unsafe { AtomicU32::from_ptr(block.as_ptr().add(at).cast()) }
    }
}

impl Memory for Mapping {
    #[inline(always)]
    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn load_acquire(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }
    #[inline(always)]
    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_release(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release)
    }
    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.word(word).compare_exchange(current, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
    #[inline(always)]
    fn add(&self, word: Word, value: u64) -> u64 {
        self.word(word).fetch_add(value, Ordering::Release)
    }
    #[inline(always)]
    fn header_acquire(&self, position: u64) -> u64 {
        self.header_word(position).load(Ordering::Acquire)
    }
    #[inline(always)]
    fn header(&self, position: u64) -> u64 {
        self.header_word(position).load(Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_header(&self, position: u64, value: u64) {
        self.header_word(position).store(value, Ordering::Relaxed)
    }
    #[inline(always)]
    fn store_header_release(&self, position: u64, value: u64) {
        self.header_word(position).store(value, Ordering::Release)
    }
    #[inline(always)]
    fn write(&self, position: u64, bytes: &[u8]) {
        let shared = self.payload(position, bytes.len());
        // SAFETY: `payload` gives a place of `bytes.len()` valid shared bytes;
        // a slice is valid and nobody changes it.
        unsafe { copy_in(shared, bytes.as_ptr(), bytes.len()) };
        // The words of a short copy went through the second alias, which the
        // compiler takes for other memory than the header that follows.
        compiler_fence(Ordering::Release);
    }
    #[inline(always)]
    fn read(&self, position: u64, bytes: &mut [u8]) {
        let shared = self.payload(position, bytes.len());
        // SAFETY: as in `write`; the slice is ours alone.
        unsafe { copy_out(shared, bytes.as_mut_ptr(), bytes.len()) };
    }
    #[inline(always)]
    fn prepare(&self, position: u64) {
        copy::prepare(self.payload(position, 0));
    }
    #[inline(always)]
    fn keep_program_order(&self) {
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::layout::Slot;
    use crate::layout::geometry::{DATA_ALIGN, MAX_LANES};

    const CAPACITY: u64 = DATA_ALIGN;

    fn region(lanes: u32) -> (File, Geometry) {
        let geometry = Geometry::plan(CAPACITY, 16, lanes).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(geometry.file_len()).unwrap();
        (file, geometry)
    }

    fn guarded() -> MapOptions {
        MapOptions { guard: true, ..MapOptions::default() }
    }

    fn u64_at(file: &File, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).unwrap();
        u64::from_le_bytes(bytes)
    }

    #[test]
    fn lanes_share_the_region_s_block_and_nothing_else() {
        let (file, geometry) = region(3);
        let control = Control::new(&file, &geometry, &MapOptions::default()).unwrap();
        let [one, two] = [0, 2].map(|lane| Mapping::new(&control, &file, lane).unwrap());
        one.store(Word::Head, 11);
        two.store(Word::Head, 22);
        one.store_header(8, 33);
        two.store_header(CAPACITY + 8, 44);
        assert_eq!((one.load(Word::Head), two.load(Word::Head)), (11, 22));
        assert_eq!((one.header_acquire(8), two.header_acquire(8)), (33, 44));
        // Each in its place, mapped or not.
        assert_eq!([0, 1, 2].map(|lane| control.load_acquire(lane, Word::Head)), [11, 0, 22]);
        assert_eq!(u64_at(&file, geometry.lane_offset(2) + lane::HEAD.offset as u64), 22);
        assert_eq!(u64_at(&file, geometry.data_offset(2) + 8), 44);

        assert_eq!((one.add(Word::Tickets, u64::MAX), two.add(Word::Tickets, 3)), (0, u64::MAX));
        assert_eq!(control.load_acquire(u32::MAX, Word::Tickets), 2);
        assert_eq!(u64_at(&file, geometry.control_offset() + control::TICKETS.offset as u64), 2);
        one.sleep_word(SleepWord::Consumer).store(5, Ordering::Relaxed);
        one.sleep_word(SleepWord::Producer).store(6, Ordering::Relaxed);
        assert_eq!(two.sleep_word(SleepWord::Consumer).load(Ordering::Relaxed), 5);
        assert_eq!(control.consumer_sleep().load(Ordering::Relaxed), 5);
        assert_eq!(two.sleep_word(SleepWord::Producer).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_ring_is_mapped_once_and_stays_with_its_control() {
        let (file, geometry) = region(2);
        let control = Control::new(&file, &geometry, &guarded()).unwrap();
        let first = Mapping::new(&control, &file, 1).unwrap();
        let data = first.data;
        drop(first);
        assert_eq!(Mapping::new(&control, &file, 1).unwrap().data, data);
        assert_eq!(control.rings.lock().unwrap().len(), 1);
        // The mapping alone keeps it.
        let kept = Mapping::new(&control, &file, 1).unwrap();
        drop(control);
        kept.store_header(0, 7);
        assert_eq!(u64_at(&file, geometry.data_offset(1)), 7);
    }

    /// Every word of every lane, every ring and the region's block reads as 0,
    /// and what goes there does not go into the file.
    fn reaches_nothing(file: &File, geometry: &Geometry, lanes: &[Mapping]) {
        file.set_len(0).unwrap();
        file.set_len(geometry.file_len()).unwrap();
        for lane in lanes {
            for position in (0..CAPACITY).step_by(4096) {
                lane.store_header(position, 1);
                lane.write(position + CAPACITY - 4, &[1; 8]);
            }
            lane.store(Word::Head, 1);
            lane.store(Word::Tickets, 1);
        }
        let all = (0..geometry.file_len()).step_by(4096);
        let bytes: usize = all
            .map(|offset| {
                let mut page = [0; 4096];
                file.read_exact_at(&mut page, offset).unwrap();
                page.iter().filter(|&&byte| byte != 0).count()
            })
            .sum();
        assert_eq!(bytes, 0);
    }

    #[test]
    fn a_cut_found_in_one_part_is_one_of_all_parts() {
        // Found in a ring, in the control block through a lane, and without one.
        let touches: [fn(&Control, &[Mapping]); 3] = [
            |_, lanes| assert_eq!(lanes[1].header_acquire(4096), 0),
            |_, lanes| assert_eq!(lanes[1].load(Word::HeadPosition(Slot::B)), 0),
            |control, _| assert_eq!(control.load_acquire(2, Word::Ready), 0),
        ];
        for touch in touches {
            let ((file, geometry), (other, _)) = (region(3), region(3));
            let control = Control::new(&file, &geometry, &guarded()).unwrap();
            let mut lanes: Vec<_> = (0..2).map(|i| Mapping::new(&control, &file, i).unwrap()).collect();
            let another = Control::new(&other, &geometry, &guarded()).unwrap();
            let untouched = Mapping::new(&another, &other, 0).unwrap();
            assert!(!control.is_cut() && !lanes[0].is_cut());

            file.set_len(0).unwrap();
            touch(&control, &lanes);
            assert!(control.is_cut() && lanes.iter().all(Mapping::is_cut));
            // A lane that is mapped only now is no other.
            lanes.push(Mapping::new(&control, &file, 2).unwrap());
            assert!(lanes[2].is_cut());
            reaches_nothing(&file, &geometry, &lanes);

            assert!(!untouched.is_cut() && !another.is_cut());
            untouched.store_header(0, 9);
            assert_eq!(u64_at(&other, geometry.data_offset(0)), 9);
        }
    }

    #[test]
    fn a_guarded_handle_has_room_for_all_lanes() {
        let (file, geometry) = region(MAX_LANES);
        let control = Control::new(&file, &geometry, &guarded()).unwrap();
        let lanes: Vec<_> = (0..MAX_LANES).map(|i| Mapping::new(&control, &file, i).unwrap()).collect();
        file.set_len(0).unwrap();
        lanes[700].store_header(0, 1);
        assert!(lanes.iter().all(Mapping::is_cut));
        reaches_nothing(&file, &geometry, &lanes[1020..]);
    }

    #[test]
    fn handles_that_come_and_go_leave_those_that_are_cut_alone_and_are_left_alone() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..300 {
                    let (file, geometry) = region(4);
                    let control = Control::new(&file, &geometry, &guarded()).unwrap();
                    let lanes: Vec<_> = (0..4).map(|i| Mapping::new(&control, &file, i).unwrap()).collect();
                    file.set_len(0).unwrap();
                    lanes[round % 4].store_header(0, 1);
                    assert!(lanes.iter().all(Mapping::is_cut));
                    reaches_nothing(&file, &geometry, &lanes);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let (file, geometry) = region(8);
                    for value in 1..3000 {
                        let control = Control::new(&file, &geometry, &guarded()).unwrap();
                        for i in 0..8 {
                            let lane = Mapping::new(&control, &file, i).unwrap();
                            lane.store_header(0, value);
                            lane.store(Word::Head, value);
                            assert_eq!(u64_at(&file, geometry.data_offset(i)), value);
                            assert_eq!(control.load_acquire(i, Word::Head), value);
                            assert!(!lane.is_cut());
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn lanes_may_be_added_while_another_thread_finds_the_cut() {
        for _ in 0..100 {
            let (file, geometry) = region(16);
            let control = Control::new(&file, &geometry, &guarded()).unwrap();
            let first = Mapping::new(&control, &file, 0).unwrap();
            let start = std::sync::Barrier::new(2);
            let mut lanes: Vec<_> = std::thread::scope(|scope| {
                let adding = scope.spawn(|| {
                    start.wait();
                    (1..16).map(|i| Mapping::new(&control, &file, i).unwrap()).collect()
                });
                start.wait();
                file.set_len(0).unwrap();
                first.store_header(0, 1);
                assert!(first.is_cut());
                adding.join().unwrap()
            });
            lanes.push(first);
            reaches_nothing(&file, &geometry, &lanes);
        }
    }
}
