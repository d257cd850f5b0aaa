//! A region at hand: attach to it, ask it, remove it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{AttachError, CreateError, OpenError, RemoveError};
use super::open::{first_page, schema_of};
use super::options::{RegionOptions, Schema};
use super::owner::{self, Role};
use crate::layout::geometry::MAX_LANES;
use crate::layout::header::{self, Access, Header};
use crate::layout::{CodecId, Order};
use crate::os::advice::MapOptions;
use crate::os::file::{self, FileId};
use crate::os::fork::OwnFile;
use crate::os::lock;
use crate::ring::Shape;

/// A region: a file, or memory without a name, that producers and a consumer
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
///     _ => unreachable!(),
/// }
/// consumer.commit();
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Region {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// Which file it is, if it was at its path.
    pub(super) named: Option<FileId>,
    pub(super) header: Header,
    pub(super) is_new: bool,
    /// Its file system gives no space back by itself.
    pub(super) keeps_space: bool,
    /// How its handles map it.
    pub(super) map: MapOptions,
}

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
            // Another one has just removed it.
            io::ErrorKind::NotFound => RemoveError::NotFound { path: owned() },
            _ => RemoveError::Io { path: owned(), source },
        };
        // Its lock must not stay with a child that is forked meanwhile.
        let (file, found) = OwnFile::open(|| file::open_regular(path, true)).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput => RemoveError::NotARegion { path: owned() },
            _ => io(e),
        })?;
        let page = first_page(&file, &found).map_err(io)?;
        if !header::has_magic(&page) {
            return Err(RemoveError::NotARegion { path: owned() });
        }
        if !lock::try_take(&file, lock::Role::All).map_err(io)? {
            let header = Header::verify(&page, found.len(), Access::Look).ok();
            return Err(RemoveError::InUse { path: owned(), users: users(&file, header.as_ref()) });
        }
        if file::is_at(&file, path).map_err(io)? {
            // With a second name it would not be removed to those who have it open.
            file::remove_left_overs(path);
            fs::remove_file(path).map_err(io)?;
        }
        Ok(())
    }

    /// Attaches as a producer, in the first lane that is free, behind the last
    /// message of whoever had it before. Dropping the handle closes the stream.
    ///
    /// # Errors
    /// [`AttachError::NoLane`] if there are as many producers as there can be
    /// ([`AttachError::Busy`], which names it, if that is one);
    /// [`AttachError::NoSpace`] now instead of a signal later.
    pub fn producer(&self) -> Result<super::Producer, AttachError> {
        super::Producer::attach(self, &super::ProducerOptions::new())
    }

    /// Attaches as a producer that has a name, or whose messages come from one
    /// source: it gets the same lane each time, and goes on where it was.
    ///
    /// # Errors
    /// [`AttachError::Busy`] names the producer that is there;
    /// [`AttachError::OtherSource`] if the lane was used otherwise;
    /// [`AttachError::Name`]; as [`producer`](Self::producer).
    pub fn producer_with(&self, options: &super::ProducerOptions) -> Result<super::Producer, AttachError> {
        super::Producer::attach(self, options)
    }

    /// Attaches as the consumer, at the first message that was not committed.
    ///
    /// # Errors
    /// [`AttachError::Busy`] names the consumer that is there.
    pub fn consumer(&self) -> Result<super::Consumer, AttachError> {
        super::Consumer::attach(self)
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

    /// How many producers there can be at a time.
    pub fn max_producers(&self) -> u32 {
        self.header.geometry.lane_count()
    }

    /// In which order messages of different producers are delivered.
    pub fn order(&self) -> Order {
        self.header.order
    }

    /// Bytes of each producer's ring.
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
        shape_of(&self.header)
    }
}

pub(crate) fn shape_of(header: &Header) -> Shape {
    let Header { geometry, order, .. } = header;
    Shape { capacity: geometry.capacity(), align: geometry.record_align(), prefix: order.record_prefix() }
}

/// Everybody who is attached.
fn users(file: &File, header: Option<&Header>) -> Vec<(Role, Option<super::Owner>)> {
    let lanes = header.map_or(MAX_LANES, |header| header.geometry.lane_count());
    std::iter::once(Role::Consumer)
        .chain((0..lanes).map(Role::Producer))
        .filter(|role| lock::is_taken(file, role.lock()).unwrap_or(false))
        .map(|role| (role, header.and_then(|header| owner::read(file, &header.geometry, role))))
        .collect()
}
