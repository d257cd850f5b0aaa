//! What a region looks like from outside, without attaching or changing it.

use std::path::{Path, PathBuf};
use std::{io, os::unix::fs::FileExt};

use super::error::OpenError;
use super::open::first_page;
use super::options::Schema;
use super::owner::{self, Owner, Role};
use super::region::shape_of;
use super::seat::LANE;
use super::stream_id::StreamId;
use crate::layout::blocks::{LaneState, Phase, lane};
use crate::layout::header::{Access, Header};
use crate::layout::{CodecId, Part, Slot, Word};
use crate::os::{file, lock};
use crate::region::Heap;
use crate::ring::Memory;

/// A region as it is at one moment: needs only the right to read the file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// Where it is.
    pub path: PathBuf,
    /// Random, made at create.
    pub region_id: [u8; 16],
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: u64,
    /// Bytes of the file.
    pub file_len: u64,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Records start at multiples of this many bytes.
    pub record_align: u64,
    /// The longest message in bytes.
    pub max_message: u64,
    /// The codec that the payloads are in.
    pub codec: CodecId,
    /// What the payloads mean.
    pub schema: Schema,
    /// The consumer that is attached; the inner `None` if it has not said who it is.
    pub consumer: Option<Option<Owner>>,
    /// The lanes.
    pub lanes: Vec<LaneStatus>,
}

/// A lane as it is at one moment. While it is in use the numbers may be a
/// message apart from one another.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The producer that is attached; the inner `None` if it has not said who it is.
    pub producer: Option<Option<Owner>>,
    /// How the last stream ended, or that it goes on.
    pub stream: &'static str,
    /// Producers that were found dead.
    pub deaths: u32,
    /// The sequence of the next message to be sent.
    pub sent: u64,
    /// The sequence of the first message that is not committed.
    pub committed: u64,
    /// Bytes of the ring in use.
    pub used: u64,
    /// The source that all messages come from, if producers named one.
    pub source: Option<StreamId>,
    /// The sink that the ring is bound to, and the position committed there.
    pub sink: Option<(StreamId, u64)>,
}

impl Status {
    /// Looks at the region at `path`.
    ///
    /// # Errors
    /// As [`RegionOptions::open`](super::RegionOptions::open).
    pub fn of(path: impl AsRef<Path>) -> Result<Status, OpenError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let io = |source: io::Error| OpenError::Io { path: owned(), source };
        let file = file::open_regular(path, false).map_err(|e| OpenError::from_io(path, e))?;
        let (page, file_len) = first_page(&file).map_err(io)?;
        let header = Header::verify(&page, file_len, Access::Look)
            .map_err(|source| OpenError::Refused { path: owned(), source })?;
        let geometry = header.geometry;
        let held = |role: Role| -> io::Result<_> {
            Ok(lock::is_taken(&file, role.lock())?.then(|| owner::read(&file, &geometry, role)))
        };

        let mut control = [0; lane::STRIDE];
        file.read_exact_at(&mut control, geometry.lane_offset(LANE)).map_err(io)?;
        let words = Heap::from_image(&control, &[0; 8]);
        let generation = words.load(Word::HeadGeneration);
        let slot = Slot::of(generation);
        let state = LaneState::decode(words.load(Word::State));
        let producer = held(Role::Producer(LANE)).map_err(io)?;
        let id = |word: fn(Part) -> Word| StreamId(Part::ALL.map(|part| words.load(word(part))));
        let sink = match slot {
            Slot::A => id(|part| Word::SinkId(Slot::A, part)),
            Slot::B => id(|part| Word::SinkId(Slot::B, part)),
        };
        let lane = LaneStatus {
            stream: match (state.map(|s| s.phase), &producer) {
                (None, _) => "damaged",
                (Some(Phase::Fresh), _) => "never used",
                (Some(Phase::Open), Some(_)) => "open",
                (Some(Phase::Open), None) => "its producer died",
                (Some(Phase::Closed), _) => "closed",
                (Some(Phase::Dead), _) => "its producer died, and a consumer knows",
            },
            producer,
            deaths: state.map_or(0, |s| s.deaths),
            sent: words.load(Word::SequenceHint),
            committed: words.load(Word::HeadSequence(slot)),
            // A hint may lag behind the head.
            source: (words.load(Word::SourceBound) == 1).then(|| id(Word::SourceId)),
            sink: (sink.0 != [0; 4]).then(|| (sink, words.load(Word::SinkPosition(slot)))),
            used: (words.load(Word::TailHint).wrapping_sub(words.load(Word::Head)) as i64).max(0) as u64,
        };
        Ok(Status {
            path: owned(),
            region_id: header.region_id,
            created_ns: header.created_ns,
            file_len,
            capacity: geometry.capacity(),
            record_align: geometry.record_align(),
            max_message: shape_of(&geometry).max_len(),
            codec: header.codec,
            schema: Schema { name: header.schema_name, version: header.type_fingerprint as u32 },
            consumer: held(Role::Consumer).map_err(io)?,
            lanes: vec![lane],
        })
    }
}
