//! What every contestant of the benchmarks shares, so that what differs is the
//! contestant: the loops that send and receive, the clock, the stamps by which
//! a message that is lost, doubled or torn is noticed.
//!
//! A contestant implements [`Transport`] (or [`Pair`], if it knows threads only)
//! and calls [`serve`] (or [`serve_pair`]) in what its `main` gives to [`main()`]. The runner starts one
//! process for each side with a [`Plan`] as its argument and goes through
//! [`Step`]s with it over its standard input and output; the receiving side
//! answers with an [`Outcome`].

mod message;
mod plan;
mod serve;
mod sides;
mod stream;
mod transport;

pub use message::{Check, Source, buffer, slot};
pub use plan::{Measure, Outcome, Percentiles, Plan, Role, Settings, Step};
pub use serve::{main, pin, serve, serve_pair};
pub use stream::Cutter;
pub use transport::{Pair, Receiver, Sender, Transport, spin_until};

/// Why a contestant cannot go on.
pub type Result<T> = anyhow::Result<T>;
