//! Which lane a producer gets.
//!
//! A lane with a name, or bound to a source, is kept for it for ever: a
//! sequence that goes on, and a place in an input, would else be lost without
//! a word. All others take the first lane that nobody holds.

use std::sync::atomic::{Ordering, fence};

use super::error::AttachError;
use super::owner::{self, Role};
use super::stream_id::StreamId;
use crate::layout::blocks::{LaneState, Phase};
use crate::layout::{Geometry, Part, Word};
use crate::os::fork::OwnFile;
use crate::os::{file, lock};
use crate::region::Control;

/// Who a producer is, as far as the region has to know.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let region = shmring::Region::create(folder.path().join("orders.ring"))?;
/// use shmring::{ProducerOptions, Read};
///
/// // Whoever comes with this name goes on in the same lane, with its sequence.
/// let mut producer = region.producer_with(&ProducerOptions::new().name("till-3"))?;
/// producer.send(b"hello")?;
/// let mut consumer = region.consumer()?;
/// let Read::Message(message) = consumer.read()? else { unreachable!() };
/// assert_eq!(message.name, Some("till-3"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct ProducerOptions {
    pub(super) name: Option<String>,
    pub(super) source: Option<StreamId>,
}

/// The longest name of a producer, in bytes.
pub(crate) const MAX_NAME: usize = 32;

impl ProducerOptions {
    /// Nobody in particular.
    pub fn new() -> ProducerOptions {
        ProducerOptions::default()
    }

    /// The lane of this name, which is kept for it from the first time on: up
    /// to 32 letters, digits, '.', '_' and '-', the first a letter or digit.
    pub fn name(mut self, name: impl Into<String>) -> ProducerOptions {
        self.name = Some(name.into());
        self
    }

    /// The lane whose messages all come from `source`, in order and from its
    /// beginning, so that a restarted producer knows from
    /// [`sent`](super::Producer::sent) where in the source to go on: exactly
    /// behind the last message that was published.
    ///
    /// Without a name there is one such source a region, and the lanes without
    /// a name must be unused otherwise: what of it was sent by producers that
    /// did not say so, nobody knows. What cannot be promised: anything for a
    /// source that cannot be read from its middle, or that changes before that.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let region = shmring::Region::create(folder.path().join("orders.ring"))?;
    /// # let path = folder.path().join("orders.txt");
    /// # std::fs::write(&path, "one\ntwo\n")?;
    /// use std::fs::File;
    /// use std::io::{BufRead, BufReader, Seek, SeekFrom};
    /// use shmring::{ProducerOptions, StreamId};
    ///
    /// let mut file = File::open(&path)?;
    /// let source = StreamId::of_file(&file, 0)?;
    /// let mut producer = region.producer_with(&ProducerOptions::new().source(source))?;
    /// // A line is its message and a newline.
    /// let sent = producer.sent();
    /// file.seek(SeekFrom::Start(sent.bytes + sent.messages))?;
    /// for line in BufReader::new(file).lines() {
    ///     producer.send(line?.as_bytes())?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn source(mut self, source: StreamId) -> ProducerOptions {
        self.source = Some(source);
        self
    }

    /// Says whether the name is a possible one, before there is a region.
    ///
    /// # Errors
    /// [`AttachError::Name`].
    pub fn check(&self) -> Result<(), AttachError> {
        self.name_words().map(drop)
    }

    /// True if it is the same one each time that takes the lane.
    pub(super) fn is_somebody(&self) -> bool {
        self.name.is_some() || self.source.is_some()
    }

    /// The name as words, if it is a possible one.
    pub(super) fn name_words(&self) -> Result<Option<[u64; 4]>, AttachError> {
        let Some(name) = &self.name else { return Ok(None) };
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !first || name.len() > MAX_NAME || !name.bytes().all(inner) {
            return Err(AttachError::Name { name: name.clone() });
        }
        let mut bytes = [0; MAX_NAME];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Some(Part::ALL.map(|part| u64::from_le_bytes(words[part as usize]))))
    }
}

/// A lane's name as its words have it. They come from another process and may
/// go to a terminal.
pub(crate) fn name_of(words: [u64; 4]) -> String {
    let bytes = words.map(u64::to_le_bytes).concat();
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes[..len].iter().map(|&b| if b.is_ascii_graphic() { b as char } else { '?' }).collect()
}

/// What a lane says of who may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: Option<[u64; 4]>,
    pub(super) source: Option<[u64; 4]>,
    is_fresh: bool,
}

impl Kept {
    pub(super) fn of(load: impl Fn(Word) -> u64) -> Kept {
        let words = |bound: Word, part: fn(Part) -> Word| {
            (load(bound) == 1).then(|| Part::ALL.map(|p| load(part(p)))) // KEPT
        };
        Kept {
            name: words(Word::Named, Word::Name),
            source: words(Word::SourceBound, Word::SourceId),
            // An impossible state is found by whoever takes the lane.
            is_fresh: LaneState::decode(load(Word::State)).is_some_and(|s| s.phase == Phase::Fresh),
        }
    }

    pub(super) fn is_for_all(&self) -> bool {
        self.name.is_none() && self.source.is_none()
    }
}

/// How often a new lane is looked for, if others with the same name or source
/// look for one at the same time.
const ROUNDS: usize = 100;

/// A region's lanes and the locks of their producers.
pub(super) struct Lanes<'a> {
    /// Its description takes the lock.
    pub(super) file: &'a OwnFile,
    pub(super) control: &'a Control,
    pub(super) geometry: &'a Geometry,
    /// The first lane that is given to whoever has none of its own.
    pub(super) first: u32,
}

impl Lanes<'_> {
    /// Takes the lock of the lane that `options` ask for, with its space and
    /// kept as they say. `is_drained` is asked with the lock in hand.
    pub(super) fn take(
        &self,
        options: &ProducerOptions,
        is_drained: impl Fn(u32) -> Result<bool, AttachError>,
    ) -> Result<u32, AttachError> {
        let name = options.name_words()?;
        let source = options.source.map(|source| source.0);
        let is_own = |kept: &Kept| match (name, source) {
            (Some(_), _) => kept.name == name,
            (None, Some(_)) => kept.name.is_none() && kept.source == source,
            (None, None) => false,
        };
        for _ in 0..ROUNDS {
            // One that was used, if there are two: of two that came at once, one
            // may have been killed before it took its own back.
            let used = self.find(|kept| is_own(kept) && !kept.is_fresh);
            if let Some((lane, _)) = used.or_else(|| self.find(is_own)) {
                if !self.try_take(lane)? {
                    return Err(self.busy(lane));
                }
                if is_own(&self.kept(lane)) {
                    return Ok(lane);
                }
                // Another one has just taken it back.
                lock::release(self.file);
                continue;
            }
            let lane = self.take_new(options, &is_drained)?;
            self.give_space(lane)?;
            // By one of the two, so that nobody dies between them: a lane with a
            // source and not yet its name would be kept for nobody. The source
            // of one with a name follows.
            let keep = |kept: bool| match name {
                Some(_) => self.bind(lane, Word::Named, Word::Name, name.filter(|_| kept)),
                None => self.bind(lane, Word::SourceBound, Word::SourceId, source.filter(|_| kept)),
            };
            keep(true);
            // Each of two that do so at once sees the other's, or it is seen.
            fence(Ordering::SeqCst); // KEPT
            if !self.others(lane).any(|other| is_own(&self.kept(other))) {
                return Ok(lane);
            }
            keep(false);
            lock::release(self.file);
        }
        Err(self.none_free(options))
    }

    /// Takes the lock of a lane that is kept for nobody.
    fn take_new(
        &self,
        options: &ProducerOptions,
        is_drained: impl Fn(u32) -> Result<bool, AttachError>,
    ) -> Result<u32, AttachError> {
        let (name, source) = (&options.name, options.source);
        if let (None, Some(asked)) = (name, source) {
            let used = |kept: &Kept| kept.name.is_none() && !(kept.is_fresh && kept.source.is_none());
            let bound = self.find(|kept| used(kept) && kept.source.is_some()).or_else(|| self.find(used));
            if let Some((_, kept)) = bound {
                return Err(AttachError::OtherSource { asked, bound: kept.source.map(StreamId) });
            }
        }
        let is_any = name.is_none() && source.is_none();
        let lane = self.take_first(|lane| {
            let kept = self.kept(lane);
            Ok(kept.is_for_all() && (is_any || kept.is_fresh))
        })?;
        if let Some(lane) = lane {
            return Ok(lane);
        }
        // A name for a lane that others used: none of their messages may carry it.
        let lane = match (name, source) {
            (Some(_), None) => {
                self.take_first(|lane| {
                    if !self.kept(lane).is_for_all() {
                        return Ok(false);
                    }
                    // One whose taker has just failed may have none yet.
                    self.give_space(lane)?;
                    is_drained(lane)
                })?
            }
            _ => None,
        };
        lane.ok_or_else(|| self.none_free(options))
    }

    fn kept(&self, lane: u32) -> Kept {
        Kept::of(|word| self.control.load_acquire(lane, word))
    }

    fn find(&self, wanted: impl Fn(&Kept) -> bool) -> Option<(u32, Kept)> {
        (0..self.geometry.lane_count()).map(|lane| (lane, self.kept(lane))).find(|(_, kept)| wanted(kept))
    }

    fn others(&self, lane: u32) -> impl Iterator<Item = u32> {
        (0..self.geometry.lane_count()).filter(move |&other| other != lane)
    }

    /// Takes the lock of the first lane that is free and `wanted`, asked with
    /// the lock in hand. Lanes that are kept are not even locked for a moment:
    /// whoever they are kept for may come.
    fn take_first(
        &self,
        wanted: impl Fn(u32) -> Result<bool, AttachError>,
    ) -> Result<Option<u32>, AttachError> {
        for lane in self.first..self.geometry.lane_count() {
            if self.kept(lane).is_for_all() && self.try_take(lane)? {
                if wanted(lane)? {
                    return Ok(Some(lane));
                }
                lock::release(self.file);
            }
        }
        Ok(None)
    }

    /// Reserves the ring's space, so that a full disk is an error now and not a
    /// signal at the first touch.
    fn give_space(&self, lane: u32) -> Result<(), AttachError> {
        if self.control.load_acquire(lane, Word::Ready) != 1 {
            let (offset, needed) = (self.geometry.data_offset(lane), self.geometry.capacity());
            let reserved = file::reserve_more(self.file, offset, needed);
            reserved.map_err(|e| AttachError::from_reserve(e, lane, needed))?;
            self.control.store_release(lane, Word::Ready, 1); // READY
        }
        Ok(())
    }

    /// Not bound, then the words, then bound: whoever is killed, it is never
    /// bound to a mixture. Nothing is stored where nothing changes.
    fn bind(&self, lane: u32, bound: Word, part: fn(Part) -> Word, words: Option<[u64; 4]>) {
        let store = |word, value| self.control.store_release(lane, word, value);
        if words.is_none() && self.control.load_acquire(lane, bound) == 0 {
            return;
        }
        store(bound, 0); // KEPT
        if let Some(words) = words {
            Part::ALL.into_iter().zip(words).for_each(|(p, word)| store(part(p), word));
            store(bound, 1); // KEPT
        }
    }

    fn try_take(&self, lane: u32) -> Result<bool, AttachError> {
        Ok(lock::try_take(self.file, lock::Role::Producer(lane))?)
    }

    fn busy(&self, lane: u32) -> AttachError {
        let role = Role::Producer(lane);
        AttachError::Busy { role, owner: owner::read(self.file, self.geometry, role) }
    }

    fn none_free(&self, options: &ProducerOptions) -> AttachError {
        let lanes = self.geometry.lane_count();
        let kept = (0..lanes).filter(|&lane| !self.kept(lane).is_for_all()).count() as u32;
        let is_held = |lane| lock::is_taken(self.file, lock::Role::Producer(lane)).unwrap_or(true);
        match (lanes, kept) {
            // Whose name it is that is in use, if there is one, is another question.
            (1, 0) if is_held(0) && options.name.is_none() => self.busy(0),
            _ => AttachError::NoLane { lanes, kept },
        }
    }

    /// Holds the source of a lane that is its producer's own against the one
    /// that is asked for, or writes it down while the lane is unused. With
    /// none, what the producer sends comes from elsewhere.
    pub(super) fn bind_source(
        &self,
        lane: u32,
        source: Option<StreamId>,
        is_unused: bool,
    ) -> Result<(), AttachError> {
        let found = self.kept(lane).source;
        match source {
            Some(source) if found == Some(source.0) => return Ok(()),
            Some(asked) if !is_unused => {
                return Err(AttachError::OtherSource { asked, bound: found.map(StreamId) });
            }
            _ => {}
        }
        self.bind(lane, Word::SourceBound, Word::SourceId, source.map(|source| source.0));
        Ok(())
    }
}
