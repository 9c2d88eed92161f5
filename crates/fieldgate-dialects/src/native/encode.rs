//! Frames out: answers and deliveries in, JSON text out.
//!
//! Pure; appends to a buffer that the caller reuses. Source: `native.md`, "Frames to a client".

use std::io::Write as _;

use fieldgate_core::{
    dialect::{Answer, BatchResult, CommandState, Delivery, GapReason},
    fault::Fault,
    id::{DeviceId, Position, UnixMs},
    message::{Content, Qos},
};

use super::{
    Form,
    json::{base64_encode, write_number, write_string},
};

/// Writes one JSON object, member by member.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut Vec<u8>, kind: &str) -> Self {
        out.extend_from_slice(b"{\"type\":");
        write_string(out, kind);
        Self { out }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn text(&mut self, name: &str, value: &str) -> &mut Self {
        write_string(self.name(name), value);
        self
    }

    fn number(&mut self, name: &str, value: u64) -> &mut Self {
        write_number(self.name(name), value);
        self
    }

    fn raw(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.name(name).extend_from_slice(value);
        self
    }

    fn position(&mut self, name: &str, position: Position) -> &mut Self {
        // Writing to a Vec cannot fail, and a position needs no escape.
        let _ = write!(self.name(name), "\"{position}\"");
        self
    }

    fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        if value {
            self.raw(name, b"true");
        }
        self
    }

    /// What a fault says behind its code.
    fn what(&mut self, fault: &Fault) -> &mut Self {
        self.text("message", &fault.message);
        let Some(reading) = &fault.reading else { return self };
        self.text("resource", &reading.resource);
        for (name, bound) in [("min", &reading.min), ("max", &reading.max)] {
            if let Some(bound) = bound {
                self.raw(name, bound.as_bytes());
            }
        }
        self
    }

    fn end(&mut self) {
        self.out.push(b'}');
    }
}

/// Appends the frame that tells `answer`. Both forms read the same answers today.
pub fn encode_answer(answer: &Answer, _form: Form, out: &mut Vec<u8>) {
    match answer {
        Answer::Authenticated { timestamp, session, epoch, heartbeat_ms } => {
            Object::new(out, "auth_response")
                .text("status", "success")
                .number("timestamp", timestamp.0)
                .text("session", session)
                .raw("resumed", b"false")
                .text("epoch", &epoch.to_string())
                .number("heartbeatInterval", *heartbeat_ms)
                .end();
        }
        Answer::NotAuthenticated { timestamp } => Object::new(out, "auth_response")
            .text("status", "error")
            .text("reason", "Authentication failed")
            .number("timestamp", timestamp.0)
            .end(),
        Answer::Ack { reference, seq, batch } => {
            let mut frame = Object::new(out, "ack");
            frame.text("msgid", reference.as_str()).number("seq", seq.0);
            if let Some(BatchResult { accepted_count, refused }) = batch {
                frame.number("accepted", *accepted_count as u64);
                write_refused(frame.name("refused"), refused);
            }
            frame.end();
        }
        Answer::CommandAccepted { reference, seq, device_count } => {
            let mut frame = Object::new(out, "ack");
            if let Some(reference) = reference {
                frame.text("msgid", reference.as_str());
            }
            frame.number("seq", seq.0).number("devices", *device_count as u64).end();
        }
        Answer::Error { fault, reference, refused } => {
            let mut frame = Object::new(out, "error");
            frame.text("code", fault.code.as_str()).what(fault);
            if let Some(reference) = reference {
                frame.text("ref", reference.as_str());
            }
            if !refused.is_empty() {
                write_refused(frame.name("refused"), refused);
            }
            frame.end();
        }
        Answer::Subscribed { .. }
        | Answer::Unsubscribed { .. }
        | Answer::CaughtUp { .. }
        | Answer::Gap { .. }
        | Answer::CommandState { .. }
        | Answer::Pong { .. }
        | Answer::Reconnect { .. } => encode_notice(answer, out),
    }
}

fn encode_notice(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Subscribed { filter, qos, position } => Object::new(out, "subscribed")
            .text("topic", filter.as_str())
            .number("qos", *qos as u64)
            .position("position", *position)
            .end(),
        Answer::Unsubscribed { filter } => {
            Object::new(out, "unsubscribed").text("topic", filter.as_str()).end();
        }
        Answer::CaughtUp { filter, position } => Object::new(out, "caught_up")
            .text("topic", filter.as_str())
            .position("position", *position)
            .end(),
        Answer::Gap { from, to, reason } => Object::new(out, "gap")
            .position("from", *from)
            .position("to", *to)
            .text("reason", gap_reason(*reason))
            .end(),
        Answer::CommandState { reference, device, state, payload } => {
            let mut frame = Object::new(out, "command_state");
            frame
                .text("ref", reference)
                .text("deviceId", device.as_str())
                .text("state", command_state(*state));
            if let Some(payload) = payload {
                frame.raw("payload", payload);
            }
            frame.end();
        }
        Answer::Pong { timestamp } => {
            Object::new(out, "pong").number("timestamp", timestamp.0).end();
        }
        Answer::Reconnect { after_ms } => {
            Object::new(out, "reconnect").number("after", *after_ms).end();
        }
        Answer::Authenticated { .. }
        | Answer::NotAuthenticated { .. }
        | Answer::Ack { .. }
        | Answer::CommandAccepted { .. }
        | Answer::Error { .. } => (),
    }
}

fn write_refused(out: &mut Vec<u8>, refused: &[(usize, Fault)]) {
    out.push(b'[');
    for (nth, (index, fault)) in refused.iter().enumerate() {
        out.extend_from_slice(if nth == 0 { b"{\"index\":" } else { b",{\"index\":" });
        let reading = fault.reading.as_deref();
        write_number(out, reading.and_then(|r| r.index).unwrap_or(*index) as u64);
        if let Some(reading) = reading {
            out.extend_from_slice(b",\"resource\":");
            write_string(out, &reading.resource);
        }
        out.extend_from_slice(b",\"code\":");
        write_string(out, fault.code.as_str());
        out.extend_from_slice(b",\"message\":");
        write_string(out, &fault.message);
        out.push(b'}');
    }
    out.push(b']');
}

/// The word of a state on the wire.
#[must_use]
pub const fn command_state(state: CommandState) -> &'static str {
    match state {
        CommandState::Queued => "queued",
        CommandState::Sent => "sent",
        CommandState::Acknowledged => "acknowledged",
        CommandState::Completed => "completed",
        CommandState::Failed => "failed",
        CommandState::Expired => "expired",
        CommandState::Cancelled => "cancelled",
    }
}

/// The word of a gap on the wire.
#[must_use]
pub const fn gap_reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Overflow => "overflow",
        GapReason::Crash => "crash",
        GapReason::Damaged => "damaged",
        GapReason::Epoch => "epoch",
    }
}

/// Why the gateway ended a command, in the place of what its device would have said.
#[must_use]
pub fn encode_failure(fault: &Fault) -> Vec<u8> {
    let mut out = b"{\"error\":{\"code\":".to_vec();
    write_string(&mut out, fault.code.as_str());
    Object { out: &mut out }.what(fault).end();
    out.push(b'}');
    out
}

/// Appends the `mqtt` frame of a routed message.
pub fn encode_delivery(delivery: &Delivery<'_>, form: Form, out: &mut Vec<u8>) {
    let marks = &delivery.marks;
    let mut frame = Object::new(out, "mqtt");
    write_message(&mut frame, delivery, form);
    frame.flag("retain", marks.retain).flag("dup", marks.dup).flag("ahead", marks.ahead);
    if marks.conflated_count > 1 {
        frame.number("conflated", marks.conflated_count.into());
    }
    if let Some(filter) = marks.replay {
        frame.text("replay", filter);
    }
    frame.end();
}

/// Appends a message as it stands in a history: what its delivery says, and when it arrived.
pub fn encode_record(delivery: &Delivery<'_>, arrived: UnixMs, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"arrived\":");
    write_number(out, arrived.0);
    let mut frame = Object { out };
    write_message(&mut frame, delivery, Form::V1);
    frame.flag("retain", delivery.marks.retain).end();
}

/// What is told of a message wherever it is told.
fn write_message(frame: &mut Object<'_>, delivery: &Delivery<'_>, form: Form) {
    let Delivery { position, message, marks } = delivery;
    frame.text("topic", message.topic.as_str());
    write_payload(frame.name("payload"), message.content, &message.payload, form);
    frame.number("seq", position.seq.0).number("timestamp", message.timestamp.0);
    frame.text("from", &message.from).position("msgid", *position);
    if let Some(reference) = &message.reference {
        frame.text("ref", reference.as_str());
    }
    if let Some(original) = message.device_timestamp {
        frame.text("quality", "uncertain").number("deviceTimestamp", original.0);
    }
    if marks.qos > Qos::AtMostOnce {
        frame.number("qos", marks.qos as u64);
    }
}

fn write_payload(out: &mut Vec<u8>, content: Content, payload: &[u8], form: Form) {
    match (content, form, std::str::from_utf8(payload)) {
        (Content::Json, Form::V1, Ok(json)) if !json.is_empty() => out.extend_from_slice(payload),
        (Content::Json | Content::Text, _, Ok(text)) => write_string(out, text),
        _ => {
            out.extend_from_slice(b"{\"base64\":");
            write_string(out, &base64_encode(payload));
            out.push(b'}');
        }
    }
}

/// Appends the `control` frame that hands a command to its device. Its payload is embedded in both
/// forms: the lesson's device reads members of it without parsing again.
pub fn encode_control(delivery: &Delivery<'_>, device: &DeviceId, _form: Form, out: &mut Vec<u8>) {
    let Delivery { position, message, marks } = delivery;
    let mut frame = Object::new(out, "control");
    frame.position("msgid", *position).text("deviceId", device.as_str());
    write_payload(frame.name("payload"), message.content, &message.payload, Form::V1);
    frame.number("timestamp", message.timestamp.0).number("qos", marks.qos as u64);
    frame.flag("dup", marks.dup).end();
}

#[cfg(test)]
mod tests;
