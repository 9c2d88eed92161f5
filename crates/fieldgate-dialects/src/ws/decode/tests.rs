//! The case classes of a conformance suite, written anew from RFC 6455 and RFC 3629: each is fed
//! whole, byte by byte, and in random chunks.

use super::*;
use crate::ws::{Opcode, frame_masked};

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const LIMITS: Limits =
    Limits { frame_bytes_max: 262_144, message_bytes_max: 1 << 20, fragment_count_max: 1_024 };

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Failed(WsError),
}

fn run<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut decoder = Decoder::server(LIMITS);
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let fed = decoder.feed(&mut chunk, &mut |event| {
            seen.push(match event {
                Event::Text(text) => Seen::Text(text.to_owned()),
                Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Event::Close { code, .. } => Seen::Close(code),
            });
            ControlFlow::Continue(())
        });
        if let Err(error) = fed {
            seen.push(Seen::Failed(error));
            break;
        }
    }
    seen
}

fn check(bytes: &[u8], expected: &[Seen]) {
    assert_eq!(run(std::iter::once(bytes)), expected, "whole");
    assert_eq!(run(bytes.chunks(1)), expected, "byte by byte");
    assert_eq!(run(bytes.chunks(7)), expected, "by sevens");
}

/// A frame with any first byte.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_masked(Opcode::Text, payload, MASK);
    bytes[0] = first;
    bytes
}

fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

#[test]
fn messages_of_every_length_form_arrive() {
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        let payload = vec![b'*'; len];
        check(&raw(0x81, &payload), &[Seen::Text("*".repeat(len))]);
        check(&raw(0x82, &payload), &[Seen::Binary(payload.clone())]);
    }
}

#[test]
fn pings_are_small_and_whole() {
    check(&raw(0x89, &[]), &[Seen::Ping(vec![])]);
    check(&raw(0x89, &[0xFE; 125]), &[Seen::Ping(vec![0xFE; 125])]);
    check(&raw(0x89, &[0xFE; 126]), &[Seen::Failed(WsError::Protocol)]);
    check(&raw(0x09, b"x"), &[Seen::Failed(WsError::Protocol)]);
    check(&raw(0x8A, b"unasked"), &[Seen::Pong(b"unasked".to_vec())]);
}

#[test]
fn reserved_bits_and_opcodes_end_the_connection() {
    for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        for opcode in [0x1, 0x2, 0x8, 0x9, 0xA] {
            check(&raw(0x80 | bits | opcode, b""), &[Seen::Failed(WsError::Protocol)]);
        }
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        check(&raw(0x80 | opcode, b"x"), &[Seen::Failed(WsError::Protocol)]);
    }
}

#[test]
fn a_frame_without_a_mask_ends_the_connection() {
    check(&[0x81, 0x01, b'x'], &[Seen::Failed(WsError::Protocol)]);
}

#[test]
fn fragments_make_one_message_and_control_frames_may_stand_between() {
    let bytes = join(&[raw(0x01, b"frag"), raw(0x89, b"p"), raw(0x00, b"me"), raw(0x80, b"nt")]);
    check(&bytes, &[Seen::Ping(b"p".to_vec()), Seen::Text("fragment".to_owned())]);
    check(&join(&[raw(0x01, b""), raw(0x00, b""), raw(0x80, b"")]), &[Seen::Text(String::new())]);
}

#[test]
fn a_continuation_continues_something_and_nothing_else_may_begin() {
    check(&raw(0x80, b"x"), &[Seen::Failed(WsError::Protocol)]);
    check(&raw(0x00, b"x"), &[Seen::Failed(WsError::Protocol)]);
    let two = join(&[raw(0x01, b"a"), raw(0x81, b"b")]);
    check(&two, &[Seen::Failed(WsError::Protocol)]);
    let after = join(&[raw(0x01, b"a"), raw(0x80, b"b"), raw(0x80, b"c")]);
    check(&after, &[Seen::Text("ab".to_owned()), Seen::Failed(WsError::Protocol)]);
}

#[test]
fn valid_utf8_arrives_even_cut_inside_a_character() {
    for text in [
        "κόσμε",
        "\u{0}",
        "\u{80}",
        "\u{800}",
        "\u{10000}",
        "\u{7FF}",
        "\u{FFFF}",
        "\u{10FFFF}",
        "\u{FFFE}",
    ] {
        check(&raw(0x81, text.as_bytes()), &[Seen::Text(text.to_owned())]);
        let mut frames: Vec<_> = text.as_bytes().iter().map(|b| raw(0x00, &[*b])).collect();
        frames.first_mut().unwrap()[0] = 0x01;
        frames.push(raw(0x80, b""));
        check(&join(&frames), &[Seen::Text(text.to_owned())]);
    }
}

#[test]
fn invalid_utf8_ends_the_connection() {
    let invalid: &[&[u8]] = &[
        b"\x80",
        b"\xBF",
        b"\x80\xBF",
        b"\xC0\xAF",
        b"\xE0\x80\xAF",
        b"\xF0\x80\x80\xAF",
        b"\xF8\x88\x80\x80\x80",
        b"\xFC\x84\x80\x80\x80\x80",
        b"\xC1\xBF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xFE",
        b"\xFF",
        b"\xC0",
        b"\xE0",
        b"ok\xCE",
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
    ];
    for bytes in invalid {
        check(&raw(0x81, bytes), &[Seen::Failed(WsError::Utf8)]);
    }
}

#[test]
fn invalid_utf8_fails_at_its_first_bad_byte() {
    let mut bytes = raw(0x81, b"\xCE\xBA\xF4\x90\x80\x80 and a long rest");
    bytes.truncate(6 + 4);
    check(&bytes, &[Seen::Failed(WsError::Utf8)]);
    check(&join(&[raw(0x01, b"\xCE\xBA\xF4"), raw(0x00, b"\x90")]), &[Seen::Failed(WsError::Utf8)]);
}

#[test]
fn close_frames_are_checked() {
    let close = |payload: &[u8]| raw(0x88, payload);
    check(&close(b""), &[Seen::Close(None)]);
    check(&close(b"\x03"), &[Seen::Failed(WsError::Protocol)]);
    check(&close(b"\x03\xE8bye"), &[Seen::Close(Some(1000))]);
    check(&close(b"\x03\xE8\xFF"), &[Seen::Failed(WsError::Utf8)]);
    check(&close(&[b'x'; 126]), &[Seen::Failed(WsError::Protocol)]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        check(&close(&code.to_be_bytes()), &[Seen::Close(Some(code))]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        check(&close(&code.to_be_bytes()), &[Seen::Failed(WsError::Protocol)]);
    }
    check(&join(&[close(b""), raw(0x81, b"late")]), &[Seen::Close(None)]);
}

#[test]
fn sizes_are_refused_at_the_header() {
    let mut huge = vec![0x82, 0xFF];
    huge.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    huge.extend_from_slice(&MASK);
    check(&huge, &[Seen::Failed(WsError::TooLarge)]);
    let quarter = vec![b'x'; 262_144];
    let mut frames: Vec<_> = (0..5).map(|_| raw(0x00, &quarter)).collect();
    frames[0][0] = 0x02;
    assert_eq!(run(std::iter::once(&*join(&frames))), [Seen::Failed(WsError::TooLarge)]);
}

#[test]
fn a_flood_of_fragments_is_refused() {
    let mut frames = vec![raw(0x01, b"")];
    frames.extend((0..2_000).map(|_| raw(0x00, b"")));
    assert_eq!(run(std::iter::once(&*join(&frames))), [Seen::Failed(WsError::TooLarge)]);
}

#[test]
fn nothing_is_kept_between_messages() {
    let mut decoder = Decoder::server(LIMITS);
    let mut bytes = join(&[raw(0x01, b"ab"), raw(0x89, b"ping"), raw(0x80, b"c")]);
    for chunk in bytes.chunks_mut(3) {
        assert!(decoder.feed(chunk, &mut |_| ControlFlow::Continue(())).unwrap().is_continue());
    }
    assert_eq!(decoder.buffered_bytes(), 0);
}

proptest::proptest! {
    #[test]
    fn chunking_never_changes_the_events(
        frames in proptest::collection::vec((0_u8.., proptest::collection::vec(0_u8.., 0..40)), 0..8),
        size in 1_usize..50,
    ) {
        let opcodes = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A];
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(kind, payload)| raw(opcodes[usize::from(*kind) % 8], payload))
            .collect();
        proptest::prop_assert_eq!(run(std::iter::once(&*bytes)), run(bytes.chunks(size)));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(0_u8.., 0..200)) {
        let _ = run(bytes.chunks(5));
    }
}
