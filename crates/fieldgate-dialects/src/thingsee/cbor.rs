//! CBOR of edge gateways: maps with numbers for keys in, the JSON that they stand for out.
//!
//! Pure. Scaled values are unscaled, exactly; a key that this release does not know is called
//! `unknown_<n>`. Source: `wire.md` 4.6, RFC 8949. Invariant: what comes out, and what a zlib stream
//! inflates to, is bounded before it is made; what is bad in one element costs that element alone.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "CBOR has more types than any place here takes"
)]

use std::{borrow::Cow, io::Read as _};

use fieldgate_core::{
    fault::{Code, Fault},
    resource::format_converted,
};
use flate2::read::ZlibDecoder;
use minicbor::{Decoder, data::Type, decode::Error};

use super::{
    Limits,
    decode::{bad, too_many},
};
use crate::json::{base64_encode, clip, write_string};

/// Every key: its number, its name, and how many decimals its whole numbers have.
const KEYS: &[(u64, &str, usize)] = &[
    (1, "tsmId", 0),
    (2, "tsmEv", 0),
    (3, "tsmTs", 0),
    (4, "tsmTuid", 0),
    (5, "tsmGw", 0),
    (6, "tsmAp", 0),
    (7, "tsmDstTuid", 0),
    (8, "tsmGwTs", 0),
    (9, "tsmCloudTs", 0),
    (20, "pwr", 0),
    (21, "batl", 1),
    (22, "chrg", 0),
    (23, "requestTsmId", 0),
    (25, "transactionId", 0),
    (26, "uptime", 0),
    (27, "status", 0),
    (30, "temp", 1),
    (31, "lght", 0),
    (32, "humd", 1),
    (33, "airp", 3),
    (37, "mode", 0),
    (38, "state", 0),
    (39, "pressure", 3),
    (40, "accx", 0),
    (41, "accy", 0),
    (42, "accz", 0),
    (44, "moveCount", 0),
    (45, "dist", 0),
    (46, "hall", 0),
    (47, "hallCount", 0),
    (59, "voltage", 6),
    (61, "rssi", 0),
    (65, "rssiDbm", 0),
    (81, "activityLevel", 3),
    (89, "energyLevel", 0),
    (111, "resistance", 0),
    (112, "index", 0),
    (113, "count", 0),
    (190, "angle", 1),
    (191, "duration", 0),
    (256, "measurementInterval", 0),
    (258, "reportInterval", 0),
    (263, "threshold", 0),
    (283, "carbonDioxide", 0),
    (284, "tvoc", 0),
    (1000, "histogram0", 0),
    (1001, "histogram1", 0),
    (1002, "histogram2", 0),
    (1003, "histogram3", 0),
    (1004, "histogram4", 0),
    (1005, "histogram5", 0),
    (1006, "histogram6", 0),
    (1007, "histogram7", 0),
    (1008, "histogram8", 0),
    (1009, "histogram9", 0),
    (1100, "profileId", 0),
    (1210, "in", 0),
    (1211, "out", 0),
    (1279, "echo", 0),
];

/// Keys without a published name whose values are scaled all the same (hysteresis, minimum, maximum).
const SCALED: &[(u64, usize)] =
    &[(275, 1), (276, 1), (277, 3), (292, 3), (1101, 1), (1102, 1), (1103, 1), (1104, 1)];

/// Inflates a zlib stream (`Content-Encoding: deflate`).
///
/// # Errors
///
/// - `too_large`: it holds more than `bytes_max`; no more than that was made of it.
/// - `bad_value`: it is no zlib stream, is cut, or something follows it.
pub fn inflate(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut inflater = ZlibDecoder::new(bytes);
    let mut inflated = Vec::new();
    let one_more = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = (&mut inflater).take(one_more).read_to_end(&mut inflated);
    if inflated.len() > bytes_max {
        let text = format!("it inflates to more than limits.frame_bytes_max = {bytes_max}");
        return Err(Fault::new(Code::TooLarge, text));
    }
    read.map_err(|error| bad(format!("this is no zlib stream: {error}")))?;
    if inflater.total_in() != bytes.len() as u64 {
        return Err(bad("something follows the zlib stream"));
    }
    Ok(inflated)
}

/// Whether bytes begin as a zlib stream does. No CBOR array or map begins so.
fn is_zlib(bytes: &[u8]) -> bool {
    let [first, second, ..] = bytes else { return false };
    let header = u16::from_be_bytes([*first, *second]);
    first & 0x8F == 0x08 && header.is_multiple_of(31)
}

/// The JSON of each element of a frame.
pub(super) fn to_json(bytes: &[u8], limits: &Limits) -> Result<Vec<Result<String, Fault>>, Fault> {
    if is_zlib(bytes) {
        return elements(&inflate(bytes, limits.frame_bytes_max)?, limits);
    }
    elements(bytes, limits)
}

fn elements(bytes: &[u8], limits: &Limits) -> Result<Vec<Result<String, Fault>>, Fault> {
    let mut decoder = Decoder::new(bytes);
    let mut writer = Writer { limits, written: 0, out: Vec::new(), fault: None };
    let mut all = Vec::new();
    match kind(&decoder)? {
        Type::Array | Type::ArrayIndef => {
            let len = decoder.array().map_err(no_cbor)?;
            let mut rest = Rest::of(len);
            while rest.has_next(&mut decoder)? {
                if all.len() >= limits.batch_len_max {
                    return Err(too_many(limits.batch_len_max));
                }
                all.push(writer.element(&mut decoder)?);
            }
        }
        Type::Map | Type::MapIndef => all.push(writer.element(&mut decoder)?),
        other => {
            let text = format!("a binary frame is a CBOR array of maps, or one map, not {other}");
            return Err(bad(text));
        }
    }
    if decoder.position() != bytes.len() {
        return Err(bad("something follows the CBOR"));
    }
    Ok(all)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn no_cbor(error: Error) -> Fault {
    bad(format!("the frame is no CBOR: {}", clip(&error.to_string())))
}

fn kind(decoder: &Decoder<'_>) -> Result<Type, Fault> {
    decoder.datatype().map_err(no_cbor)
}

/// How many items of an array or a map are still to come.
enum Rest {
    Count(u64),
    UntilBreak,
}

impl Rest {
    fn of(len: Option<u64>) -> Self {
        len.map_or(Self::UntilBreak, Self::Count)
    }

    fn has_next(&mut self, decoder: &mut Decoder<'_>) -> Result<bool, Fault> {
        match self {
            Self::Count(0) => Ok(false),
            Self::Count(count) => {
                *count -= 1;
                Ok(true)
            }
            Self::UntilBreak => {
                let is_end = kind(decoder)? == Type::Break;
                if is_end {
                    decoder.set_position(decoder.position() + 1);
                }
                Ok(!is_end)
            }
        }
    }
}

/// Writes JSON. What is bad about an element is kept until its end, so that the next one is found.
struct Writer<'a> {
    limits: &'a Limits,
    /// Bytes of the elements before.
    written: usize,
    out: Vec<u8>,
    fault: Option<Fault>,
}

impl Writer<'_> {
    fn element(&mut self, decoder: &mut Decoder<'_>) -> Result<Result<String, Fault>, Fault> {
        self.value(decoder, 0, 1)?;
        self.written += self.out.len();
        let text = String::from_utf8(std::mem::take(&mut self.out));
        let text = text.map_err(|_| bad("an element is no text"));
        Ok(self.fault.take().map_or(text, Err))
    }

    /// Writes the next value; its whole numbers have `scale` decimals.
    fn value(
        &mut self,
        decoder: &mut Decoder<'_>,
        scale: usize,
        depth: usize,
    ) -> Result<(), Fault> {
        if self.written + self.out.len() > self.limits.frame_bytes_max {
            let max = self.limits.frame_bytes_max;
            let text = format!("as JSON it is longer than limits.frame_bytes_max = {max}");
            return Err(Fault::new(Code::TooLarge, text));
        }
        if depth >= self.limits.json_depth_max {
            let text = format!("the frame nests deeper than {}", self.limits.json_depth_max);
            return Err(Fault::new(Code::BadJson, text));
        }
        while kind(decoder)? == Type::Tag {
            decoder.tag().map_err(no_cbor)?;
        }
        match kind(decoder)? {
            Type::Array | Type::ArrayIndef => return self.list(decoder, depth),
            Type::Map | Type::MapIndef => return self.map(decoder, depth),
            Type::String | Type::StringIndef => {
                let parts = decoder.str_iter().map_err(no_cbor)?;
                let text = parts.collect::<Result<String, _>>().map_err(no_cbor)?;
                write_string(&mut self.out, &text);
            }
            Type::Bytes | Type::BytesIndef => {
                let parts = decoder.bytes_iter().map_err(no_cbor)?;
                let parts = parts.collect::<Result<Vec<&[u8]>, _>>().map_err(no_cbor)?;
                write_string(&mut self.out, &base64_encode(&parts.concat()));
            }
            _ => self.scalar(decoder, scale)?,
        }
        Ok(())
    }

    fn scalar(&mut self, decoder: &mut Decoder<'_>, scale: usize) -> Result<(), Fault> {
        let text = match kind(decoder)? {
            Type::Bool => decoder.bool().map_err(no_cbor)?.to_string(),
            Type::Null => decoder.null().map(|()| "null".to_owned()).map_err(no_cbor)?,
            Type::Undefined => decoder.undefined().map(|()| "null".to_owned()).map_err(no_cbor)?,
            Type::Simple => decoder.simple().map(|_| "null".to_owned()).map_err(no_cbor)?,
            Type::F16 => {
                let number = half(decoder)?;
                self.float(number.into(), scale, || number.to_string())
            }
            Type::F32 => {
                let number = decoder.f32().map_err(no_cbor)?;
                self.float(number.into(), scale, || number.to_string())
            }
            Type::F64 => {
                let number = decoder.f64().map_err(no_cbor)?;
                self.float(number, scale, || number.to_string())
            }
            Type::Break => return Err(bad("the frame is no CBOR: an end without a beginning")),
            _ => shifted(decoder.int().map_err(no_cbor)?.into(), scale),
        };
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// A number that came with a point of its own; `plain` is its shortest text.
    fn float(&mut self, number: f64, scale: usize, plain: impl Fn() -> String) -> String {
        if !number.is_finite() {
            self.fault.get_or_insert_with(|| bad("a value is not a finite number"));
            return "null".to_owned();
        }
        // Beyond what whole numbers reach it has hundreds of digits.
        if number.abs() >= 1e21 || (number != 0.0 && number.abs() < 1e-9) {
            let power = i32::try_from(scale).unwrap_or(0);
            return format!("{:e}", number / 10_f64.powi(power));
        }
        if scale == 0 {
            return plain();
        }
        let power = i32::try_from(scale).unwrap_or(0);
        format_converted(number / 10_f64.powi(power))
    }

    fn list(&mut self, decoder: &mut Decoder<'_>, depth: usize) -> Result<(), Fault> {
        let mut rest = Rest::of(decoder.array().map_err(no_cbor)?);
        let mut separator = b'[';
        while rest.has_next(decoder)? {
            self.out.push(separator);
            separator = b',';
            self.value(decoder, 0, depth + 1)?;
        }
        self.close(separator, b'[', b']');
        Ok(())
    }

    fn map(&mut self, decoder: &mut Decoder<'_>, depth: usize) -> Result<(), Fault> {
        let mut rest = Rest::of(decoder.map().map_err(no_cbor)?);
        let mut separator = b'{';
        while rest.has_next(decoder)? {
            self.out.push(separator);
            separator = b',';
            let scale = self.key(decoder, depth)?;
            self.out.push(b':');
            self.value(decoder, scale, depth + 1)?;
        }
        self.close(separator, b'{', b'}');
        Ok(())
    }

    fn close(&mut self, separator: u8, open: u8, close: u8) {
        if separator == open {
            self.out.push(open);
        }
        self.out.push(close);
    }

    /// Writes a key; how many decimals its whole numbers have.
    fn key(&mut self, decoder: &mut Decoder<'_>, depth: usize) -> Result<usize, Fault> {
        match kind(decoder)? {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                let key = decoder.u64().map_err(no_cbor)?;
                let (name, scale) = name_of(key);
                write_string(&mut self.out, &name);
                Ok(scale)
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
                let key = i128::from(decoder.int().map_err(no_cbor)?);
                write_string(&mut self.out, &format!("unknown_{key}"));
                Ok(0)
            }
            Type::String | Type::StringIndef => self.value(decoder, 0, depth + 1).map(|()| 0),
            _ => {
                self.fault.get_or_insert_with(|| bad("a key is a number or text"));
                self.value(decoder, 0, depth + 1).map(|()| 0)
            }
        }
    }
}

fn name_of(key: u64) -> (Cow<'static, str>, usize) {
    let known = KEYS.binary_search_by_key(&key, |(number, ..)| *number).ok();
    if let Some((_, name, scale)) = known.and_then(|at| KEYS.get(at)) {
        return (Cow::Borrowed(*name), *scale);
    }
    let scaled = SCALED.iter().find(|(number, _)| *number == key);
    (format!("unknown_{key}").into(), scaled.map_or(0, |(_, scale)| *scale))
}

/// A whole number with `scale` decimals, without the zeros that say nothing.
fn shifted(number: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, decimals) = digits.split_at(digits.len() - scale);
    let decimals = decimals.trim_end_matches('0');
    let sign = if number < 0 { "-" } else { "" };
    let point = if decimals.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{decimals}")
}

/// A number of 16 bits (RFC 8949, appendix D).
fn half(decoder: &mut Decoder<'_>) -> Result<f32, Fault> {
    let at = decoder.position();
    let bytes = decoder.input().get(at + 1..at + 3);
    let Some(&[high, low]) = bytes else { return Err(bad("the frame is no CBOR: it is cut")) };
    decoder.set_position(at + 3);
    let bits = u16::from_be_bytes([high, low]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f32::from(bits & 0x3FF));
    let size = match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (fraction + 1_024.0) * 2_f32.powi(exponent - 25),
    };
    Ok(if bits >> 15 == 0 { size } else { -size })
}

#[cfg(test)]
mod tests;
