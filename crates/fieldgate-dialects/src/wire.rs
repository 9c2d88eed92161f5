//! What goes to a socket: the native dialect's JSON, in WebSocket frames or as server-sent events,
//! Thingsee arrays, or Socket.IO events.
//!
//! Pure. In: a delivery or an answer. Out: whole frames, headers included, appended to a buffer that
//! the caller reuses; so is `text`, which holds the JSON on its way. Invariant: a Thingsee link is sent
//! arrays, pings and one close frame, and nothing else (its clients call `forEach` on what comes).

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{Answer, Delivery},
    id::DeviceId,
};

use crate::{
    native, socketio, sse, thethings, thingsee,
    ws::{self, Opcode},
};

/// Names what rooms a link is in: those who are in the same ones get the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomsId(pub u32);

/// What a form needs to know beside the message.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "what is known is a function")]
pub struct Context<'a> {
    /// Tells of devices.
    pub known: crate::Known<'a>,
    /// Under which names values of things are told.
    pub things: crate::Naming,
    /// Of a link in rooms: those, and what their events look like.
    pub rooms: Option<(&'a socketio::Rooms, socketio::Look<'a>)>,
}

/// How a link wants what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A WebSocket without a subprotocol.
    Lesson,
    /// A WebSocket with `fieldgate.v1.json`.
    V1,
    /// A stream of server-sent events: it takes no frames, and gets no commands.
    Events,
    /// A WebSocket that takes Thingsee arrays, of these messages alone: as a stream, and its clients
    /// understand no answers.
    Thingsee(thingsee::Ids),
    /// A WebSocket of a Thingsee source: it sends arrays, and is sent those of commands to its devices.
    Source,
    /// A stream of JSON documents, one a line: the values of a thing, for thethings.iO clients. It
    /// takes no frames, and gets no commands.
    Things,
    /// The push socket of deCONZ clients: it takes no frames, and what it is sent is made elsewhere, once
    /// for all of them.
    Deconz,
    /// A Socket.IO session that is in no room.
    Session,
    /// One that is in these.
    Rooms(RoomsId),
}

impl Form {
    /// Whether its clients only receive: they publish nothing, and take no commands.
    #[must_use]
    pub const fn only_receives(self) -> bool {
        matches!(
            self,
            Self::Events
                | Self::Thingsee(_)
                | Self::Things
                | Self::Deconz
                | Self::Session
                | Self::Rooms(_)
        )
    }

    /// Whether it is one of Socket.IO.
    #[must_use]
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Session | Self::Rooms(_))
    }

    /// Whether it is told of a hole by the last state.
    #[must_use]
    pub const fn is_told_by_state(self) -> bool {
        matches!(self, Self::Thingsee(_) | Self::Things | Self::Rooms(_))
    }

    /// Whether it takes Thingsee arrays.
    #[must_use]
    pub const fn is_thingsee(self) -> bool {
        matches!(self, Self::Thingsee(_))
    }

    /// Appends the frame of a routed message; nothing, where the form has none for it. Of a link in
    /// rooms, one for each that it is for.
    pub fn write_delivery(
        self,
        delivery: &Delivery<'_>,
        context: Context<'_>,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        text.clear();
        match self {
            Self::Lesson | Self::V1 => {
                native::encode_delivery(delivery, self.native(), text);
                write_text(text, out);
            }
            Self::Events => {
                native::encode_delivery(delivery, self.native(), text);
                sse::write_delivery(delivery, text, out);
            }
            // They follow nothing.
            Self::Source | Self::Session | Self::Deconz => (),
            Self::Things => {
                let telling = crate::Telling { names: context.things, known: context.known };
                if thethings::write_items(text, delivery, None, telling) > 0 {
                    write_line(text, out);
                }
            }
            Self::Rooms(_) => {
                if let Some((rooms, look)) = context.rooms {
                    rooms.write_events(delivery, context.known, look, text, out);
                }
            }
            Self::Thingsee(ids) => {
                text.push(b'[');
                if thingsee::write_objects(text, delivery, &ids, context.known) > 0 {
                    text.push(b']');
                    write_text(text, out);
                }
            }
        }
    }

    const fn native(self) -> native::Form {
        match self {
            Self::Lesson => native::Form::Lesson,
            Self::V1
            | Self::Events
            | Self::Thingsee(_)
            | Self::Source
            | Self::Things
            | Self::Deconz
            | Self::Session
            | Self::Rooms(_) => native::Form::V1,
        }
    }

    /// Appends the frame that tells `answer`; nothing, where the form has none for it.
    pub fn write_answer(self, answer: &Answer, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.write_said(answer, true, text, out);
    }

    /// The same for what comes late: a reader's position stays where it is.
    pub fn write_aside(self, answer: &Answer, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.write_said(answer, false, text, out);
    }

    fn write_said(self, answer: &Answer, in_turn: bool, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        if self == Self::Things && matches!(answer, Answer::Subscribed { .. }) {
            return write_line(thethings::SUBSCRIBED, out);
        }
        let is_silent =
            matches!(self, Self::Thingsee(_) | Self::Source | Self::Things | Self::Deconz);
        if is_silent || self.is_session() {
            return;
        }
        text.clear();
        native::encode_answer(answer, self.native(), text);
        if self == Self::Events {
            sse::write_answer(answer, text, in_turn, out);
        } else {
            write_text(text, out);
        }
    }

    /// Appends the frame that hands a command to its device; nothing, where none is taken.
    pub fn write_control(
        self,
        delivery: &Delivery<'_>,
        device: &DeviceId,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        if self.only_receives() {
            return;
        }
        text.clear();
        if self == Self::Source {
            // What its devices do not take was refused when it was sent.
            let Ok(request) = thingsee::downlink::request(&delivery.message.payload) else {
                return;
            };
            let transaction = thingsee::downlink::transaction_of(delivery.position.seq);
            request.write(text, device.as_str(), transaction);
        } else {
            native::encode_control(delivery, device, self.native(), text);
        }
        write_text(text, out);
    }

    /// Appends what shows that the connection lives.
    pub fn write_ping(self, out: &mut Vec<u8>) {
        match self {
            Self::Lesson | Self::V1 | Self::Thingsee(_) | Self::Source | Self::Deconz => {
                out.extend_from_slice(&ws::ping_frame(b""));
            }
            Self::Session | Self::Rooms(_) => write_text(b"2", out),
            Self::Events => sse::write_ping(out),
            Self::Things => write_line(b"{}", out),
        }
    }

    /// Makes the last frame, which says why.
    #[must_use]
    pub fn close_frame(self, reason: CloseReason) -> Bytes {
        match self {
            Self::Lesson
            | Self::V1
            | Self::Thingsee(_)
            | Self::Source
            | Self::Deconz
            | Self::Session
            | Self::Rooms(_) => ws::close_frame(reason),
            Self::Events => sse::close_event(reason),
            // Its end says it.
            Self::Things => Bytes::new(),
        }
    }
}

fn write_line(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text);
    out.push(b'\n');
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    ws::write_header(out, Opcode::Text, text.len());
    out.extend_from_slice(text);
}
