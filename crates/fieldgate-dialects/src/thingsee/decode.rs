//! Thingsee frames: JSON or CBOR in, one message for each element out.
//!
//! Pure. An element's fields become the readings of a telemetry message, and the element itself, byte
//! for byte, its original. Absent: the meaning of ids and fields; what this release does not know is
//! kept. Invariant: one bad element never costs its neighbours; it is refused at its place.

use std::{borrow::Cow, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use fieldgate_core::{
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, MSG_ID_BYTES_MAX, MsgId, SEQ_MAX, UnixMs},
    json::{Member, members, string},
    message::{Content, Priority, Qos},
};
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{HEADER, Limits, cbor};
use crate::json::{self, base64_encode, clip};

/// Longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// One element that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Whose it is: `tsmTuid`.
    pub device: DeviceId,
    /// Which gateway it came through: `tsmGw`, where that can be a device's id.
    pub gateway: Option<DeviceId>,
    /// Its message: QoS 1, on the telemetry of its device.
    pub draft: Draft,
}

/// The elements of one frame in the order they were sent; each stands or falls alone.
pub type Elements = Vec<Result<Element, Fault>>;

/// Decodes a text frame: an array of objects, or one object.
///
/// `tsmTs` is in seconds since 1970, with decimals, or absent. `[]` is a frame of no elements.
/// Source: seed 0, "Message Format"; `wire.md` 4.1.
///
/// # Errors
///
/// - `bad_json`: the frame as a whole cannot be read.
/// - `too_large`: it has more than `limits.batch_len_max` elements; none is looked at.
pub fn decode_text(text: &str, limits: &Limits) -> Result<Elements, Fault> {
    json::check_depth(text, limits.json_depth_max)?;
    if text.trim_start().starts_with('{') {
        let one: &RawValue = serde_json::from_str(text).map_err(|error| json::fault_of(&error))?;
        return Ok(vec![element(one.get(), limits)]);
    }
    let all = elements(text, limits.batch_len_max)?;
    Ok(all.into_iter().map(|one| element(one.get(), limits)).collect())
}

/// Decodes a binary frame: CBOR, bare or in a zlib stream; an array of maps, or one map.
///
/// The original of a message is the JSON that was made of its map. Source: `wire.md` 4.6.
///
/// # Errors
///
/// - `bad_value`: the frame is no CBOR, or no zlib stream.
/// - `too_large`: it has too many elements, inflates to more than `limits.frame_bytes_max`, or
///   becomes longer JSON than that.
/// - `bad_json`: it nests deeper than `limits.json_depth_max`.
pub fn decode_binary(bytes: &[u8], limits: &Limits) -> Result<Elements, Fault> {
    let all = cbor::to_json(bytes, limits)?;
    Ok(all.into_iter().map(|one| element(&one?, limits)).collect())
}

/// The elements of an array as they were written, at most `len_max`.
fn elements(text: &str, len_max: usize) -> Result<Vec<&RawValue>, Fault> {
    struct Collect(usize);
    impl<'de> Visitor<'de> for Collect {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of messages, or one message")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = all.next_element::<&'de RawValue>()? {
                if elements.len() == self.0 {
                    return Err(A::Error::custom(TOO_MANY));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer.deserialize_seq(Collect(len_max));
    let read = read.and_then(|elements| deserializer.end().map(|()| elements));
    read.map_err(|error| {
        if error.to_string().starts_with(TOO_MANY) {
            too_many(len_max)
        } else if error.is_data() {
            Fault::new(Code::BadJson, "a frame is an array of messages, or one message")
        } else {
            json::fault_of(&error)
        }
    })
}

const TOO_MANY: &str = "too many elements";

/// A frame of more elements than there may be.
pub(super) fn too_many(len_max: usize) -> Fault {
    let text = format!("an array of more than limits.batch_len_max = {len_max} messages");
    Fault::new(Code::TooLarge, text)
}

pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, text)
}

/// What stands in the header of an element.
#[derive(Debug, Default)]
struct Header<'a> {
    id: Option<u32>,
    event: Option<i32>,
    time: Option<UnixMs>,
    device: Option<DeviceId>,
    gateway: Option<DeviceId>,
    fields: Vec<Member<'a>>,
}

/// Reads one element; `text` is one JSON value.
fn element(text: &str, limits: &Limits) -> Result<Element, Fault> {
    let all = members(text).ok_or_else(|| bad("an element is no JSON object"))?;
    if all.len() > limits.resources_max + HEADER.len() {
        let text = format!("{} fields exceed the limit of {}", all.len(), limits.resources_max);
        return Err(Fault::new(Code::TooLarge, text));
    }
    let header = header(all)?;
    let missing = |name| Fault::new(Code::MissingField, format!("an element needs {name}"));
    let id = header.id.ok_or_else(|| missing("tsmId"))?;
    let device = header.device.clone().ok_or_else(|| missing("tsmTuid"))?;
    let payload = payload(id, &header.fields)?;
    let reference =
        header.time.map(|time| reference(&device, id, time, header.event, &payload)).transpose()?;
    let draft = Draft {
        target: Target::Telemetry(Some(device.clone())),
        timestamp: header.time,
        reference,
        qos: Qos::AtLeastOnce,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload,
        original: Some(Bytes::copy_from_slice(text.as_bytes())),
    };
    Ok(Element { device, gateway: header.gateway, draft })
}

fn header(all: Vec<Member<'_>>) -> Result<Header<'_>, Fault> {
    let mut header = Header::default();
    let mut seen: Vec<&str> = Vec::new();
    for member in all {
        let Some(name) = &member.name else {
            return Err(bad("the name of a field is no text"));
        };
        if let Some(known) = HEADER.iter().find(|known| *known == name) {
            if seen.contains(known) {
                return Err(bad(format!("{known} occurs twice")));
            }
            seen.push(known);
            header.set(known, member.value)?;
            continue;
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(bad("a field's name is 1 to 128 bytes without control characters"));
        }
        if !json::numbers_are_finite(member.value) {
            return Err(bad(format!("the value of {:?} is not a finite number", clip(name))));
        }
        header.fields.push(member);
    }
    Ok(header)
}

impl Header<'_> {
    fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        let whole = || bad(format!("{name} is a whole number, not {}", clip(value)));
        match name {
            "tsmId" => self.id = Some(value.parse().map_err(|_| whole())?),
            "tsmEv" if value != "null" => self.event = Some(value.parse().map_err(|_| whole())?),
            "tsmTs" if value != "null" => self.time = Some(time(value)?),
            "tsmTuid" => {
                let text = string(value)
                    .ok_or_else(|| bad(format!("tsmTuid is a string, not {}", clip(value))))?;
                let id = text.parse::<DeviceId>().map_err(|error| bad(error.to_string()))?;
                self.device = Some(id);
            }
            // It is not stable, and nothing hangs on it: where it is none, the element stands.
            "tsmGw" => self.gateway = string(value).and_then(|text| text.parse().ok()),
            _ => (),
        }
        Ok(())
    }
}

/// Seconds, with decimals, as milliseconds. What no clock says is brought into the range of numbers;
/// whether a time is believed is decided where it arrives.
fn time(value: &str) -> Result<UnixMs, Fault> {
    let is_number = value.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let seconds = value.parse::<f64>().ok().filter(|seconds| is_number && seconds.is_finite());
    let seconds =
        seconds.ok_or_else(|| bad(format!("tsmTs is a number of seconds, not {}", clip(value))))?;
    #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was clamped")]
    let ms = (seconds * 1_000.0).round().clamp(0.0, SEQ_MAX as f64) as u64;
    Ok(UnixMs(ms))
}

/// The fields of an element as readings. `state` and `status` mean something else in each id, and get
/// it behind their name.
fn payload(id: u32, fields: &[Member<'_>]) -> Result<Bytes, Fault> {
    let names: Vec<Cow<'_, str>> = fields.iter().map(|field| written_name(field, id)).collect();
    let mut sorted: Vec<_> = names.iter().filter_map(|name| string(name)).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.array_windows().find_map(|[a, b]| (a == b).then_some(a)) {
        return Err(bad(format!("the field {:?} occurs twice", clip(twice))));
    }
    let mut payload = Vec::with_capacity(128);
    for (field, name) in fields.iter().zip(&names) {
        payload.push(if payload.is_empty() { b'{' } else { b',' });
        payload.extend_from_slice(name.as_bytes());
        payload.push(b':');
        payload.extend_from_slice(field.value.as_bytes());
    }
    if payload.is_empty() {
        payload.push(b'{');
    }
    payload.push(b'}');
    Ok(payload.into())
}

/// The name of a reading, in quotes.
fn written_name<'a>(field: &Member<'a>, id: u32) -> Cow<'a, str> {
    match field.name.as_deref() {
        Some(name @ ("state" | "status")) => format!("\"{name}.{id}\"").into(),
        _ => Cow::Borrowed(field.written_name),
    }
}

/// What a repeat of an element is known by: the vendor's key `tsmTuid:tsmId:tsmTs:tsmEv`, and a mark of
/// the fields. One device says several things of one id and time (its neighbours, parts of something
/// long), which the key alone would take for one.
fn reference(
    device: &DeviceId,
    id: u32,
    time: UnixMs,
    event: Option<i32>,
    payload: &[u8],
) -> Result<MsgId, Fault> {
    let hash = digest(&SHA256, payload);
    let mark = hash.as_ref().iter().take(4).fold(0_u32, |mark, b| mark << 8 | u32::from(*b));
    let event = event.map_or_else(String::new, |event| event.to_string());
    let mut key = format!("{device}:{id}:{}:{event}:{mark:08x}", time.0);
    if key.len() > MSG_ID_BYTES_MAX {
        key = base64_encode(digest(&SHA256, key.as_bytes()).as_ref());
    }
    key.parse().map_err(|error: fieldgate_core::id::InvalidId| bad(error.to_string()))
}

#[cfg(test)]
mod tests;
