//! The Kamea dialect: what a client of its namespace `/devices` asks, and the events it is sent.
//!
//! Pure. In: the argument of the event `telemetries`. Out: the bodies of events, by a template of the
//! operator's. Source: `wire.md` 3. Absent: Socket.IO, which carries them, and who may see them.
//! Invariant: a value is written as its device sent it, unless canonical names are asked for.

mod check;
mod template;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    str::FromStr,
};

use fieldgate_core::{
    dialect::Delivery,
    id::{DeviceId, UnixMs},
    json,
    message::{Content, Kind, Message},
};

use crate::{
    json::{clip, write_number, write_string},
    readings::{Canonicals, Naming, Reading, Telling, each_reading},
    utc::write_utc,
};
use template::{Filled, Slot, Template};

pub use check::{Answer, Place, Question, QuestionBody, QuestionPath, answer};
pub use template::InvalidTemplate;

/// The namespace.
pub const NAMESPACE: &str = "/devices";
/// The event that asks for the telemetries of a device, and the default name of those that bring them.
pub const TELEMETRIES: &str = "telemetries";
/// The event that asks for no more of them; ours.
pub const UNSUBSCRIBE: &str = "telemetries:unsubscribe";
/// What is sent to a client that may not see a device, before it is closed.
pub const ACCESS_DENIED: &str = "access_denied";
/// What is sent where a request could not be answered; the connection stays.
pub const INTERNAL_SERVER_ERROR: &str = "internal_server_error";

/// The body of an event, unless it is configured.
pub const DEFAULT_BODY: &str = r#"{"deviceId":"{deviceId}","tenantId":"{tenantId}","timestamp":"{timestamp}","telemetries":"{telemetries}"}"#;

/// Which device of which tenant a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The device as it was written.
    pub device: DeviceId,
    /// The tenant, a UUID as it was written.
    pub tenant: String,
}

/// Reads the argument of `telemetries` and of `telemetries:unsubscribe`: one JSON value.
///
/// # Errors
///
/// What is wrong with it, for the client.
pub fn request(text: &str) -> Result<Request, String> {
    let (mut device, mut tenant) = (None, None);
    json::each_member(text, |member| match member.name.as_deref() {
        Some("deviceId") => device = Some(member.value),
        Some("tenantId") => tenant = Some(member.value),
        Some(_) | None => (),
    })
    .ok_or_else(|| format!("{TELEMETRIES} takes an object {{deviceId, tenantId}}"))?;
    let said = |name: &str, value: Option<&str>| {
        let value = value.ok_or_else(|| format!("{name} is missing"))?;
        json::string(value).map(Cow::into_owned).ok_or_else(|| format!("{name} is no text"))
    };
    let device = said("deviceId", device)?.parse::<DeviceId>();
    let device = device.map_err(|error| error.to_string())?;
    // In a path they would be another path.
    if matches!(device.as_str(), "." | "..") {
        return Err("deviceId is . or ..".to_owned());
    }
    let tenant = said("tenantId", tenant)?;
    if !is_uuid(&tenant) {
        return Err(format!("tenantId is a UUID, not {:?}", clip(&tenant)));
    }
    Ok(Request { device, tenant })
}

/// Tells whether this is a UUID (RFC 9562, 4), in either case.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, '-').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Request {
    /// What the device may be called here: as it was written, then in either case where that is
    /// another name.
    pub fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        let written = self.device.as_str();
        let others = [written.to_ascii_lowercase(), written.to_ascii_uppercase()];
        let others = others.into_iter().filter(move |other| is_uuid(written) && other != written);
        std::iter::once(self.device.clone()).chain(others.filter_map(|other| other.parse().ok()))
    }
}

/// What the body of an event is made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Template);

impl FromStr for Body {
    type Err = InvalidTemplate;

    /// Reads JSON whose strings may hold `{deviceId}`, `{tenantId}`, `{timestamp}` (ISO 8601),
    /// `{timestampMs}` and `{telemetries}`.
    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let slots = [Slot::Device, Slot::Tenant, Slot::Time, Slot::TimeMs, Slot::Telemetries];
        Template::parse(text, &slots).map(Self)
    }
}

check::written! {
    Body, DEFAULT_BODY;
}

/// Appends the body of the event that a message is; says whether there is one. There is none of what
/// says no value, or is about no device; of a device's document see [`each_body`].
pub fn write_body(
    out: &mut Vec<u8>,
    delivery: &Delivery<'_>,
    tenant_id: &str,
    body: &Body,
    telling: Telling<'_>,
) -> bool {
    let message = delivery.message;
    let device = message.topic.device().filter(|_| message.kind != Kind::State);
    let Some(device) = device else { return false };
    let Some((time, values)) = values_of(message, telling).pop_first() else { return false };
    body.write(out, device, tenant_id, time, &values);
    true
}

/// Gives the body of each event that a message is, and tells how many: of a device's document one for
/// each time that its values have, the oldest first; of any other message one or none.
pub fn each_body(
    delivery: &Delivery<'_>,
    tenant_id: &str,
    body: &Body,
    telling: Telling<'_>,
    text: &mut Vec<u8>,
    mut visit: impl FnMut(&[u8]),
) -> usize {
    let Some(device) = delivery.message.topic.device() else { return 0 };
    let by_time = values_of(delivery.message, telling);
    for (time, values) in &by_time {
        text.clear();
        body.write(text, device, tenant_id, *time, values);
        visit(text);
    }
    by_time.len()
}

impl Body {
    fn write(
        &self,
        out: &mut Vec<u8>,
        device: &str,
        tenant_id: &str,
        time: UnixMs,
        values: &Values,
    ) {
        let (mut utc, mut ms, mut telemetries) = (Vec::new(), Vec::new(), Vec::new());
        write_utc(&mut utc, time);
        write_number(&mut ms, time.0);
        values.write(&mut telemetries);
        let utc = std::str::from_utf8(&utc).unwrap_or_default();
        self.0.write(out, |slot| match slot {
            Slot::Device => Filled::Text(device),
            Slot::Tenant => Filled::Text(tenant_id),
            Slot::Time => Filled::Text(utc),
            Slot::TimeMs => Filled::Json(&ms),
            Slot::Telemetries => Filled::Json(&telemetries),
            Slot::Permission => Filled::Text(""),
        });
    }
}

/// Names and values, in their order; of a name said twice the last.
#[derive(Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn write(&self, out: &mut Vec<u8>) {
        let places = self.0.iter().enumerate().map(|(place, (name, _))| (&**name, place));
        let last: HashMap<&str, usize> = places.collect();
        out.push(b'{');
        for (place, (name, value)) in self.0.iter().enumerate() {
            if last.get(&**name) != Some(&place) {
                continue;
            }
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            write_string(out, name);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
    }
}

/// What a message says is so, by the times from which it is; of a bad reading nothing.
fn values_of(message: &Message, telling: Telling<'_>) -> BTreeMap<UnixMs, Values> {
    let mut by_time = BTreeMap::<_, Values>::new();
    let mut take = |time, name: &str, value: &str| {
        by_time.entry(time).or_default().0.push((name.to_owned(), value.to_owned()));
    };
    match telling.names {
        Naming::Own => each_said(message, |said| take(said.time, said.name, said.text)),
        Naming::Canonical => {
            let device = message.topic.device().unwrap_or_default();
            let about = (telling.known)(&message.tenant, device);
            let mut all = Canonicals::new(about.profile.as_deref());
            each_said(message, |said| all.take(said));
            all.each(take);
        }
    }
    by_time
}

/// Visits what a message says is so: its readings, or the members of an event's `data`.
fn each_said(message: &Message, mut visit: impl FnMut(Reading<'_>)) {
    if message.kind == Kind::Event && message.content == Content::Json {
        let time = message.timestamp;
        each_of_event(message, |name, text| visit(Reading { time, name, text, unit: None }));
    } else {
        each_reading(message, visit);
    }
}

/// Visits the members of an event's `data`.
fn each_of_event(message: &Message, mut visit: impl FnMut(&str, &str)) {
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    let mut data = None;
    let is_object = json::each_member(text, |member| {
        if member.name.as_deref() == Some("data") {
            data = Some(member.value);
        }
    });
    for member in is_object.and(data).and_then(json::members).unwrap_or_default() {
        if let Some(name) = member.name.as_deref().filter(|_| member.value != "null") {
            visit(name, member.value);
        }
    }
}

#[cfg(test)]
mod tests;
