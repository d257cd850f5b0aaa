//! A role that is held, and what becomes of the file meanwhile.

use std::os::unix::fs::MetadataExt;

use super::error::{AttachError, Damage, ReadError, SendError};
use super::owner::{self, Role};
use super::region::Region;
use crate::layout::Geometry;
use crate::os::fork::OwnFile;
use crate::os::{huge, lock, membarrier, memfd};
use crate::region::Mapping;
use crate::ring::Corrupt;

impl Region {
    /// Takes a role: a description of its own, its lock, and the lane mapped.
    pub(super) fn take(&self, role: Role) -> Result<(Seat, Mapping), AttachError> {
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

    /// Asks the kernel whether the file is what it was.
    pub(crate) fn check_file(&self) -> Result<(), Lost> {
        match self.file.metadata() {
            Ok(found) if found.len() < self.geometry.file_len() => Err(Lost::Truncated),
            Ok(found) if memfd::is_removed(&self.file, &found) => Err(Lost::Removed),
            Ok(found) if found.blocks() < self.space => Err(Lost::Punched),
            _ => Ok(()),
        }
    }

    /// Why an attach fails that found this: the file may have been cut under it.
    pub(crate) fn blame(&self, corrupt: Corrupt) -> AttachError {
        match self.check_file() {
            Err(Lost::Truncated) => self.truncated(),
            _ => damage(corrupt).into(),
        }
    }

    /// Refuses an attach whose touches did not reach the file.
    pub(crate) fn refuse_cut(&self, mapping: &Mapping) -> Result<(), AttachError> {
        if mapping.is_cut() { Err(self.truncated()) } else { Ok(()) }
    }

    fn truncated(&self) -> AttachError {
        AttachError::Truncated { found: self.file.metadata().map_or(0, |found| found.len()) }
    }
}

/// What has become of a region's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    Truncated,
    Removed,
    /// Space of it was given back: a hole was punched.
    Punched,
}

impl From<Lost> for SendError {
    fn from(lost: Lost) -> SendError {
        match lost {
            Lost::Truncated => SendError::Truncated,
            Lost::Removed => SendError::Removed,
            Lost::Punched => SendError::Punched,
        }
    }
}

impl From<Lost> for ReadError {
    fn from(lost: Lost) -> ReadError {
        match lost {
            Lost::Truncated => ReadError::Truncated,
            Lost::Removed => ReadError::Removed,
            Lost::Punched => ReadError::Punched,
        }
    }
}

pub(crate) fn damage(what: Corrupt) -> Damage {
    Damage { lane: LANE, what }
}
