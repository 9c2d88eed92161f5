//! The namespace `/devices` of Kamea: `telemetries`, and what it is answered (`wire.md` 3).
//!
//! Who may see a device may be another system's to say: until it has, what the client sends behind its
//! request waits. Rooms that such a system let in are asked for again.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use fieldgate_core::{close::CloseReason, id::DeviceId};
use fieldgate_dialects::{
    kamea::{ACCESS_DENIED, INTERNAL_SERVER_ERROR, Request, TELEMETRIES, UNSUBSCRIBE, request},
    socketio::{Namespace, Room},
};
use serde_json::json;

use super::{Call, Session, acknowledge, emit, rooms};
use crate::{
    asks::{self, Outcome},
    hub::Hub,
    kamea::{Verdict, authorize},
    link::Link,
};

/// Most rights that a guest collects in one connection.
const GRANTS_MAX: usize = 3_072;

/// What a session asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The verdict on the request in hand, once there is one.
    pending: Option<Arc<Mutex<Option<Verdict>>>>,
    /// What it may see, and under which name here.
    open: Vec<(Request, Room)>,
    /// When all of that was asked for again, in ms of its link, and whether it still is.
    asked_ms: u64,
    is_asking: bool,
}

impl Asked {
    /// Its client has left: nothing is open any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }
}

pub(super) fn on_event(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    call: &Call<'_>,
) -> Outcome {
    let read = || request(call.arguments.first().copied().unwrap_or_default());
    match call.name {
        TELEMETRIES => match read() {
            Ok(request) => return on_request(hub, link, session, call, request),
            Err(why) => refuse(hub, link, call, &why),
        },
        UNSUBSCRIBE => match read() {
            Ok(request) => {
                let names = request.devices();
                names.for_each(|device| leave(hub, link, session, &device));
                acknowledge(hub, link, call.id, b"{\"status\":\"success\"}");
            }
            Err(why) => refuse(hub, link, call, &why),
        },
        // Nothing is said of it but to who asks, so as not to ask again.
        _ => tell_error(hub, link, call, 404, "there is no such event"),
    }
    Outcome::Done
}

/// A request is not served; who asked for an answer gets that, too.
fn refuse(hub: &Hub, link: &Rc<Link>, call: &Call<'_>, why: &str) {
    fail(hub, link, why);
    tell_error(hub, link, call, 500, why);
}

fn tell_error(hub: &Hub, link: &Rc<Link>, call: &Call<'_>, code: u16, why: &str) {
    let told = json!({"status": "error", "code": code, "message": why});
    acknowledge(hub, link, call.id, told.to_string().as_bytes());
}

/// Something went wrong that is not the client's to mend by going away.
fn fail(hub: &Hub, link: &Rc<Link>, why: &str) {
    emit(hub, link, INTERNAL_SERVER_ERROR, json!({"message": why}).to_string().as_bytes());
}

fn deny(hub: &Hub, link: &Rc<Link>) {
    emit(hub, link, ACCESS_DENIED, b"");
    link.close(CloseReason::RightsWithdrawn);
}

fn on_request(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    call: &Call<'_>,
    request: Request,
) -> Outcome {
    let pending = {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return Outcome::Done };
        joined.kamea.pending.clone()
    };
    let Some(pending) = pending else {
        ask(hub, session, link, request);
        return Outcome::Full;
    };
    let verdict = pending.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(verdict) = verdict else { return Outcome::Full };
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        joined.kamea.pending = None;
    }
    match verdict {
        Verdict::Allowed(room) => match admit(hub, link, session, request, *room) {
            Ok(()) => acknowledge(hub, link, call.id, b"{\"status\":\"success\"}"),
            Err(why) => refuse(hub, link, call, why),
        },
        Verdict::Denied => {
            tell_error(hub, link, call, 403, ACCESS_DENIED);
            deny(hub, link);
        }
        Verdict::Failed(why) => refuse(hub, link, call, &why),
    }
    Outcome::Done
}

/// Has somebody decide, away from this thread's other work.
fn ask(hub: &Rc<Hub>, session: &Session, link: &Link, request: Request) {
    let slot = Arc::new(Mutex::new(None));
    let bearer = {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        joined.kamea.pending = Some(Arc::clone(&slot));
        joined.bearer.clone()
    };
    let (hub, peer) = (Rc::clone(hub), link.peer);
    tokio::task::spawn_local(async move {
        let shared = Arc::clone(&hub.shared);
        let decided = hub.shared.runtime.spawn(async move {
            authorize(&shared, bearer.as_deref(), Some(peer), &request).await
        });
        let broken = || Verdict::Failed("the question could not be asked".to_owned());
        let verdict = decided.await.unwrap_or_else(|_| broken());
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        hub.space.notify_waiters();
    });
}

/// A client may see a device: it gets its events.
fn admit(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    request: Request,
    room: crate::kamea::Room,
) -> Result<(), &'static str> {
    match link.principal() {
        None => {
            asks::welcome(hub, link, room.principal);
            if link.is_closing() {
                return Ok(());
            }
        }
        Some(principal) if principal.tenant != room.principal.tenant => {
            return Err("this connection is another tenant's: use one of its own (forceNew)");
        }
        // It left, and came again with another token.
        Some(principal) if principal.name != room.principal.name => {
            return Err("this connection is somebody else's: use one of its own (forceNew)");
        }
        Some(principal) => {
            // Who is nobody here may follow what was asked for, one after the other.
            let mut grown = (*principal).clone();
            let new = room.principal.grants.into_iter();
            grown.grants.extend(new.filter(|grant| !principal.grants.contains(grant)));
            if grown.grants.len() > GRANTS_MAX {
                return Err("too many devices for one connection");
            }
            link.set_principal(grown);
            // What was decided elsewhere may be withdrawn by now.
            hub.recheck(link.id);
            if link.is_closing() {
                return Ok(());
            }
        }
    }
    let entered = Room::Telemetries(room.device);
    rooms::may_enter(hub, link, session, &entered).map_err(|(_, why)| why)?;
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        if joined.tenant_id().is_none() {
            joined.namespace = Namespace::Kamea(request.tenant.as_str().into());
        }
        joined.kamea.open.retain(|(_, room)| *room != entered);
        joined.kamea.open.push((request, entered.clone()));
    }
    rooms::enter(hub, link, session, entered);
    Ok(())
}

/// Asks again for what is open, from time to time.
pub(super) fn on_tick(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    let authorization = &hub.shared.config.kamea.authorization;
    let (open, bearer) = {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        let now = link.age_ms();
        let is_due = now >= joined.kamea.asked_ms + authorization.recheck_s.saturating_mul(1_000);
        let is_idle = joined.kamea.open.is_empty() || joined.kamea.is_asking;
        if !authorization.is_asked() || is_idle || !is_due {
            return;
        }
        (joined.kamea.asked_ms, joined.kamea.is_asking) = (now, true);
        (joined.kamea.open.clone(), joined.bearer.clone())
    };
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        for (request, room) in open {
            ask_again(&hub, &link, bearer.clone(), request, &room).await;
            hub.flush();
        }
        let Some(session) = &link.session else { return };
        if let Some(joined) = &mut session.state.borrow_mut().joined {
            joined.kamea.is_asking = false;
        }
    });
}

async fn ask_again(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    bearer: Option<Arc<str>>,
    request: Request,
    room: &Room,
) {
    let is_there = |session: &Session| !link.is_closing() && is_open(session, room);
    let Some(session) = link.session.as_deref().filter(|session| is_there(session)) else { return };
    let shared = Arc::clone(&hub.shared);
    let asking = async move { authorize(&shared, bearer.as_deref(), None, &request).await };
    let decided = hub.shared.runtime.spawn(asking).await;
    // It may have left meanwhile.
    if !is_there(session) {
        return;
    }
    match decided {
        Ok(Verdict::Allowed(_)) => (),
        Ok(Verdict::Denied) => deny(hub, link),
        Ok(Verdict::Failed(why)) => {
            fail(hub, link, &why);
            close(hub, link, session, room);
        }
        Err(_) => close(hub, link, session, room),
    }
}

fn is_open(session: &Session, room: &Room) -> bool {
    let state = session.state.borrow();
    state.joined.as_ref().is_some_and(|joined| joined.kamea.open.iter().any(|(_, of)| of == room))
}

/// A client wants to see a device no more.
fn leave(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, device: &DeviceId) {
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        joined.kamea.open.retain(|(_, room)| *room != Room::Telemetries(device.clone()));
    }
    rooms::leave(hub, link, session, device.as_str());
}

/// Nobody says that a client may still see a device: it does not.
fn close(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, room: &Room) {
    if let Room::Telemetries(device) = room {
        leave(hub, link, session, device);
    }
}
