//! Frames in: one JSON text or Protobuf message, one [`Ask`] out.
//!
//! Pure, strict and bounded: depth is checked before a parser recurses, counts before elements are
//! looked at. Source: `native.md`, "Frames from a device" and "Frames from an app".

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{
        Ask, AuthMac, Authenticate, CommandAsk, CommandTarget, Draft, ProfileAsk, Proof, Secret,
        Since, SlowMode, Subscribe, Target,
    },
    fault::{Code, Fault},
    id::{MsgId, Position, UnixMs},
    message::{Content, Qos},
    topic::Filter,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Limits, Refusal,
    desired::desired,
    frame::{Frame, bad_value, filter, missing, reference_of, topic},
    json::{self, Text},
    mac::is_nonce,
    plain,
    profile::decode_profile,
    protobuf,
    telemetry::{Readings, readings, reported},
};

/// Decodes the first frame of a connection without a credential on its upgrade.
///
/// # Errors
///
/// [`CloseReason::ProtocolError`] for anything but a well-formed `auth` frame.
pub fn decode_first(text: &str, limits: &Limits) -> Result<Authenticate, CloseReason> {
    let protocol = |_| CloseReason::ProtocolError;
    json::check_depth(text, limits.json_depth_max).map_err(|_| CloseReason::ProtocolError)?;
    let frame: Frame<'_> = json::from_object(text).map_err(|_| CloseReason::ProtocolError)?;
    if frame.kind.as_deref() != Some("auth") {
        return Err(CloseReason::ProtocolError);
    }
    let tenant = frame.tenant.as_deref().map(str::parse).transpose().map_err(protocol)?;
    let device = frame.device_id.as_deref().map(str::parse).transpose().map_err(protocol)?;
    let secret = |text: Text<'_>| Secret(text.0.into_owned());
    let proof = match (frame.token, frame.mac) {
        (Some(token), None) => Proof::Token { device, token: secret(token) },
        (None, Some(mac)) => {
            let nonce = frame.nonce.filter(|nonce| is_nonce(nonce));
            let (Some(device), Some(nonce), Some(timestamp)) = (device, nonce, frame.timestamp)
            else {
                return Err(CloseReason::ProtocolError);
            };
            let (timestamp, nonce) = (UnixMs(timestamp), (*nonce).into());
            Proof::Mac(AuthMac { device, timestamp, nonce, mac: secret(mac) })
        }
        (Some(_), Some(_)) | (None, None) => return Err(CloseReason::ProtocolError),
    };
    Ok(Authenticate { tenant, proof })
}

/// Decodes one text frame of an authenticated connection.
///
/// # Errors
///
/// [`Refusal`], with the frame's `msgid` where it could be read.
pub fn decode_text(text: &str, limits: &Limits) -> Result<Ask, Refusal> {
    plain::status(text, limits).map_or_else(|| decode_with(text, limits, |_| Ok(())), Ok)
}

/// Decodes a frame that came by itself, as the body of a request: it may leave out its type, which is
/// `kind` then, and it is promised QoS 1 unless it says otherwise, since it is answered.
///
/// # Errors
///
/// As [`decode_text`].
pub fn decode_text_as(kind: &'static str, text: &str, limits: &Limits) -> Result<Ask, Refusal> {
    decode_with(text, limits, |frame| {
        if frame.kind.is_none() && frame.values.is_none() {
            frame.kind = Some(Text(kind.into()));
        }
        frame.qos.get_or_insert(1);
        Ok(())
    })
}

/// As [`decode_text`], with a look at the fields before anything is made of them.
pub(super) fn decode_with(
    text: &str,
    limits: &Limits,
    look: impl FnOnce(&mut Frame<'_>) -> Result<(), Fault>,
) -> Result<Ask, Refusal> {
    let refuse = |fault| Refusal { fault, reference: None };
    json::check_depth(text, limits.json_depth_max).map_err(refuse)?;
    let mut frame: Frame<'_> = json::from_object(text).map_err(|error| Refusal {
        fault: json::fault_of(&error),
        reference: reference_of(text),
    })?;
    look(&mut frame)
        .map_err(|fault| Refusal { fault, reference: frame.reference().ok().flatten() })?;
    let reference = frame.reference().map_err(refuse)?;
    if frame.mac.is_some() {
        let text = "there is nothing to check a mac with: authenticate with one";
        return Err(Refusal { fault: Fault::new(Code::BadMac, text), reference });
    }
    frame.unfold();
    ask_of(&frame, reference.clone(), limits).map_err(|fault| Refusal { fault, reference })
}

fn ask_of(frame: &Frame<'_>, reference: Option<MsgId>, limits: &Limits) -> Result<Ask, Fault> {
    frame.check_version()?;
    match frame.kind.as_deref() {
        Some("status") => telemetry(frame, reference, limits),
        None if frame.values.is_some() => telemetry(frame, reference, limits),
        Some("state") => state(frame, reference, limits),
        Some("event") => event(frame, reference),
        Some("batch") => batch(frame, reference, limits),
        Some("reply") => reply(frame, reference),
        Some("ack") => Ok(Ask::Ack(position(frame, "ack")?)),
        Some("cancel") => Ok(Ask::Cancel(position(frame, "cancel")?)),
        Some("publish") => publish(frame, reference),
        Some("subscribe") => subscribe(frame),
        Some("unsubscribe") => Ok(Ask::Unsubscribe(filter_of(frame, "unsubscribe")?)),
        Some("command") => command(frame, reference),
        Some("profile") => profile(frame, reference),
        Some("desired") => desired(frame, reference, limits),
        Some("ping") => Ok(Ask::Ping),
        Some("auth") => Err(Fault::new(Code::Conflict, "this connection is authenticated")),
        Some("release") => {
            Err(Fault::new(Code::UnknownType, "frames of type \"release\" are not served yet"))
        }
        Some(_) => Err(Fault::new(Code::UnknownType, "the frame's type is not known here")),
        None => Err(missing("type", "text")),
    }
}

fn draft(
    frame: &Frame<'_>,
    reference: Option<MsgId>,
    target: Target,
    content: Content,
    payload: Bytes,
) -> Result<Draft, Fault> {
    Ok(Draft {
        target,
        timestamp: frame.timestamp(),
        reference,
        qos: frame.promise()?,
        retain: frame.retain.unwrap_or_default(),
        priority: frame.lane()?,
        expires: frame.expires(),
        content,
        payload,
        original: None,
    })
}

/// A status, an industrial sample, or an envelope of either.
fn telemetry(frame: &Frame<'_>, reference: Option<MsgId>, limits: &Limits) -> Result<Ask, Fault> {
    let target = frame.target(Target::Telemetry)?;
    standing(frame, reference, target, readings(frame, limits)?)
}

/// What of the sender is different now.
fn state(frame: &Frame<'_>, reference: Option<MsgId>, limits: &Limits) -> Result<Ask, Fault> {
    let target = frame.target(Target::Reported)?;
    standing(frame, reference, target, reported(frame, limits)?)
}

/// Readings that do not stand make a frame a batch: what was refused, and one message of what was
/// not.
fn standing(
    frame: &Frame<'_>,
    reference: Option<MsgId>,
    target: Target,
    readings: Readings,
) -> Result<Ask, Fault> {
    let Readings { payload, refused } = readings;
    if refused.is_empty() {
        let draft = draft(frame, reference, target, Content::Json, payload)?;
        return Ok(Ask::Publish(Box::new(draft)));
    }
    let draft = draft(frame, None, target, Content::Json, payload)?;
    let qos = draft.qos;
    let items = refused.into_iter().map(Err).chain([Ok(draft)]).collect();
    Ok(Ask::Batch { reference, qos, items })
}

#[derive(Deserialize)]
struct EventPayload<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// When it happened, where that is not when it is sent.
    #[serde(default)]
    timestamp: Option<u64>,
}

fn event(frame: &Frame<'_>, reference: Option<MsgId>) -> Result<Ask, Fault> {
    let wrapped;
    let mut happened = frame.timestamp();
    let (name, data) = match (frame.event.as_deref(), frame.payload) {
        (Some(name), payload) => (name, frame.data.or(payload)),
        (None, Some(payload)) => {
            wrapped = json::from_object::<EventPayload<'_>>(payload.get())
                .map_err(|_| missing("event", "event"))?;
            happened = wrapped.timestamp.map(UnixMs).or(happened);
            (&*wrapped.event, wrapped.data)
        }
        (None, None) => return Err(missing("event", "event")),
    };
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        return Err(bad_value("an event's name is 1 to 128 bytes without control characters"));
    }
    if data.is_some_and(|data| !json::numbers_are_finite(data.get())) {
        return Err(not_finite());
    }
    let data_len = data.map_or(0, |data| data.get().len());
    let mut payload = Vec::with_capacity(32 + name.len() + data_len);
    payload.extend_from_slice(b"{\"event\":");
    json::write_string(&mut payload, name);
    if let Some(data) = data {
        payload.extend_from_slice(b",\"data\":");
        payload.extend_from_slice(data.get().as_bytes());
    }
    payload.push(b'}');
    let target = frame.target(Target::Event)?;
    let draft = draft(frame, reference, target, Content::Json, payload.into())?;
    Ok(Ask::Publish(Box::new(Draft { timestamp: happened, ..draft })))
}

fn batch(frame: &Frame<'_>, reference: Option<MsgId>, limits: &Limits) -> Result<Ask, Fault> {
    let data = frame.data.ok_or_else(|| missing("data", "batch"))?;
    let elements: Vec<&RawValue> = serde_json::from_str(data.get())
        .map_err(|_| bad_value("the field \"data\" of a batch is a list"))?;
    if elements.len() > limits.batch_len_max {
        let text =
            format!("a batch of {} exceeds the limit of {}", elements.len(), limits.batch_len_max);
        return Err(Fault::new(Code::TooLarge, text));
    }
    let qos = frame.promise()?;
    let items = elements.into_iter().map(|raw| batch_item(raw, frame, qos, limits)).collect();
    Ok(Ask::Batch { reference, qos, items })
}

/// An element stands or falls as a whole; what it does not say, its batch says.
fn batch_item(
    raw: &RawValue,
    batch: &Frame<'_>,
    qos: Qos,
    limits: &Limits,
) -> Result<Draft, Fault> {
    let frame: Frame<'_> = json::from_object(raw.get()).map_err(|e| json::fault_of(&e))?;
    if !matches!(frame.kind.as_deref(), None | Some("status")) {
        return Err(bad_value("an element of a batch is a status or a sample"));
    }
    let Readings { payload, refused } = readings(&frame, limits)?;
    if let Some(mut fault) = refused.into_iter().next() {
        if let Some(reading) = &mut fault.reading {
            reading.index = None;
        }
        return Err(fault);
    }
    let device = frame.device()?.map_or_else(|| batch.device(), |device| Ok(Some(device)))?;
    let target = Target::Telemetry(device);
    let draft = draft(&frame, frame.reference()?, target, Content::Json, payload)?;
    Ok(Draft {
        qos: qos.max(draft.qos),
        retain: draft.retain || batch.retain.unwrap_or_default(),
        priority: if frame.priority.is_some() { draft.priority } else { batch.lane()? },
        expires: draft.expires.or(batch.expires()),
        ..draft
    })
}

fn reply(frame: &Frame<'_>, reference: Option<MsgId>) -> Result<Ask, Fault> {
    let ok = match frame.status.as_deref() {
        Some("ok") => true,
        Some("error") => false,
        Some(_) => return Err(bad_value("the status of a reply is ok or error")),
        None => return Err(missing("status", "reply")),
    };
    let command = position(frame, "reply")?;
    if frame.payload.is_some_and(|payload| !json::numbers_are_finite(payload.get())) {
        return Err(not_finite());
    }
    let payload = frame.payload.map(|p| Bytes::copy_from_slice(p.get().as_bytes()));
    Ok(Ask::Reply { command, ok, payload, reference })
}

fn position(frame: &Frame<'_>, kind: &str) -> Result<Position, Fault> {
    let msgid = frame.msgid.as_deref().ok_or_else(|| missing("msgid", kind))?;
    msgid.parse().map_err(|_| Fault::new(Code::NotFound, "this msgid names no delivery"))
}

pub(super) fn not_finite() -> Fault {
    bad_value("a number of the payload is not finite")
}

fn filter_of(frame: &Frame<'_>, kind: &str) -> Result<Filter, Fault> {
    filter(frame.topic.as_deref().ok_or_else(|| missing("topic", kind))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

/// A JSON string is text, `{"base64":…}` is bytes, everything else is JSON as written; nothing is the
/// empty text.
fn payload_of(raw: Option<&RawValue>) -> Result<(Content, Bytes), Fault> {
    let Some(raw) = raw else {
        return Ok((Content::Text, Bytes::new()));
    };
    let text = raw.get();
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).map_err(|e| json::fault_of(&e))?;
        return Ok((Content::Text, Bytes::from(text)));
    }
    if text.starts_with('{')
        && let Ok(Base64 { base64 }) = serde_json::from_str(text)
    {
        let bytes = json::base64_decode(&base64).ok_or_else(|| bad_value("bad base64"))?;
        return Ok((Content::Bytes, Bytes::from(bytes)));
    }
    if !json::numbers_are_finite(text) {
        return Err(not_finite());
    }
    Ok((Content::Json, Bytes::copy_from_slice(text.as_bytes())))
}

fn publish(frame: &Frame<'_>, reference: Option<MsgId>) -> Result<Ask, Fault> {
    let topic = topic(frame.named_topic().ok_or_else(|| missing("topic", "publish"))?)?;
    let (content, payload) = payload_of(frame.payload)?;
    draft(frame, reference, Target::Topic(topic), content, payload)
        .map(|d| Ask::Publish(Box::new(d)))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum SinceForm {
    After(String),
    Time(u64),
}

fn subscribe(frame: &Frame<'_>) -> Result<Ask, Fault> {
    let filter = filter_of(frame, "subscribe")?;
    let qos = frame.promise()?;
    let since = frame.since.map(|raw| since_of(raw.get())).transpose()?;
    let known = |word| {
        SlowMode::of_word(word)
            .ok_or_else(|| bad_value("mode is one of latest, drop-oldest and disconnect"))
    };
    let slow = frame.mode.as_deref().map(known).transpose()?;
    let rate_max = frame.max_rate;
    if rate_max.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(bad_value("maxRate is a number above 0"));
    }
    if qos > Qos::AtMostOnce && (slow.is_some() || rate_max.is_some()) {
        return Err(bad_value("mode and maxRate exist at qos 0 only"));
    }
    Ok(Ask::Subscribe(Subscribe { filter, qos, since, slow, rate_max }))
}

fn since_of(text: &str) -> Result<Since, Fault> {
    let wrong = || bad_value("since is {\"after\":\"epoch:seq\"}, {\"time\":ms} or \"all\"");
    if text == "\"all\"" {
        return Ok(Since::All);
    }
    match json::from_object(text).map_err(|_| wrong())? {
        SinceForm::After(position) => Ok(Since::After(position.parse().map_err(bad_value)?)),
        SinceForm::Time(ms) => Ok(Since::Time(UnixMs(ms))),
    }
}

fn command(frame: &Frame<'_>, reference: Option<MsgId>) -> Result<Ask, Fault> {
    let to = frame.to.as_deref().ok_or_else(|| missing("to", "command"))?;
    // A command is always kept until its device has it; what else the frame asks for is checked.
    let _ = frame.promise()?;
    let to = if let Some(group) = to.strip_prefix("group:") {
        if group.is_empty() || group.len() > 128 || group.chars().any(char::is_control) {
            return Err(bad_value("a group's name is 1 to 128 bytes without control characters"));
        }
        CommandTarget::Group(group.into())
    } else if to.starts_with("topic:") {
        return Err(bad_value("a command goes to a device, a group: or a filter of devices/"));
    } else if to.contains('/') {
        CommandTarget::Filter(filter(to)?)
    } else {
        CommandTarget::Device(to.parse().map_err(bad_value)?)
    };
    let raw = frame.payload.ok_or_else(|| missing("payload", "command"))?;
    let (content, payload) = payload_of(Some(raw))?;
    Ok(Ask::Command(Box::new(CommandAsk {
        to,
        reference,
        priority: frame.lane()?,
        expires: frame.expires(),
        content,
        payload,
    })))
}

fn profile(frame: &Frame<'_>, reference: Option<MsgId>) -> Result<Ask, Fault> {
    if !matches!(frame.to.as_deref(), None | Some("server")) {
        return Err(bad_value("a profile goes to the server"));
    }
    let written = frame.profile.or(frame.payload).ok_or_else(|| missing("profile", "profile"))?;
    Ok(Ask::Profile(Box::new(ProfileAsk {
        device: frame.device()?,
        reference,
        qos: frame.promise()?,
        profile: decode_profile(written.get())?,
    })))
}

/// Decodes one binary frame: `IoTData` in Protobuf (`proto/fieldgate.proto`).
///
/// Readings stand or fall alone: refused ones are the failed items of a batch, and the good ones
/// are one message.
///
/// # Errors
///
/// [`Refusal`] if it is no `IoTData`, or nothing of it is usable.
pub fn decode_binary(bytes: &[u8], limits: &Limits) -> Result<Ask, Refusal> {
    protobuf::decode(bytes, limits).map_err(|fault| Refusal { fault, reference: None })
}

#[cfg(test)]
mod tests;
