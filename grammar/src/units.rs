//! Sizes and durations as people write them.

use std::str::FromStr;
use std::time::Duration;

const SIZES: &str = "a number with or without a unit: 4096, 64KiB, 8MiB";

/// A size in bytes, with or without a unit: 4096, 64KiB, 8MiB.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match bytesize::ByteSize::from_str(text) {
        Ok(size) if !text.contains('.') => Ok(size.as_u64()),
        _ => Err(format!("a size is {SIZES}")),
    }
}

/// A duration: 5s, 100ms, 2min.
///
/// # Errors
/// What is wrong, for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; a duration has a unit: 5s, 100ms, 2min"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_not() {
        for (text, size) in
            [("4096", 4096), ("64KiB", 65536), ("8MiB", 8 << 20), ("0", 0), ("1 GiB", 1 << 30)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "banana", "-1", "1.5MiB", "64KiBs", "999999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert!(parse_duration("5").is_err() && parse_duration("soon").is_err());
    }
}
