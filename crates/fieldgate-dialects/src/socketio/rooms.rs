//! Rooms: what a connection follows in its namespace, and the events that it gets of a message.
//!
//! Pure. In: a delivery. Out: one event for each room that it is for, as WebSocket frames; the same
//! bytes for all who are in the same rooms, whatever their version. Invariant: a message is no event
//! of a room whose past was told up to it.

use std::collections::BTreeMap;

use fieldgate_core::{
    dialect::Delivery,
    id::{DeviceId, Position, Seq},
};

use super::{head, write_event_end, write_event_start};
use crate::{
    Known, Naming, Telling, kamea, thethings,
    ws::{self, Opcode},
};

/// So many bytes hold what stands before the data of an event.
const HEAD_BYTES_MAX: usize = 64;

/// What is followed: its name is the one of the events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// thethings.iO: `/me/resources/{resource}`, of everything that its user sees.
    Resource(Box<str>),
    /// thethings.iO: `/things/{token}`, everything of one device.
    Thing(DeviceId, Box<str>),
    /// Kamea: the telemetry of one device.
    Telemetries(DeviceId),
}

/// The namespaces that have rooms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// `/v2`: thethings.iO.
    Things,
    /// `/devices`: Kamea, for the tenant of this `tenantId`.
    Kamea(Box<str>),
}

impl Namespace {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Things => "/v2",
            Self::Kamea(_) => "/devices",
        }
    }
}

/// What tells a client where it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// Nothing: it did not ask.
    Silent,
    /// The event's own.
    Own,
    /// This one, up to which it has everything of all its rooms.
    Safe(Position),
}

/// The rooms that a connection is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rooms {
    /// Where.
    pub namespace: Namespace,
    /// What its events end with.
    pub positions: Positions,
    /// Whether its events are to be acknowledged: each by the number of its message.
    pub asks: bool,
    /// The rooms; of each, up to which number its past was told another way.
    pub rooms: BTreeMap<Room, Seq>,
}

/// What events look like.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The name of those of Kamea.
    pub event: &'a str,
    /// The body of those of Kamea.
    pub body: &'a kamea::Body,
    /// Under which names those of Kamea tell values.
    pub names: Naming,
    /// Under which names those of thethings.iO do.
    pub things: Naming,
}

/// The numbers by which events are to be acknowledged, of frames as they are written here.
pub fn asked(frames: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        let text;
        (text, rest) = frame(rest)?;
        Some(text)
    })
    .filter_map(|text| {
        let text = text.get(..text.len().min(HEAD_BYTES_MAX))?;
        let start = text.utf8_chunks().next()?.valid();
        head(start.strip_prefix('4')?).ok()?.0.id
    })
}

/// The text of the first frame, and what is behind it.
fn frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, header_len) = match *frames {
        [_, 127, a, b, c, d, e, f, g, h, ..] => {
            (usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?, 10)
        }
        [_, 126, a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
        [_, len, ..] => (usize::from(len), 2),
        _ => return None,
    };
    frames.get(header_len..)?.split_at_checked(len)
}

impl Rooms {
    /// Appends the events of a message, each a whole frame; nothing where no room is for it. `text` is
    /// reused.
    pub fn write_events(
        &self,
        delivery: &Delivery<'_>,
        known: Known<'_>,
        look: Look<'_>,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        for (room, told) in &self.rooms {
            if delivery.marks.retain || delivery.position.seq > *told {
                self.write_room(room, delivery, (known, look), text, out);
            }
        }
    }

    fn write_room(
        &self,
        room: &Room,
        delivery: &Delivery<'_>,
        (known, look): (Known<'_>, Look<'_>),
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let id = self.asks.then_some(delivery.position.seq.0);
        // Of last values that are several events the last one has the position: who has it has all.
        let mut event = |name: &str, is_last: bool, write: &mut dyn FnMut(&mut Vec<u8>) -> bool| {
            text.clear();
            write_event_start(text, self.namespace.name(), id, name);
            text.push(b',');
            if !write(text) {
                return;
            }
            let position = match self.positions {
                Positions::Own if !delivery.marks.retain => Some(delivery.position),
                Positions::Safe(position) => Some(position),
                Positions::Own | Positions::Silent => None,
            };
            if let Some(position) = position.filter(|_| is_last) {
                text.extend_from_slice(format!(",\"{position}\"").as_bytes());
            }
            write_event_end(text);
            ws::write_header(out, Opcode::Text, text.len());
            out.extend_from_slice(text);
        };
        let of = |device: &DeviceId| {
            delivery.message.topic.device().is_some_and(|of| of == device.as_str())
        };
        let things = Telling { names: look.things, known };
        match (room, &self.namespace) {
            (Room::Resource(resource), _) => {
                let name = format!("/me/resources/{resource}");
                event(&name, true, &mut |text| {
                    thethings::write_items(text, delivery, Some(resource), things) > 0
                });
            }
            (Room::Thing(device, token), _) if of(device) => {
                let name = format!("/things/{token}");
                event(&name, true, &mut |text| {
                    thethings::write_items(text, delivery, None, things) > 0
                });
            }
            (Room::Telemetries(device), Namespace::Kamea(tenant)) if of(device) => {
                let telling = Telling { names: look.names, known };
                let mut bodies = Vec::new();
                let mut keep = |body: &[u8]| bodies.push(body.to_vec());
                kamea::each_body(delivery, tenant, look.body, telling, &mut Vec::new(), &mut keep);
                let count = bodies.len();
                for (nth, body) in (1..).zip(bodies) {
                    event(look.event, nth == count, &mut |text| {
                        text.extend_from_slice(&body);
                        true
                    });
                }
            }
            (Room::Thing(..) | Room::Telemetries(_), _) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_found_in_frames_of_every_length() {
        let mut frames = Vec::new();
        let long = "x".repeat(70_000);
        for text in [
            "42/v2,7[\"a\"]".to_owned(),
            "42/v2,[\"not asked\",1]".to_owned(),
            format!("42/devices,18446744073709551615[\"{long}\"]"),
            format!("42/v2,8[\"{}\"]", &long[..200]),
            "42/v2,8[\"\u{e9}\"]".to_owned(),
        ] {
            ws::write_header(&mut frames, Opcode::Text, text.len());
            frames.extend_from_slice(text.as_bytes());
        }
        assert_eq!(asked(&frames).collect::<Vec<_>>(), [7, u64::MAX, 8, 8]);
        for end in 0..frames.len().min(400) {
            assert!(asked(&frames[..end]).count() <= 2);
        }
        assert_eq!(asked(b"\xff\xff\xff").count(), 0);
    }
}
