//! Rooms that another system decides about, asked for again while their client wants them.
//!
//! A room is open while its last yes is young enough, and shut where nobody says yes any more. What is open
//! is asked for again in time, what is shut after a pause that grows: with a yes it is entered again, and
//! begins with the last values. Each is asked for by itself, so that none waits for the answer of another.
//! Absent: what a service is spared, which is its own (`kamea/pace.rs`). Invariant: nothing of a room
//! comes later than `recheck_s` and `timeout_ms` behind its last yes, whatever the service does.

use std::{
    hash::{BuildHasher as _, RandomState},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fieldgate_core::{backoff::Backoff, id::DeviceId};
use fieldgate_dialects::{kamea::Request, socketio::Room};

use super::{Asked, admit, deny, fail};
use crate::{
    config::Authorization,
    hub::Hub,
    kamea::{Verdict, authorize},
    link::Link,
    socketio::{Session, rooms},
};

/// How long it is until what is shut is asked for again.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(8) };
/// How long the next look at a session may be away, in ms.
const LOOK_MS: u64 = 500;

/// A room that a client wants.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Names it among all that the session ever wanted.
    number: u64,
    request: Request,
    room: Room,
    standing: Standing,
    is_asking: bool,
}

/// Whether a room may be seen. Times are those of its link.
#[derive(Debug)]
enum Standing {
    /// It may since the last yes. It is asked for early by a share of what it may be, by chance, as rooms
    /// that were entered together are not to be asked for together.
    Open { yes_ms: u64, chance: u64 },
    /// Nobody said so, this many times in a row.
    Shut { failed_count: u32, ask_ms: u64 },
}

impl Standing {
    fn open(link: &Link) -> Self {
        Self::Open { yes_ms: link.age_ms(), chance: random() }
    }

    fn shut(link: &Link, failed_count: u32) -> Self {
        let pause = PAUSES.delay(failed_count.saturating_sub(1), random());
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self::Shut { failed_count, ask_ms: link.age_ms().saturating_add(pause_ms) }
    }

    /// When it is to be asked for: what is open in the second half of the time until then.
    fn ask_ms(&self, config: &Authorization) -> u64 {
        match *self {
            Self::Open { yes_ms, chance } => {
                let recheck_ms = config.recheck_s.saturating_mul(1_000);
                let early_ms = chance % (recheck_ms / 2).max(1);
                (yes_ms + recheck_ms).saturating_sub(early_ms + LOOK_MS)
            }
            Self::Shut { ask_ms, .. } => ask_ms,
        }
    }

    /// When it is shut without another yes.
    fn end_ms(&self, config: &Authorization) -> Option<u64> {
        match *self {
            Self::Open { yes_ms, .. } => {
                Some(yes_ms + config.recheck_s.saturating_mul(1_000) + config.timeout_ms)
            }
            Self::Shut { .. } => None,
        }
    }
}

impl Asked {
    /// A room is open from now on.
    pub(super) fn open(&mut self, link: &Link, request: Request, room: Room) {
        // What was shut has no name here yet: a device may be called as it was not written.
        let is_same = |wanted: &Wanted| match wanted.standing {
            Standing::Open { .. } => wanted.room == room,
            Standing::Shut { .. } => wanted.room == room || wanted.request == request,
        };
        self.wanted.retain(|wanted| !is_same(wanted));
        self.want(request, room, Standing::open(link));
    }

    /// A room is shut, and asked for again. False if it is wanted already, or too many are.
    pub(super) fn shut(&mut self, link: &Link, request: &Request, count_max: usize) -> bool {
        let room = Room::Telemetries(request.device.clone());
        let is_known = |wanted: &Wanted| wanted.room == room || wanted.request == *request;
        if self.wanted.len() >= count_max || self.wanted.iter().any(is_known) {
            return false;
        }
        self.want(request.clone(), room, Standing::shut(link, 1));
        true
    }

    fn want(&mut self, request: Request, room: Room, standing: Standing) {
        self.wanted_count += 1;
        let number = self.wanted_count;
        self.wanted.push(Wanted { number, request, room, standing, is_asking: false });
    }

    /// A device is wanted no more.
    pub(super) fn drop_device(&mut self, device: &DeviceId) {
        self.wanted.retain(|wanted| wanted.room != Room::Telemetries(device.clone()));
    }
}

/// Asks again for what it is time for.
pub(in crate::socketio) fn on_tick(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    let authorization = &hub.shared.config.kamea.authorization;
    if !authorization.is_asked() || link.is_closing() {
        return;
    }
    let now = link.age_ms();
    let mut due = Vec::new();
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        for wanted in &mut joined.kamea.wanted {
            if !wanted.is_asking && now >= wanted.standing.ask_ms(authorization) {
                wanted.is_asking = true;
                due.push(wanted.number);
            }
        }
    }
    for number in due {
        let (hub, link) = (Rc::clone(hub), Rc::clone(link));
        tokio::task::spawn_local(async move { ask_again(&hub, &link, number).await });
    }
}

/// Asks for one room, and does what follows; it is shut where the answer does not come in time.
async fn ask_again(hub: &Rc<Hub>, link: &Rc<Link>, number: u64) {
    let Some(session) = link.session.as_deref() else { return };
    let config = &hub.shared.config.kamea.authorization;
    let asked = with(link, session, number, |wanted| {
        let end_ms = wanted.standing.end_ms(config);
        let open = end_ms.map(|end_ms| Duration::from_millis(end_ms.saturating_sub(link.age_ms())));
        (wanted.request.clone(), open)
    });
    let Some((request, open)) = asked else { return };
    let bearer = session.state.borrow().joined.as_ref().and_then(|joined| joined.bearer.clone());
    // Who is still nobody may have shown a wrong token.
    let address = link.principal().is_none().then_some(link.peer);
    let (shared, question) = (Arc::clone(&hub.shared), request.clone());
    let mut asking = hub.shared.runtime.spawn(async move {
        authorize(&shared, bearer.as_deref(), address, &question, open).await
    });
    let decided = match open {
        Some(open) => match tokio::time::timeout(open, &mut asking).await {
            Ok(decided) => decided,
            Err(_) => {
                on_failure(
                    hub,
                    link,
                    session,
                    number,
                    "the authorization service did not say in time that it still may",
                );
                hub.flush();
                asking.await
            }
        },
        None => asking.await,
    };
    // It may have left meanwhile.
    if with(link, session, number, |wanted| wanted.is_asking = false).is_none() {
        return;
    }
    match decided {
        Ok(Verdict::Allowed(room)) => on_yes(hub, link, session, number, request, *room),
        Ok(Verdict::Denied) => deny(hub, link),
        Ok(Verdict::Failed(why)) => on_failure(hub, link, session, number, &why),
        Err(_) => on_failure(hub, link, session, number, "the question could not be asked"),
    }
    hub.flush();
}

fn on_yes(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    number: u64,
    request: Request,
    room: crate::kamea::Room,
) {
    let is_open = with(link, session, number, |wanted| {
        let is_open = matches!(wanted.standing, Standing::Open { .. });
        if is_open {
            wanted.standing = Standing::open(link);
        }
        is_open
    });
    if is_open != Some(false) {
        return;
    }
    if let Err(why) = admit(hub, link, session, request, room) {
        fail(hub, link, why);
        if let Some(joined) = &mut session.state.borrow_mut().joined {
            joined.kamea.wanted.retain(|wanted| wanted.number != number);
        }
    }
}

/// Nobody says that a client may see a room: it does not, and is told so once.
fn on_failure(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, number: u64, why: &str) {
    let shut = with(link, session, number, |wanted| {
        let (count, shut) = match wanted.standing {
            Standing::Open { .. } => (1, Some(wanted.room.clone())),
            Standing::Shut { failed_count, .. } => (failed_count.saturating_add(1), None),
        };
        wanted.standing = Standing::shut(link, count);
        shut
    });
    if let Some(Some(Room::Telemetries(device))) = shut {
        rooms::leave(hub, link, session, device.as_str());
        fail(hub, link, why);
    }
}

/// Looks at a room, if it is still wanted.
fn with<R>(
    link: &Link,
    session: &Session,
    number: u64,
    look: impl FnOnce(&mut Wanted) -> R,
) -> Option<R> {
    if link.is_closing() {
        return None;
    }
    let mut state = session.state.borrow_mut();
    let wanted = &mut state.joined.as_mut()?.kamea.wanted;
    wanted.iter_mut().find(|wanted| wanted.number == number).map(look)
}

/// Chance, of no secret use.
fn random() -> u64 {
    RandomState::new().hash_one(())
}
