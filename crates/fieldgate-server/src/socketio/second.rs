//! The second namespace of a session: a link of its own, within the one that has the socket (decision
//! 0019).
//!
//! In: packets that name it, from the link that reads them. Out: what it says, in the turn of that link.
//! Absent: what its packets mean, and the way of events to it, which are those of every session.
//! Invariant: there is one at most, since there are two namespaces with rooms.

use std::{cell::Cell, rc::Rc, time::Duration};

use fieldgate_core::{close::CloseReason, id::TenantId};
use fieldgate_dialects::{
    socketio::{Head, head},
    wire::Form,
    ws::{self, Opcode},
};

use super::{Session, aside, join::on_connect, refuse};
use crate::{
    asks::Outcome,
    hub::Hub,
    link::{self, Link},
    sink::{Channel, Socket, Within},
};

/// What the link that has the socket knows of the other one.
#[derive(Debug)]
pub(super) struct Second {
    pub(super) name: &'static str,
    channel: Rc<Channel>,
    /// So many binary messages belong to the packet that it was handed last, and follow.
    binary_count: Cell<usize>,
    /// It was heard, and the link that has the socket reads the log: that one has a turn.
    rests: Cell<bool>,
}

/// How long such a turn is: longer than the pause in which a link looks for room.
const TURN: Duration = Duration::from_millis(4);

impl Second {
    /// Bytes of its client that came and wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.channel.waiting_bytes()
    }
}

impl Session {
    /// Whether its connection is somebody's by its second namespace.
    pub(crate) fn is_carrying(&self) -> bool {
        self.carried.get().is_some()
    }

    /// Whether its second namespace is somebody's of this tenant.
    pub(crate) fn carries(&self, tenant: &TenantId) -> bool {
        self.carried.get() == Some(tenant)
    }

    /// Its second namespace is somebody's of this tenant, and stays so.
    pub(crate) fn carry(&self, tenant: &TenantId) {
        self.carried.get_or_init(|| tenant.clone());
    }

    /// Its link has ended, and the second one with it.
    pub(crate) fn end_second(&self) {
        if let Some(second) = self.second.get() {
            second.channel.end();
        }
    }
}

/// A client asks for a second namespace: it gets a link, which is nobody's yet.
pub(super) fn join(
    hub: &Rc<Hub>,
    carrier: &Rc<Link>,
    session: &Session,
    head: &Head<'_>,
    data: &str,
) {
    let name = match head.namespace {
        "/v2" => "/v2",
        _ => "/devices",
    };
    let channel = Rc::new(Channel::default());
    let second = Second {
        name,
        channel: Rc::clone(&channel),
        binary_count: Cell::new(0),
        rests: Cell::new(false),
    };
    if carrier.carrier().is_some() || session.second.set(second).is_err() {
        // Packets that name it do not come here once it is there.
        return refuse(hub, carrier, head.namespace, "this connection serves two namespaces");
    }
    let within = Socket::Within(Within::new(channel, Rc::clone(carrier)));
    let own = Some(Box::new(Session::new(session.handshake.clone())));
    let link = Rc::new(Link::new(hub, (within, Form::Session), (carrier.peer, None), own));
    hub.add_link(&link);
    tokio::task::spawn_local(link::run_within(Rc::clone(hub), Rc::clone(&link)));
    if let Some(session) = &link.session {
        on_connect(hub, &link, session, head, data);
    }
}

/// Hands a text to the second namespace, if it is for that one.
pub(super) fn take_text(link: &Link, session: &Session, text: &str) -> Option<Outcome> {
    let second = session.second.get()?;
    if session.awaits_bytes() {
        return None;
    }
    if second.binary_count.get() > 0 {
        link.close(CloseReason::ProtocolError);
        return Some(Outcome::Done);
    }
    let (_, packet) = text.split_at_checked(1)?;
    let (head, _) = head(packet).ok()?;
    if head.namespace != second.name {
        return None;
    }
    if !second.channel.put(&ws::frame_masked(Opcode::Text, text.as_bytes(), [0; 4])) {
        return Some(Outcome::Full);
    }
    second.binary_count.set(head.attachment_count);
    Some(Outcome::Done)
}

/// Hands a binary message to the second namespace, if it belongs to a packet of that one.
pub(super) fn take_binary(session: &Session, bytes: &[u8]) -> Option<Outcome> {
    let second = session.second.get().filter(|second| second.binary_count.get() > 0)?;
    if !second.channel.put(&ws::frame_masked(Opcode::Binary, bytes, [0; 4])) {
        return Some(Outcome::Full);
    }
    second.binary_count.set(second.binary_count.get() - 1);
    Some(Outcome::Done)
}

/// Goes on with what waits of either namespace: what the first one was sent, and what the second one
/// said.
pub(crate) fn carry(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    if !session.aside.is_empty() {
        aside::go_on(hub, link, session);
    }
    if let Some(second) = session.second.get() {
        carry_second(hub, link, second);
    }
}

/// Takes what the second namespace said into the turn of its carrier, while that one is half empty;
/// all of it where it ends.
fn carry_second(hub: &Hub, link: &Rc<Link>, second: &Second) {
    // What then has no room waits for the socket, which wakes the carrier; what a later write took at
    // once would not.
    hub.flush();
    if (!link.outbox.has_room() || second.rests.get()) && !link.is_closing() {
        return;
    }
    let frames = second.channel.take();
    if !frames.is_empty() {
        hub.touch(link);
        link.outbox.push_shared(frames.into());
        if link.behind.get() {
            rest(link, second);
        }
    }
}

/// Lets a link that reads the log find room in its own outbox before the second namespace fills it again.
fn rest(link: &Rc<Link>, second: &Second) {
    second.rests.set(true);
    let link = Rc::clone(link);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(TURN).await;
        if let Some(second) = link.session.as_ref().and_then(|session| session.second.get()) {
            second.rests.set(false);
        }
        link.wake();
    });
}
