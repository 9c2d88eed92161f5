//! Sizes and durations as people write them: `"256MiB"` and `"7d"` in, bytes and milliseconds out.
//!
//! A bare number is bytes, or milliseconds. Printed in the largest unit that loses nothing.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

type Unit = (&'static str, u64);

const SIZES: [Unit; 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DURATIONS: [Unit; 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

fn parse(text: &str, units: &[Unit]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn print(value: u64, units: &[Unit]) -> String {
    let whole = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (name, factor) = whole.or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{name}", value / factor)
}

fn read<'de, D: Deserializer<'de>>(
    from: D,
    units: &[Unit],
    example: &str,
) -> Result<u64, D::Error> {
    let wrong = || D::Error::custom(format!("write a number, or text such as \"{example}\""));
    match Written::deserialize(from).map_err(|_| wrong())? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => parse(&text, units).ok_or_else(wrong),
    }
}

/// A duration as people write it, in ms; the unit must be there.
pub(crate) fn duration_of(text: &str) -> Option<u64> {
    parse(text, &DURATIONS)
}

/// What a size or a duration means that was printed, and the `least` printed in the same units.
pub(super) fn read_back(text: &str, least: u64) -> Option<(u64, String)> {
    let units = |units: &[Unit]| Some((parse(text, units)?, print(least, units)));
    units(&SIZES).or_else(|| units(&DURATIONS))
}

/// Bytes.
pub(super) mod size {
    use super::{Deserializer, SIZES, Serializer, print, read};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        value: &u64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*value, &SIZES))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<u64, D::Error> {
        read(from, &SIZES, "10GiB")
    }
}

/// Milliseconds.
pub(super) mod duration {
    use super::{DURATIONS, Deserializer, Serializer, print, read};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        value: &u64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*value, &DURATIONS))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<u64, D::Error> {
        read(from, &DURATIONS, "7d")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        for value in [0, 1, 1_023, 1_024, 1 << 30, (1 << 40) + 1] {
            assert_eq!(parse(&print(value, &SIZES), &SIZES), Some(value));
            assert_eq!(parse(&print(value, &DURATIONS), &DURATIONS), Some(value));
        }
        assert_eq!(parse("256MiB", &SIZES), Some(256 << 20));
        assert_eq!(parse("7d", &DURATIONS), Some(604_800_000));
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in ["", "7", "d", "-1d", "1.5d", "7 weeks", "99999999999999999999d"] {
            assert_eq!(parse(text, &DURATIONS), None, "{text}");
        }
        assert_eq!(parse("18446744073709551615TiB", &SIZES), None);
    }
}
