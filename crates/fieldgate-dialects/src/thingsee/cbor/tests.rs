//! The vectors of `wire.md` 6.5, every type of CBOR, and bombs.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};

use super::*;
use crate::thingsee::decode_binary;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.trim().bytes().collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn json(hex: &str) -> Vec<Result<String, Fault>> {
    to_json(&bytes(hex), &Limits::default()).unwrap()
}

/// The JSON of one value.
fn value(hex: &str) -> String {
    let all = json(&format!("81{hex}"));
    all.into_iter().next().unwrap().unwrap()
}

fn refused(hex: &str) -> Code {
    to_json(&bytes(hex), &Limits::default()).unwrap_err().code
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_vectors_are_the_json_that_they_stand_for() {
    for (hex, text) in [
        (
            include_str!("../../../tests/data/thingsee/movement.cbor.hex"),
            r#"{"tsmId":13100,"tsmEv":10,"moveCount":7}"#,
        ),
        (
            include_str!("../../../tests/data/thingsee/radar.cbor.hex"),
            r#"{"tsmId":28009,"tsmEv":7,"echo":1569,"state":1,"dist":1600}"#,
        ),
        (
            include_str!("../../../tests/data/thingsee/configuration.cbor.hex"),
            r#"{"tsmId":1500,"tsmEv":30,"transactionId":1485925806,"measurementInterval":30,"reportInterval":300}"#,
        ),
    ] {
        assert_eq!(json(hex), [Ok(text.to_owned())]);
        let inflated = to_json(&zlib(&bytes(hex)), &Limits::default()).unwrap();
        assert_eq!(inflated, [Ok(text.to_owned())], "compressed");
    }
}

#[test]
fn keys_stand_in_order_once_and_none_is_scaled_twice() {
    assert!(KEYS.is_sorted_by(|a, b| a.0 < b.0));
    let mut names: Vec<_> = KEYS.iter().map(|(_, name, _)| name).collect();
    names.sort_unstable();
    assert!(names.is_sorted_by(|a, b| a < b), "a name stands twice");
    assert!(SCALED.iter().all(|(key, _)| KEYS.iter().all(|(known, ..)| known != key)));
}

#[test]
fn scaled_values_are_unscaled_exactly() {
    assert_eq!(shifted(218, 1), "21.8");
    assert_eq!(shifted(-5, 1), "-0.5");
    assert_eq!(shifted(230, 1), "23");
    assert_eq!(shifted(0, 3), "0");
    assert_eq!(shifted(101_364_599, 3), "101364.599");
    assert_eq!(shifted(3_300_000, 6), "3.3");
    assert_eq!(shifted(-18_446_744_073_709_551_616, 0), "-18446744073709551616");
    // airp 101364599, temp 213, humd 217, batl 346, voltage 3012345
    assert_eq!(
        value("a518211a060ab377181e18d5182018d9151901 5a183b1a002df6f9".replace(' ', "").as_str()),
        r#"{"airp":101364.599,"temp":21.3,"humd":21.7,"batl":34.6,"voltage":3.012345}"#
    );
    // temp 213.0 as a float, and an unknown hysteresis
    assert_eq!(value("a2181ef95aa81901130a"), r#"{"temp":21.3,"unknown_275":1}"#);
}

#[test]
fn every_type_has_its_json() {
    for (hex, text) in [
        ("17", "23"),
        ("38ff", "-256"),
        ("1bffffffffffffffff", "18446744073709551615"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("f5", "true"),
        ("f6", "null"),
        ("f7", "null"),
        ("e5", "null"),
        ("f93e00", "1.5"),
        ("f90001", "0.000000059604645"),
        ("fa3dcccccd", "0.1"),
        ("fb3fb999999999999a", "0.1"),
        ("fb7e37e43c8800759c", "1e300"),
        ("63c3a9 22".replace(' ', "").as_str(), r#""é\"""#),
        ("7f6161617aff", r#""az""#),
        ("43010203", r#""AQID""#),
        ("5f41014102ff", r#""AQI=""#),
        ("c11a514b67b0", "1363896240"),
        ("80", "[]"),
        ("9fff", "[]"),
        ("83010203", "[1,2,3]"),
        ("a0", "{}"),
        ("bfff", "{}"),
        ("bf01822603ff", r#"{"tsmId":[-7,3]}"#),
        ("a218fa012000", r#"{"unknown_250":1,"unknown_-1":0}"#),
        ("a16474656d7001", r#"{"temp":1}"#),
    ] {
        assert_eq!(value(hex), text, "{hex}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn one_bad_element_never_costs_its_neighbours() {
    for bad in ["a10afb7ff0000000000000", "a10af97e00", "a1f501", "a1820102 03"] {
        let bad = bad.replace(' ', "");
        let all = json(&format!("83a10101{bad}a10102"));
        assert_eq!(all[0], Ok(r#"{"tsmId":1}"#.to_owned()));
        assert_eq!(all[1].as_ref().unwrap_err().code, Code::BadValue, "{bad}");
        assert_eq!(all[2], Ok(r#"{"tsmId":2}"#.to_owned()), "{bad}");
    }
    let gateway = "83a3011904560464642d31312d15183201a301190456046464 2d31321502".replace(' ', "");
    let all = decode_binary(&bytes(&gateway), &Limits::default());
    assert_eq!(all.unwrap_err().code, Code::BadValue, "an array that is cut");
}

#[test]
fn a_frame_that_cannot_be_read_is_refused_whole() {
    for (hex, code) in [
        ("", Code::BadValue),
        ("ff", Code::BadValue),
        ("01", Code::BadValue),
        ("83", Code::BadValue),
        ("9f", Code::BadValue),
        ("a101", Code::BadValue),
        ("8001", Code::BadValue),
        ("81ff", Code::BadValue),
        ("811c", Code::BadValue),
        ("8161ff", Code::BadValue),
        ("bf01ff", Code::BadValue),
        ("9bffffffffffffffff", Code::BadValue),
        ("81bbffffffffffffffff", Code::BadValue),
        ("78da", Code::BadValue),
        ("789c0000", Code::BadValue),
    ] {
        assert_eq!(refused(hex), code, "{hex}");
    }
    assert_eq!(refused(&"81".repeat(100_000)), Code::BadJson);
    assert_eq!(refused(&format!("9f{}ff", "00".repeat(1_001))), Code::TooLarge);
    assert_eq!(json(&format!("9f{}ff", "00".repeat(1_000))).len(), 1_000);
    let mut followed = zlib(&bytes("80"));
    followed.push(0);
    assert_eq!(to_json(&followed, &Limits::default()).unwrap_err().code, Code::BadValue);
}

#[test]
fn what_grows_is_stopped_before_it_has_grown() {
    let limits = Limits { frame_bytes_max: 10_000, ..Limits::default() };
    let bomb = zlib(&vec![0x80; 4 << 20]);
    assert!(bomb.len() < 10_000);
    assert_eq!(to_json(&bomb, &limits).unwrap_err().code, Code::TooLarge);
    assert_eq!(inflate(&zlib(&[7; 10_000]), 10_000), Ok(vec![7; 10_000]));
    assert_eq!(inflate(&zlib(&[7; 10_001]), 10_000).unwrap_err().code, Code::TooLarge);
    // Two bytes of a key become twenty.
    let wide = format!("81bf{}ff", "19010000".repeat(5_000));
    assert_eq!(to_json(&bytes(&wide), &limits).unwrap_err().code, Code::TooLarge);
}

#[test]
fn an_edge_gateway_adds_time_and_serial() {
    // {1:12100, 2:10, 3:1520416221, 4:"d-1", 5:"g-1", 30:213}
    let hex = "9fa60119 2f44020a031a5a9fb5dd0463642d310563672d31181e18d5ff".replace(' ', "");
    let all = decode_binary(&bytes(&hex), &Limits::default()).unwrap();
    let element = all[0].as_ref().unwrap();
    assert_eq!(
        (element.device.as_str(), &*element.draft.payload),
        ("d-1", br#"{"temp":21.3}"#.as_slice())
    );
    assert_eq!(element.draft.timestamp.map(|time| time.0), Some(1_520_416_221_000));
    assert_eq!(
        element.draft.original.as_deref(),
        Some(br#"{"tsmId":12100,"tsmEv":10,"tsmTs":1520416221,"tsmTuid":"d-1","tsmGw":"g-1","temp":21.3}"#.as_slice())
    );
}
