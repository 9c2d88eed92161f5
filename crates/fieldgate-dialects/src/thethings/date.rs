//! Times as thethings.iO writes them.
//!
//! Pure. Out: ISO 8601 in UTC, always with three digits of milliseconds (its Python client parses with
//! a fixed pattern). In: the same, or `YYYYMMDDHHmmss`, or `YYYYMMDDTHHmmss`; all in UTC.

use fieldgate_core::id::UnixMs;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

pub use crate::utc::write_utc as write;

/// Reads a time in one of the three forms; nothing if it is in none, or before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<UnixMs> {
    let time = match plain(text) {
        Some(time) => time,
        None => text.parse().ok()?,
    };
    u64::try_from(time.as_millisecond()).ok().map(UnixMs)
}

/// `YYYYMMDDHHmmss`, with or without a `T` between day and hour.
fn plain(text: &str) -> Option<Timestamp> {
    let (day, time) = text.split_at_checked(8)?;
    let time = time.strip_prefix('T').unwrap_or(time);
    if time.len() != 6 || !day.bytes().chain(time.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |text: &str, from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let civil = DateTime::new(
        day.get(..4)?.parse().ok()?,
        number(day, 4, 6)?,
        number(day, 6, 8)?,
        number(time, 0, 2)?,
        number(time, 2, 4)?,
        number(time, 4, 6)?,
        0,
    );
    civil.ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(ms: u64) -> String {
        let mut out = Vec::new();
        write(&mut out, UnixMs(ms));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn three_forms_are_read() {
        for text in [
            "20150520120000",
            "20150520T120000",
            "2015-05-20T12:00:00.000Z",
            "2015-05-20T12:00:00Z",
            "2015-05-20T14:00:00+02:00",
        ] {
            assert_eq!(parse(text), Some(UnixMs(1_432_123_200_000)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "20150520",
            "2015052012000",
            "201505201200000",
            "20151320120000",
            "20150520T1200",
            "20150520 120000",
            "2015é520120000",
            "19691231235959",
            "2015-05-20",
            "2015-05-20T12:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in 0..253_402_000_000_000_u64) {
            prop_assert_eq!(parse(&written(ms)), Some(UnixMs(ms)));
        }

        #[test]
        fn no_text_panics(text in "[0-9TZ:.é-]{0,24}") {
            let _ = parse(&text);
        }
    }
}
