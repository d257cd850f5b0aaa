//! Kill at every instruction: what a survivor finds, whenever the other dies.
//!
//! ```text
//! scenario   which operation on which ring      product, plant   do it, stepped
//! trace      one instruction at a time          view             the region's bytes
//! watch      at each boundary: what changed?    replica          a copy that follows
//! survivors  both orders of takeover            expected         what they may find
//! ```

pub(crate) mod campaign;
pub(crate) mod expected;
pub(crate) mod plant;
pub(crate) mod product;
pub(crate) mod replica;
pub(crate) mod scenario;
pub(crate) mod survivors;
pub(crate) mod trace;
pub(crate) mod view;
pub(crate) mod watch;
