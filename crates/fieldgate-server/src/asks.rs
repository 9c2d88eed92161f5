//! What clients ask for, and what is done: publishing, subscribing, and who has come in.
//!
//! Every refusal is told with its code; nothing refused is acknowledged. Runs on the link's worker
//! and never waits: where the log is full, the frame comes back to be tried again.

use std::{
    ops::RangeInclusive,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use fieldgate_core::{
    access::Principal,
    close::CloseReason,
    dialect::{Answer, Ask, BatchResult, Draft},
    fault::{Code, Fault},
    id::MsgId,
    message::Qos,
};
use fieldgate_dialects::{
    native,
    wire::Form,
    ws::{self, Event},
};
use fieldgate_store::{AppendError, Log, Record, log::LocalLog};

use crate::{
    admit::{admit, append_each, append_once},
    commands,
    fabric::{Shared, append_fault, now},
    hub::{Hub, Then},
    ingest,
    link::Link,
    profiles, prove, socketio, subscriptions, wishes,
    worker::Control,
};

/// What a client sent and waits to be obeyed.
#[derive(Debug)]
pub(crate) enum Inbound {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Broken(CloseReason),
}

impl Inbound {
    /// Keeps what has to wait; nobody looks at what a pong says.
    pub(crate) fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(_) => Self::Pong,
            Event::Close { code, .. } => Self::Close(code),
        }
    }

    /// The frame as it came.
    ///
    /// # Errors
    ///
    /// Why the connection ends, where it was none.
    pub(crate) fn as_event(&self) -> Result<Event<'_>, CloseReason> {
        Ok(match self {
            Self::Text(text) => Event::Text(text),
            Self::Binary(bytes) => Event::Binary(bytes),
            Self::Ping(payload) => Event::Ping(payload),
            Self::Pong => Event::Pong(&[]),
            Self::Close(code) => Event::Close { code: *code, reason: "" },
            Self::Broken(reason) => return Err(*reason),
        })
    }
}

/// Whether a frame was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The log is full, or has to decide something first: the frame is to be tried again.
    Full,
}

/// Why an ask did not go through.
pub(crate) enum Refused {
    /// The log is full: try the whole frame again.
    Full,
    /// Tell the client.
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        if error == AppendError::Full { Self::Full } else { Self::Fault(append_fault(&error)) }
    }
}

/// The bounds of one frame.
pub(crate) fn limits_of(shared: &Shared) -> native::Limits {
    let limits = &shared.config.limits;
    native::Limits {
        json_depth_max: limits.json_depth_max,
        batch_len_max: limits.batch_len_max,
        resources_max: limits.resources_per_device_max,
    }
}

/// Deals with one frame of a client.
pub(crate) fn on_frame(hub: &Rc<Hub>, link: &Rc<Link>, frame: &Event<'_>) -> Outcome {
    if let (Some(session), Event::Text(_) | Event::Binary(_)) = (&link.session, frame) {
        return socketio::on_frame(hub, link, session, frame);
    }
    match (*frame, link.principal()) {
        (Event::Close { code, .. }, _) => {
            link.outbox.wait(ws::close_echo(code));
            link.close(CloseReason::PeerClosed);
        }
        (Event::Ping(payload), _) => return ingest::on_ping(hub, link, payload),
        (Event::Pong(_), _) => hub.on_pong(link),
        (Event::Text(text), None) => return prove::on_first(hub, link, text),
        (Event::Binary(_), None) => link.close(CloseReason::ProtocolError),
        (Event::Text(text), Some(principal)) if link.form.get().only_receives() => {
            pass_over(hub, link, &principal, text.len());
        }
        (Event::Binary(bytes), Some(principal)) if link.form.get().only_receives() => {
            pass_over(hub, link, &principal, bytes.len());
        }
        (Event::Text(_) | Event::Binary(_), Some(principal)) if link.form.get() == Form::Source => {
            return ingest::on_frame(hub, link, &principal, frame);
        }
        (Event::Text(text), Some(principal)) => {
            let decoded = prove::decode_text(&hub.shared, link, &principal, text);
            return on_decoded(hub, link, &principal, decoded, (Some(text), text.len()));
        }
        (Event::Binary(bytes), Some(principal)) => {
            let decoded = prove::decode_binary(&hub.shared, link, bytes);
            return on_decoded(hub, link, &principal, decoded, (None, bytes.len()));
        }
    }
    Outcome::Done
}

/// Forgets what came from who has nothing to say: it costs the rates of its principal.
fn pass_over(hub: &Hub, link: &Link, principal: &Principal, byte_len: usize) {
    hub.count_received();
    let _over = take_rate(hub, link, principal, 1, byte_len);
}

fn on_decoded(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Rc<Principal>,
    decoded: Result<Ask, native::Refusal>,
    (text, byte_len): (Option<&str>, usize),
) -> Outcome {
    hub.count_received();
    let (result, reference) = match decoded {
        Err(refusal) => (Err(Refused::Fault(refusal.fault)), refusal.reference),
        Ok(ask) => {
            // A frame that comes back to be tried again is paid for.
            let paid = if link.paid.take() {
                Ok(())
            } else {
                take_rate(hub, link, principal, message_count(&ask), byte_len)
            };
            (paid.map_err(Refused::from).and_then(|()| on_ask(hub, link, principal, ask)), None)
        }
    };
    match result {
        Ok(()) => Outcome::Done,
        Err(Refused::Full) => {
            link.paid.set(true);
            Outcome::Full
        }
        Err(Refused::Fault(fault)) => {
            let reference = reference.or_else(|| native::reference_of(text?));
            tell_error(hub, link, fault, reference, Vec::new());
            Outcome::Done
        }
    }
}

fn tell_error(
    hub: &Hub,
    link: &Rc<Link>,
    fault: Fault,
    reference: Option<MsgId>,
    refused: Vec<(usize, Fault)>,
) {
    hub.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
    if matches!(fault.code, Code::BadMac | Code::Replayed) {
        hub.shared.stats.forged.fetch_add(1, Ordering::Relaxed);
    }
    if fault.code != Code::RateLimited && !fault.code.is_temporary() {
        link.count_error();
    }
    hub.answer(link, &Answer::Error { fault, reference, refused });
}

/// Takes from the rates of the link's principal, or says no.
pub(crate) fn take_rate(
    hub: &Hub,
    link: &Link,
    principal: &Principal,
    message_count: usize,
    byte_len: usize,
) -> Result<(), Fault> {
    let throttle = &hub.shared.throttle;
    let sender = link.sender(hub, principal);
    let (count, at) = (message_count as u64, hub.clock().instant);
    let Err(wait_ms) = throttle.take_at(sender, count, byte_len as u64, at) else {
        return Ok(());
    };
    link.note_limited();
    Err(rate_fault(&hub.shared, wait_ms))
}

/// What who sends too fast is told.
pub(crate) fn rate_fault(shared: &Shared, wait_ms: u64) -> Fault {
    let limits = &shared.config.limits;
    let text = format!(
        "above limits.messages_per_second = {} or limits.bytes_per_second = {}: wait {wait_ms} ms",
        limits.messages_per_second, limits.bytes_per_second
    );
    Fault::new(Code::RateLimited, text)
}

/// How many messages a frame counts as.
fn message_count(ask: &Ask) -> usize {
    if let Ask::Batch { items, .. } = ask { items.len().max(1) } else { 1 }
}

fn on_ask(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Rc<Principal>,
    ask: Ask,
) -> Result<(), Refused> {
    match ask {
        Ask::Publish(draft) => publish(hub, link, principal, *draft),
        Ask::Batch { reference, qos, items } => batch(hub, link, principal, reference, qos, items),
        Ask::Subscribe(ask) => {
            subscriptions::subscribe(hub, link, principal, &ask).map_err(Refused::Fault)
        }
        Ask::Unsubscribe(filter) => {
            subscriptions::unsubscribe(hub, link, filter).map_err(Refused::Fault)
        }
        Ask::Command(ask) => commands::send(hub, link, principal, *ask),
        Ask::Cancel(position) => commands::cancel(hub, principal, position),
        Ask::Reply { command, ok, payload, reference } => {
            commands::reply(hub, link, principal, command, ok, payload, reference)
        }
        Ask::Ack(position) => commands::acknowledge(hub, link, principal, position),
        Ask::Desired(ask) => wishes::wish(hub, link, principal, &ask),
        Ask::Profile(ask) => profiles::set(hub, link, principal, *ask),
        Ask::Ping => {
            hub.answer(link, &Answer::Pong { timestamp: now() });
            Ok(())
        }
        Ask::Authenticate(_) => {
            Err(Fault::new(Code::Conflict, "this connection is authenticated").into())
        }
    }
}

/// The connection is somebody's: answers, and ends the older ones of the same device. It is served
/// once they have ended (`link::serve`).
pub(crate) fn welcome(hub: &Rc<Hub>, link: &Rc<Link>, principal: Principal) {
    let shared = &hub.shared;
    let heartbeat_ms = shared.config.heartbeat.ping_ms;
    let session: Arc<str> = format!("{}-{}", hub.number, link.id).into();
    let epoch = shared.log.epoch();
    let timestamp = now();
    hub.answer(link, &Answer::Authenticated { timestamp, session, epoch, heartbeat_ms });
    let principal = link.set_principal(principal);
    let is_beside = link.is_beside(&principal.tenant);
    let predecessors = if link.is_stream() {
        shared.present.enter_stream(&principal, hub.link_ref(link), is_beside);
        Vec::new()
    } else {
        shared.present.enter(&principal, hub.link_ref(link))
    };
    if let Some(bridge) = &shared.bridge {
        bridge.presence(&principal);
    }
    // Who takes over from another connection, which ends, gets its place.
    let takes_over = !predecessors.is_empty();
    let connections_max = shared.throttle.tenants.of(&principal.tenant).connections_max();
    let is_full = shared.present.count_of(&principal.tenant) as u64 > connections_max;
    if is_full && !takes_over && !is_beside || link.authenticate(takes_over).is_err() {
        link.close(CloseReason::NoCapacity);
        return;
    }
    // The credential may have been withdrawn since it was looked at, and nobody saw this link then.
    hub.recheck(link.id);
    if link.is_closing() {
        return;
    }
    for before in &predecessors {
        shared.tell(before.link, Control::Kick(before.link.link, CloseReason::TakenOver));
    }
    *link.predecessors.borrow_mut() = predecessors;
}

fn publish(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    draft: Draft,
) -> Result<(), Refused> {
    let time = hub.clock().time;
    let message = admit(&hub.shared, &link.own_telemetry, principal, draft, time)?;
    let promised = message.reference.clone().filter(|_| message.qos > Qos::AtMostOnce);
    let retain = message.retain;
    let record = Record::Message(message);
    let Some(reference) = promised else {
        hub.append(vec![record], time)?;
        return Ok(());
    };
    let append = |log: &LocalLog| log.append_one(record, time);
    let range = append_once(&hub.shared, principal, &reference, time, append)?;
    acknowledge(hub, link, range, Then::Ack { reference, batch: None }, retain);
    Ok(())
}

/// What is retained is acknowledged when who subscribes next gets it.
fn acknowledge(hub: &Hub, link: &Link, range: RangeInclusive<u64>, then: Then, retain: bool) {
    if retain {
        hub.when_applied(link, range, then);
    } else {
        hub.when_durable(link, range, then);
    }
}

fn batch(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    reference: Option<MsgId>,
    qos: Qos,
    items: Vec<Result<Draft, Fault>>,
) -> Result<(), Refused> {
    let (time, shared) = (hub.clock().time, &hub.shared);
    let promised = reference.clone().filter(|_| qos > Qos::AtMostOnce);
    let mut records = Vec::new();
    let mut refused = Vec::new();
    let (mut retain, mut named) = (false, false);
    for (index, item) in items.into_iter().enumerate() {
        match item.and_then(|draft| admit(shared, &link.own_telemetry, principal, draft, time)) {
            Ok(mut message) => {
                named |= message.reference.is_some() && message.qos > Qos::AtMostOnce;
                // The window knows the batch by the same id that a start finds in the log. One that is
                // not promised has no id that is known: it is told, where no repeat is looked for.
                let told = || reference.clone().filter(|_| message.qos == Qos::AtMostOnce);
                message.reference = promised.clone().or(message.reference).or_else(told);
                retain |= message.retain;
                records.push(Record::Message(message));
            }
            Err(fault) => refused.push((index, fault)),
        }
    }
    let accepted_count = records.len();
    if accepted_count == 0 {
        let fault = Fault::new(Code::BatchRefused, "no element of the batch was accepted");
        tell_error(hub, link, fault, reference, refused);
        return Ok(());
    }
    match promised {
        Some(reference) => {
            let append = |log: &LocalLog| log.append(records, time);
            let range = append_once(shared, principal, &reference, time, append)?;
            let batch = Some(BatchResult { accepted_count, refused });
            acknowledge(hub, link, range, Then::Ack { reference, batch }, retain);
        }
        None => {
            if named {
                append_each(shared, principal, records, time)?;
            } else {
                hub.append(records, time)?;
            }
            if !refused.is_empty() {
                let text = format!("{} elements of the batch were refused", refused.len());
                tell_error(hub, link, Fault::new(Code::BatchRefused, text), None, refused);
            }
        }
    }
    Ok(())
}

/// The form that a subprotocol asks for.
pub(crate) fn form_of(subprotocol: Option<&str>) -> Form {
    if subprotocol == Some("fieldgate.v1.json") { Form::V1 } else { Form::Lesson }
}
