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
    Close(Option<u16>, String),
    Failed(WsError),
}

fn run<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    run_in(Decoder::server(LIMITS), chunks)
}

fn run_in<'a>(mut decoder: Decoder, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let fed = decoder.feed(&mut chunk, &mut |event| {
            seen.push(match event {
                Event::Text(text) => Seen::Text(text.to_owned()),
                Event::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                Event::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Event::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Event::Close { code, reason } => Seen::Close(code, reason.to_owned()),
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

fn closed(code: Option<u16>, reason: &str) -> Seen {
    Seen::Close(code, reason.to_owned())
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
    check(&close(b""), &[closed(None, "")]);
    check(&close(b"\x03"), &[Seen::Failed(WsError::Protocol)]);
    check(&close(b"\x03\xE8bye"), &[closed(Some(1000), "bye")]);
    check(&close(b"\x03\xE8\xFF"), &[Seen::Failed(WsError::Utf8)]);
    check(&close(&[b'x'; 126]), &[Seen::Failed(WsError::Protocol)]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        check(&close(&code.to_be_bytes()), &[closed(Some(code), "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        check(&close(&code.to_be_bytes()), &[Seen::Failed(WsError::Protocol)]);
    }
    check(&join(&[close(b""), raw(0x81, b"late")]), &[closed(None, "")]);
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

/// Class 3 and 4: what stood before a violation arrives, what stands behind it does not.
#[test]
fn a_violation_ends_the_connection_where_it_stands() {
    for bad in [raw(0xC1, b"x"), raw(0x83, b"x"), raw(0x8B, b""), raw(0x80, b"x")] {
        let bytes = join(&[raw(0x81, b"before"), bad, raw(0x89, b"behind")]);
        check(&bytes, &[Seen::Text("before".to_owned()), Seen::Failed(WsError::Protocol)]);
    }
}

/// Class 2: many pings, whole or cut, and pongs that nobody asked for.
#[test]
fn pings_keep_their_order_and_their_payload() {
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let frames: Vec<_> = payloads.iter().map(|payload| raw(0x89, payload)).collect();
    let expected: Vec<_> = payloads.iter().cloned().map(Seen::Ping).collect();
    check(&join(&frames), &expected);
    let pong_first = join(&[raw(0x8A, b""), raw(0x89, &[0, 0xFF, 0xFE])]);
    check(&pong_first, &[Seen::Pong(vec![]), Seen::Ping(vec![0, 0xFF, 0xFE])]);
}

/// Class 5: control frames are never fragments, and a control frame never ends a message.
#[test]
fn control_frames_are_whole_even_inside_a_message() {
    check(&join(&[raw(0x09, b"a"), raw(0x80, b"b")]), &[Seen::Failed(WsError::Protocol)]);
    check(&join(&[raw(0x0A, b"a"), raw(0x80, b"b")]), &[Seen::Failed(WsError::Protocol)]);
    let many = join(&[
        raw(0x02, b"1"),
        raw(0x89, b"p1"),
        raw(0x8A, b"p2"),
        raw(0x00, b"2"),
        raw(0x89, b"p3"),
        raw(0x80, b"3"),
        raw(0x81, b"next"),
    ]);
    let expected = [
        Seen::Ping(b"p1".to_vec()),
        Seen::Pong(b"p2".to_vec()),
        Seen::Ping(b"p3".to_vec()),
        Seen::Binary(b"123".to_vec()),
        Seen::Text("next".to_owned()),
    ];
    check(&many, &expected);
    let binary_in_text = join(&[raw(0x01, b"a"), raw(0x82, b"b")]);
    check(&binary_in_text, &[Seen::Failed(WsError::Protocol)]);
}

/// Class 6: every two-, three- and four-byte form at its borders, alone and cut into fragments.
#[test]
fn utf8_is_exactly_that_of_rfc_3629() {
    let leads = [0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE];
    let more_leads = [0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFC, 0xFE, 0xFF];
    let tails = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0];
    for lead in leads.into_iter().chain(more_leads) {
        for second in tails {
            for third in tails {
                let bytes = [lead, second, third, 0x80];
                for len in 1..=4 {
                    let text = &bytes[..len];
                    let expected = match str::from_utf8(text) {
                        Ok(text) => Seen::Text(text.to_owned()),
                        Err(_) => Seen::Failed(WsError::Utf8),
                    };
                    check(&raw(0x81, text), std::slice::from_ref(&expected));
                    let cut = join(&[raw(0x01, &text[..len / 2]), raw(0x80, &text[len / 2..])]);
                    check(&cut, &[expected]);
                }
            }
        }
    }
}

/// 6.4: the first byte that cannot go on is enough; the rest of the frame need not come.
#[test]
fn a_bad_byte_is_told_before_its_frame_is_whole() {
    let good = "κόσμε".as_bytes();
    let text = [good, b"\xF4\x90\x80\x80", b"edited"].concat();
    let bytes = raw(0x01, &text);
    let header = bytes.len() - text.len();
    let mut decoder = Decoder::server(LIMITS);
    for (at, byte) in bytes.iter().enumerate() {
        let fed = decoder.feed(&mut [*byte], &mut |_| ControlFlow::Continue(()));
        // F4 may begin a character; 90 behind it cannot.
        if at < header + good.len() + 1 {
            assert!(fed.is_ok(), "byte {at}");
        } else {
            assert_eq!(fed, Err(WsError::Utf8));
            break;
        }
    }
    assert_eq!(decoder.buffered_bytes(), 0);
    let after = decoder.feed(&mut raw(0x81, b"more"), &mut |_| ControlFlow::Continue(()));
    assert_eq!(after, Ok(ControlFlow::Break(())));
}

/// Class 7: nothing counts behind a close, also inside a message; reasons are text of 123 bytes.
#[test]
fn a_close_is_the_last_event() {
    let close = raw(0x88, b"\x03\xE8");
    check(&join(&[close.clone(), raw(0x89, b"late")]), &[closed(Some(1000), "")]);
    check(&join(&[close.clone(), close.clone()]), &[closed(Some(1000), "")]);
    check(&join(&[raw(0x01, b"half"), close]), &[closed(Some(1000), "")]);
    let longest = "*".repeat(123);
    let payload = [b"\x0F\xA0", longest.as_bytes()].concat();
    check(&raw(0x88, &payload), &[closed(Some(4000), &longest)]);
    check(&raw(0x08, b"\x03\xE8"), &[Seen::Failed(WsError::Protocol)]);
}

/// Classes 9 and 10: large messages, whole, in fragments of many sizes, and in small reads.
#[test]
fn large_messages_survive_any_cut() {
    let limits = Limits {
        frame_bytes_max: 1 << 22,
        message_bytes_max: 1 << 22,
        fragment_count_max: 1 << 20,
    };
    let text = "Hello-µ@ßöäüàá-UTF-8!! ".repeat(1 << 15);
    let whole = raw(0x81, text.as_bytes());
    for size in [1_300, 4_096, 65_536, whole.len()] {
        let seen = run_in(Decoder::server(limits), whole.chunks(size));
        assert!(seen == [Seen::Text(text.clone())], "reads of {size}");
    }
    for size in [64, 1_024, 65_536] {
        let pieces = text.as_bytes().chunks(size);
        let mut frames: Vec<_> = pieces.map(|piece| raw(0x00, piece)).collect();
        frames[0][0] = 0x01;
        frames.last_mut().unwrap()[0] = 0x80;
        let bytes = join(&frames);
        let seen = run_in(Decoder::server(limits), bytes.chunks(1_300));
        assert!(seen == [Seen::Text(text.clone())], "fragments of {size}");
    }
}

#[test]
fn a_client_takes_no_masked_frame_and_sends_no_plain_one() {
    let client = || Decoder::client(LIMITS);
    let plain = crate::ws::frame_text(b"from the server");
    let expected = [Seen::Text("from the server".to_owned())];
    assert_eq!(run_in(client(), plain.chunks(1)), expected);
    assert_eq!(run_in(client(), plain.chunks(100)), expected);
    let masked = raw(0x81, b"x");
    assert_eq!(run_in(client(), masked.chunks(100)), [Seen::Failed(WsError::Protocol)]);
    let frames = [
        crate::ws::ping_frame(b"p"),
        crate::ws::pong_frame(b"q"),
        crate::ws::close_echo(Some(4001)),
    ];
    let expected = [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), closed(Some(4001), "")];
    assert_eq!(run_in(client(), frames.concat().chunks(3)), expected);
    for reason in CloseReason::ALL {
        let frame = crate::ws::close_frame(*reason);
        let expected = [closed(Some(reason.code()), reason.text())];
        assert_eq!(run_in(client(), frame.chunks(100)), expected);
    }
}

#[test]
fn a_size_is_refused_before_a_byte_of_its_body_is_kept() {
    let limits = Limits { frame_bytes_max: 1_000, message_bytes_max: 1_500, fragment_count_max: 9 };
    let mut decoder = Decoder::server(limits);
    let header = raw(0x82, &[0; 1_001]);
    let fed = decoder.feed(&mut header[..8].to_vec(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(fed, Err(WsError::TooLarge));
    assert_eq!(decoder.buffered_bytes(), 0);
    let frames = join(&[raw(0x02, &[0; 1_000]), raw(0x80, &[0; 501])]);
    let seen = run_in(Decoder::server(limits), frames.chunks(4_096));
    assert_eq!(seen, [Seen::Failed(WsError::TooLarge)]);
    let top_bit = [&[0x82, 0xFF][..], &u64::MAX.to_be_bytes(), &MASK].concat();
    assert_eq!(run(top_bit.chunks(99)), [Seen::Failed(WsError::Protocol)]);
}

#[test]
fn a_handler_may_stop_after_any_event() {
    let mut bytes = join(&[raw(0x81, b"a"), raw(0x81, b"b")]);
    let mut count = 0;
    let fed = Decoder::server(LIMITS).feed(&mut bytes, &mut |_| {
        count += 1;
        ControlFlow::Break(())
    });
    assert_eq!((fed, count), (Ok(ControlFlow::Break(())), 1));
}

#[test]
fn unmasking_is_the_same_at_every_offset() {
    for offset in 0..9 {
        for len in 0..40 {
            let mut bytes = vec![0; len];
            unmask(&mut bytes, MASK, offset);
            let expected: Vec<u8> = (0..len).map(|at| MASK[(at + offset) % 4]).collect();
            assert_eq!(bytes, expected);
        }
    }
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
