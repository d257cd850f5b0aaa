//! serde values by bincode 2. The crate is finished and no longer maintained
//! (RUSTSEC-2025-0141), so it is used in this file alone.

use std::marker::PhantomData;

use bincode::config::{self, Config};
use bincode::error::EncodeError;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, CodecId};

/// serde values in bincode's standard configuration. `LIMIT` bounds what a
/// payload may have and may claim to hold, in bytes: without a bound, nine
/// hostile bytes ask for more memory than there is.
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
    }
}
