//! Regions and who is attached to them: create, open, remove, [`Producer`],
//! [`Consumer`]. Everything here returns at once; blocking forms are in `wait`.

mod anonymous;
mod consumer;
mod error;
mod name;
mod open;
mod options;
mod os_options;
mod owner;
mod producer;
mod region;
mod seat;
mod status;
mod stream_id;

pub use consumer::{Available, Consumer, End, Message, OwnedMessage, Read};
pub use error::{AttachError, CreateError, Damage, OpenError, ReadError, RemoveError, SendError};
pub use name::{NameError, path_of};
pub use options::{RegionOptions, Schema, Wait};
pub use owner::{Owner, Role};
pub use producer::{Batch, Flags, Grant, Producer, Sent};
pub use region::Region;
pub use status::{LaneStatus, Status};
pub use stream_id::StreamId;

pub use crate::os::advice::Advice;
pub use crate::os::huge::HugePages;
pub use crate::os::lack::Lack;

pub(crate) use consumer::Found;
pub(crate) use options::Waiting;
