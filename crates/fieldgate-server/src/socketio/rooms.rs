//! The rooms of a session: entered, left, and followed while rights change.
//!
//! A room is entered when its past has been told: what its client missed, read from the log behind its
//! position, or else the last values. What comes live meanwhile is no event of that room, and is in what
//! is read; so nothing is missed, and nothing comes twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::LazyLock,
};

use fieldgate_core::{
    access::Principal,
    dialect::Subscribe,
    id::{DeviceId, Position, Seq},
    message::Qos,
    topic::{Filter, Topic},
};
use fieldgate_dialects::socketio::{Namespace, Positions, Room, Rooms};

use super::{
    Joined, Session, last,
    stays::{Stay, Stays},
};
use crate::{
    catchup,
    hub::Hub,
    kamea,
    link::Link,
    subscriptions,
    thethings::{Seen, devices_of},
};

/// Most filters that the rooms of one connection are made of, two or three for each device.
const FILTERS_MAX: usize = 1_536;
/// How long after its first room a client that comes back enters those that it was in.
const RETURN_MS: u64 = 1_000;
/// What carries the values of any device; the same bytes for all who follow it.
static EVERY: LazyLock<Vec<Filter>> = LazyLock::new(|| {
    let texts = ["devices/+/telemetry", "devices/+/state/reported"];
    texts.iter().filter_map(|text| text.parse().ok()).collect()
});

/// The rooms of a session.
#[derive(Debug, Default)]
pub(super) struct Entered {
    pub(super) rooms: Stays,
    /// For how many looks the marks of the past have stood.
    age: u8,
    /// Rooms whose last values are to be told, and whether a task does it: one at a time, so that who
    /// enters and leaves again and again costs no more than once.
    pub(super) owed: BTreeSet<Room>,
    pub(super) is_telling: bool,
    /// Whether rooms among them begin so: its client's position stands until it was told all.
    pub(super) is_beginning: bool,
    entered_count: u64,
    /// Whether its position was held back at the last look.
    is_held: bool,
}

impl Entered {
    /// Whether the past of a room is being told.
    fn is_pending(&self) -> bool {
        self.rooms.iter().any(|(_, stay)| stay.told.is_none())
    }
}

/// The topics of a device that carry its values.
pub(super) fn filters_of(device: &DeviceId) -> [Filter; 2] {
    ["telemetry", "state/reported"].map(|leaf| Filter::from(&Topic::of_device(device, leaf)))
}

const fn subscribe(filter: Filter) -> Subscribe {
    Subscribe { filter, qos: Qos::AtLeastOnce, since: None, slow: None, rate_max: None }
}

/// What the events of a room are made of, as far as this principal may see it.
fn filters(hub: &Hub, principal: &Principal, room: &Room) -> Vec<Filter> {
    match room {
        Room::Thing(device, _) => permitted(principal, filters_of(device)),
        Room::Telemetries(device) => permitted(principal, kamea::filters(device)),
        Room::Resource(_) => match devices_of(&hub.shared, principal) {
            Seen::All => EVERY.clone(),
            Seen::Only(devices) => devices.iter().flat_map(filters_of).collect(),
        },
    }
}

fn permitted(principal: &Principal, filters: impl IntoIterator<Item = Filter>) -> Vec<Filter> {
    filters.into_iter().filter(|filter| principal.may_subscribe(filter)).collect()
}

/// The devices that a room is about now.
pub(super) fn devices(hub: &Hub, principal: &Principal, room: &Room) -> Vec<DeviceId> {
    match room {
        // Who may not see it any more stays in its room, as in those of resources.
        Room::Thing(..) if filters(hub, principal, room).is_empty() => Vec::new(),
        Room::Thing(device, _) | Room::Telemetries(device) => vec![device.clone()],
        Room::Resource(_) => {
            let seen = devices_of(&hub.shared, principal);
            hub.shared.state.known_devices(&principal.tenant, |device| seen.has(device))
        }
    }
}

/// Whether a client may be in one more room.
pub(super) fn may_enter(
    hub: &Hub,
    link: &Link,
    session: &Session,
    room: &Room,
) -> Result<(), (u16, &'static str)> {
    let max = hub.shared.config.limits.topics_per_connection_max;
    let Some(principal) = link.principal() else { return Ok(()) };
    let count = session.state.borrow().joined.as_ref().map_or(0, |joined| joined.rooms.rooms.len());
    if count >= max {
        return Err((400, "above limits.topics_per_connection_max"));
    }
    let mut wanted = all_filters(hub, session, &principal);
    wanted.extend(filters(hub, &principal, room));
    if wanted.len() > FILTERS_MAX {
        return Err((400, "the rooms of one connection are made of 512 devices at most"));
    }
    Ok(())
}

fn all_filters(hub: &Hub, session: &Session, principal: &Principal) -> BTreeSet<Filter> {
    let state = session.state.borrow();
    let rooms = || state.joined.iter().flat_map(|joined| joined.rooms.rooms.rooms());
    let is_resource = |room: &&Room| matches!(room, Room::Resource(_));
    // Resources are all of the same devices.
    let others = rooms().filter(|room| !is_resource(room));
    let all = rooms().find(is_resource).into_iter().chain(others);
    all.flat_map(|room| filters(hub, principal, room)).collect()
}

/// Follows what the rooms of a session are made of, and nothing else.
fn follow(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    let Some(principal) = link.principal() else { return };
    let wanted = all_filters(hub, session, &principal);
    let now: BTreeSet<Filter> =
        link.subscriptions.borrow().values().map(|s| s.filter.clone()).collect();
    for filter in now.difference(&wanted) {
        let _not_there = subscriptions::unsubscribe(hub, link, filter.clone());
    }
    for filter in wanted.difference(&now) {
        subscriptions::join(hub, link, &principal, &subscribe(filter.clone()));
    }
}

/// Says to the hub which events are for a session.
pub(super) fn settle(hub: &Hub, link: &Link, joined: &mut Joined) {
    joined.rooms.is_held = joined.is_held_at(link.age_ms());
    let told = |(room, stay): &(Room, Stay)| stay.told.map(|told| (room.clone(), told));
    let rooms = joined.rooms.rooms.iter().filter_map(told).collect();
    let (namespace, positions) = (joined.namespace.clone(), joined.positions_at(link.age_ms()));
    hub.enter_rooms(link, Rooms { namespace, positions, asks: joined.asks, rooms });
}

/// Enters a room: tells its past, then what comes.
pub(super) fn enter(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, room: Room) {
    let (number, since) = {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        if joined.rooms.rooms.contains(&room) {
            return;
        }
        joined.rooms.entered_count += 1;
        let number = joined.rooms.entered_count;
        joined.rooms.rooms.insert(room.clone(), Stay { number, told: None });
        let now = link.age_ms();
        let until = *joined.since_until_ms.get_or_insert(now + RETURN_MS);
        let since = joined.since.filter(|_| now < until);
        // What others get meanwhile must not move it beyond what it misses of this one.
        settle(hub, link, joined);
        (number, since)
    };
    follow(hub, link, session);
    let Some(after) = since else { return begin(hub, link, session, &room, number) };
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        tell_past(&hub, &link, room, number, after).await;
        hub.flush();
    });
}

/// Begins with the last values, and with what comes from now on.
fn begin(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, room: &Room, number: u64) {
    let routed = hub.shared.routing().routed;
    enter_from(hub, link, session, room, number, routed);
    last::begin(hub, link, session, room.clone());
}

/// A room alone, as its link gets its events.
pub(super) fn alone(link: &Link, session: &Session, room: &Room, told: Seq) -> Option<Rooms> {
    let state = session.state.borrow();
    let joined = state.joined.as_ref()?;
    let (namespace, positions) = (joined.namespace.clone(), joined.positions_at(link.age_ms()));
    let rooms = BTreeMap::from([(room.clone(), told)]);
    Some(Rooms { namespace, positions, asks: joined.asks, rooms })
}

/// A link gets what comes behind this number, if it has not left the room meanwhile.
fn enter_from(hub: &Hub, link: &Link, session: &Session, room: &Room, number: u64, told: Seq) {
    let mut state = session.state.borrow_mut();
    let Some(joined) = &mut state.joined else { return };
    let stay = joined.rooms.rooms.get_mut(room).filter(|stay| stay.number == number);
    let Some(stay) = stay else { return };
    stay.told = Some(told);
    joined.rooms.age = 0;
    // Of its rooms the first one begins before the others.
    joined.base.get_or_insert(told);
    settle(hub, link, joined);
}

/// Tells what the log has of a room behind a position; where it has not all of it, the last values.
async fn tell_past(hub: &Rc<Hub>, link: &Rc<Link>, room: Room, number: u64, after: Position) {
    let (Some(session), Some(principal)) = (&link.session, link.principal()) else { return };
    let waiting = Some(Stay { number, told: None });
    let Some(one) = alone(link, session, &room, Seq(0)) else { return };
    let held = hub.hold_rooms(one);
    let filters = filters(hub, &principal, &room);
    if filters.is_empty() {
        // Who sees no device missed nothing; a reader without filters would be told of all.
        let routed = hub.shared.routing().routed;
        return enter_from(hub, link, session, &room, number, routed);
    }
    let wanted = (filters, held.form());
    let done = || link.is_closing() || stay_in(session, &room) != waiting;
    let told = tokio::select! {
        biased;
        () = left(session, &room, number) => return,
        told = catchup::tell_past(hub, link, wanted, after, &done) => told,
    };
    match told {
        Ok(Some(reached)) => enter_from(hub, link, session, &room, number, reached),
        Ok(None) => (),
        Err(catchup::Foreign) if done() => (),
        Err(catchup::Foreign) => {
            forget_since(session, &room);
            begin(hub, link, session, &room, number);
        }
    }
}

/// Waits until a room is left; one that is entered again is another stay.
async fn left(session: &Session, room: &Room, number: u64) {
    loop {
        let left = {
            let state = session.state.borrow();
            let Some(joined) = &state.joined else { return };
            let stay = joined.rooms.rooms.get(room).filter(|stay| stay.number == number);
            if stay.is_none() {
                return;
            }
            joined.rooms.rooms.left().next()
        };
        left.await;
    }
}

/// Where its client was is nowhere in this log: it begins again, unless it still misses something of
/// another room.
fn forget_since(session: &Session, room: &Room) {
    let mut state = session.state.borrow_mut();
    let Some(joined) = &mut state.joined else { return };
    let others = || joined.rooms.rooms.iter().filter(|(other, _)| other != room);
    if others().all(|(_, stay)| stay.told.is_some()) {
        joined.since = None;
    }
}

pub(super) fn stay_in(session: &Session, room: &Room) -> Option<Stay> {
    let state = session.state.borrow();
    state.joined.as_ref()?.rooms.rooms.get(room)
}

/// Leaves the room of this topic, if the session is in it.
pub(super) fn leave(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, topic: &str) {
    let is_meant = |room: &Room| match room {
        Room::Resource(resource) => topic.strip_prefix("/me/resources/") == Some(resource),
        Room::Thing(_, token) => topic.strip_prefix("/things/") == Some(token),
        Room::Telemetries(device) => topic == device.as_str(),
    };
    {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        let before = joined.rooms.rooms.len();
        joined.rooms.rooms.retain(|room| !is_meant(room));
        if joined.rooms.rooms.len() == before {
            return;
        }
        settle(hub, link, joined);
    }
    follow(hub, link, session);
}

/// Leaves all rooms.
pub(super) fn leave_all(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        joined.rooms.rooms = Stays::default();
        joined.rooms.owed.clear();
        settle(hub, link, joined);
    }
    follow(hub, link, session);
}

/// The rights of a session's principal changed: its rooms are of the devices that it may see now, and
/// of those again that it may see again.
pub(crate) fn on_rights(hub: &Rc<Hub>, link: &Rc<Link>) {
    let Some(session) = &link.session else { return };
    let is_of_things = {
        let state = session.state.borrow();
        state.joined.as_ref().is_some_and(|joined| joined.namespace == Namespace::Things)
    };
    // Who may no longer see a device of Kamea is sent away.
    if is_of_things {
        follow(hub, link, session);
    }
}

/// Looks at a session twice a second.
pub(crate) fn on_tick(hub: &Rc<Hub>, link: &Rc<Link>) {
    let Some(session) = &link.session else { return };
    // Behind what is still to be told, so that the last values are the last.
    let is_pending = {
        let state = session.state.borrow();
        state.joined.as_ref().is_some_and(|joined| joined.rooms.is_pending())
    };
    if !is_pending && !link.behind.get() && link.hole.take() {
        last::owe_all(hub, link, session);
    }
    super::kamea::on_tick(hub, link, session);
    let mut state = session.state.borrow_mut();
    let Some(joined) = &mut state.joined else { return };
    if joined.rooms.is_held != joined.is_held_at(link.age_ms()) {
        settle(hub, link, joined);
    }
    let is_marked = joined.rooms.rooms.iter().any(|(_, stay)| stay.told > Some(Seq(0)));
    if !is_marked || link.behind.get() || link.outbox.has_waiting() {
        return;
    }
    joined.rooms.age = joined.rooms.age.saturating_add(1);
    if joined.rooms.age < 3 {
        return;
    }
    // What was on its way when they were entered has passed: now those in the same rooms are alike.
    let stays = joined.rooms.rooms.stays_mut();
    stays.filter_map(|stay| stay.told.as_mut()).for_each(|told| *told = Seq(0));
    settle(hub, link, joined);
}

impl Joined {
    /// Whether its client comes back: it may still enter rooms that it was in, or misses something of
    /// one.
    fn returns_at(&self, now_ms: u64) -> bool {
        let may_enter = self.since_until_ms.is_none_or(|until| now_ms < until);
        self.since.is_some() && (may_enter || self.rooms.is_pending())
    }

    /// Whether its client may not go on behind its newest event yet.
    fn is_held_at(&self, now_ms: u64) -> bool {
        self.returns_at(now_ms) || self.rooms.is_beginning
    }

    /// What its events end with.
    pub(super) fn positions_at(&self, now_ms: u64) -> Positions {
        match self.since {
            _ if !self.positions => Positions::Silent,
            Some(since) if self.returns_at(now_ms) => Positions::Safe(since),
            // It keeps the one that it has until it was told all of the last values.
            Some(_) | None if self.rooms.is_beginning => Positions::Silent,
            Some(_) | None => Positions::Own,
        }
    }

    /// Which tenant its `tenantId` is, once it has named one.
    pub(super) fn tenant_id(&self) -> Option<&str> {
        match &self.namespace {
            Namespace::Kamea(tenant) if !tenant.is_empty() => Some(tenant),
            Namespace::Kamea(_) | Namespace::Things => None,
        }
    }
}
