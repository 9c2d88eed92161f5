//! The case classes of a conformance suite as tables, written anew from RFC 6455 and RFC 3629: what a
//! client sends, and what a server makes of it.
//!
//! Included by the tests of the decoder and by those of the gateway, whose links must tell the same.
//! The bounds are those of a gateway as it comes: 256 KiB a frame and a message, 1,024 fragments.

use super::{Mask, Opcode, WsError, frame_masked};

pub(super) const MASK: Mask = [0x37, 0xFA, 0x21, 0x3D];
pub(super) const FRAME_BYTES_MAX: usize = 262_144;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Failed(WsError),
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// A masked frame with any first byte.
    Frame(u8, Vec<u8>),
    /// What is no whole masked frame.
    Bytes(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) pieces: Vec<Piece>,
    pub(super) seen: Vec<Seen>,
}

impl Case {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let bytes = self.pieces.iter().map(|piece| match piece {
            Piece::Frame(first, payload) => raw(*first, payload),
            Piece::Bytes(bytes) => bytes.clone(),
        });
        bytes.collect::<Vec<_>>().concat()
    }
}

/// A frame with any first byte.
pub(super) fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_masked(Opcode::Text, payload, MASK);
    bytes[0] = first;
    bytes
}

fn case(frames: &[(u8, &[u8])], seen: &[Seen]) -> Case {
    let frame = |(first, payload): &(u8, &[u8])| Piece::Frame(*first, payload.to_vec());
    Case { pieces: frames.iter().map(frame).collect(), seen: seen.to_vec() }
}

fn broken(bytes: Vec<u8>, error: WsError) -> Case {
    Case { pieces: vec![Piece::Bytes(bytes)], seen: vec![Seen::Failed(error)] }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn ping(payload: &[u8]) -> Seen {
    Seen::Ping(payload.to_vec())
}

pub(super) fn closed(code: Option<u16>, reason: &str) -> Seen {
    Seen::Close(code, reason.to_owned())
}

const PROTOCOL: Seen = Seen::Failed(WsError::Protocol);
const UTF8: Seen = Seen::Failed(WsError::Utf8);
const TOO_LARGE: Seen = Seen::Failed(WsError::TooLarge);

/// Class 1: each form of the length.
pub(super) fn lengths() -> Vec<Case> {
    let of = |len: usize| {
        let payload = vec![b'*'; len];
        let binary = case(&[(0x82, &payload)], &[Seen::Binary(payload.clone())]);
        [case(&[(0x81, &payload)], &[text(&"*".repeat(len))]), binary]
    };
    [0, 1, 125, 126, 127, 128, 65_535, 65_536].into_iter().flat_map(of).collect()
}

/// Class 2: a ping is one frame of 125 bytes; a pong that nobody asked for is no matter.
pub(super) fn pings() -> Vec<Case> {
    vec![
        case(&[(0x89, b"")], &[ping(b"")]),
        case(&[(0x89, &[0xFE; 125])], &[ping(&[0xFE; 125])]),
        case(&[(0x89, &[0xFE; 126])], &[PROTOCOL]),
        case(&[(0x09, b"x")], &[PROTOCOL]),
        case(&[(0x8A, b"unasked")], &[Seen::Pong(b"unasked".to_vec())]),
        case(
            &[(0x8A, b""), (0x89, &[0, 0xFF, 0xFE])],
            &[Seen::Pong(vec![]), ping(&[0, 0xFF, 0xFE])],
        ),
    ]
}

/// Class 2: ten of them keep their order.
pub(super) fn many_pings() -> Vec<Case> {
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let pieces = payloads.iter().cloned().map(|payload| Piece::Frame(0x89, payload)).collect();
    vec![Case { pieces, seen: payloads.into_iter().map(Seen::Ping).collect() }]
}

/// Class 3 and 4: reserved bits, reserved opcodes.
pub(super) fn reserved() -> Vec<Case> {
    let bits = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70].into_iter();
    let with_bits = bits.flat_map(|bits| {
        [0x1, 0x2, 0x8, 0x9, 0xA].map(|opcode| case(&[(0x80 | bits | opcode, b"")], &[PROTOCOL]))
    });
    let opcodes = [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF].into_iter();
    with_bits.chain(opcodes.map(|opcode| case(&[(0x80 | opcode, b"x")], &[PROTOCOL]))).collect()
}

/// Class 3 and 4: what stood before a violation arrives, what stands behind it does not.
pub(super) fn violations() -> Vec<Case> {
    let bad: [(u8, &[u8]); 4] = [(0xC1, b"x"), (0x83, b"x"), (0x8B, b""), (0x80, b"x")];
    let between =
        |bad| case(&[(0x81, b"before"), bad, (0x89, b"behind")], &[text("before"), PROTOCOL]);
    bad.into_iter().map(between).collect()
}

pub(super) fn unmasked() -> Vec<Case> {
    vec![broken(vec![0x81, 0x01, b'x'], WsError::Protocol)]
}

/// Class 5: fragments make one message, and control frames stand between them.
pub(super) fn fragments() -> Vec<Case> {
    let between = [(0x01, &b"frag"[..]), (0x89, b"p"), (0x00, b"me"), (0x80, b"nt")];
    vec![
        case(&between, &[ping(b"p"), text("fragment")]),
        case(&[(0x01, b""), (0x00, b""), (0x80, b"")], &[text("")]),
        case(
            &[
                (0x02, b"1"),
                (0x89, b"p1"),
                (0x8A, b"p2"),
                (0x00, b"2"),
                (0x89, b"p3"),
                (0x80, b"3"),
                (0x81, b"next"),
            ],
            &[
                ping(b"p1"),
                Seen::Pong(b"p2".to_vec()),
                ping(b"p3"),
                Seen::Binary(b"123".to_vec()),
                text("next"),
            ],
        ),
    ]
}

/// Class 5: a continuation continues something, nothing else begins, a control frame is whole.
pub(super) fn stray_fragments() -> Vec<Case> {
    vec![
        case(&[(0x80, b"x")], &[PROTOCOL]),
        case(&[(0x00, b"x")], &[PROTOCOL]),
        case(&[(0x01, b"a"), (0x81, b"b")], &[PROTOCOL]),
        case(&[(0x01, b"a"), (0x82, b"b")], &[PROTOCOL]),
        case(&[(0x01, b"a"), (0x80, b"b"), (0x80, b"c")], &[text("ab"), PROTOCOL]),
        case(&[(0x09, b"a"), (0x80, b"b")], &[PROTOCOL]),
        case(&[(0x0A, b"a"), (0x80, b"b")], &[PROTOCOL]),
    ]
}

/// Class 6: text arrives whole, also cut inside a character.
pub(super) fn valid_utf8() -> Vec<Case> {
    let texts = ["κόσμε", "\u{0}", "\u{80}", "\u{800}", "\u{10000}", "\u{7FF}", "\u{FFFF}"];
    let of = |one: &str| {
        let byte = |(at, byte): (usize, &u8)| Piece::Frame(u8::from(at == 0), vec![*byte]);
        let mut pieces: Vec<_> = one.as_bytes().iter().enumerate().map(byte).collect();
        pieces.push(Piece::Frame(0x80, vec![]));
        let cut = Case { pieces, seen: vec![text(one)] };
        [case(&[(0x81, one.as_bytes())], &[text(one)]), cut]
    };
    texts.into_iter().chain(["\u{10FFFF}", "\u{FFFE}"]).flat_map(of).collect()
}

/// Class 6: what is no text, at the latest at its end and at the earliest at its first bad byte.
pub(super) fn invalid_utf8() -> Vec<Case> {
    let invalid: [&[u8]; 18] = [
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
    let mut cases: Vec<_> =
        invalid.into_iter().map(|bytes| case(&[(0x81, bytes)], &[UTF8])).collect();
    let mut unfinished = raw(0x81, b"\xCE\xBA\xF4\x90\x80\x80 and a long rest");
    unfinished.truncate(6 + 4);
    cases.push(broken(unfinished, WsError::Utf8));
    cases.push(case(&[(0x01, b"\xCE\xBA\xF4"), (0x00, b"\x90")], &[UTF8]));
    cases
}

/// Class 6: every two-, three- and four-byte form at its borders, alone and cut into fragments.
pub(super) fn utf8_borders() -> Vec<Case> {
    let leads = [0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE];
    let more_leads = [0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFC, 0xFE, 0xFF];
    let tails = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0];
    let mut cases = Vec::new();
    for lead in leads.into_iter().chain(more_leads) {
        for (second, third) in
            tails.into_iter().flat_map(|second| tails.map(|third| (second, third)))
        {
            for len in 1..=4 {
                let bytes = &[lead, second, third, 0x80][..len];
                let seen = str::from_utf8(bytes).map_or(UTF8, text);
                cases.push(case(&[(0x81, bytes)], std::slice::from_ref(&seen)));
                let (head, tail) = bytes.split_at(len / 2);
                cases.push(case(&[(0x01, head), (0x80, tail)], &[seen]));
            }
        }
    }
    cases
}

/// Class 7: codes and reasons; nothing counts behind a close, also inside a message.
pub(super) fn closes() -> Vec<Case> {
    let longest = "*".repeat(123);
    let mut cases = vec![
        case(&[(0x88, b"")], &[closed(None, "")]),
        case(&[(0x88, b"\x03")], &[PROTOCOL]),
        case(&[(0x88, b"\x03\xE8bye")], &[closed(Some(1000), "bye")]),
        case(&[(0x88, b"\x03\xE8\xFF")], &[UTF8]),
        case(&[(0x88, &[b'x'; 126])], &[PROTOCOL]),
        case(&[(0x08, b"\x03\xE8")], &[PROTOCOL]),
        case(
            &[(0x88, &[b"\x0F\xA0", longest.as_bytes()].concat())],
            &[closed(Some(4000), &longest)],
        ),
        case(&[(0x88, b""), (0x81, b"late")], &[closed(None, "")]),
        case(&[(0x88, b"\x03\xE8"), (0x89, b"late")], &[closed(Some(1000), "")]),
        case(&[(0x88, b"\x03\xE8"), (0x88, b"\x03\xE8")], &[closed(Some(1000), "")]),
        case(&[(0x01, b"half"), (0x88, b"\x03\xE8")], &[closed(Some(1000), "")]),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16] {
        cases.push(case(&[(0x88, &code.to_be_bytes())], &[closed(Some(code), "")]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        cases.push(case(&[(0x88, &code.to_be_bytes())], &[PROTOCOL]));
    }
    cases
}

/// Class 9: what is above the bounds is refused, a frame at its header.
pub(super) fn sizes() -> Vec<Case> {
    let header = |len: u64| [&[0x82, 0xFF][..], &len.to_be_bytes(), &MASK].concat();
    let full = vec![b'x'; FRAME_BYTES_MAX];
    let mut flood = vec![(0x01, &b""[..])];
    flood.extend([(0x00, &b""[..]); 2_000]);
    vec![
        broken(header(1 << 40), WsError::TooLarge),
        broken(header(u64::MAX), WsError::Protocol),
        case(&[(0x02, &full), (0x80, b"x")], &[TOO_LARGE]),
        case(&flood, &[TOO_LARGE]),
    ]
}

/// Classes 9 and 10: a large text whole, and in fragments of many sizes.
pub(super) fn large(byte_len: usize) -> Vec<Case> {
    const LINE: &str = "Hello-µ@ßöäüàá-UTF-8!! ";
    let whole = LINE.repeat(byte_len / LINE.len());
    let cut = |size| {
        let piece = |(at, piece): (usize, &[u8])| Piece::Frame(u8::from(at == 0), piece.to_vec());
        let mut pieces: Vec<_> = whole.as_bytes().chunks(size).enumerate().map(piece).collect();
        pieces.push(Piece::Frame(0x80, vec![]));
        Case { pieces, seen: vec![text(&whole)] }
    };
    let mut cases = vec![case(&[(0x81, whole.as_bytes())], &[text(&whole)])];
    cases.extend([251, 1_024, 65_536].map(cut));
    cases
}
