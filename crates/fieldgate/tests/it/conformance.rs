//! The WebSocket cases of the decoder on the links of a real gateway, plain and with TLS.
//!
//! Where a suite wants an echo, its text is published and a subscriber gets it; text that no publish
//! can hold, and binary that is no Protobuf, is refused and the link goes on.

use fieldgate_dialects::ws::{Mask, Opcode, WsError, frame_masked};
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire};

#[path = "../../../fieldgate-dialects/src/ws/decode/tests/cases.rs"]
mod cases;

use cases::{Case, FRAME_BYTES_MAX, MASK, Piece};

const BEFORE: &str = r#"{"type":"publish","topic":"echo","payload":""#;
const BEHIND: &str = r#""}"#;
/// What is still answered shows that the link goes on.
const ALIVE: &[u8] = b"still there?";

/// What a link tells its peer.
#[derive(Debug, PartialEq)]
enum Told {
    Pong(Vec<u8>),
    Error,
    Close(Option<u16>),
}

fn small() -> Vec<Case> {
    let tables = [
        cases::lengths,
        cases::pings,
        cases::many_pings,
        cases::reserved,
        cases::violations,
        cases::unmasked,
        cases::fragments,
        cases::stray_fragments,
        cases::valid_utf8,
        cases::invalid_utf8,
        cases::closes,
        cases::sizes,
    ];
    tables.into_iter().flat_map(|table| table()).collect()
}

/// Every text message becomes a publish of that text, cut where it was cut.
fn published(mut case: Case) -> Case {
    let mut inside = false;
    for piece in &mut case.pieces {
        let Piece::Frame(first, payload) = piece else { continue };
        if matches!(first, 0x01 | 0x81) {
            payload.splice(..0, BEFORE.bytes());
            inside = true;
        }
        if inside && matches!(first, 0x80 | 0x81) {
            payload.extend(BEHIND.bytes());
            inside = false;
        }
    }
    case
}

/// What the link must tell, and what the subscriber must get.
fn expected(case: &Case) -> (Vec<Told>, Vec<&str>) {
    let (mut told, mut got) = (Vec::new(), Vec::new());
    for seen in &case.seen {
        match seen {
            cases::Seen::Text(text) => {
                let frame = format!("{BEFORE}{text}{BEHIND}");
                if serde_json::from_str::<Value>(&frame).is_ok() {
                    got.push(text.as_str());
                } else {
                    told.push(Told::Error);
                }
            }
            cases::Seen::Binary(_) => told.push(Told::Error),
            cases::Seen::Ping(payload) => told.push(Told::Pong(payload.clone())),
            cases::Seen::Pong(_) => (),
            cases::Seen::Close(code, _) => told.push(Told::Close(*code)),
            cases::Seen::Failed(error) => {
                told.push(Told::Close(Some(error.close_reason().code())));
            }
        }
    }
    if !matches!(told.last(), Some(Told::Close(_))) {
        told.push(Told::Pong(ALIVE.to_vec()));
    }
    (told, got)
}

fn told(link: &mut Wire) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        match link.see() {
            Seen::Frame(frame) => {
                assert_eq!(frame["type"], "error", "{frame}");
                told.push(Told::Error);
            }
            Seen::Pong(payload) if payload == ALIVE => {
                told.push(Told::Pong(payload));
                return told;
            }
            Seen::Pong(payload) => told.push(Told::Pong(payload)),
            Seen::Close(code) => {
                told.push(Told::Close(code));
                assert_eq!(link.see(), Seen::End, "something is behind the close");
                return told;
            }
            Seen::End => return told,
            Seen::Ping => (),
        }
    }
}

/// Each case on a link of its own: in one write, and byte by byte where it is short.
fn hold(cases: &[Case], open: &dyn Fn() -> Wire, subscriber: &mut Wire) {
    for case in cases {
        let bytes = case.bytes();
        let (wanted, texts) = expected(case);
        // Behind its own close a peer has nothing to say, and is not listened to.
        let closes = matches!(case.seen.last(), Some(cases::Seen::Close(..)));
        for size in [bytes.len(), 1] {
            if size == 1 && (closes || bytes.len() > 400) {
                continue;
            }
            let mut link = open();
            bytes.chunks(size).for_each(|part| link.raw(part).unwrap());
            if !matches!(wanted.last(), Some(Told::Close(_))) {
                link.raw(&frame_masked(Opcode::Ping, ALIVE, MASK)).unwrap();
            }
            assert_eq!(told(&mut link), wanted, "{:.200}", format!("{:?}", case.pieces));
            for text in &texts {
                let payload = &subscriber.next_of("mqtt")["payload"];
                assert!(payload == text, "{payload:.200} is not {text:.200}");
            }
        }
    }
}

fn subscribed(mut app: Wire) -> Wire {
    app.send(&json!({"type": "subscribe", "topic": "echo"}));
    assert_eq!(app.next()["type"], "subscribed");
    app
}

const UNHURRIED: [&str; 3] = [
    "limits.messages_per_second=1000000",
    "limits.message_burst=1000000",
    "limits.bytes_per_second=1000000000",
];

#[test]
fn a_link_tells_what_its_decoder_sees() {
    let gateway = Gateway::with(&UNHURRIED);
    let key = gateway.key("operator");
    let open = || gateway.as_app(&key);
    let mut subscriber = subscribed(open());
    let borders = cases::utf8_borders().into_iter().step_by(101);
    let all = small().into_iter().chain(borders).chain(cases::large(200_000));
    hold(&all.map(published).collect::<Vec<_>>(), &open, &mut subscriber);
}

#[test]
fn a_link_over_tls_tells_the_same() {
    let gateway = Gateway::with(&[&["--self-signed"], &UNHURRIED[..]].concat());
    let key = gateway.key("operator");
    let open = || gateway.as_app_over_tls(&key);
    let mut subscriber = subscribed(open());
    let all = small().into_iter().chain(cases::large(200_000));
    hold(&all.map(published).collect::<Vec<_>>(), &open, &mut subscriber);
}

#[test]
fn before_authentication_a_violation_ends_a_link_the_same_way() {
    let gateway = Gateway::start();
    let mut subscriber = subscribed(gateway.as_app(&gateway.key("operator")));
    let silent =
        |seen: &cases::Seen| !matches!(seen, cases::Seen::Text(_) | cases::Seen::Binary(_));
    let all = small().into_iter().filter(|case| case.seen.iter().all(silent));
    hold(&all.collect::<Vec<_>>(), &|| gateway.connect(), &mut subscriber);
}

#[test]
fn a_frame_of_each_length_form_is_understood_and_one_above_the_limit_is_not() {
    let gateway = Gateway::start();
    let mut app = gateway.as_app(&gateway.key("operator"));
    let padded = |len: usize| r#"{"type":"ping"}"#.to_owned() + &" ".repeat(len - 15);
    for len in [15, 125, 126, 127, 65_535, 65_536, FRAME_BYTES_MAX] {
        app.send_text(&padded(len));
        assert_eq!(app.next()["type"], "pong", "{len} bytes");
    }
    // Behind a frame that was refused by its header nothing counts, so it need not be sent.
    let frame = frame_masked(Opcode::Text, padded(FRAME_BYTES_MAX + 1).as_bytes(), MASK);
    app.raw(&frame[..14]).unwrap();
    assert_eq!(app.closed(), Some(1009));
}
