//! What `producer`, `consumer` and `shmring` have in common: how a ring, a
//! size, a framing are written, how signals end a program, and which exit code
//! stands for what. One grammar for all programs.

mod exit;
mod file_id;
mod frame;
mod input;
mod options;
mod output;
mod pattern;
mod record;
mod stop;
mod units;

pub use exit::{Exit, run, say};
pub use file_id::file_words;
pub use frame::Framing;
pub use input::{Input, InputError, Step};
pub use options::{Common, Framed, LaneFlags, RegionFlags, Verbosity, WaitFlag};
pub use output::{Output, is_broken_pipe};
pub use pattern::{MIN_SIZE, Pattern, Tally};
pub use record::{Record, RecordCodec, max_payload, open_codec, record_schema};
pub use stop::{Ready, Stop};
pub use units::{parse_duration, parse_size};
