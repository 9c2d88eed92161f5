//! Commands to Thingsee devices: what is asked, as an array for its source, and what the device's echo
//! says of it.
//!
//! Pure. In: the payload of a command, `{"set":{…}}` in the names of one configuration or a message as
//! the vendor writes it. Out: `[{tsmId,tsmEv,tsmDstTuid,…,transactionId}]`. The device answers with the
//! same `tsmId`, the next `tsmEv`, the same `transactionId` and all its settings. Source: `wire.md` 4.5.

use std::borrow::Cow;

use fieldgate_core::{
    fault::{Code, Fault},
    id::Seq,
    json::{self, Member},
    profile::read_value,
    resource::Value,
};

use super::{HEADER, catalogue};
use crate::json::{clip, write_number, write_string};

/// Most bytes of a request: a device behind a mesh takes little.
const BYTES_MAX: usize = 4_096;
/// A transaction is a number of 31 bits.
const TRANSACTION_MASK: u64 = 0x7fff_ffff;
/// Configurations: which ids `{"set":{…}}` may name the fields of.
const CONFIGURATIONS: [u32; 9] = [1_500, 1_501, 1_502, 1_503, 1_504, 1_505, 11_210, 12_200, 13_200];

/// What is asked of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    id: u32,
    event: u32,
    /// What is to hold, or what is to be done; nothing: the settings are read.
    fields: Vec<(Cow<'a, str>, &'a str)>,
}

/// What an echo says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, with what the device said.
    Done,
    /// It was not: one JSON object that says what is other than asked.
    Other(String),
}

/// The number that an echo is known by.
#[must_use]
pub const fn transaction_of(command: Seq) -> u64 {
    command.0 & TRANSACTION_MASK
}

/// Reads the payload of a command.
///
/// # Errors
///
/// [`Code::BadValue`] or [`Code::TooLarge`]: a Thingsee device takes no such thing.
pub fn request(payload: &[u8]) -> Result<Request<'_>, Fault> {
    if payload.len() > BYTES_MAX {
        let text = format!("a command to a Thingsee device has at most {BYTES_MAX} bytes");
        return Err(Fault::new(Code::TooLarge, text));
    }
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let members = members(text)?;
    if let Some(set) = of_name(&members, "set") {
        // A wish says so in its reason.
        let is_other =
            |member: &Member<'_>| !matches!(member.name.as_deref(), Some("set" | "reason"));
        if members.iter().any(is_other) {
            return Err(bad("a command to a Thingsee device has nothing beside \"set\""));
        }
        return configuration(set);
    }
    let Some(id) = of_name(&members, "tsmId") else { return Err(bad(TAKES)) };
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(|| bad("tsmId is a number"))?;
    let event = match of_name(&members, "tsmEv") {
        Some(event) => event.parse().ok().filter(|event| is_request(*event)),
        None => Some(event_of(id)),
    };
    let event = event.ok_or_else(|| bad("tsmEv of a command is 23, 25, 27, 30, 32 or 35"))?;
    let fields = members.into_iter().filter_map(|member| Some((member.name?, member.value)));
    let fields = fields.filter(|(name, _)| !HEADER.contains(&name.as_ref())).collect();
    Ok(Request { id, event, fields })
}

const TAKES: &str = "a Thingsee device takes {\"set\":{…}} in the names of one configuration, or a \
                     message with its tsmId";

fn members(text: &str) -> Result<Vec<Member<'_>>, Fault> {
    let members = json::members(text).ok_or_else(|| bad(TAKES))?;
    let mut names: Vec<_> = members.iter().map(|member| member.name.as_deref()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(bad("a name occurs twice in the command"));
    }
    Ok(members)
}

fn of_name<'a>(members: &[Member<'a>], name: &str) -> Option<&'a str> {
    members.iter().find(|member| member.name.as_deref() == Some(name)).map(|member| member.value)
}

/// What is to hold of one configuration: the first one that has all of the names.
fn configuration(set: &str) -> Result<Request<'_>, Fault> {
    let named = members(set)?;
    let fields: Vec<_> = named.into_iter().filter_map(|m| Some((m.name?, m.value))).collect();
    let Some((first, _)) = fields.first() else { return Err(bad("\"set\" names no resource")) };
    let mut kinds = CONFIGURATIONS.into_iter().filter_map(catalogue::find);
    let found =
        kinds.find(|kind| fields.iter().all(|(name, _)| kind.field(name.as_ref()).is_some()));
    let Some(kind) = found else {
        let known = |name: &str| {
            let mut kinds = CONFIGURATIONS.into_iter().filter_map(catalogue::find);
            kinds.any(|kind| kind.field(name).is_some())
        };
        let unknown = fields.iter().find(|(name, _)| !known(name));
        let name = clip(unknown.map_or(first, |(name, _)| name)).to_owned();
        let fault = unknown.map_or_else(
            || bad("these resources are of several configurations: set those of one"),
            |_| {
                let text = format!("{name:?} is no setting of a Thingsee device");
                Fault::new(Code::NotAllowed, text)
            },
        );
        return Err(fault.about(None, &name));
    };
    for (name, value) in &fields {
        if !read_value(value, |value| matches!(value, Value::Number(number) if number >= 0.0)) {
            let fault = bad(format!("{name} takes a number, 0 or more"));
            return Err(fault.about(None, name));
        }
    }
    Ok(Request { id: kind.id, event: event_of(kind.id), fields })
}

/// What a request for this id is.
const fn event_of(id: u32) -> u32 {
    match id {
        1_404 => 23,
        1_300..=1_302 => 25,
        1_401 => 27,
        1_101 => 32,
        1_402 | 1_600 | 11_211 | 24_201 => 35,
        _ => 30,
    }
}

const fn is_request(event: u32) -> bool {
    matches!(event, 23 | 25 | 27 | 30 | 32 | 35)
}

impl Request<'_> {
    /// Appends the array that goes to the source of `device`.
    pub fn write(&self, out: &mut Vec<u8>, device: &str, transaction: u64) {
        out.extend_from_slice(b"[{\"tsmId\":");
        write_number(out, u64::from(self.id));
        out.extend_from_slice(b",\"tsmEv\":");
        write_number(out, u64::from(self.event));
        out.extend_from_slice(b",\"tsmDstTuid\":");
        write_string(out, device);
        for (name, value) in &self.fields {
            out.push(b',');
            write_string(out, name);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b",\"transactionId\":");
        write_number(out, transaction);
        out.extend_from_slice(b"}]");
    }

    /// What an element says of this request; nothing if it is no echo of it.
    #[must_use]
    pub fn answered(&self, echo: &Echo<'_>) -> Option<Outcome> {
        if echo.id != self.id || echo.event != self.event + 1 {
            return None;
        }
        if let Some(result) = echo.value("result") {
            let done = number(result) == Some(0.0);
            return Some(if done { Outcome::Done } else { differs(&[("result", "0", result)]) });
        }
        // A command request is answered by its result alone; what is configured, by its values.
        let other: Vec<_> = self
            .fields
            .iter()
            .filter(|_| self.event == 30)
            .map(|(name, wanted)| (name.as_ref(), *wanted, echo.value(name).unwrap_or("null")))
            .filter(|(_, wanted, got)| !is_same(wanted, got))
            .collect();
        Some(if other.is_empty() { Outcome::Done } else { differs(&other) })
    }
}

fn number(text: &str) -> Option<f64> {
    read_value(text, |value| if let Value::Number(number) = value { Some(number) } else { None })
}

fn is_same(wanted: &str, got: &str) -> bool {
    wanted == got
        || number(wanted).zip(number(got)).is_some_and(|(wanted, got)| {
            (wanted - got).abs() <= f64::EPSILON * wanted.abs().max(got.abs())
        })
}

/// `{"error":{"code","message"},"other":{name:{"wanted","got"}}}`
fn differs(other: &[(&str, &str, &str)]) -> Outcome {
    let mut out = b"{\"error\":{\"code\":\"conflict\",\"message\":".to_vec();
    write_string(&mut out, "the device says otherwise");
    out.extend_from_slice(b"},\"other\":{");
    for (nth, (name, wanted, got)) in other.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_string(&mut out, name);
        out.extend_from_slice(b":{\"wanted\":");
        out.extend_from_slice(wanted.as_bytes());
        out.extend_from_slice(b",\"got\":");
        out.extend_from_slice(got.as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
    Outcome::Other(String::from_utf8(out).unwrap_or_default())
}

/// An element that may answer a request.
#[derive(Debug)]
pub struct Echo<'a> {
    id: u32,
    event: u32,
    /// Which request.
    pub transaction: u64,
    members: Vec<Member<'a>>,
}

impl<'a> Echo<'a> {
    /// Reads an element as it came; nothing if it answers nothing.
    #[must_use]
    pub fn of(element: &'a str) -> Option<Self> {
        // Nearly none does: most of them are told apart without being read.
        if !element.contains("transactionId") {
            return None;
        }
        let members = json::members(element)?;
        let number = |name| of_name(&members, name)?.parse::<u64>().ok();
        let (id, event) = (number("tsmId")?, number("tsmEv")?);
        let transaction = number("transactionId")?;
        let (id, event) = (u32::try_from(id).ok()?, u32::try_from(event).ok()?);
        let asked = event.checked_sub(1).is_some_and(is_request);
        asked.then_some(Self { id, event, transaction, members })
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        of_name(&self.members, name)
    }
}

fn bad(text: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, text)
}

#[cfg(test)]
mod tests;
