//! The Kamea dialect: what a client of its namespace `/devices` asks, and the events it is sent.
//!
//! Pure. In: the argument of the event `telemetries`. Out: the bodies of events, by a template of the
//! operator's. Source: `wire.md` 3. Absent: Socket.IO, which carries them, and who may see them.
//! Invariant: a value is written as its device sent it.

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
    state::{self, Quality, Said},
};

use crate::{
    json::{clip, write_number, write_string},
    utc::write_utc,
};
use template::{Filled, Slot, Template};

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

impl Default for Body {
    fn default() -> Self {
        DEFAULT_BODY.parse().unwrap_or_else(|_| Self(Template::default()))
    }
}

/// Appends the body of the event that a message is; says whether there is one. There is none of what
/// says no value, or is about no device; of a device's document see [`each_body`].
pub fn write_body(
    out: &mut Vec<u8>,
    delivery: &Delivery<'_>,
    tenant_id: &str,
    body: &Body,
) -> bool {
    let message = delivery.message;
    let Some(device) = message.topic.device() else { return false };
    let mut values = Values::default();
    of_message(&mut values, message);
    !values.0.is_empty() && {
        body.write(out, device, tenant_id, message.timestamp, &values);
        true
    }
}

/// Gives the body of each event that a message is, and tells how many: of a device's document one for
/// each time that its values have, the oldest first; of any other message one or none.
pub fn each_body(
    delivery: &Delivery<'_>,
    tenant_id: &str,
    body: &Body,
    text: &mut Vec<u8>,
    mut visit: impl FnMut(&[u8]),
) -> usize {
    let message = delivery.message;
    if message.kind != Kind::State {
        text.clear();
        let is_one = write_body(text, delivery, tenant_id, body);
        if is_one {
            visit(text);
        }
        return usize::from(is_one);
    }
    let Some(device) = message.topic.device() else { return 0 };
    let by_time = of_document(message);
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
        values: &Values<'_>,
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
        });
    }
}

/// Names and values, in their order; of a name said twice the last.
#[derive(Default)]
struct Values<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl Values<'_> {
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

/// What telemetry, a report or an event says: what can be believed of it.
fn of_message<'a>(values: &mut Values<'a>, message: &'a Message) {
    if message.kind == Kind::Event {
        return of_event(values, message);
    }
    for reading in state::readings(message) {
        let (Said::Value(text) | Said::Patch(text)) = reading.said else { continue };
        if reading.quality != Quality::Bad {
            values.0.push((reading.name, text));
        }
    }
}

/// The members of an event's `data`.
fn of_event<'a>(values: &mut Values<'a>, message: &'a Message) {
    if message.content != Content::Json {
        return;
    }
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    let data = member(text, "data").and_then(json::members).unwrap_or_default();
    let named = data.into_iter().filter_map(|data| Some((data.name?, data.value)));
    values.0.extend(named.filter(|(_, value)| *value != "null"));
}

/// The value of a member; nothing if there is no such member.
fn member<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let mut found = None;
    json::each_member(text, |member| {
        if member.name.as_deref() == Some(wanted) {
            found = Some(member.value);
        }
    })?;
    found
}

/// What a document says is so, by the times from which it is.
fn of_document(message: &Message) -> BTreeMap<UnixMs, Values<'_>> {
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    let about = member(text, "meta").and_then(json::members).unwrap_or_default();
    let about: HashMap<Cow<'_, str>, &str> =
        about.into_iter().filter_map(|about| Some((about.name?, about.value))).collect();
    let mut by_time = BTreeMap::<_, Values<'_>>::new();
    for reported in member(text, "reported").and_then(json::members).unwrap_or_default() {
        let Some(name) = reported.name else { continue };
        let about = about.get(&*name).copied().unwrap_or_default();
        let time = member(about, "time").and_then(|time| time.parse().ok());
        if let Some(time) = time.filter(|_| member(about, "quality") != Some("\"bad\"")) {
            by_time.entry(UnixMs(time)).or_default().0.push((name, reported.value));
        }
    }
    by_time
}

#[cfg(test)]
mod tests;
