//! Payloads where they are: the only references into a mapping.
#![allow(unsafe_code)]

use std::slice;

use super::Mapping;

/// A caller's word that what is used in place is left alone meanwhile.
///
/// A reference says that nobody else changes what it points to. Of shared memory
/// that is true only if the peers see to it; so everything else in this library
/// copies, and believes nobody. This is the one thing that cannot be checked:
/// it is given once for a handle, to
/// [`Producer::in_place`](crate::Producer::in_place) or
/// [`Consumer::in_place`](crate::Consumer::in_place).
///
/// Only the payload's bytes are trusted. Positions, lengths and sequences are
/// checked as ever, and no reference leaves the lane's ring.
///
/// ```
/// use shmring::Trust;
/// // SAFETY: the region has mode 0600, and all programs of this user that open it
/// // use it through this library.
/// let trust = unsafe { Trust::in_peers() };
/// # drop(trust);
/// ```
///
/// Not without the word:
///
/// ```compile_fail,E0133
/// use shmring::Trust;
/// let trust = Trust::in_peers();
/// # drop(trust);
/// ```
#[derive(Debug)]
#[must_use = "it is given to a handle"]
pub struct Trust(());

impl Trust {
    /// Gives that word.
    ///
    /// # Safety
    /// From when a handle gets this until that handle is gone, and of the region
    /// of that handle:
    ///
    /// * Nobody, in this process or in another, changes a byte of a message that
    ///   is published and not committed.
    /// * Nobody but the producer that reserved it touches a byte of the room of a
    ///   message that is not published yet.
    /// * Nobody changes positions, headers, slots or states so that others break the
    ///   first two: a head that is moved on has a producer write over what is read.
    /// * Nobody truncates the file, punches holes into it, or writes to it but
    ///   through a mapping, and nothing else is mapped in the place of it.
    /// * A process that is forked while a payload or a [`Loan`](crate::Loan) is
    ///   borrowed does not touch it in the child.
    ///
    /// Whoever uses a region through this library alone does all that but the
    /// last two. So this trusts everybody who can open the file for writing to
    /// use this library, or one that keeps the same rules, to leave the file
    /// alone, and to be free of faults that write where they should not.
    pub unsafe fn in_peers() -> Trust {
        Trust(())
    }
}

/// Which bytes are asked for, `ring` and `endpoint` decide. The word was given for
/// what they take for a message, or for room: with a mistake there it would not be
/// true, and the reference wrong, though inside the ring.
impl Mapping {
    /// `len` payload bytes at a position, of a record that was found and is not
    /// committed while they are borrowed. Panics if they are as many as the ring
    /// has.
    #[inline(always)]
    pub(crate) fn bytes<'a>(&'a self, _: &'a Trust, position: u64, len: usize) -> &'a [u8] {
        let shared = self.payload(position, len);
        // SAFETY: `payload` gives a place of `len` mapped, hence initialised bytes
        // in one piece, which stay mapped as long as `self` is. Whoever made the
        // `Trust` has said that nobody changes those of such a record, nor takes
        // the pages away; this handle writes to none. A header, which is accessed
        // as an atomic, is never among them.
        unsafe { slice::from_raw_parts(shared, len) }
    }

    /// `len` payload bytes at a position, of room that was claimed and is not
    /// staged while they are borrowed. They have some value, whatever was there.
    /// Panics if they are as many as the ring has.
    #[inline(always)]
    pub(crate) fn bytes_mut<'a>(&'a self, _: &'a mut Trust, position: u64, len: usize) -> &'a mut [u8] {
        let shared = self.payload(position, len);
        // SAFETY: as in `bytes`; that nobody else touches such room was said as
        // well. This handle has one `Trust`, which is borrowed alone, so there is
        // no other reference to any of it.
        unsafe { slice::from_raw_parts_mut(shared, len) }
    }
}
