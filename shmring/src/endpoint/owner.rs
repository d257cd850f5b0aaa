//! Who holds a role, as they say themselves. For people: whether somebody
//! holds it, only the lock tells.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::layout::Geometry;
use crate::layout::blocks::owner;
use crate::os::identity::{self, Identity, now_ns};
use crate::os::lock;

/// A part in a region that one process at a time can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads and commits.
    Consumer,
    /// Sends in the lane of this number.
    Producer(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Consumer => f.write_str("consumer"),
            Role::Producer(0) => f.write_str("producer"),
            Role::Producer(lane) => write!(f, "producer in lane {lane}"),
        }
    }
}

impl Role {
    pub(crate) fn lock(self) -> lock::Role {
        match self {
            Role::Consumer => lock::Role::Consumer,
            Role::Producer(lane) => lock::Role::Producer(lane),
        }
    }

    pub(crate) fn slot_offset(self, geometry: &Geometry) -> u64 {
        match self {
            Role::Consumer => geometry.consumer_owner_offset(),
            Role::Producer(lane) => geometry.producer_owner_offset(lane),
        }
    }
}

/// What the holder of a role says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// Process id, in its own pid namespace.
    pub pid: u64,
    /// True if that is this process's pid namespace too.
    pub same_namespace: bool,
    /// Effective user id.
    pub uid: u64,
    /// The first 16 bytes of its command's name.
    pub command: String,
    /// When it attached, in nanoseconds since 1970.
    pub attached_ns: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.command, self.pid)?;
        if !self.same_namespace {
            f.write_str(" in another pid namespace")?;
        }
        write!(f, ", uid {})", self.uid)
    }
}

/// The words that this process, whose number `process` is, puts into its slot.
pub(crate) fn own_words(process: u64) -> [u64; 7] {
    let own = Identity::of(process);
    let half = |at: usize| u64::from_le_bytes(own.command[at..at + 8].try_into().expect("8 bytes"));
    [own.pid, own.pid_namespace, own.start_ticks, own.uid, half(0), half(8), now_ns()]
}

/// What a role's slot says; `None` if nobody has written it yet.
pub(crate) fn read(file: &File, geometry: &Geometry, role: Role) -> Option<Owner> {
    let mut slot = [0; owner::STRIDE];
    file.read_exact_at(&mut slot, role.slot_offset(geometry)).ok()?;
    decode(&slot)
}

pub(crate) fn decode(slot: &[u8]) -> Option<Owner> {
    let pid = owner::PID.u64(slot);
    let command = owner::COMMAND.bytes(slot);
    let len = command.iter().position(|&b| b == 0).unwrap_or(command.len());
    // The bytes come from another process and go to a terminal.
    let printable = |b: &u8| if (b' '..=b'~').contains(b) { *b as char } else { '?' };
    (pid != 0).then(|| Owner {
        pid,
        same_namespace: owner::PID_NAMESPACE.u64(slot) == identity::pid_namespace(),
        uid: owner::UID.u64(slot),
        command: command[..len].iter().map(printable).collect(),
        attached_ns: owner::ATTACHED_NS.u64(slot),
    })
}
