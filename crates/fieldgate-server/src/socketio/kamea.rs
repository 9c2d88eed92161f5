//! The namespace `/devices` of Kamea: `telemetries`, and what it is answered (`wire.md` 3).
//!
//! Who may see a device may be another system's to say: until it has, what the client sends behind its
//! request waits. Rooms that such a system decides about are asked for again (`kamea/again.rs`).

mod again;

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

pub(super) use again::on_tick;

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
    /// What it wants to see, and how many rooms it ever did.
    wanted: Vec<again::Wanted>,
    wanted_count: u64,
}

impl Asked {
    /// Its client has left: nothing is wanted any more.
    pub(super) fn forget(&mut self) {
        self.wanted.clear();
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
        Verdict::Failed(why) => {
            keep(hub, link, session, &request);
            refuse(hub, link, call, &why);
        }
    }
    Outcome::Done
}

/// Nobody could tell whether a client may see a device: it is asked for again. Who is nobody for that
/// reason alone is not sent away for good.
fn keep(hub: &Hub, link: &Link, session: &Session, request: &Request) {
    if !hub.shared.config.kamea.authorization.is_asked() {
        return;
    }
    let count_max = hub.shared.config.limits.topics_per_connection_max;
    let mut state = session.state.borrow_mut();
    let is_new =
        state.joined.as_mut().is_some_and(|joined| joined.kamea.shut(link, request, count_max));
    if is_new {
        // It was an honest request, as far as anybody can tell; of these there are no more than rooms.
        session.anonymous_count.set(session.anonymous_count.get().saturating_sub(1));
    }
    session.is_undecided.set(true);
    if let Some(carrier) = link.carrier().and_then(|carrier| carrier.session.as_ref()) {
        carrier.is_undecided.set(true);
    }
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
            authorize(&shared, bearer.as_deref(), Some(peer), &request, None).await
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
        joined.kamea.open(link, request, entered.clone());
    }
    rooms::enter(hub, link, session, entered);
    Ok(())
}

/// A client wants to see a device no more.
fn leave(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, device: &DeviceId) {
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        joined.kamea.drop_device(device);
    }
    rooms::leave(hub, link, session, device.as_str());
}
