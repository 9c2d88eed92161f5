//! The case classes of a conformance suite, each fed whole, byte by byte and by sevens; and what is
//! the decoder's alone.

use super::*;
use crate::ws::{Mask, Opcode, frame_masked};

mod cases;

use cases::{Case, FRAME_BYTES_MAX, MASK, Seen, closed, raw};

const LIMITS: Limits = Limits {
    frame_bytes_max: FRAME_BYTES_MAX,
    message_bytes_max: FRAME_BYTES_MAX,
    fragment_count_max: 1_024,
};

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

/// Each case gives the events of the table, however it is cut.
#[track_caller]
fn hold(cases: &[Case]) {
    assert!(!cases.is_empty());
    for case in cases {
        let bytes = case.bytes();
        for size in [bytes.len(), 1, 7] {
            assert_eq!(run(bytes.chunks(size)), case.seen, "{:?} by {size}", case.pieces);
        }
    }
}

fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

#[test]
fn messages_of_every_length_form_arrive() {
    hold(&cases::lengths());
}

#[test]
fn pings_are_small_and_whole() {
    hold(&cases::pings());
}

#[test]
fn pings_keep_their_order_and_their_payload() {
    hold(&cases::many_pings());
}

#[test]
fn reserved_bits_and_opcodes_end_the_connection() {
    hold(&cases::reserved());
}

#[test]
fn a_violation_ends_the_connection_where_it_stands() {
    hold(&cases::violations());
}

#[test]
fn a_frame_without_a_mask_ends_the_connection() {
    hold(&cases::unmasked());
}

#[test]
fn fragments_make_one_message_and_control_frames_may_stand_between() {
    hold(&cases::fragments());
}

#[test]
fn a_continuation_continues_something_and_nothing_else_may_begin() {
    hold(&cases::stray_fragments());
}

#[test]
fn valid_utf8_arrives_even_cut_inside_a_character() {
    hold(&cases::valid_utf8());
}

#[test]
fn invalid_utf8_ends_the_connection() {
    hold(&cases::invalid_utf8());
}

#[test]
fn utf8_is_exactly_that_of_rfc_3629() {
    hold(&cases::utf8_borders());
}

#[test]
fn a_close_is_checked_and_the_last_event() {
    hold(&cases::closes());
}

#[test]
fn sizes_and_floods_of_fragments_are_refused() {
    hold(&cases::sizes());
}

#[test]
fn large_messages_survive_any_cut() {
    let limits = Limits {
        frame_bytes_max: 1 << 22,
        message_bytes_max: 1 << 22,
        fragment_count_max: 1 << 20,
    };
    for case in cases::large(1 << 20) {
        let bytes = case.bytes();
        for size in [1_300, 4_096, 65_536, bytes.len()] {
            let seen = run_in(Decoder::server(limits), bytes.chunks(size));
            assert!(seen == case.seen, "{} pieces in reads of {size}", case.pieces.len());
        }
    }
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
