//! Producers and a consumer that come, stop, go and are killed at random, for
//! as long as one likes, and a judge who was not there.
//!
//! The time is cut into rounds, each with a region of its own: order, lanes,
//! sizes and everything that happens are drawn from the seed. Each process
//! writes down what it is about to do and what came of it, in a file of its own
//! that stays whatever becomes of the process. At the end of a round `judge`
//! reads these files and nothing else, and holds them against the promises.
//!
//! The transcripts, one line each thing, every stamp in nanoseconds of the
//! machine's clock:
//!
//! `director`
//! : `world ORDER LANES SEQUENCE` (the first sequence of every lane),
//!   `start STAMP WHO PID`, `kill STAMP WHO` (before the signal), `gone STAMP
//!   WHO left|killed`, `stop STAMP WHO`, `continue STAMP WHO`, and at last `over`.
//!
//! `p0`, `p1` ... (a producer each, until it leaves or is killed)
//! : `begin STAMP NAME`, `attached STAMP LANE SEQUENCE` or `refused`; then for
//!   each operation `i STAMP KIND ITEM...` before and `o STAMP MARKS` after it;
//!   `closing STAMP` and `closed STAMP`, or `abandon STAMP`. An item is
//!   `LENGTH:CHECKSUM:FLAGS`, or `d` for a message that is dropped. A mark an
//!   item: `m` it was sent, `d` it was dropped, `-` it took no sequence. Kinds:
//!   `s` one message, `o` one message that may be dropped, `b` a batch, all of it
//!   or nothing, `w` a batch that may be published in parts.
//!
//! `c0`, `c1` ... (a consumer each)
//! : `begin STAMP`, `attached STAMP`; then what it read: `m LANE SEQUENCE LENGTH
//!   CHECKSUM FLAGS`, `n LANE NAME` (what that lane is called from here on), `g
//!   LANE SEQUENCE COUNT`, `d SINCE UNTIL LANE SEQUENCE PID REPLACED DROPPED
//!   NAME` (stamps of before and after the read), `e SINCE UNTIL`; `c` before a
//!   commit and `k` after it; `closed`, or `finished` if everybody is gone and
//!   nothing is left.

mod consume;
mod judge;
mod notes;
mod plan;
mod play;
mod produce;

pub(crate) use consume::{Consume, consume};
pub(crate) use judge::{Transcripts, Verdict, judge};
pub(crate) use play::{LEFT, play};
pub(crate) use produce::{Produce, produce};
