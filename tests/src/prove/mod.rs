//! Kill at every instruction: what a survivor finds, whenever the other dies.
//!
//! ```text
//! scenario   which operation on which ring      product, plant   do it, stepped
//! trace      one instruction at a time          view             the region's bytes
//! tracee     the child that is stopped          replica          a copy that follows
//! watch      at each boundary: what changed?    expected         what they may find
//! survivors  both orders of takeover
//!
//! With several lanes, or messages that are dropped:
//! many       operations that are steps          states           what they lead through
//! crowd      survivors, over the copy           newcomers        a lane is taken; survivors
//!                                                                are the product, on a copied file
//!
//! create     a region appears, in a folder      pairs            two who die
//! campaign   how many of what                   report           what was counted
//!
//! Not killed, or killed in earnest:
//! pause      at each boundary the others act, then the paused one goes on
//! cast       the paused one, and what it says
//! copies     a copy of the paused one, which is who really goes on
//! sleeper    SIGKILL, real locks, and another one asleep
//! asleep     that one
//! ```
//!
//! To begin with: `product`, `watch`, `survivors`. What is stepped is always the
//! product, or its ring with a planted bug. Who comes after is the ring alone, a
//! `Reader` and a `Writer` over a copy on the heap, since that is fast; the
//! handles, with their locks and what they tell of deaths, come in `newcomers`,
//! `create`, `pause` and `sleeper`.

pub(crate) mod asleep;
pub(crate) mod campaign;
pub(crate) mod cast;
pub(crate) mod copies;
pub(crate) mod create;
pub(crate) mod crowd;
pub(crate) mod expected;
pub(crate) mod many;
pub(crate) mod newcomers;
pub(crate) mod pairs;
pub(crate) mod pause;
pub(crate) mod plant;
pub(crate) mod product;
pub(crate) mod replica;
pub(crate) mod report;
pub(crate) mod scenario;
pub(crate) mod sleeper;
pub(crate) mod states;
pub(crate) mod survivors;
pub(crate) mod trace;
pub(crate) mod tracee;
pub(crate) mod view;
pub(crate) mod watch;
