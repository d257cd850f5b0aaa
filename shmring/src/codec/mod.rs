//! What the bytes of a message mean.
//!
//! A codec turns values into payloads and back. Which one a region uses
//! stands in its header ([`CodecId`]), with the name and version of what the
//! values mean ([`Schema`](crate::Schema)); both are compared at attach.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("orders.ring");
//! use serde::{Deserialize, Serialize};
//! use shmring::codec::{Bincode, Codec};
//! use shmring::{Read, RegionOptions, Schema};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Order { id: u64, symbol: String }
//! type Orders = Bincode<Order>;
//!
//! let options = RegionOptions::new().codec(Orders::ID).schema(Schema::new("order", 1));
//! let region = options.open_or_create(&path)?;
//! let (mut producer, mut consumer) = (region.producer()?, region.consumer()?);
//!
//! let order = Order { id: 7, symbol: "ACME".into() };
//! let mut payload = Vec::new();
//! Orders::encode(&order, &mut payload)?;
//! producer.send(&payload)?;
//! if let Read::Message(message) = consumer.read()? {
//!     assert_eq!(Orders::decode(message.payload)?, order);
//! }
//! # Ok(()) }
//! ```

mod bincode;

pub use self::bincode::Bincode;
pub use crate::layout::CodecId;

/// Turns values of one type into payloads and back.
pub trait Codec {
    /// The values.
    type Item;
    /// The number in the region's header.
    const ID: CodecId;

    /// Appends the payload of `item` to `payload`.
    ///
    /// # Errors
    /// [`CodecError::Encode`] if the value has no payload, or too large a one.
    fn encode(item: &Self::Item, payload: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The value of a payload, all of whose bytes belong to it.
    ///
    /// # Errors
    /// [`CodecError::Decode`], [`CodecError::TrailingBytes`]; never a panic or
    /// an allocation beyond the codec's limit, whatever the bytes: see
    /// [`Bincode`] for what it asks of the type.
    fn decode(payload: &[u8]) -> Result<Self::Item, CodecError>;
}

/// A value or a payload that a codec cannot turn into the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The value has no payload.
    #[error("cannot encode: {reason}")]
    Encode {
        /// The codec's words.
        reason: String,
    },
    /// The payload is not that of a value.
    #[error("cannot decode a payload of {len} bytes: {reason}")]
    Decode {
        /// Bytes of the payload.
        len: usize,
        /// The codec's words.
        reason: String,
    },
    /// There are bytes after the value.
    #[error("cannot decode a payload of {len} bytes: the value ends after {used}")]
    TrailingBytes {
        /// Bytes of the payload.
        len: usize,
        /// Bytes of the value.
        used: usize,
    },
}

/// Payloads as they are.
#[derive(Debug)]
pub struct Bytes;

impl Codec for Bytes {
    type Item = Vec<u8>;
    const ID: CodecId = CodecId::BYTES;

    fn encode(item: &Vec<u8>, payload: &mut Vec<u8>) -> Result<(), CodecError> {
        payload.extend_from_slice(item);
        Ok(())
    }

    fn decode(payload: &[u8]) -> Result<Vec<u8>, CodecError> {
        Ok(payload.to_vec())
    }
}
