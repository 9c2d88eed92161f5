//! Server-sent events: a delivery or an answer and its JSON in, one event out.
//!
//! Pure. Source: WHATWG HTML, "Server-sent events". Invariant: the `id` of an event is a position
//! behind which a reader misses nothing: what came out of its turn has none.

use std::io::Write as _;

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{Answer, Delivery},
    id::Position,
};

/// How long a reader waits before it comes back, in ms.
const RETRY_MS: u64 = 1_000;

/// Appends one event. Without a name and data it moves the reader's position alone.
fn write_event(id: Option<Position>, name: &str, data: &[u8], out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and neither a position nor a name has a line end.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    if !name.is_empty() {
        let _ = writeln!(out, "event: {name}");
        // JSON has line ends between its tokens alone, where one is as good as another.
        for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

fn write_retry(ms: u64, out: &mut Vec<u8>) {
    let _ = writeln!(out, "retry: {ms}");
}

/// Appends the event of a routed message.
pub(crate) fn write_delivery(delivery: &Delivery<'_>, json: &[u8], out: &mut Vec<u8>) {
    let in_turn = !delivery.marks.ahead && !delivery.marks.retain;
    write_event(in_turn.then_some(delivery.position), "message", json, out);
}

/// Appends what a stream says of an answer. Nobody asks within a stream: most have no event.
pub(crate) fn write_answer(answer: &Answer, json: &[u8], in_turn: bool, out: &mut Vec<u8>) {
    match answer {
        Answer::Authenticated { .. } => {
            write_retry(RETRY_MS, out);
            out.push(b'\n');
        }
        Answer::Subscribed { position, .. } => write_event(Some(*position), "", b"", out),
        Answer::Gap { to, .. } => write_event(in_turn.then_some(*to), "gap", json, out),
        Answer::CaughtUp { position, .. } => write_event(Some(*position), "caught_up", json, out),
        Answer::Reconnect { after_ms } => {
            write_retry(*after_ms, out);
            write_event(None, "reconnect", json, out);
        }
        Answer::NotAuthenticated { .. }
        | Answer::Ack { .. }
        | Answer::CommandAccepted { .. }
        | Answer::Error { .. }
        | Answer::Unsubscribed { .. }
        | Answer::CommandState { .. }
        | Answer::Pong { .. } => (),
    }
}

/// Appends a comment.
pub(crate) fn write_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Makes the event that says why the stream ends, in the numbers and words of a WebSocket's close.
pub(crate) fn close_event(reason: CloseReason) -> Bytes {
    let (code, text) = (reason.code(), reason.text());
    let json = format!("{{\"type\":\"close\",\"code\":{code},\"reason\":\"{text}\"}}");
    let mut out = Vec::new();
    write_event(None, "close", json.as_bytes(), &mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        dialect::{GapReason, Marks},
        id::{Epoch, Seq},
        message::{Content, Qos},
        testing,
    };

    use super::*;
    use crate::{
        Naming,
        thingsee::About,
        wire::{Context, Form},
    };

    const fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq: Seq(seq) }
    }

    fn answered(answer: &Answer) -> String {
        let (mut text, mut out) = (Vec::new(), Vec::new());
        Form::Events.write_answer(answer, &mut text, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn delivered(payload: &str, marks: Marks<'_>) -> String {
        let mut message = testing::message("a/b", Qos::AtLeastOnce, payload);
        message.content = Content::Json;
        let delivery = Delivery { position: at(7), message: &message, marks };
        let (mut text, mut out) = (Vec::new(), Vec::new());
        let context = Context { known: &|_, _| About::default(), things: Naming::Own, rooms: None };
        Form::Events.write_delivery(&delivery, context, &mut text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_came_out_of_its_turn_does_not_move_the_position() {
        let plain = delivered("1", Marks::default());
        assert!(plain.starts_with("id: 1:7\nevent: message\ndata: {"), "{plain}");
        assert!(plain.ends_with("}\n\n"), "{plain}");
        for marks in
            [Marks { ahead: true, ..Marks::default() }, Marks { retain: true, ..Marks::default() }]
        {
            let event = delivered("1", marks);
            assert!(event.starts_with("event: message\ndata: {"), "{event}");
        }
    }

    #[test]
    fn a_payload_of_several_lines_is_one_event() {
        let event = delivered("{\n\"a\":\r\n1}", Marks::default());
        let data = event.lines().filter_map(|line| line.strip_prefix("data: "));
        let data: String = data.map(|line| format!("{line}\n")).collect();
        let json: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(json["payload"], serde_json::json!({"a": 1}));
        assert_eq!(event.matches("\n\n").count(), 1, "{event:?}");
        assert!(!event.contains('\r'));
    }

    #[test]
    fn a_gap_moves_the_position_to_its_end_and_a_subscription_says_where_it_begins() {
        let gap = Answer::Gap { from: at(2), to: at(5), reason: GapReason::Crash };
        let event = "id: 1:5\nevent: gap\ndata: {\"type\":\"gap\",\"from\":\"1:2\",\"to\":\"1:5\",\
                     \"reason\":\"crash\"}\n\n";
        assert_eq!(answered(&gap), event);
        let begun = Answer::Subscribed {
            filter: "a".parse().unwrap(),
            qos: Qos::AtLeastOnce,
            position: at(5),
        };
        assert_eq!(answered(&begun), "id: 1:5\n\n");
        let drain = Answer::Reconnect { after_ms: 1_000 };
        let event =
            "retry: 1000\nevent: reconnect\ndata: {\"type\":\"reconnect\",\"after\":1000}\n\n";
        assert_eq!(answered(&drain), event);
    }
}
