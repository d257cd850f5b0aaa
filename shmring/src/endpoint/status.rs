//! What a region looks like from outside, without attaching or changing it.

use std::path::{Path, PathBuf};
use std::{io, os::unix::fs::FileExt};

use super::error::OpenError;
use super::open::first_page;
use super::options::Schema;
use super::owner::{self, Owner, Role};
use super::place::{Kept, name_of};
use super::region::shape_of;
use super::stream_id::StreamId;
use crate::layout::blocks::{LaneState, Phase, control, lane};
use crate::layout::header::{Access, Header};
use crate::layout::{Cause, CodecId, Order, Part, Slot, Word};
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
    /// How many producers there can be at a time.
    pub max_producers: u32,
    /// In which order messages of different producers are delivered.
    pub order: Order,
    /// Bytes of each producer's ring.
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
    /// The sink that the region is bound to, and the position committed there.
    pub sink: Option<(StreamId, u64)>,
    /// The lanes that a producer ever had.
    pub lanes: Vec<LaneStatus>,
}

/// A lane as it is at one moment. While it is in use the numbers may be a
/// message apart from one another.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaneStatus {
    /// Its number.
    pub number: u32,
    /// The name of the producer that it is kept for.
    pub name: Option<String>,
    /// The producer that is attached; the inner `None` if it has not said who it is.
    pub producer: Option<Option<Owner>>,
    /// How the last stream ended, or that it goes on.
    pub stream: &'static str,
    /// Producers that were found dead.
    pub deaths: u32,
    /// Messages dropped for each cause.
    pub dropped: [(Cause, u64); Cause::ALL.len()],
    /// The sequence of the next message to be sent.
    pub sent: u64,
    /// The sequence of the first message that is not committed.
    pub committed: u64,
    /// Bytes of the ring in use.
    pub used: u64,
    /// The source that all messages come from, if producers named one.
    pub source: Option<StreamId>,
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
        let (file, found) = file::open_regular(path, false).map_err(|e| OpenError::from_io(path, e))?;
        let (page, file_len) = (first_page(&file, &found).map_err(io)?, found.len());
        let header = Header::verify(&page, file_len, Access::Look)
            .map_err(|source| OpenError::Refused { path: owned(), source })?;
        let geometry = header.geometry;
        let held = |role: Role| -> io::Result<_> {
            Ok(lock::is_taken(&file, role.lock())?.then(|| owner::read(&file, &geometry, role)))
        };

        let mut region = [0; control::LEN];
        file.read_exact_at(&mut region, geometry.control_offset()).map_err(io)?;
        let mut blocks = vec![0; lane::STRIDE * geometry.lane_count() as usize];
        file.read_exact_at(&mut blocks, geometry.lane_offset(0)).map_err(io)?;
        let words = Heap::from_image(&region, &blocks[..lane::STRIDE], &[0; 8]);
        let slot = Slot::of(words.load(Word::CommitGeneration));
        let id = StreamId(Part::ALL.map(|part| words.load(Word::SinkId(slot, part))));
        let sink = (id.0 != [0; 4]).then(|| (id, words.load(Word::SinkPosition(slot))));
        let mut lanes = Vec::new();
        for (number, block) in (0..).zip(blocks.chunks(lane::STRIDE)) {
            let words = Heap::from_image(&region, block, &[0; 8]);
            let producer = held(Role::Producer(number)).map_err(io)?;
            let kept = Kept::of(|word| words.load(word));
            let state = LaneState::decode(words.load(Word::State));
            if state.is_some_and(|s| s.phase == Phase::Fresh) && producer.is_none() && kept.is_for_all() {
                continue;
            }
            let check = Slot::of(words.load(Word::CheckGeneration));
            lanes.push(LaneStatus {
                number,
                name: kept.name.map(name_of),
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
                dropped: Cause::ALL.map(|cause| (cause, words.load(Word::CheckDropped(check, cause)))),
                sent: words.load(Word::SequenceHint),
                committed: words.load(Word::HeadSequence(slot)),
                source: kept.source.map(StreamId),
                // A hint may lag behind the head.
                used: (words.load(Word::TailHint).wrapping_sub(words.load(Word::Head)) as i64).max(0) as u64,
            });
        }
        Ok(Status {
            path: owned(),
            region_id: header.region_id,
            created_ns: header.created_ns,
            file_len,
            max_producers: geometry.lane_count(),
            order: header.order,
            capacity: geometry.capacity(),
            record_align: geometry.record_align(),
            max_message: shape_of(&header).max_len(),
            codec: header.codec,
            schema: Schema { name: header.schema_name, version: header.type_fingerprint as u32 },
            consumer: held(Role::Consumer).map_err(io)?,
            sink,
            lanes,
        })
    }
}
