//! Times as people read them: Unix milliseconds in, `2015-10-28T12:18:56.799Z` out.
//!
//! Pure. Always with milliseconds and `Z`: some clients read this one pattern and no other.

use fieldgate_core::id::UnixMs;
use jiff::Timestamp;

/// Appends a time, without quotes.
pub fn write_utc(out: &mut Vec<u8>, time: UnixMs) {
    let ms = i64::try_from(time.0).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    out.extend_from_slice(format!("{time:.3}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_always_there() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_446_034_736_799, "2015-10-28T12:18:56.799Z"),
            (1_520_416_221_000, "2018-03-07T09:50:21.000Z"),
            (u64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            let mut out = Vec::new();
            write_utc(&mut out, UnixMs(ms));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
