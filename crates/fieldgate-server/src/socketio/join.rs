//! Joining a namespace of a session, and leaving it.
//!
//! In: what the handshake of the namespace says: the data of a connect, and of the oldest clients the
//! query behind its name. Out: whether it is joined, and as what. Absent: who the client is, which its
//! events say.

use std::{rc::Rc, sync::Arc};

use axum::{extract::Query, http::Uri};
use fieldgate_core::id::Position;
use fieldgate_dialects::socketio::{Head, Namespace, ROOT, write_connect};
use fieldgate_store::secret::random_text;
use serde::Deserialize;

use super::{Joined, Session, http::SID_LEN, refuse, rooms, second, send_packet, window::Window};
use crate::{hub::Hub, link::Link, sink::Socket};

/// What the handshake of a namespace may say.
#[derive(Debug, Default, Deserialize)]
struct Auth {
    /// Where the client was: it wants to go on from there, and to know where it is.
    position: Option<String>,
    /// The same, as clients keep it that do so by themselves.
    offset: Option<String>,
    token: Option<String>,
    /// It acknowledges each event.
    ack: Option<Flag>,
}

/// Yes or no, also where a query can only say it in letters.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "Said")]
struct Flag(bool);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Is(bool),
    Spelled(String),
}

impl TryFrom<Said> for Flag {
    type Error = &'static str;

    fn try_from(said: Said) -> Result<Self, Self::Error> {
        match said {
            Said::Is(is) => Ok(Self(is)),
            Said::Spelled(word) => match word.as_str() {
                "true" | "1" => Ok(Self(true)),
                "false" | "0" | "" => Ok(Self(false)),
                _ => Err("true or false"),
            },
        }
    }
}

impl Auth {
    /// What the data of a connect says, or its query where it has none.
    fn read(data: &str, query: &str) -> Result<Self, &'static str> {
        if !data.is_empty() {
            return serde_json::from_str(data)
                .map_err(|_| "auth: position, offset and token are strings, ack is true or false");
        }
        let uri = format!("/?{query}").parse::<Uri>().ok();
        let read = uri.and_then(|uri| Query::try_from_uri(&uri).ok());
        read.map(|Query(auth)| auth).ok_or("query: position and token once, ack=true or ack=false")
    }

    /// The token, also where it is written as in a header; an empty one is none.
    fn bearer(&self) -> Option<Arc<str>> {
        let token = self.token.as_deref()?.trim();
        let bare = token.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("bearer"));
        let token = bare.map_or(token, |(_, token)| token.trim());
        (!token.is_empty() && !token.eq_ignore_ascii_case("bearer")).then(|| token.into())
    }
}

/// A client asks to join a namespace.
pub(super) fn on_connect(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    head: &Head<'_>,
    data: &str,
) {
    let name = head.namespace;
    // Programs show the ids of a namespace, and the session's own lets in whoever has it.
    let Ok(ids) = random_text(2 * SID_LEN) else {
        tracing::error!("no random numbers");
        return refuse(hub, link, name, "no id could be made");
    };
    let (id, pid) = ids.split_at(SID_LEN);
    if name == ROOT {
        return send_packet(hub, link, |out| write_connect(out, session.engine(), ROOT, id, None));
    }
    let namespace = match name {
        "/v2" => Namespace::Things,
        "/devices" => Namespace::Kamea("".into()),
        _ => return refuse(hub, link, name, "Invalid namespace"),
    };
    let now = session.state.borrow().joined.as_ref().map(|joined| {
        let is_same = joined.namespace.name() == name;
        (is_same, joined.has_left)
    });
    match now {
        Some((true, false)) => return refuse(hub, link, name, "this namespace is joined already"),
        Some((false, _)) => return second::join(hub, link, session, head, data),
        Some((true, true)) | None => (),
    }
    let auth = match Auth::read(data, head.query) {
        Ok(auth) => auth,
        Err(why) => return refuse(hub, link, name, why),
    };
    let positions = auth.offset.is_some() || auth.position.is_some();
    // A client that keeps positions has a newer one in the one than the program in the other. It takes
    // the last text of any event for one, and so the name of an event that has nothing else.
    let offset = auth.offset.as_deref().filter(|kept| kept.parse::<Position>().is_ok());
    let told = offset.or(auth.position.as_deref());
    let Ok(since) = told.filter(|told| !told.is_empty()).map(str::parse).transpose() else {
        return refuse(hub, link, name, "auth: a position is epoch:seq, as events name it");
    };
    let bearer = auth.bearer().or_else(|| session.handshake.bearer.clone());
    let socket = &link.carrier().unwrap_or(link).socket;
    if let (Some(_), Socket::Polling(polling)) = (&bearer, socket) {
        polling.exchange().note_shown();
    }
    let inflight_max = hub.shared.config.limits.inflight_max;
    let asks = auth.ack.is_some_and(|Flag(asks)| asks);
    session.set_window(asks.then(|| Window::new(inflight_max)));
    let before = session.state.borrow_mut().joined.take();
    let (rooms, kamea) = before.map(|before| (before.rooms, before.kamea)).unwrap_or_default();
    session.state.borrow_mut().joined = Some(Joined {
        namespace,
        has_left: false,
        owes_credential: link.principal().is_some(),
        positions,
        asks,
        since,
        since_until_ms: None,
        base: None,
        rooms,
        kamea,
        bearer,
    });
    // It tells clients that keep positions to do so; it names nothing that is kept here.
    let pid = positions.then_some(pid);
    send_packet(hub, link, |out| write_connect(out, session.engine(), name, id, pid));
}

/// A client leaves its namespace; it may come again.
pub(super) fn on_disconnect(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, head: &Head<'_>) {
    if session.namespace() != Some(head.namespace) {
        return;
    }
    rooms::leave_all(hub, link, session);
    session.set_window(None);
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        joined.has_left = true;
        joined.kamea.forget();
    }
}
