//! Times as people read them: Unix milliseconds in, `2015-10-28T12:18:56.799Z` out.
//!
//! Pure. Always with milliseconds and `Z`: some clients read this one pattern and no other.

use fieldgate_core::id::UnixMs;

const DAY_MS: u64 = 86_400_000;
/// The last millisecond of the year 9999; later ones are written as this one.
const LAST: u64 = 253_402_300_799_999;
/// Days from 0000-03-01 to 1970-01-01, and in 400 years.
const EPOCH_DAY: u64 = 719_468;
const ERA_DAYS: u64 = 146_097;

/// Appends a time, without quotes.
pub(crate) fn write_utc(out: &mut Vec<u8>, time: UnixMs) {
    let ms = time.0.min(LAST);
    let (year, month, day) = date(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    for (number, digits, end) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (of_day / 3_600_000, 2, b':'),
        (of_day / 60_000 % 60, 2, b':'),
        (of_day / 1_000 % 60, 2, b'.'),
        (of_day % 1_000, 3, b'Z'),
    ] {
        let places = (0..digits).rev().map(|place| number / 10_u64.pow(place) % 10);
        out.extend(places.filter_map(|digit| u8::try_from(digit).ok()).map(|digit| b'0' + digit));
        out.push(end);
    }
}

/// Year, month and day of a day since 1970-01-01. The year is counted from March, so that the day
/// that some years have more is its last one.
const fn date(day: u64) -> (u64, u64, u64) {
    let day = day + EPOCH_DAY;
    let (era, of_era) = (day / ERA_DAYS, day % ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + is_next, month, of_month + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ms: u64) -> String {
        let mut out = Vec::new();
        write_utc(&mut out, UnixMs(ms));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_time_has_its_milliseconds_and_a_z() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_446_034_736_799, "2015-10-28T12:18:56.799Z"),
            (1_520_416_221_000, "2018-03-07T09:50:21.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(ms), expected);
        }
    }

    #[test]
    fn every_day_of_eight_hundred_years_follows_the_one_before() {
        let is_leap = |year| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let (mut year, mut month, mut of_month) = (1970, 1, 1);
        for day in 0..2 * ERA_DAYS {
            assert_eq!(date(day), (year, month, of_month));
            let length = match month {
                2 if is_leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            of_month += 1;
            if of_month > length {
                (month, of_month) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
