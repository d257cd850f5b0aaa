//! Regions and who is attached to them: create, open, remove, [`Producer`],
//! [`Consumer`]. Everything here returns at once; blocking forms are in `wait`.

mod anonymous;
mod consumer;
mod error;
mod find;
mod in_place;
mod lane;
mod name;
mod open;
mod options;
mod os_options;
mod owner;
mod place;
mod producer;
mod read;
mod region;
mod seat;
mod status;
mod stream_id;
mod watch;

pub use consumer::Consumer;
pub use error::{AttachError, CreateError, Damage, OpenError, ReadError, RemoveError, SendError};
pub use in_place::{InPlaceConsumer, InPlaceProducer, Loan};
pub use name::{NameError, path_of};
pub use options::{RegionOptions, Schema, Wait};
pub use owner::{Owner, Role};
pub use place::ProducerOptions;
pub use producer::{Batch, Flags, Grant, Producer, Sent};
pub use read::{Available, Death, Gap, Message, OwnedMessage, Read};
pub use region::Region;
pub use status::{LaneStatus, Status};
pub use stream_id::StreamId;

pub use crate::layout::{Cause, Order};
pub use crate::os::advice::Advice;
pub use crate::os::huge::HugePages;
pub use crate::os::lack::Lack;
pub use crate::region::Trust;

pub(crate) use options::{Pace, Waiting};
pub(crate) use read::Found;
