//! What `--codec bincode` wraps each message in.

use serde::{Deserialize, Serialize};
use shmring::codec::Bincode;
use shmring::{CodecId, Region, Schema};

/// A message with its number and the time it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The message's sequence in its stream.
    pub sequence: u64,
    /// When it was sent, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The message.
    pub payload: Vec<u8>,
}

/// The most that a record adds to its payload, in bytes: three numbers of at
/// most nine.
pub(crate) const RECORD_OVERHEAD: usize = 27;

/// The codec of records.
pub type RecordCodec = Bincode<Record, { 1 << 30 }>;

/// The schema of a region of records.
pub fn record_schema() -> Schema {
    Schema::new("shmring.Record", 1)
}

/// Whether the region's messages are records (true) or bytes (false).
///
/// # Errors
/// If they are neither: another program's values.
pub fn open_codec(region: &Region) -> anyhow::Result<bool> {
    match (region.codec(), region.schema()) {
        (CodecId::BYTES, _) => Ok(false),
        (CodecId::BINCODE, schema) if schema == record_schema() => Ok(true),
        (codec, schema) => anyhow::bail!(
            "the messages of {} are in {codec} with schema {schema}, which only the programs that made it understand",
            region.path().display()
        ),
    }
}

/// The longest message that fits, once it is wrapped.
pub fn max_payload(region: &Region, records: bool) -> usize {
    region.max_message() - if records { RECORD_OVERHEAD } else { 0 }
}
