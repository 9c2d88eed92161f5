//! What goes to a socket: the native dialect's JSON, in WebSocket frames or as server-sent events.
//!
//! Pure. In: a delivery or an answer. Out: whole frames, headers included, appended to a buffer that
//! the caller reuses; so is `text`, which holds the JSON on its way.

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{Answer, Delivery},
    id::DeviceId,
};

use crate::{
    native, sse,
    ws::{self, Opcode},
};

/// How a link wants what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A WebSocket without a subprotocol.
    Lesson,
    /// A WebSocket with `fieldgate.v1.json`.
    V1,
    /// A stream of server-sent events: it takes no frames, and gets no commands.
    Events,
}

impl Form {
    const fn native(self) -> native::Form {
        match self {
            Self::Lesson => native::Form::Lesson,
            Self::V1 | Self::Events => native::Form::V1,
        }
    }

    /// Appends the frame of a routed message.
    pub fn write_delivery(self, delivery: &Delivery<'_>, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        text.clear();
        native::encode_delivery(delivery, self.native(), text);
        match self {
            Self::Lesson | Self::V1 => write_text(text, out),
            Self::Events => sse::write_delivery(delivery, text, out),
        }
    }

    /// Appends the frame that tells `answer`; nothing, where a stream has no event for it.
    pub fn write_answer(self, answer: &Answer, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        text.clear();
        native::encode_answer(answer, self.native(), text);
        match self {
            Self::Lesson | Self::V1 => write_text(text, out),
            Self::Events => sse::write_answer(answer, text, true, out),
        }
    }

    /// The same for what comes late: a reader's position stays where it is.
    pub fn write_aside(self, answer: &Answer, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        text.clear();
        native::encode_answer(answer, self.native(), text);
        match self {
            Self::Lesson | Self::V1 => write_text(text, out),
            Self::Events => sse::write_answer(answer, text, false, out),
        }
    }

    /// Appends the frame that hands a command to its device; nothing in a stream.
    pub fn write_control(
        self,
        delivery: &Delivery<'_>,
        device: &DeviceId,
        text: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        if self == Self::Events {
            return;
        }
        text.clear();
        native::encode_control(delivery, device, self.native(), text);
        write_text(text, out);
    }

    /// Appends what shows that the connection lives.
    pub fn write_ping(self, out: &mut Vec<u8>) {
        match self {
            Self::Lesson | Self::V1 => out.extend_from_slice(&ws::ping_frame(b"")),
            Self::Events => sse::write_ping(out),
        }
    }

    /// Makes the last frame, which says why.
    #[must_use]
    pub fn close_frame(self, reason: CloseReason) -> Bytes {
        match self {
            Self::Lesson | Self::V1 => ws::close_frame(reason),
            Self::Events => sse::close_event(reason),
        }
    }
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    ws::write_header(out, Opcode::Text, text.len());
    out.extend_from_slice(text);
}
