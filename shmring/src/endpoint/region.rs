//! Regions: create, open, remove.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::error::{AttachError, CreateError, Damage, OpenError, RemoveError};
use super::options::{RegionOptions, Schema};
use super::owner::{self, Role};
use crate::layout::blocks::{extent, lane};
use crate::layout::header::{self, Access, Header, MAX_SCHEMA_NAME};
use crate::layout::{CodecId, Geometry, GeometryError, Order, Refusal};
use crate::os::advice::MapOptions;
use crate::os::fork::OwnFile;
use crate::os::{file, huge, identity, lock, membarrier, memfd};
use crate::region::{Mapping, fresh_lane};
use crate::ring::{Corrupt, Shape};

/// A region: a file, or memory without a name, that a producer and a consumer
/// attach to. Has a description of the file, but no role in it; dropping it
/// changes nothing. What a process forks may attach through it as well.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.ring");
/// use shmring::{Read, Region};
///
/// let region = Region::open_or_create(&path)?;
/// let mut producer = region.producer()?;
/// let mut consumer = region.consumer()?;
/// producer.send(b"hello")?;
/// match consumer.read()? {
///     Read::Message(message) => assert_eq!(message.payload, b"hello"),
///     Read::Empty | Read::End(_) => unreachable!(),
/// }
/// consumer.commit();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Region {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) is_new: bool,
    /// How its handles map it.
    pub(super) map: MapOptions,
}

/// How often open-or-create goes round when others create and remove the
/// region at the same time.
const ROUNDS: usize = 100;

impl Region {
    /// Creates a region with the usual options: see [`RegionOptions::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Region, CreateError> {
        RegionOptions::new().create(path)
    }

    /// Opens a region: see [`RegionOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Region, OpenError> {
        RegionOptions::new().open(path)
    }

    /// Opens a region, or creates it: see [`RegionOptions::open_or_create`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Region, OpenError> {
        RegionOptions::new().open_or_create(path)
    }

    /// Removes the region at `path`, if nobody is attached to it. Who opened
    /// it and has not attached yet will be told that it was removed.
    ///
    /// # Errors
    /// [`RemoveError::InUse`] names who is attached. A file that does not
    /// begin like a region is left alone.
    pub fn remove(path: impl AsRef<Path>) -> Result<(), RemoveError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => RemoveError::Permission { path: owned() },
            _ => RemoveError::Io { path: owned(), source },
        };
        let file = file::open_regular(path, true).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => RemoveError::NotFound { path: owned() },
            io::ErrorKind::InvalidInput => RemoveError::NotARegion { path: owned() },
            _ => io(e),
        })?;
        let (page, file_len) = first_page(&file).map_err(io)?;
        if !header::has_magic(&page) {
            return Err(RemoveError::NotARegion { path: owned() });
        }
        if !lock::try_take(&file, lock::Role::All).map_err(io)? {
            let geometry = Header::verify(&page, file_len, Access::Look).ok().map(|h| h.geometry);
            return Err(RemoveError::InUse { path: owned(), users: users(&file, geometry) });
        }
        if file::is_at(&file, path).map_err(io)? {
            fs::remove_file(path).map_err(io)?;
        }
        Ok(())
    }

    /// Attaches as the producer, behind the last message of whoever was it
    /// before. Dropping the handle closes the stream.
    ///
    /// # Errors
    /// [`AttachError::Busy`] names the producer that is there.
    pub fn producer(&self) -> Result<super::Producer, AttachError> {
        super::Producer::attach(self, None)
    }

    /// Attaches as the producer of a lane whose messages all come from
    /// `source`, in order and from its beginning, so that a restarted producer
    /// knows from [`sent`](super::Producer::sent) where in the source to go
    /// on: exactly behind the last message that was published.
    ///
    /// The lane must be unused, or have been used by producers of this source
    /// only.
    ///
    /// # Errors
    /// [`AttachError::OtherSource`] if it was used otherwise; as
    /// [`producer`](Self::producer).
    pub fn resume_producer(&self, source: super::StreamId) -> Result<super::Producer, AttachError> {
        super::Producer::attach(self, Some(source))
    }

    /// Attaches as the consumer, at the first message that was not committed.
    ///
    /// # Errors
    /// [`AttachError::Busy`] names the consumer that is there.
    pub fn consumer(&self) -> Result<super::Consumer, AttachError> {
        super::Consumer::attach(self, None)
    }

    /// Attaches as a consumer that commits together with a position in a sink
    /// of the caller's, `sink`, so that nothing is lost and nothing written
    /// twice, wherever it dies.
    ///
    /// The caller makes the sink what it was at
    /// [`sink_position`](super::Consumer::sink_position), writes what it reads
    /// from there on, and calls [`commit_at`](super::Consumer::commit_at) with
    /// the position reached. The sink has to keep what was written to it
    /// before: true for a file and SIGKILL; not for a pipe, and not for a file
    /// and a crash of the machine. The region knows one sink at a time: with
    /// another one, the position begins at 0.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let region = shmring::Region::create(folder.path().join("orders.ring"))?;
    /// # let path = folder.path().join("orders.txt");
    /// # region.producer()?.send(b"one\n")?;
    /// use std::fs::File;
    /// use std::os::unix::fs::{FileExt, MetadataExt};
    /// use shmring::{Read, StreamId};
    ///
    /// let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    /// let mut consumer = region.resume_consumer(StreamId::of_file(&file, 0)?)?;
    /// let mut position = consumer.sink_position();
    /// // What a dead predecessor wrote and did not commit comes again.
    /// file.set_len(position)?;
    /// while let Read::Message(message) = consumer.try_read()? {
    ///     file.write_all_at(message.payload, position)?;
    ///     position += message.payload.len() as u64;
    ///     consumer.commit_at(position);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    pub fn resume_consumer(&self, sink: super::StreamId) -> Result<super::Consumer, AttachError> {
        super::Consumer::attach(self, Some(sink))
    }

    /// Where it was opened. For an anonymous region `memfd:shmring`, a name for
    /// people that nobody can open. For a file that came as a descriptor, what
    /// the kernel calls it, or where the descriptor is in `/proc/self/fd`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if this handle created the region, false if it was there already.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.header.geometry.capacity()
    }

    /// The longest message in bytes: the capacity less at most 256.
    pub fn max_message(&self) -> usize {
        self.shape().max_len() as usize
    }

    /// The codec that the payloads are in.
    pub fn codec(&self) -> CodecId {
        self.header.codec
    }

    /// What the payloads mean.
    pub fn schema(&self) -> Schema {
        schema_of(&self.header)
    }

    pub(crate) fn start_sequence(&self) -> u64 {
        self.header.start_sequence
    }

    pub(crate) fn shape(&self) -> Shape {
        shape_of(&self.header.geometry)
    }

    /// Takes a role: a description of its own, its lock, and the lane mapped.
    pub(crate) fn take(&self, role: Role) -> Result<(Seat, Mapping), AttachError> {
        // Before the first publish or commit.
        membarrier::register();
        let geometry = self.header.geometry;
        let file = OwnFile::open(|| lock::reopen(&self.file))?;
        if !lock::try_take(&file, role.lock())? {
            let owner = owner::read(&file, &geometry, role);
            return Err(AttachError::Busy { role, owner });
        }
        // With the lock in hand nobody can remove it any more.
        let found = file.metadata()?;
        if memfd::is_removed(&file, &found) {
            return Err(AttachError::Removed);
        }
        if found.len() != geometry.file_len() {
            return Err(AttachError::Truncated { found: found.len() });
        }
        huge::check_file(&file, &self.path, geometry.data_align(), self.map.huge_pages)?;
        let space = if huge::keeps_its_space(&file)? { found.blocks() } else { 0 };
        let space = space.min(geometry.file_len() / 512);
        // Not through `file`: a mapping keeps its description, and so a forked
        // child, which has the mapping as well, would keep the lock.
        let mapping = Mapping::new(&self.file, &geometry, LANE, &self.map)?;
        Ok((Seat { file, geometry, role, space }, mapping))
    }
}

/// The one lane of format 1.0 as this version uses it.
pub(crate) const LANE: u32 = 0;

/// A role that is held.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its description holds the lock.
    pub(crate) file: OwnFile,
    pub(crate) geometry: Geometry,
    role: Role,
    /// Blocks of 512 bytes that the file had at attach, no more than its
    /// length takes; 0 where a file system may count otherwise later.
    space: u64,
}

impl Seat {
    /// Says for people who holds the role.
    pub(crate) fn sign(&self, mapping: &Mapping) {
        mapping.write_owner(self.role.slot_offset(&self.geometry), owner::own_words());
    }

    /// True in a child that was forked after the role was taken: it is the
    /// parent's, and nothing of the region may be touched.
    #[inline(always)]
    pub(crate) fn is_inherited(&self) -> bool {
        self.file.is_inherited()
    }

    /// What has become of the file: asked while waiting.
    pub(crate) fn health(&self) -> Health {
        match self.file.metadata() {
            Ok(found) if found.len() < self.geometry.file_len() => Health::Truncated,
            Ok(found) if memfd::is_removed(&self.file, &found) => Health::Removed,
            Ok(found) if found.blocks() < self.space => Health::Punched,
            _ => Health::Whole,
        }
    }

    /// Why an attach fails that found this: the file may have been cut under it.
    pub(crate) fn blame(&self, corrupt: Corrupt) -> AttachError {
        match self.health() {
            Health::Truncated => self.truncated(),
            _ => damage(corrupt).into(),
        }
    }

    /// Refuses an attach whose touches did not reach the file.
    pub(crate) fn check(&self, mapping: &Mapping) -> Result<(), AttachError> {
        if mapping.is_cut() { Err(self.truncated()) } else { Ok(()) }
    }

    fn truncated(&self) -> AttachError {
        AttachError::Truncated { found: self.file.metadata().map_or(0, |found| found.len()) }
    }
}

/// What has become of a region's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Whole,
    Truncated,
    Removed,
    /// Space of it was given back: a hole was punched.
    Punched,
}

impl RegionOptions {
    /// Creates a region: it appears whole, with all its space reserved and
    /// mode 0600 if no other was asked for, or not at all.
    ///
    /// # Errors
    /// [`CreateError::Exists`] if there is anything at `path`;
    /// [`CreateError::NoSpace`] now instead of a signal later;
    /// [`CreateError::ReadOnly`]; [`CreateError::Lack`] if the system has not
    /// enough descriptors or huge pages.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Region, CreateError> {
        let path = path.as_ref();
        let header = self.header()?;
        let geometry = header.geometry;
        let start = first_bytes(&header);

        let needed = geometry.file_len();
        let failed = |source| self.refused(path, None, needed, source);
        let rights = self.rights(path)?;
        let folder = File::open(file::folder_of(path)).map_err(failed)?;
        if let Some(file_system) = file::unsuitable_file_system(&folder).map_err(failed)? {
            return Err(CreateError::FileSystem { path: path.to_owned(), file_system });
        }
        huge::check_folder(&folder, path, self.map.huge_pages).map_err(failed)?;
        if let Some(lack) = huge::missing_pages(&folder, needed) {
            return Err(lack.into());
        }
        let file = file::create_whole(path, needed, rights, &start)
            .map_err(|source| self.refused(path, Some(&folder), needed, source))?;
        Ok(Region { file, path: path.to_owned(), header, is_new: true, map: self.map.clone() })
    }

    /// Opens a region. The time does not depend on its size.
    ///
    /// # Errors
    /// [`OpenError::Differs`] if an option was given that the region does not
    /// have; [`OpenError::Refused`] if the file is no region that can be used.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Region, OpenError> {
        let path = path.as_ref();
        let file = file::open_regular(path, true).map_err(|e| OpenError::from_io(path, e))?;
        self.accept(file, path)
    }

    /// The region in an open regular file, if it is one that can be used and
    /// that is what was asked for.
    pub(super) fn accept(&self, file: File, path: &Path) -> Result<Region, OpenError> {
        let owned = || path.to_owned();
        let io = |source| OpenError::from_io(path, source);
        let (page, file_len) = first_page(&file).map_err(io)?;
        let refused = |source| OpenError::Refused { path: owned(), source };
        let header = Header::verify(&page, file_len, Access::Use).map_err(refused)?;
        check_extent(&file, &header).map_err(io)?.map_err(refused)?;
        if let Some(file_system) = file::unsuitable_file_system(&file).map_err(io)? {
            return Err(OpenError::FileSystem { path: owned(), file_system });
        }
        self.compare(path, &header)?;
        self.compare_rights(path, &file)?;
        Ok(Region { file, path: owned(), header, is_new: false, map: self.map.clone() })
    }

    /// Opens the region, or creates it if there is none; any number of
    /// processes may do so at once.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Region, OpenError> {
        let path = path.as_ref();
        // What could never be created is refused even if a region is there.
        self.header().and(self.rights(path).map(drop)).map_err(OpenError::Create)?;
        for round in 1.. {
            match self.open(path) {
                Err(OpenError::NotFound { .. }) => {}
                opened => return opened,
            }
            match self.create(path) {
                Err(CreateError::Exists { .. }) if round < ROUNDS => {}
                created => return Ok(created?),
            }
        }
        unreachable!("the rounds end with a result")
    }

    pub(super) fn header(&self) -> Result<Header, CreateError> {
        let schema = self.schema.clone().unwrap_or_default();
        if schema.name.len() > MAX_SCHEMA_NAME || schema.name.contains('\0') {
            return Err(CreateError::SchemaName { name: schema.name });
        }
        let record_align = self.record_align.unwrap_or(Self::DEFAULT_RECORD_ALIGN);
        let data_align = self.data_align();
        let capacity = self.capacity.unwrap_or(Self::DEFAULT_CAPACITY.max(data_align));
        let geometry = Geometry::plan_aligned(capacity, record_align, 1, data_align)?;
        let start_position = self.start_position;
        if !start_position.is_multiple_of(record_align) {
            return Err(GeometryError::StartPosition { start_position, record_align }.into());
        }
        let mut region_id = [0; 16];
        // An id of zeros would be as good for everything but telling two apart.
        let _ = getrandom::fill(&mut region_id);
        Ok(Header {
            geometry,
            region_id,
            created_ns: identity::now_ns(),
            start_position,
            start_sequence: self.start_sequence,
            order: Order::Fifo,
            codec: self.codec.unwrap_or(CodecId::BYTES),
            type_fingerprint: schema.fingerprint(),
            schema_name: schema.name,
        })
    }

    /// Refuses what was asked for and is not so.
    fn compare(&self, path: &Path, header: &Header) -> Result<(), OpenError> {
        let differs = |option, asked: &dyn ToString, found: &dyn ToString| OpenError::Differs {
            path: path.to_owned(),
            option,
            asked: asked.to_string(),
            found: found.to_string(),
        };
        let found = &header.geometry;
        match self.capacity {
            Some(asked) if asked != found.capacity() => {
                return Err(differs("capacity", &asked, &found.capacity()));
            }
            _ => {}
        }
        match self.record_align {
            Some(asked) if asked != found.record_align() => {
                return Err(differs("record alignment", &asked, &found.record_align()));
            }
            _ => {}
        }
        match self.codec {
            Some(asked) if asked != header.codec => return Err(differs("codec", &asked, &header.codec)),
            _ => {}
        }
        match &self.schema {
            Some(asked) if *asked != schema_of(header) || asked.fingerprint() != header.type_fingerprint => {
                Err(differs("schema", asked, &schema_of(header)))
            }
            _ => Ok(()),
        }
    }
}

fn schema_of(header: &Header) -> Schema {
    Schema { name: header.schema_name.clone(), version: header.type_fingerprint as u32 }
}

pub(crate) fn shape_of(geometry: &Geometry) -> Shape {
    Shape { capacity: geometry.capacity(), align: geometry.record_align() }
}

pub(crate) fn damage(what: Corrupt) -> Damage {
    Damage { lane: LANE, what }
}

/// What a new region holds besides zeros, and where.
pub(super) fn first_bytes(header: &Header) -> [(u64, Vec<u8>); 3] {
    let geometry = &header.geometry;
    let mut control = vec![0; lane::STRIDE];
    for (word, value) in fresh_lane(header.start_position, header.start_sequence) {
        control[word.offset()..word.offset() + 8].copy_from_slice(&value.to_le_bytes());
    }
    lane::READY.put(&mut control, &1u64.to_le_bytes());
    let mut extents = vec![0; extent::STRIDE];
    extent::FIRST_POSITION.put(&mut extents, &header.start_position.to_le_bytes());
    extent::FILE_OFFSET.put(&mut extents, &geometry.data_offset(LANE).to_le_bytes());
    extent::CAPACITY.put(&mut extents, &geometry.capacity().to_le_bytes());
    [(geometry.lane_offset(LANE), control), (geometry.extent_offset(LANE), extents), (0, header.encode())]
}

/// The header's bytes, as many as there are, and the length of the file.
pub(crate) fn first_page(file: &File) -> io::Result<(Vec<u8>, u64)> {
    let file_len = file.metadata()?.len();
    let mut page = vec![0; file_len.min(header::LEN as u64) as usize];
    file.read_exact_at(&mut page, 0)?;
    Ok((page, file_len))
}

/// Format 1.0 has one extent a lane, where the geometry says.
fn check_extent(file: &File, header: &Header) -> io::Result<Result<(), Refusal>> {
    let g = &header.geometry;
    let mut table = [0; extent::STRIDE];
    file.read_exact_at(&mut table, g.extent_offset(LANE))?;
    for (field, expected) in [
        (extent::FIRST_POSITION, header.start_position),
        (extent::FILE_OFFSET, g.data_offset(LANE)),
        (extent::CAPACITY, g.capacity()),
    ] {
        let value = field.u64(&table);
        if value != expected {
            return Ok(Err(Refusal::Field { field: field.name, value }));
        }
    }
    Ok(Ok(()))
}

/// Everybody who is attached.
fn users(file: &File, geometry: Option<Geometry>) -> Vec<(Role, Option<super::Owner>)> {
    [Role::Consumer, Role::Producer(LANE)]
        .into_iter()
        .filter(|role| lock::is_taken(file, role.lock()).unwrap_or(false))
        .map(|role| (role, geometry.and_then(|g| owner::read(file, &g, role))))
        .collect()
}
