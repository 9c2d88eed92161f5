//! Socket.IO: sessions over a WebSocket or over polling requests, and the namespaces in them.
//!
//! In: Engine.IO packets, as frames of a link whatever carries them. Out: answers, and events of the
//! rooms that a link is in. Absent: delivery, which is that of every link; packets and events, which are
//! a dialect's. Invariant: what a client sends in a namespace is dealt with in its order, also where one
//! thing waits for another system. A link serves one namespace beside `/`, as it has one principal; it
//! may leave it and come again. A second one is a link within it (`second`); neither waits for the other
//! (`aside`).

mod aside;
mod http;
mod join;
mod kamea;
mod last;
mod rooms;
mod second;
mod stays;
mod things;
mod upgrade;
mod window;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
};

use fieldgate_core::{
    close::CloseReason,
    id::{Position, Seq, TenantId},
};
use fieldgate_dialects::{
    socketio::{
        Attaching, Engine, Kind, Namespace, Opening, Packet, Part, ROOT, arguments, read,
        write_ack, write_connect, write_connect_error, write_disconnect, write_event_end,
        write_event_start, write_opening,
    },
    ws::{self, Event, Opcode},
};

use crate::{asks::Outcome, fabric::Shared, hub::Hub, link::Link, sink::Socket};

pub(crate) use http::{Probing, Sessions, allow_origin, answer, is_ours};
pub(crate) use rooms::{on_rights, on_tick};
pub(crate) use second::carry;
pub(crate) use upgrade::upgrade;

/// So many packets of a session are looked at before it is somebody's.
const ANONYMOUS_PACKETS_MAX: u32 = 64;

/// What the handshake of a session said, and was told.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    engine: Engine,
    sid: Arc<str>,
    /// The credential that it showed.
    bearer: Option<Arc<str>>,
}

/// What a session is beside a link.
#[derive(Debug)]
pub(crate) struct Session {
    handshake: Handshake,
    state: RefCell<State>,
    anonymous_count: Cell<u32>,
    /// Messages that wait for their turn.
    aside: aside::Aside,
    /// What its client has to acknowledge, if it asked for that.
    window: RefCell<Option<Rc<window::Window>>>,
    /// Its second namespace, and whose tenant that is once it is somebody's.
    second: OnceCell<second::Second>,
    carried: OnceCell<TenantId>,
    /// The end was said to the namespace that it is the fault of.
    is_parted: Cell<bool>,
    /// Nobody could tell whether it may see what it asked for: it may come back for that.
    is_undecided: Cell<bool>,
}

#[derive(Debug, Default)]
struct State {
    joined: Option<Joined>,
    attaching: Option<Attaching>,
    /// A packet whose last binary message came, and comes back to be tried again.
    attached: Option<String>,
}

/// A session in a namespace with rooms.
#[derive(Debug)]
struct Joined {
    namespace: Namespace,
    /// It has left, and may come again. What was under way finds nothing to do.
    has_left: bool,
    /// It was there before: who it is now is to be said again.
    owes_credential: bool,
    positions: bool,
    /// Whether its events are to be acknowledged.
    asks: bool,
    /// Where its client was before: its rooms begin there.
    since: Option<Position>,
    /// Until when rooms are entered that it was in before, in ms of its link.
    since_until_ms: Option<u64>,
    /// The number that its first room began behind.
    base: Option<Seq>,
    rooms: rooms::Entered,
    kamea: kamea::Asked,
    bearer: Option<Arc<str>>,
}

/// A message of a client, without what carries it.
#[derive(Debug, Clone, Copy)]
enum Message<'a> {
    /// A packet.
    Text(&'a str),
    /// What belongs to the packet before.
    Binary(&'a [u8]),
}

/// An event of a client.
struct Call<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    /// What its answer is to name, if it wants one.
    id: Option<u64>,
}

impl Session {
    pub(crate) fn new(handshake: Handshake) -> Self {
        Self {
            handshake,
            state: RefCell::default(),
            anonymous_count: Cell::new(0),
            aside: aside::Aside::default(),
            window: RefCell::default(),
            second: OnceCell::new(),
            carried: OnceCell::new(),
            is_parted: Cell::new(false),
            is_undecided: Cell::new(false),
        }
    }

    const fn engine(&self) -> Engine {
        self.handshake.engine
    }

    fn sid(&self) -> &str {
        &self.handshake.sid
    }

    /// Whether the server is the one to ping.
    pub(crate) fn is_pinged(&self) -> bool {
        self.engine() == Engine::V4
    }

    fn namespace(&self) -> Option<&'static str> {
        let state = self.state.borrow();
        state
            .joined
            .as_ref()
            .filter(|joined| !joined.has_left)
            .map(|joined| joined.namespace.name())
    }

    /// How many binary messages its last packet still waits for.
    fn missing_count(&self) -> usize {
        self.state.borrow().attaching.as_ref().map_or(0, Attaching::missing_count)
    }

    /// Whether a binary message of its own has to come before anything else.
    fn awaits_bytes(&self) -> bool {
        // Of what lies aside, the last one says it.
        if self.aside.is_empty() { self.missing_count() > 0 } else { self.aside.awaits_bytes() }
    }

    /// Bytes of its client that came and wait, of either namespace.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.aside.byte_len() + self.second.get().map_or(0, second::Second::waiting_bytes)
    }

    /// Whether its client came again and has not said who it is.
    fn owes_credential(&self) -> bool {
        self.state.borrow().joined.as_ref().is_some_and(|joined| joined.owes_credential)
    }

    /// Its client said who it is: whoever it was before.
    fn settle_credential(&self) {
        if let Some(joined) = &mut self.state.borrow_mut().joined {
            joined.owes_credential = false;
        }
    }
}

/// Begins a session: tells its client what it has to know.
pub(crate) fn open(hub: &Hub, link: &Rc<Link>) {
    let Some(session) = &link.session else { return };
    let shared = &hub.shared;
    let mut text = Vec::new();
    let is_polling = matches!(link.socket, Socket::Polling(_));
    let (ping_interval, ping_timeout) = heartbeat(shared);
    let opening = Opening {
        sid: session.sid(),
        upgrades: if is_polling { &["websocket"] } else { &[] },
        ping_interval,
        ping_timeout,
        max_payload: max_payload(shared, is_polling),
    };
    write_opening(&mut text, &opening);
    send(hub, link, &text);
    if session.engine() == Engine::V3 {
        // Of the older version everybody is in `/`, unasked.
        send_packet(hub, link, |out| write_connect(out, Engine::V3, ROOT, "", None));
    }
    if let Socket::Polling(polling) = &link.socket {
        // Where its requests find it; nobody else has set this.
        let _first = polling.exchange().link.set(hub.link_ref(link));
    }
}

/// Most bytes that a client is to send at once. Of a body these are what it may send before it is known
/// who it is: clients put together what waits, up to so many.
fn max_payload(shared: &Shared, is_polling: bool) -> usize {
    let limits = &shared.config.limits;
    let first_max = if is_polling { limits.unauthenticated_frame_bytes_max } else { usize::MAX };
    limits.frame_bytes_max.min(first_max)
}

/// How often a ping comes, and how long its answer may take, in ms.
fn heartbeat(shared: &Shared) -> (u64, u64) {
    let heartbeat = &shared.config.heartbeat;
    (heartbeat.ping_ms, heartbeat.silence_ms.saturating_sub(heartbeat.ping_ms).max(1))
}

fn send(hub: &Hub, link: &Rc<Link>, text: &[u8]) {
    hub.touch(link);
    link.outbox.push_tick(|tick| {
        ws::write_header(tick, Opcode::Text, text.len());
        tick.extend_from_slice(text);
    });
}

fn send_packet(hub: &Hub, link: &Rc<Link>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut text = Vec::new();
    write(&mut text);
    send(hub, link, &text);
}

/// Sends an event; `arguments` is what stands behind its name, a comma between.
fn emit(hub: &Hub, link: &Rc<Link>, name: &str, arguments: &[u8]) {
    let Some(namespace) = link.session.as_ref().and_then(|session| session.namespace()) else {
        return;
    };
    send_packet(hub, link, |out| {
        write_event_start(out, namespace, None, name);
        if !arguments.is_empty() {
            out.push(b',');
            out.extend_from_slice(arguments);
        }
        write_event_end(out);
    });
}

/// Says why a namespace is not joined.
fn refuse(hub: &Hub, link: &Rc<Link>, namespace: &str, why: &str) {
    send_packet(hub, link, |out| write_connect_error(out, namespace, why));
}

/// Answers an event that wants it.
fn acknowledge(hub: &Hub, link: &Rc<Link>, id: Option<u64>, arguments: &[u8]) {
    let namespace = link.session.as_ref().and_then(|session| session.namespace());
    if let (Some(namespace), Some(id)) = (namespace, id) {
        send_packet(hub, link, |out| write_ack(out, namespace, id, 0, arguments));
    }
}

/// Nothing happens in the root; who asks is told, so as not to ask again.
fn answer_root(hub: &Hub, link: &Rc<Link>, id: Option<u64>) {
    if let Some(id) = id {
        let refused = br#"{"status":"error","code":404,"message":"there are /v2 and /devices"}"#;
        send_packet(hub, link, |out| write_ack(out, ROOT, id, 0, refused));
    }
}

/// Deals with a frame of a session.
pub(crate) fn on_frame(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    frame: &Event<'_>,
) -> Outcome {
    let part = match *frame {
        Event::Text(text) => session.engine().read_text(text),
        Event::Binary(bytes) => session.engine().read_binary(bytes),
        Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => return Outcome::Done,
    };
    if !session.aside.is_empty() {
        aside::go_on(hub, link, session);
    }
    match part {
        Err(_) => link.close(CloseReason::ProtocolError),
        Ok(Part::Ping(said)) => send(hub, link, format!("3{said}").as_bytes()),
        Ok(Part::Close) => leave(hub, link),
        Ok(Part::Pong(_) | Part::Upgrade | Part::Noop) => (),
        Ok(Part::Message(text)) => {
            if let Event::Text(whole) = *frame
                && let Some(outcome) = second::take_text(link, session, whole)
            {
                return outcome;
            }
            return aside::take(hub, link, session, Message::Text(text));
        }
        Ok(Part::Binary(bytes)) => {
            if let Event::Binary(whole) = *frame
                && let Some(outcome) = second::take_binary(session, whole)
            {
                return outcome;
            }
            return aside::take(hub, link, session, Message::Binary(bytes));
        }
    }
    Outcome::Done
}

/// Deals with a message whose turn it is, unless it has to wait.
fn deal(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, message: Message<'_>) -> Outcome {
    let cost = match message {
        // What was asked for costs its bytes alone: events come faster than a client may send.
        Message::Text(text) => (u64::from(!session.awaits(text)), text.len()),
        Message::Binary(bytes) => (1, bytes.len()),
    };
    if !pay(hub, link, session, cost) {
        return Outcome::Full;
    }
    let outcome = match message {
        Message::Text(text) => on_text(hub, link, session, text),
        Message::Binary(bytes) => on_binary(hub, link, session, bytes),
    };
    if outcome == Outcome::Done {
        link.paid.set(false);
    }
    outcome
}

/// The client ends the session. A poll that waits gets the sign for nothing, a socket its close.
fn leave(hub: &Hub, link: &Rc<Link>) {
    match &link.socket {
        Socket::Polling(polling) if !polling.is_over() => send(hub, link, b"6"),
        Socket::Polling(_)
        | Socket::Tcp(_)
        | Socket::Tls(_)
        | Socket::Pipe(_)
        | Socket::Within(_) => {
            link.outbox.wait(ws::close_echo(Some(1000)));
        }
    }
    hub.flush();
    link.close(CloseReason::PeerClosed);
}

/// Takes from the rates of whoever it is; false if it has to wait. A packet that comes back to be tried
/// again is paid for.
fn pay(
    hub: &Hub,
    link: &Rc<Link>,
    session: &Session,
    (message_count, byte_len): (u64, usize),
) -> bool {
    if link.paid.get() {
        return true;
    }
    let Some(principal) = link.principal() else {
        session.anonymous_count.set(session.anonymous_count.get() + 1);
        if session.anonymous_count.get() > ANONYMOUS_PACKETS_MAX {
            link.close(CloseReason::ProtocolError);
        }
        link.paid.set(true);
        return true;
    };
    let sender = link.sender(hub, &principal);
    let is_paid = hub.shared.throttle.take(sender, message_count, byte_len as u64).is_ok();
    link.paid.set(is_paid);
    is_paid
}

fn on_text(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, text: &str) -> Outcome {
    let limits = &hub.shared.config.limits;
    let is_attaching = session.state.borrow().attaching.is_some();
    let Some(packet) = read(text, limits.json_depth_max).ok().filter(|_| !is_attaching) else {
        link.close(CloseReason::ProtocolError);
        return Outcome::Done;
    };
    if packet.head.attachment_count == 0 {
        return on_packet(hub, link, session, &packet);
    }
    match Attaching::begin(&packet, text, limits.frame_bytes_max) {
        Ok(attaching) => session.state.borrow_mut().attaching = Some(attaching),
        Err(_) => link.close(CloseReason::ProtocolError),
    }
    Outcome::Done
}

fn on_binary(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, bytes: &[u8]) -> Outcome {
    let (attached, attaching) = {
        let mut state = session.state.borrow_mut();
        let attached = state.attached.take();
        let attaching = if attached.is_none() { state.attaching.take() } else { None };
        (attached, attaching)
    };
    let text = match (attached, attaching.map(|attaching| attaching.push(bytes))) {
        (Some(text), _) => text,
        (None, Some(Ok(Ok(attached)))) => attached.text,
        (None, Some(Ok(Err(attaching)))) => {
            session.state.borrow_mut().attaching = Some(attaching);
            return Outcome::Done;
        }
        (None, None | Some(Err(_))) => {
            link.close(CloseReason::ProtocolError);
            return Outcome::Done;
        }
    };
    // No event of ours takes bytes: where one stands for a value, that value is refused.
    let packet = read(&text, hub.shared.config.limits.json_depth_max);
    let outcome = packet.map_or(Outcome::Done, |packet| on_packet(hub, link, session, &packet));
    if outcome == Outcome::Full {
        session.state.borrow_mut().attached = Some(text);
    }
    outcome
}

fn on_packet(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, packet: &Packet<'_>) -> Outcome {
    let Packet { head, data } = *packet;
    match head.kind {
        Kind::Connect => join::on_connect(hub, link, session, &head, data),
        Kind::Disconnect => join::on_disconnect(hub, link, session, &head),
        Kind::Ack if session.namespace() == Some(head.namespace) => session.on_ack(head.id),
        // Of a namespace that was left, nothing waits for it any more.
        Kind::Ack => (),
        Kind::Event if head.namespace == ROOT => answer_root(hub, link, head.id),
        Kind::Event if session.namespace() != Some(head.namespace) => {
            link.close(CloseReason::ProtocolError);
        }
        Kind::Event => {
            let Some((name, arguments)) = arguments(data) else { return Outcome::Done };
            let call = Call { name: &name, arguments: &arguments, id: head.id };
            if head.namespace == Namespace::Things.name() {
                things::on_event(hub, link, session, &call);
            } else {
                return kamea::on_event(hub, link, session, &call);
            }
        }
    }
    Outcome::Done
}

/// Says that the server ends this, where a client should not come back by itself: it would be told the
/// same again.
pub(crate) fn say_farewell(link: &Link, reason: CloseReason) {
    if let (CloseReason::HeartbeatTimeout, Socket::Polling(polling)) = (reason, &link.socket)
        && !polling.is_over()
    {
        return polling.exchange().forsake();
    }
    let Some(session) = link.session.as_ref().filter(|session| !session.is_parted.get()) else {
        return;
    };
    let is_final = matches!(
        reason,
        CloseReason::Policy
            | CloseReason::AuthFailed
            | CloseReason::AuthTimeout
            | CloseReason::RightsWithdrawn
            | CloseReason::Disconnected
    );
    let is_nobodys = reason == CloseReason::AuthTimeout;
    if !is_final || (is_nobodys && session.is_undecided.get()) {
        return;
    }
    // Of two namespaces the other one may come back, unless nobody is in either.
    if let Some(session) = link.carrier().and_then(|carrier| carrier.session.as_ref()) {
        session.is_parted.set(true);
    }
    let second = session.second.get().filter(|_| is_nobodys).map(|second| second.name);
    for namespace in session.namespace().into_iter().chain(second) {
        let mut text = Vec::new();
        write_disconnect(&mut text, namespace);
        link.outbox.wait(ws::frame(Opcode::Text, &text));
    }
}

#[cfg(test)]
mod tests;
