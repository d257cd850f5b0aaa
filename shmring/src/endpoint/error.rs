//! One small enum per verb. Flow results (full, empty, end) are told apart
//! from what an operator must mend, and that from damage.

use std::io;
use std::path::PathBuf;

use super::owner::{Owner, Role};
use super::stream_id::StreamId;
use crate::layout::{GeometryError, Refusal};
use crate::os::lack::Lack;
use crate::ring::Corrupt;

/// A lane holds something impossible: a bug or a hostile peer. Its producer
/// refuses all further work, and the consumer looks at it no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "lane {lane} of the region is damaged: {what}; no more can be read or written there: remove the region and create it anew"
)]
pub struct Damage {
    /// The lane.
    pub lane: u32,
    /// What is impossible, where, and the value found.
    pub what: Corrupt,
}

/// A region could not be created. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is something at the path.
    #[error("{} exists already; open it, or remove it first", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The options are not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The schema's name is too long or holds a zero byte.
    #[error("the schema name {name:?} is not possible: it must have at most 64 bytes, none of them zero")]
    SchemaName {
        /// The name.
        name: String,
    },
    /// The file system has not enough room.
    #[error(
        "no room for {needed} bytes at {}: free some, or choose a smaller capacity or another \
         folder (in a container, /dev/shm is 64 MB unless it is started with --shm-size)",
        path.display()
    )]
    NoSpace {
        /// The path.
        path: PathBuf,
        /// Length of the region in bytes.
        needed: u64,
    },
    /// The machine has not enough memory for an anonymous region.
    #[error("no {needed} bytes of memory are left; free some, or choose a smaller capacity")]
    NoMemory {
        /// Length of the region in bytes.
        needed: u64,
    },
    /// Locks or mappings do not work on this file system.
    #[error("{} is on {file_system}, where shared memory does not reach every process; use /dev/shm or a local disk", path.display())]
    FileSystem {
        /// The path.
        path: PathBuf,
        /// Its kind.
        file_system: &'static str,
    },
    /// The permission bits are not possible.
    #[error(
        "a mode of {mode:04o} is not possible: it must be bits to read and write, 0600 among them for the owner"
    )]
    Mode {
        /// The bits.
        mode: u32,
    },
    /// The file may not be given to the group.
    #[error("this user may not give {} to the group {gid}; be a member of it, or run as root", path.display())]
    Group {
        /// The path.
        path: PathBuf,
        /// The group's number.
        gid: u32,
    },
    /// The file system is mounted read-only.
    #[error("{} is on a file system that is mounted read-only; remount it, or choose another folder", path.display())]
    ReadOnly {
        /// The path.
        path: PathBuf,
    },
    /// The system has not enough of something that this takes.
    #[error(transparent)]
    Lack(#[from] Lack),
    /// The operating system refused.
    #[error("cannot create {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A region could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing at the path.
    #[error("there is no region at {}; start the side that creates it, or create it first", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The file is not a region that this library can use.
    #[error("cannot use {}", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// A directory, a pipe, a device, a symbolic link.
    #[error("{} is not a regular file; choose another path", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A descriptor for anonymous memory that can be cut under its users.
    #[error("{} is not sealed against shrinking and growing: whoever has it could end its users by a signal; hand over one that create_anonymous made", path.display())]
    Unsealed {
        /// What the kernel calls it.
        path: PathBuf,
    },
    /// A descriptor that only reads, or only writes.
    #[error("the descriptor of {} is not open for both reading and writing; hand over one that is", path.display())]
    HalfOpen {
        /// The path.
        path: PathBuf,
    },
    /// The caller asked for something that the region is not.
    #[error("{} has {option} {found}, but {asked} was asked for; leave the option out, or remove the region first", path.display())]
    Differs {
        /// The path.
        path: PathBuf,
        /// Which option.
        option: &'static str,
        /// The caller's value.
        asked: String,
        /// The region's value.
        found: String,
    },
    /// The file may not be opened: to attach takes reading and writing, to look takes reading.
    #[error("no permission to use {}: run as the user who owns it", path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// Locks or mappings do not work on this file system.
    #[error("{} is on {file_system}, where shared memory does not reach every process; use /dev/shm or a local disk", path.display())]
    FileSystem {
        /// The path.
        path: PathBuf,
        /// Its kind.
        file_system: &'static str,
    },
    /// The file system is mounted read-only.
    #[error("{} is on a file system that is mounted read-only; remount it, or choose another folder", path.display())]
    ReadOnly {
        /// The path.
        path: PathBuf,
    },
    /// The system has not enough of something that this takes.
    #[error(transparent)]
    Lack(#[from] Lack),
    /// The region was not there and could not be created either.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The operating system refused.
    #[error("cannot open {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A role in a region could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Somebody else has it.
    #[error("the region has a {role} already{}; one at a time", owner.as_ref().map(|o| format!(": {o}")).unwrap_or_default())]
    Busy {
        /// The role.
        role: Role,
        /// What its holder says of itself, if it has said so yet.
        owner: Option<Owner>,
    },
    /// Every lane has a producer, or is kept for one.
    #[error(
        "no lane is free: of {lanes}, {kept} are kept for names or inputs, and the others have producers, or, for a \
         new name, messages that are not read yet; end one, or create the region for more producers"
    )]
    NoLane {
        /// Lanes of the region.
        lanes: u32,
        /// Those kept for a name or a source.
        kept: u32,
    },
    /// The name is not possible.
    #[error(
        "{name:?} is no name for a producer: it has from 1 to 32 letters, digits, '.', '_' and '-', the first a letter or digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The file system, or the machine, has no room for the lane's ring.
    #[error(
        "no room for the {needed} bytes of lane {lane}: free some, or create the region with a smaller capacity \
         (in a container, /dev/shm is 64 MB unless it is started with --shm-size)"
    )]
    NoSpace {
        /// The lane.
        lane: u32,
        /// Bytes of its ring.
        needed: u64,
    },
    /// The lane goes on with another source, or with none in particular.
    #[error(
        "the lane was not filled from source {asked} alone, but {}; give each source a name, or a ring of its own",
        bound.map_or_else(|| "by a producer that named none".to_owned(), |b| format!("from {b}"))
    )]
    OtherSource {
        /// What the caller asked for.
        asked: StreamId,
        /// The source that the lane is bound to, if any.
        bound: Option<StreamId>,
    },
    /// The file was removed or replaced after it was opened.
    #[error("the region was removed after it was opened; open it again")]
    Removed,
    /// The file is not as long as it was when it was opened.
    #[error(
        "the region's file has {found} bytes, not those it was created with; remove it and create it anew"
    )]
    Truncated {
        /// Bytes that are left.
        found: u64,
    },
    /// The lane holds something impossible.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The system has not enough of something that this takes.
    #[error(transparent)]
    Lack(#[from] Lack),
    /// The file may not be opened: to attach takes reading and writing.
    #[error(
        "no permission to attach to the region: run as the user who owns it, or have it created with another mode"
    )]
    Permission,
    /// The operating system refused.
    #[error("cannot attach to the region")]
    Io(#[source] io::Error),
}

/// A message was not sent. The caller still has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now.
    #[error("the ring is full")]
    Full,
    /// The lane never takes a message of this length.
    #[error(
        "a message of {len} bytes is too large: this region takes at most {max} bytes a message; create one with a larger capacity"
    )]
    TooLarge {
        /// Its bytes.
        len: usize,
        /// The most that a message may have.
        max: usize,
    },
    /// The deadline passed while the ring was full.
    #[error("the ring stayed full until the deadline")]
    TimedOut,
    /// The caller's flag was set while the ring was full.
    #[error("interrupted while the ring was full")]
    Interrupted,
    /// The handle was made before a fork, by the parent process, and is still
    /// the parent's. Nothing was changed.
    #[error("this producer belongs to the process that was forked; attach a new one in this process")]
    Forked,
    /// The file was removed while the ring was full: nobody can come to drain it.
    #[error("the region was removed while in use; create it again")]
    Removed,
    /// The file was truncated while in use.
    #[error("the region's file was truncated while in use; remove it and create it anew")]
    Truncated,
    /// Space of the file was given back while in use; what was there is gone.
    #[error(
        "space of the region's file was given back while in use (a hole was punched): messages may be lost; remove the region and create it anew"
    )]
    Punched,
    /// The lane holds something impossible.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Nothing could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The deadline passed without a message.
    #[error("no message came until the deadline")]
    TimedOut,
    /// The caller's flag was set without a message.
    #[error("interrupted while no message was there")]
    Interrupted,
    /// All messages are read, some are not committed, and their producer waits
    /// for room: both would wait for ever. Commit, then read on.
    #[error(
        "a producer waits for room while {bytes} bytes are read but not committed; commit before reading on"
    )]
    Uncommitted {
        /// Bytes read and not committed.
        bytes: u64,
    },
    /// The handle was made before a fork, by the parent process, and is still
    /// the parent's. Nothing was changed.
    #[error("this consumer belongs to the process that was forked; attach a new one in this process")]
    Forked,
    /// The file was removed while the ring was empty: nobody can come to fill it.
    #[error("the region was removed while in use; create it again")]
    Removed,
    /// The file was truncated while in use.
    #[error("the region's file was truncated while in use; remove it and create it anew")]
    Truncated,
    /// Space of the file was given back while in use; what was there is gone.
    #[error(
        "space of the region's file was given back while in use (a hole was punched): messages may be lost; remove the region and create it anew"
    )]
    Punched,
    /// A lane that came into use cannot be mapped.
    #[error(
        "cannot map lane {lane}, which came into use: {kind}; raise the limit that this process meets, and read again"
    )]
    Lane {
        /// The lane.
        lane: u32,
        /// What the operating system says.
        kind: io::ErrorKind,
    },
    /// A lane holds something impossible. Told once, if other lanes are in
    /// use: they go on.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// A region could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is nothing at the path.
    #[error("there is no region at {}", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The file does not begin like a region.
    #[error("{} is not a shmring region, so it is left alone", path.display())]
    NotARegion {
        /// The path.
        path: PathBuf,
    },
    /// The file may not be opened or removed.
    #[error("no permission to remove {}: run as the user who owns it", path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// A producer or consumer is attached.
    #[error("{} is in use{}; end them first", path.display(), owners(users))]
    InUse {
        /// The path.
        path: PathBuf,
        /// Who is attached, as far as they said.
        users: Vec<(Role, Option<Owner>)>,
    },
    /// The operating system refused.
    #[error("cannot remove {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn owners(users: &[(Role, Option<Owner>)]) -> String {
    let each = users.iter().map(|(role, owner)| match owner {
        Some(owner) => format!("{role} {owner}"),
        None => role.to_string(),
    });
    let all: Vec<_> = each.collect();
    if all.is_empty() { String::new() } else { format!(" by {}", all.join(", ")) }
}
