//! Regions without a name: made as sealed memory, handed over as descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{CreateError, OpenError};
use super::open::{first_bytes, first_space};
use super::options::RegionOptions;
use super::region::Region;
use crate::os::file::Rights;
use crate::os::memfd::{self, Kind};

/// What the kernel calls the memory, in /proc/PID/maps for instance.
const NAME: &str = "shmring";

impl Region {
    /// Creates an anonymous region with the usual options: see
    /// [`RegionOptions::create_anonymous`].
    pub fn create_anonymous() -> Result<Region, CreateError> {
        RegionOptions::new().create_anonymous()
    }

    /// Opens the region behind a descriptor: see [`RegionOptions::open_fd`].
    pub fn from_fd(descriptor: impl Into<OwnedFd>) -> Result<Region, OpenError> {
        RegionOptions::new().open_fd(descriptor)
    }
}

/// The descriptor to hand over, to [`Region::from_fd`] in another process: it
/// never holds a role, so it may be shared by any number of processes. It is
/// closed when another program is executed, unless that is changed.
impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl RegionOptions {
    /// Creates a region without a name: memory that is there as long as
    /// somebody has a descriptor of it or is attached. A forked child attaches
    /// through the same [`Region`]; other processes get the descriptor, over a
    /// socket or by inheritance, and use [`Region::from_fd`]. Whoever has the
    /// descriptor may attach, whatever user it is, unless
    /// [`mode`](Self::mode) says otherwise.
    ///
    /// The memory is reserved at once, and sealed: nobody can make it shorter
    /// or longer.
    ///
    /// # Errors
    /// [`CreateError::NoMemory`] now instead of a signal later.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::fd::AsFd;
    /// use shmring::Region;
    ///
    /// let region = Region::create_anonymous()?;
    /// let mut producer = region.producer()?;
    /// producer.send(b"hello")?;
    /// // As if it had come over a socket:
    /// let descriptor = region.as_fd().try_clone_to_owned()?;
    /// let mut consumer = Region::from_fd(descriptor)?.consumer()?;
    /// consumer.read()?;
    /// # Ok(()) }
    /// ```
    pub fn create_anonymous(&self) -> Result<Region, CreateError> {
        let header = self.header()?;
        let (len, needed) = (header.geometry.file_len(), first_space(&header.geometry));
        let path = PathBuf::from(format!("memfd:{NAME}"));
        let made = memfd::create_sealed(NAME, len, needed, self.map.huge_pages, &first_bytes(&header));
        let file = made.map_err(|source| match self.refused(&path, None, needed, source) {
            CreateError::NoSpace { .. } => CreateError::NoMemory { needed },
            refused => refused,
        })?;
        if self.mode.is_some() || self.group.is_some() {
            let rights = self.rights(&path)?;
            // Without a mode, everybody with the descriptor, as always.
            let given = Rights { mode: self.mode.unwrap_or(0o666), ..rights }.give(&file);
            given.map_err(|source| self.refused(&path, None, needed, source))?;
        }
        let file = Arc::new(file);
        let (is_new, keeps_space, map) = (true, true, self.map.clone());
        Ok(Region { file, path, named: None, header, is_new, keeps_space, map })
    }

    /// Opens the region behind a descriptor that came from another process: an
    /// anonymous region, or a file that is open for reading and writing. It is
    /// checked like a path that is [opened](Self::open). From then on it is
    /// closed when another program is executed. To attach to a file takes the
    /// permission to open it, too.
    ///
    /// # Errors
    /// [`OpenError::Unsealed`] if somebody could cut the memory under its
    /// users; [`OpenError::HalfOpen`]; [`OpenError::NotAFile`];
    /// [`OpenError::NotFound`] if the file was removed; those of
    /// [`open`](Self::open).
    pub fn open_fd(&self, descriptor: impl Into<OwnedFd>) -> Result<Region, OpenError> {
        let unknown = |source| OpenError::Io { path: "a descriptor".into(), source };
        let (file, found, path, kind) = memfd::receive(descriptor.into()).map_err(unknown)?;
        match kind {
            Kind::File => self.accept(file, &found, &path, None),
            Kind::Unsealed => Err(OpenError::Unsealed { path }),
            Kind::Removed => Err(OpenError::NotFound { path }),
            Kind::Other => Err(OpenError::NotAFile { path }),
            Kind::HalfOpen => Err(OpenError::HalfOpen { path }),
        }
    }
}
