//! Payloads, headers and names that nobody of good will wrote.

use std::collections::BTreeMap;
use std::fmt::Debug;

use arbitrary::{Arbitrary, Result, Unstructured};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shmring::codec::{Bincode, Bytes, Codec, CodecError};
use shmring::internals::layout::header::{self, Access, Header};
use shmring::internals::layout::{Geometry, Order, record};
use shmring::{CodecId, ProducerOptions};
use shmring_grammar::{Framing, RecordCodec, parse_duration, parse_size};

use super::image::Value;
use super::{MEMORY, Outcome, peak};

/// What a payload may claim to hold in these values.
const LIMIT: usize = 64 << 10;

/// Something of everything that has a length, or a choice, in it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Everything {
    Nothing,
    Text(String),
    Bytes(Vec<u8>),
    Many(Vec<Vec<u16>>),
    Maybe(Option<(bool, char, i64, f32)>),
    Map(BTreeMap<String, u128>),
    Named { id: u64, price: Option<i32>, tags: Vec<String> },
}

type Things = Bincode<Vec<Everything>, LIMIT>;

/// One of: a payload to decode, a header to verify, texts to understand.
pub fn codec(bytes: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut input = Unstructured::new(bytes);
    // No bytes are a payload too.
    match input.int_in_range(0..=3).unwrap_or(0) {
        0 => decode_all(input.take_rest(), &mut outcome),
        1 => encoded(&mut input, &mut outcome),
        2 => drop(verify(&mut input, &mut outcome)),
        _ => understand(&String::from_utf8_lossy(input.take_rest()), &mut outcome),
    }
    outcome
}

fn decode_all(payload: &[u8], outcome: &mut Outcome) {
    decode::<Things>(payload, outcome);
    decode::<Bincode<Everything, LIMIT>>(payload, outcome);
    decode::<Bincode<(u64, Vec<u8>, String), LIMIT>>(payload, outcome);
    decode::<Bincode<u64, 8>>(payload, outcome);
    // What programs make of a payload may be as long as the longest message.
    let (most, decoded) = peak(|| RecordCodec::decode(payload));
    match decoded {
        Ok(record) => {
            assert!(record.payload.len() < payload.len());
            outcome.arrived += 1;
        }
        Err(_) => outcome.damaged += 1,
    }
    assert!(most <= (1 << 30) + MEMORY, "{most} bytes for a record");
    assert_eq!(Bytes::decode(payload).as_deref(), Ok(payload));
}

/// What decodes encodes, and decodes to the same again.
fn decode<C: Codec<Item: Debug>>(payload: &[u8], outcome: &mut Outcome)
where
    C::Item: Serialize + DeserializeOwned,
{
    let (most, decoded) = peak(|| C::decode(payload));
    // An empty one of these takes a byte in the payload; and before it has seen
    // one, serde sets 1 MiB aside for each sequence that it is inside of.
    let largest = size_of::<Everything>() * 2 * payload.len() + 3 * (1 << 20);
    assert!(most <= LIMIT + largest + MEMORY, "{most} bytes for {}", payload.len());
    match decoded {
        Ok(item) => {
            let mut again = Vec::new();
            C::encode(&item, &mut again).expect("it was decoded");
            // By their text: not every number is equal to itself.
            let once_more = C::decode(&again).expect("it was encoded");
            assert_eq!(format!("{once_more:?}"), format!("{item:?}"));
            outcome.arrived += 1;
        }
        Err(CodecError::TrailingBytes { len, used }) => {
            assert!(used < len && len == payload.len());
            outcome.refused += 1;
        }
        Err(error) => {
            assert!(matches!(error, CodecError::Decode { len, .. } if len == payload.len()));
            outcome.damaged += 1;
        }
    }
}

/// A payload that was good, with some of its bytes changed.
fn encoded(input: &mut Unstructured, outcome: &mut Outcome) {
    let mut payload = Vec::new();
    let things: Vec<_> = (0..8).map_while(|_| everything(input).ok()).collect();
    Things::encode(&things, &mut payload).expect("it is short");
    assert_eq!(Things::decode(&payload).map(|found| format!("{found:?}")), Ok(format!("{things:?}")));
    for _ in 0..input.int_in_range(0..=3).unwrap_or(0) {
        let at = input.choose_index(payload.len()).unwrap_or(0);
        payload[at] = u8::arbitrary(input).unwrap_or(0xFF);
    }
    decode_all(&payload, outcome);
}

fn everything(input: &mut Unstructured) -> Result<Everything> {
    Ok(match input.int_in_range(0..=6)? {
        0 => Everything::Nothing,
        1 => Everything::Text(input.arbitrary()?),
        2 => Everything::Bytes(input.arbitrary()?),
        3 => Everything::Many(input.arbitrary()?),
        4 => Everything::Maybe(input.arbitrary()?),
        5 => Everything::Map(input.arbitrary()?),
        _ => {
            Everything::Named { id: input.arbitrary()?, price: input.arbitrary()?, tags: input.arbitrary()? }
        }
    })
}

/// A header that was good, with some of its words changed, and mostly with the
/// check sum that goes with them. One that is believed fits the file's length.
fn verify(input: &mut Unstructured, outcome: &mut Outcome) -> Result<()> {
    let capacity = 1u64 << input.int_in_range(16..=40)?;
    let geometry = Geometry::plan(capacity, *input.choose(&[8, 16, 64])?, input.int_in_range(1..=1024)?);
    let order = *input.choose(&[Order::Fifo, Order::Total])?;
    let name: String = input.arbitrary()?;
    let header = Header {
        geometry: geometry.expect("possible sizes"),
        region_id: input.arbitrary()?,
        created_ns: input.arbitrary()?,
        start_position: u64::arbitrary(input)? & !63,
        start_sequence: input.arbitrary()?,
        order,
        codec: CodecId(input.arbitrary()?),
        type_fingerprint: input.arbitrary()?,
        schema_name: name.chars().filter(|&c| c != '\0').take(header::MAX_SCHEMA_NAME / 4).collect(),
    };
    let mut page = header.encode();
    let mut file_len = header.geometry.file_len();
    assert_eq!(Header::verify(&page, file_len, Access::Use).as_ref(), Ok(&header));
    for _ in 0..input.int_in_range(0..=4)? {
        // Most of the page is reserved.
        let most = if input.ratio(7, 8)? { 0x60 } else { header::LEN / 8 };
        let at = input.choose_index(most)? * 8;
        let word =
            Value::arbitrary(input)?.of(u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes")));
        page[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    if input.ratio(7, 8)? {
        seal(&mut page);
    }
    match input.int_in_range(0..=5)? {
        0 => page.truncate(input.choose_index(header::LEN)?),
        1 => file_len = input.arbitrary()?,
        2 => page = input.bytes(input.len())?.to_vec(),
        _ => {}
    }
    for access in [Access::Look, Access::Use] {
        match Header::verify(&page, file_len, access) {
            Ok(found) => {
                assert_eq!(found.geometry.file_len(), file_len);
                assert!(found.geometry.lane_offset(found.geometry.lane_count() - 1) < file_len);
                outcome.arrived += 1;
            }
            Err(refusal) => {
                assert!(!refusal.to_string().is_empty());
                outcome.damaged += 1;
            }
        }
    }
    if let Some(head) = record::decode(input.arbitrary()?) {
        let again = record::encode(head.kind, head.flags, head.len, head.sequence_low);
        assert_eq!(record::decode(again), Some(head));
    }
    Ok(())
}

/// Has a header's check sum fit what it says.
pub(super) fn seal(page: &mut [u8]) {
    let at = header::LEN - 4;
    let sum = crc32c::crc32c(&page[..at]);
    page[at..].copy_from_slice(&sum.to_le_bytes());
}

/// What people write on a command line.
fn understand(text: &str, outcome: &mut Outcome) {
    let understood = [
        parse_size(text).is_ok(),
        parse_duration(text).is_ok(),
        text.parse::<Framing>().is_ok(),
        ProducerOptions::new().name(text).check().is_ok(),
    ];
    for is_understood in understood {
        *(if is_understood { &mut outcome.arrived } else { &mut outcome.refused }) += 1;
    }
}
