//! A role that is held, and what becomes of the file meanwhile.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::error::{AttachError, Damage, ReadError, SendError};
use super::owner::{self, Role};
use super::region::Region;
use crate::layout::{Geometry, Word};
use crate::os::fork::OwnFile;
use crate::os::{huge, lock, membarrier, memfd};
use crate::region::Control;
use crate::ring::Corrupt;

impl Region {
    /// Takes the role that `choose` has locked with a description of its own.
    pub(super) fn take(
        &self,
        choose: impl FnOnce(&OwnFile, &Arc<Control>) -> Result<Role, AttachError>,
    ) -> Result<(Seat, Arc<Control>), AttachError> {
        // Before the first publish or commit.
        membarrier::register();
        let geometry = self.header.geometry;
        let place = self.named.map(|id| (self.path.as_path(), id));
        let (file, found) = OwnFile::open(|| lock::reopen(&self.file, place))?;
        let truncated =
            |found: u64| (found != geometry.file_len()).then_some(AttachError::Truncated { found });
        if let Some(truncated) = truncated(found.len()) {
            return Err(truncated);
        }
        huge::check_file(&file, &self.path, geometry.data_align(), self.map.huge_pages)?;
        // Not through `file`: a mapping keeps its description, and so a forked
        // child, which has the mapping as well, would keep the lock.
        let control = Control::new(&self.file, &geometry, &self.map)?;
        let role = choose(&file, &control)?;
        // With the lock in hand nobody can remove it any more.
        let found = file.metadata()?;
        if memfd::is_removed(&file, &found) {
            return Err(AttachError::Removed);
        }
        if let Some(truncated) = truncated(found.len()) {
            return Err(truncated);
        }
        let (keeps_space, space) = (self.keeps_space, Cell::new(0));
        let seat = Seat { file, geometry, role, keeps_space, space, control: control.clone() };
        seat.note_space(found.blocks());
        Ok((seat, control))
    }
}

/// A role that is held.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its description holds the lock.
    pub(crate) file: OwnFile,
    pub(crate) geometry: Geometry,
    role: Role,
    /// The file system gives no space back by itself.
    keeps_space: bool,
    /// The most blocks of 512 bytes that the file was seen to have, no more
    /// than the lanes with space take: it gets some with each lane that is taken.
    space: Cell<u64>,
    control: Arc<Control>,
}

impl Seat {
    /// Says for people who holds the role.
    pub(crate) fn sign(&self, control: &Control) {
        control.write_owner(self.role.slot_offset(&self.geometry), owner::own_words(self.file.process()));
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
            Ok(found) if found.blocks() < self.space.get() => Err(Lost::Punched),
            Ok(found) => {
                self.note_space(found.blocks());
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    fn note_space(&self, blocks: u64) {
        if self.keeps_space && blocks > self.space.get() {
            // What a lane got so far that is being taken the kernel takes back
            // if that is interrupted, or its producer killed.
            let is_ready = |&lane: &u32| self.control.load_acquire(lane, Word::Ready) == 1; // READY
            let lanes = (0..self.geometry.lane_count()).filter(is_ready).count() as u64;
            let kept = self.geometry.data_offset(0) + lanes * self.geometry.capacity();
            self.space.set(self.space.get().max(blocks.min(kept / 512)));
        }
    }

    /// Why an attach fails that found this: the file may have been cut under it.
    pub(crate) fn blame(&self, lane: u32, what: Corrupt) -> AttachError {
        match self.check_file() {
            Err(Lost::Truncated) => self.truncated(),
            _ => Damage { lane, what }.into(),
        }
    }

    /// Refuses an attach whose touches did not reach the file.
    pub(crate) fn refuse_cut(&self, control: &Control) -> Result<(), AttachError> {
        if control.is_cut() { Err(self.truncated()) } else { Ok(()) }
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
