//! The last values of rooms, told as the socket takes them.
//!
//! In: rooms that are owed to a session. Out: an event for what each of their devices was in last; one
//! task at a time. Invariant: where rooms begin with them, the very last of these events has a position,
//! and no event before it moves that of the client: who has it was told all of them.

use std::{collections::BTreeSet, rc::Rc};

use bytes::Bytes;
use fieldgate_core::{
    id::{DeviceId, Seq},
    topic::Topic,
};
use fieldgate_dialects::{
    socketio::{Positions, Room, Rooms},
    wire::Form,
};

use super::{
    Session,
    rooms::{alone, devices, settle, stay_in},
};
use crate::{hub::Hub, link::Link};

/// So many devices are told of before the socket and other work of this thread are looked at.
const DEVICES_AT_ONCE: usize = 64;

/// Has a room begin with its last values.
pub(super) fn begin(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, room: Room) {
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        joined.rooms.is_beginning = true;
        settle(hub, link, joined);
    }
    owe(hub, link, session, [room]);
}

fn owe(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, rooms: impl IntoIterator<Item = Room>) {
    {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        joined.rooms.owed.extend(rooms);
        if joined.rooms.owed.is_empty() || std::mem::replace(&mut joined.rooms.is_telling, true) {
            return;
        }
    }
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        let Some(session) = &link.session else { return };
        let mut kept = None;
        while let Some(room) = next_owed(session) {
            tell(&hub, &link, session, &room, &mut kept).await;
        }
        end(&hub, &link, session, kept);
        hub.flush();
    });
}

/// Numbers did not come: the last values stand for them.
pub(super) fn owe_all(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    let rooms: Vec<Room> = {
        let state = session.state.borrow();
        let rooms = state.joined.iter().flat_map(|joined| joined.rooms.rooms.rooms());
        rooms.cloned().collect()
    };
    owe(hub, link, session, rooms);
}

fn next_owed(session: &Session) -> Option<Room> {
    let mut state = session.state.borrow_mut();
    let entered = &mut state.joined.as_mut()?.rooms;
    let next = entered.owed.pop_first();
    if next.is_none() {
        // Even empty it keeps the space of eleven.
        entered.owed = BTreeSet::new();
    }
    entered.is_telling = next.is_some();
    next
}

/// What waits until it is known whether anything is told behind it.
struct Kept {
    room: Room,
    number: u64,
    device: DeviceId,
    /// Its events, while nothing else could be told meanwhile.
    frame: Option<Bytes>,
}

/// Sends the last values of a room's devices as its events, until it is left; those of the last one are
/// kept.
async fn tell(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    room: &Room,
    kept: &mut Option<Kept>,
) {
    let (Some(principal), Some(stay)) = (link.principal(), stay_in(session, room)) else { return };
    let Some(one) = alone(link, session, room, Seq(0)) else { return };
    let held = hub.hold_rooms(Rooms { positions: Positions::Silent, ..one });
    let number = stay.number;
    for some in devices(hub, &principal, room).chunks(DEVICES_AT_ONCE) {
        link.room().await;
        if !is_there(session, link, room, number) {
            return;
        }
        for device in some {
            if link.is_unanswered() {
                hub.flush();
                link.room().await;
                if !is_there(session, link, room, number) {
                    return;
                }
            }
            let Some(frame) = values(hub, link, room, device, held.form()) else { continue };
            let (room, device) = (room.clone(), device.clone());
            let before = kept.replace(Kept { room, number, device, frame: Some(frame) });
            push(hub, link, session, before, None);
        }
        hub.flush();
        // What is kept over a pause is looked at again: it may be another value then.
        if let Some(kept) = kept {
            kept.frame = None;
        }
        tokio::task::yield_now().await;
    }
}

/// The last values of a device that may still be seen: rights may have ended since the devices of its
/// room were listed.
fn values(hub: &Hub, link: &Link, room: &Room, device: &DeviceId, form: Form) -> Option<Bytes> {
    let is_seen = match room {
        Room::Thing(..) | Room::Resource(_) => {
            let topic = Topic::of_device(device, "telemetry");
            link.principal().is_some_and(|principal| principal.may_receive(&topic))
        }
        // Who may no longer see it is sent away.
        Room::Telemetries(_) => true,
    };
    if is_seen { hub.last_values(link, device, form) } else { None }
}

fn is_there(session: &Session, link: &Link, room: &Room, number: u64) -> bool {
    !link.is_closing() && stay_in(session, room).map(|now| now.number) == Some(number)
}

/// Sends what was kept, with this position or as other events are.
fn push(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    kept: Option<Kept>,
    end: Option<Positions>,
) {
    let Some(Kept { room, number, device, frame }) = kept else { return };
    if stay_in(session, &room).map(|now| now.number) != Some(number) {
        return;
    }
    let frame = frame.filter(|_| end.is_none()).or_else(|| {
        let one = alone(link, session, &room, Seq(0))?;
        let positions = end.unwrap_or(Positions::Silent);
        let held = hub.hold_rooms(Rooms { positions, ..one });
        values(hub, link, &room, &device, held.form())
    });
    if let Some(frame) = frame {
        link.note_asked(&frame);
        hub.push_frame(link, &frame);
    }
}

/// All of it was told: the last event says from where its client may go on.
fn end(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, kept: Option<Kept>) {
    let (begins, positions, base) = {
        let mut state = session.state.borrow_mut();
        let Some(joined) = &mut state.joined else { return };
        let begins = std::mem::take(&mut joined.rooms.is_beginning);
        (begins, joined.positions_at(link.age_ms()), joined.base)
    };
    // What is of these rooms up to the base is in the values, and what is behind it was delivered.
    let mut reached = base.unwrap_or(Seq(0)).max(link.delivered.get());
    if link.behind.get() {
        // Of what was on its way it got what is before that.
        reached = reached.min(link.log_next.get().prev());
    }
    let says = begins && positions == Positions::Own;
    let end = says.then(|| Positions::Safe(hub.shared.position(reached)));
    push(hub, link, session, kept, end);
    if let Some(joined) = &mut session.state.borrow_mut().joined {
        settle(hub, link, joined);
    }
}
