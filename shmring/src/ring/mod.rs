//! The lane: a ring of variable-length records with one producer and one
//! consumer; and the consumer's way through many lanes.
//!
//! Only the algorithm, over an abstract [`Memory`]: no unsafe, no system call,
//! no clock, no allocation. A mistake here may lose or tear a message but can
//! not touch a byte outside the lane.
//!
//! ```text
//!             head (consumer)              tail (producer)
//!              v                            v
//!  ... free ...[ header | payload ][ ...   ][ 0 ]... free ...
//! ```
//!
//! * Positions are u64 and only grow (wrapping); a position's place is its low
//!   bits. Records start at multiples of the record alignment.
//! * **Invariant**: from head to tail lies a chain of whole records, and the
//!   word at tail is 0.
//! * A record is published by one store: payload, a zero word after it, then
//!   its own header word. Killed before that store, the producer leaves
//!   nothing; after it, a whole record.
//! * A commit is decided by one store too, in all lanes (the generation that
//!   makes slots valid), after the reader is done; the head words follow.
//! * A new owner starts from the last check point (producer) or commit slot
//!   (consumer) and believes nothing else.
//!
//! Orderings, by name:
//!
//! | name | release end | acquire end | if weaker |
//! |---|---|---|---|
//! | PUBLISH | header word, [`Writer::publish`] | header word, [`Reader::peek`], takeover | payload read before it is written |
//! | FREE | head word, [`Reader::commit`] | head word, [`Writer::claim`] | payload overwritten while it is read |
//! | CHECK | check generation | check generation, takeover and [`Cursor::is_attached_behind`] | a torn check point |
//! | COMMIT | commit generation | commit generation, takeover | a torn commit |
//! | TICKET | ticket counter | ticket counter | see the module `order` |
//!
//! CHECK, COMMIT and PUBLISH in the takeover's walk carry weight only where the
//! lock that passes from owner to owner orders nothing; they cost nothing.

mod cursor;
mod lanes;
mod memory;
mod order;
mod reader;
mod shape;
pub mod sleep;
mod writer;

pub use cursor::{Cursor, Record};
pub use lanes::Broken;
pub use memory::Memory;
pub use reader::{Reader, Sink};
pub use shape::{Corrupt, Fault, Shape};
pub use writer::{Claim, Writer};
