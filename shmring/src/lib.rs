//! Messages between processes on one machine, through a ring buffer in shared
//! memory.
//!
//! A [`Region`] is a file. [`Producer`]s and a [`Consumer`] attach to it by its
//! path, in any order, in any processes; each may be killed at any instruction
//! and be started again, and goes on at the exact message. A region can be
//! [anonymous](Region::create_anonymous) as well: then processes get it by fork
//! or as a [descriptor](Region::from_fd).
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("orders.ring");
//! use shmring::{Read, Region};
//!
//! // One process:
//! let mut producer = Region::open_or_create(&path)?.producer()?;
//! producer.send(b"hello")?;
//! producer.close();
//!
//! // Another:
//! let mut consumer = Region::open_or_create(&path)?.consumer()?;
//! loop {
//!     match consumer.read()? {
//!         Read::Message(m) => println!("{}: {:?}", m.sequence, m.payload),
//!         Read::Gap(gap) => println!("{} messages were dropped", gap.count),
//!         Read::Died(death) => println!("{:?} died", death.producer),
//!         Read::End => break consumer.commit(),
//!         Read::Empty => {}
//!     }
//!     consumer.commit();
//! }
//! # Ok(()) }
//! ```
//!
//! # What holds
//!
//! * A message that [`send`](Producer::send) returned `Ok` for is delivered,
//!   whatever becomes of the producer. One whose send did not return is
//!   delivered whole or not at all.
//! * Messages of a producer come in order, each with its
//!   [sequence](Message::sequence), across restarts of both sides; what a
//!   producer dropped on purpose is told as a [`Gap`]. With [`Order::Total`]
//!   messages of different producers come in the order of their sends too.
//! * What a consumer [committed](Consumer::commit) is never delivered again;
//!   what it read and did not commit is delivered to the next one.
//! * A producer that dies, or is stopped, delays nobody. Whether it lives, the
//!   kernel says.
//! * Whatever bytes another process writes into the region, the result is an
//!   error, never undefined behaviour. (Truncating the file under its users
//!   is the exception: the kernel answers with SIGBUS, and only
//!   [`RegionOptions::guard_truncation`] makes that an error. Nobody can
//!   truncate an anonymous region.)
//!   One choice takes that away: [in place](Trust) payloads are not copied, and
//!   whoever can write to the region is trusted to leave them alone.
//! * After `fork`, a handle made before it stays the parent's: in the child it
//!   is refused and changes nothing. The child attaches its own, through the
//!   same [`Region`]; it keeps no role of its parent's alive.
//!
//! Not held: anything across a crash of the machine.
//!
//! # Rooms
//!
//! `os`, `layout`, `ring`, `region`, `endpoint`, `wait`, `codec`: a room uses
//! those before it, never one after. ARCHITECTURE.md tells more.

pub mod codec;
mod endpoint;
mod os;
mod region;
mod wait;

/// The rooms below the public surface, for the proofs in `tests` and the
/// measurements in `benches`. No promise of stability.
#[doc(hidden)]
pub mod internals {
    pub use crate::layout;
    pub use crate::os::advice::MapOptions;
    pub use crate::os::fork::use_inherited_handles;
    pub use crate::region::{Control, Heap, Mapping, SleepWord};
    pub use crate::ring;
}

#[doc(hidden)]
pub mod layout;
#[doc(hidden)]
pub mod ring;

pub use endpoint::{
    Advice, AttachError, Available, Batch, Cause, Consumer, CreateError, Damage, Death, Flags, Gap, Grant,
    HugePages, InPlaceConsumer, InPlaceProducer, Lack, LaneStatus, Loan, Message, NameError, OpenError,
    Order, OwnedMessage, Owner, Producer, ProducerOptions, Read, ReadError, Region, RegionOptions,
    RemoveError, Role, Schema, SendError, Sent, Status, StreamId, Trust, Wait, path_of,
};
pub use layout::{CodecId, GeometryError, Refusal};
pub use ring::{Corrupt, Fault};
