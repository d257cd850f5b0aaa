//! serde values by bincode 2. The crate is finished and no longer maintained
//! (RUSTSEC-2025-0141), so it is used in this file alone.

use std::marker::PhantomData;

use bincode::config::{self, Config};
use bincode::error::EncodeError;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, CodecId};

/// serde values in bincode's standard configuration. `LIMIT` bounds what a
/// payload may have and may claim to hold, in bytes: without a bound, nine
/// hostile bytes ask for more memory than there is. Numbers count with all the
/// bytes of their type, however short they are written, so that what
/// [`encode`](Codec::encode) takes may be too much for
/// [`decode`](Codec::decode): leave room.
///
/// Not bounded is what no byte of the payload stands for. Hostile bytes can
/// make the items of a sequence many, if they are written in no byte like `()`,
/// and values deep, if they are recursive: use no such types. Each value may be
/// larger in memory than in the payload, and serde sets up to 1 MiB aside for
/// each sequence that it is inside of.
#[derive(Debug)]
pub struct Bincode<T, const LIMIT: usize = { 16 << 20 }>(PhantomData<T>);

const fn limited<const LIMIT: usize>() -> impl Config {
    config::standard().with_limit::<LIMIT>()
}

impl<T: Serialize + DeserializeOwned, const LIMIT: usize> Codec for Bincode<T, LIMIT> {
    type Item = T;
    const ID: CodecId = CodecId::BINCODE;

    fn encode(item: &T, payload: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = payload.len();
        let failed = |e: EncodeError| CodecError::Encode { reason: e.to_string() };
        bincode::serde::encode_into_std_write(item, payload, limited::<LIMIT>()).map_err(failed)?;
        let len = payload.len() - start;
        if len > LIMIT {
            payload.truncate(start);
            return Err(CodecError::Encode {
                reason: format!("{len} bytes are more than the limit of {LIMIT}"),
            });
        }
        Ok(())
    }

    fn decode(payload: &[u8]) -> Result<T, CodecError> {
        let len = payload.len();
        if len > LIMIT {
            let reason = format!("it has more than the limit of {LIMIT}");
            return Err(CodecError::Decode { len, reason });
        }
        match bincode::serde::decode_from_slice(payload, limited::<LIMIT>()) {
            Ok((item, used)) if used == len => Ok(item),
            Ok((_, used)) => Err(CodecError::TrailingBytes { len, used }),
            Err(e) => Err(CodecError::Decode { len, reason: e.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = Bincode<(u64, Vec<u8>), 1000>;

    fn encoded(item: &(u64, Vec<u8>)) -> Vec<u8> {
        let mut payload = b"before".to_vec();
        Pair::encode(item, &mut payload).unwrap();
        payload.split_off(6)
    }

    #[test]
    fn a_value_comes_back_as_it_went_in() {
        let item = (u64::MAX, vec![7; 300]);
        assert_eq!(Pair::decode(&encoded(&item)), Ok(item));
    }

    #[test]
    fn trailing_and_missing_bytes_are_refused() {
        let mut payload = encoded(&(1, vec![2]));
        payload.push(0);
        assert_eq!(Pair::decode(&payload), Err(CodecError::TrailingBytes { len: 4, used: 3 }));
        assert!(matches!(Pair::decode(&payload[..2]), Err(CodecError::Decode { len: 2, .. })));
    }

    #[test]
    fn what_is_beyond_the_limit_is_refused_both_ways() {
        let claims_much = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(Bincode::<Vec<u8>>::decode(&claims_much), Err(CodecError::Decode { len: 9, .. })));
        let mut payload = b"before".to_vec();
        assert!(matches!(Pair::encode(&(1, vec![0; 1000]), &mut payload), Err(CodecError::Encode { .. })));
        assert_eq!(payload, b"before");
        // A number this large takes a byte more than it has.
        assert!(matches!(Bincode::<u64, 8>::encode(&u64::MAX, &mut payload), Err(CodecError::Encode { .. })));
        let longer = Bincode::<u64, 8>::decode(&[253, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert!(matches!(longer, Err(CodecError::Decode { len: 9, .. })), "{longer:?}");
    }

    #[test]
    fn numbers_count_with_all_their_bytes() {
        type Numbers = Bincode<Vec<u64>, 100>;
        let mut payload = Vec::new();
        Numbers::encode(&vec![0; 50], &mut payload).unwrap();
        let decoded = Numbers::decode(&payload);
        assert!(matches!(decoded, Err(CodecError::Decode { len: 51, .. })), "{decoded:?}");
    }
}
