//! Thingsee frames: JSON or CBOR in, one message for each element out, and an event beside it for a
//! press of a key.
//!
//! Pure. An element's fields become the readings of a telemetry message, and the element itself, byte
//! for byte, its original. Absent: the meaning of ids and fields; what this release does not know is
//! kept. Invariant: one bad element never costs its neighbours; it is refused at its place.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, InvalidId, MSG_ID_BYTES_MAX, MsgId, SEQ_MAX, UnixMs},
    json::string,
    message::{Content, Priority, Qos},
};
use serde::de::IgnoredAny;

use super::{
    HEADER, Limits, cbor,
    key::{reference, write_key},
    press,
};
use crate::{
    json::{self, clip},
    scan::{Member, NotJson, Scanner},
};

/// Longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Elements share one piece of memory up to so many bytes: one that is kept for long keeps no more
/// than this of its neighbours.
const SHARED_BYTES_MAX: usize = 1_024;

/// One element that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Whose it is: `tsmTuid`.
    pub device: DeviceId,
    /// Which gateway it came through: `tsmGw`, where that can be a device's id.
    pub gateway: Option<DeviceId>,
    /// Its message: QoS 1, on the telemetry of its device.
    pub draft: Draft,
    /// That a key was pressed, if it says so: a second message, on the events of its device.
    pub event: Option<Draft>,
}

impl Element {
    /// How many messages it is.
    #[must_use]
    pub const fn message_count(&self) -> usize {
        1 + self.event.is_some() as usize
    }
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
/// - `too_large`: it has more than `limits.batch_len_max` elements, or is more messages than that; none
///   is taken.
pub fn decode_text(text: &str, limits: &Limits) -> Result<Elements, Fault> {
    json::check_depth(text, limits.json_depth_max)?;
    let mut reader = Reader::new(limits);
    match reader.frame(text) {
        Ok(()) => Ok(reader.end()),
        Err(Unread::Fault(fault)) => Err(fault),
        Err(Unread::NotJson) => Err(why_unread(text)),
    }
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
    let mut reader = Reader::new(limits);
    for one in &all {
        match one {
            Ok(text) => {
                let read = reader.element(&mut Scanner::new(text));
                read.map_err(|NotJson| no_object())?;
            }
            Err(fault) => reader.push(Err(fault.clone())),
        }
        reader.check_room()?;
    }
    Ok(reader.end())
}

/// A frame of more elements than there may be.
pub(super) fn too_many(len_max: usize) -> Fault {
    let text = format!("an array of more than limits.batch_len_max = {len_max} messages");
    Fault::new(Code::TooLarge, text)
}

pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, text)
}

fn no_object() -> Fault {
    bad("an element is no JSON object")
}

/// Why a text is no frame.
fn why_unread(text: &str) -> Fault {
    match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => json::fault_of(&error),
        Ok(IgnoredAny) => {
            Fault::new(Code::BadJson, "a frame is an array of messages, or one message")
        }
    }
}

/// Why a frame is refused whole.
enum Unread {
    NotJson,
    Fault(Fault),
}

impl From<NotJson> for Unread {
    fn from(NotJson: NotJson) -> Self {
        Self::NotJson
    }
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A field that is no header.
#[derive(Debug)]
struct Field<'a> {
    name: Cow<'a, str>,
    /// In quotes.
    written_name: Cow<'a, str>,
    value: &'a str,
}

/// What stands in the header of an element.
#[derive(Debug, Default)]
struct Header {
    /// By their place in [`HEADER`].
    seen: [bool; HEADER.len()],
    id: Option<u32>,
    event: Option<i32>,
    time: Option<UnixMs>,
    device: Option<DeviceId>,
    gateway: Option<DeviceId>,
}

/// The ids in the element before: those of a frame mostly have the same, and share them then.
#[derive(Debug, Default)]
struct Ids {
    device: Option<DeviceId>,
    gateway: Option<DeviceId>,
}

/// Where the bytes of an element are.
#[derive(Debug)]
struct Span {
    element: usize,
    payload: Range<usize>,
    original: Range<usize>,
}

/// Reads elements, one after another.
struct Reader<'a> {
    limits: &'a Limits,
    elements: Elements,
    /// What they are together, those that are refused too.
    message_count: usize,
    /// What the elements of `spans` say, until they share it.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Of one element.
    fields: Vec<Field<'a>>,
    key: Vec<u8>,
    ids: Ids,
}

impl<'a> Reader<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            elements: Vec::new(),
            message_count: 0,
            bytes: Vec::with_capacity(SHARED_BYTES_MAX),
            spans: Vec::new(),
            fields: Vec::with_capacity(8),
            key: Vec::with_capacity(MSG_ID_BYTES_MAX),
            ids: Ids::default(),
        }
    }

    fn end(mut self) -> Elements {
        self.share();
        self.elements
    }

    fn push(&mut self, element: Result<Element, Fault>) {
        self.message_count += element.as_ref().map_or(1, Element::message_count);
        self.elements.push(element);
    }

    /// What a frame becomes is bounded as what it is.
    fn check_room(&self) -> Result<(), Fault> {
        let len_max = self.limits.batch_len_max;
        if self.message_count > len_max { Err(too_many(len_max)) } else { Ok(()) }
    }

    fn frame(&mut self, text: &'a str) -> Result<(), Unread> {
        let mut scanner = Scanner::new(text);
        match scanner.peek() {
            Some(b'{') => {
                self.element(&mut scanner)?;
                self.check_room()?;
            }
            Some(b'[') => self.array(&mut scanner)?,
            _ => return Err(Unread::NotJson),
        }
        if scanner.peek().is_some() { Err(Unread::NotJson) } else { Ok(()) }
    }

    fn array(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Unread> {
        scanner.expect(b'[')?;
        if scanner.take(b']') {
            return Ok(());
        }
        loop {
            if self.elements.len() >= self.limits.batch_len_max {
                return Err(too_many(self.limits.batch_len_max).into());
            }
            self.element(scanner)?;
            self.check_room()?;
            if !scanner.take(b',') {
                return Ok(scanner.expect(b']')?);
            }
        }
    }

    /// Reads the value that begins here, which stands or falls as a whole.
    fn element(&mut self, scanner: &mut Scanner<'a>) -> Result<(), NotJson> {
        if scanner.peek() != Some(b'{') {
            scanner.value()?;
            self.push(Err(no_object()));
            return Ok(());
        }
        let (mut header, mut fault, mut count) = (Header::default(), None, 0_usize);
        let count_max = self.limits.resources_max + HEADER.len();
        self.fields.clear();
        let (fields, ids) = (&mut self.fields, &mut self.ids);
        let text = scanner.object(|member| {
            count += 1;
            if fault.is_none() && count <= count_max {
                fault = header.take(member, ids, fields).err();
            }
        })?;
        let made = if count > count_max {
            let text = format!("{count} fields exceed the limit of {}", self.limits.resources_max);
            Err(Fault::new(Code::TooLarge, text))
        } else {
            fault.map_or_else(|| self.made(text, header), Err)
        };
        self.push(made);
        Ok(())
    }

    /// An element of what was read of it; its bytes are added with [`Self::share`].
    fn made(&mut self, text: &str, header: Header) -> Result<Element, Fault> {
        let missing = |name| Fault::new(Code::MissingField, format!("an element needs {name}"));
        let id = header.id.ok_or_else(|| missing("tsmId"))?;
        let device = header.device.ok_or_else(|| missing("tsmTuid"))?;
        self.fields.iter_mut().for_each(|field| field.tell_apart(id));
        if let Some(twice) = json::repeated(self.fields.iter().map(|field| &*field.name)) {
            return Err(bad(format!("the field {:?} occurs twice", clip(twice))));
        }
        if self.bytes.len() + 2 * text.len() > SHARED_BYTES_MAX {
            self.share();
        }
        let from = self.bytes.len();
        write_payload(&mut self.bytes, &self.fields);
        let middle = self.bytes.len();
        let payload = self.bytes.get(from..).unwrap_or_default();
        let reference = header.time.map(|time| {
            write_key(&mut self.key, (&device, id, time, header.event), payload);
            reference(&self.key)
        });
        let target = Target::Telemetry(Some(device.clone()));
        let draft = draft(target, header.time, reference.transpose()?, Bytes::new());
        let event = self.press(header.event, header.time, &device)?;
        self.bytes.extend_from_slice(text.as_bytes());
        let (payload, original) = (from..middle, middle..self.bytes.len());
        self.spans.push(Span { element: self.elements.len(), payload, original });
        Ok(Element { device, gateway: header.gateway, draft, event })
    }

    /// The press that an element is, too; its key is that of the element, with a mark behind.
    fn press(
        &mut self,
        event: Option<i32>,
        time: Option<UnixMs>,
        device: &DeviceId,
    ) -> Result<Option<Draft>, Fault> {
        let fields = self.fields.iter().map(|field| (&*field.name, field.value));
        if !press::is_press(event, fields) {
            return Ok(None);
        }
        self.key.extend_from_slice(press::MARK);
        let reference = time.map(|_| reference(&self.key)).transpose()?;
        let (target, payload) = (Target::Event(Some(device.clone())), press::PRESS);
        Ok(Some(draft(target, time, reference, Bytes::from_static(payload))))
    }

    /// Gives the elements that wait for them their bytes, in one piece of memory.
    fn share(&mut self) {
        let all = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        for Span { element, payload, original } in self.spans.drain(..) {
            if let Some(Ok(element)) = self.elements.get_mut(element) {
                element.draft.payload = all.slice(payload);
                element.draft.original = Some(all.slice(original));
            }
        }
    }
}

fn draft(
    target: Target,
    timestamp: Option<UnixMs>,
    reference: Option<MsgId>,
    payload: Bytes,
) -> Draft {
    Draft {
        target,
        timestamp,
        reference,
        qos: Qos::AtLeastOnce,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload,
        original: None,
    }
}

impl Field<'_> {
    /// `state` and `status` mean something else in each id, and get it behind their name.
    fn tell_apart(&mut self, id: u32) {
        if matches!(&*self.name, "state" | "status") {
            self.name = format!("{}.{id}", self.name).into();
            self.written_name = format!("\"{}\"", self.name).into();
        }
    }
}

impl Header {
    /// Takes a member of an element, or leaves it to its fields.
    fn take<'a>(
        &mut self,
        member: Member<'a>,
        ids: &mut Ids,
        fields: &mut Vec<Field<'a>>,
    ) -> Result<(), Fault> {
        let Member { name, written_name, value, is_finite } = member;
        let name = name.ok_or_else(|| bad("the name of a field is no text"))?;
        let mut known = HEADER.iter().zip(&mut self.seen);
        if let Some((known, seen)) = known.find(|(known, _)| **known == name) {
            if std::mem::replace(seen, true) {
                return Err(bad(format!("{known} occurs twice")));
            }
            return self.set(known, value, ids);
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(bad("a field's name is 1 to 128 bytes without control characters"));
        }
        if !is_finite {
            return Err(bad(format!("the value of {:?} is not a finite number", clip(&name))));
        }
        fields.push(Field { name, written_name: written_name.into(), value });
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str, ids: &mut Ids) -> Result<(), Fault> {
        let whole = || bad(format!("{name} is a whole number, not {}", clip(value)));
        match name {
            "tsmId" => self.id = Some(value.parse().map_err(|_| whole())?),
            "tsmEv" if value != "null" => self.event = Some(value.parse().map_err(|_| whole())?),
            "tsmTs" if value != "null" => self.time = Some(time(value)?),
            "tsmTuid" => {
                let text = string(value)
                    .ok_or_else(|| bad(format!("tsmTuid is a string, not {}", clip(value))))?;
                let id = known(&mut ids.device, &text).map_err(|error| bad(error.to_string()))?;
                self.device = Some(id);
            }
            // It is not stable, and nothing hangs on it: where it is none, the element stands.
            "tsmGw" => {
                self.gateway = string(value).and_then(|text| known(&mut ids.gateway, &text).ok());
            }
            _ => (),
        }
        Ok(())
    }
}

/// The id that a text is: the last one, if it is that.
fn known(last: &mut Option<DeviceId>, text: &str) -> Result<DeviceId, InvalidId> {
    match last {
        Some(last) if last.as_str() == text => Ok(last.clone()),
        _ => Ok(last.insert(text.parse()?).clone()),
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

/// The fields of an element as readings.
fn write_payload(out: &mut Vec<u8>, fields: &[Field<'_>]) {
    let mut before = b'{';
    for field in fields {
        out.push(before);
        out.extend_from_slice(field.written_name.as_bytes());
        out.push(b':');
        out.extend_from_slice(field.value.as_bytes());
        before = b',';
    }
    if fields.is_empty() {
        out.push(before);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
