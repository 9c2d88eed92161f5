//! Tests of `resource`.

use proptest::prelude::*;

use super::{table::ROWS, *};

fn check(name: &str, unit: Option<&str>, value: f64, expected: Option<(&str, &str)>) {
    let bound = bind(name, unit, Value::Number(value));
    let found =
        bound.and_then(|b| Some((b.row.name, format_converted(b.number(Value::Number(value))?))));
    assert_eq!(
        found.as_ref().map(|(name, text)| (*name, text.as_str())),
        expected,
        "{name} {unit:?}"
    );
}

#[test]
fn names_and_units_of_devices_are_understood() {
    check("temp", None, 21.3, Some(("temperature", "21.3")));
    check("Temperature", Some("°C"), 21.3, Some(("temperature", "21.3")));
    check("temperature", Some("F"), 70.0, Some(("temperature", "21.1111111")));
    check("temperature", Some("K"), 300.0, Some(("temperature", "26.85")));
    check("temperature", Some("Ohm"), 300.0, None);
    check("pressure", Some("kPa"), 101.3, Some(("pressure", "101300")));
    check("PRES-SURE", Some("mbar"), 1_013.0, Some(("pressure", "101300")));
    check("pm2_5", None, 3.0, Some(("pm25", "3")));
    check("moveCount", None, 3.0, Some(("move_count", "3")));
    check("dist", None, 1_234.0, Some(("distance", "1.234")));
    check("dist", Some("cm"), 50.0, Some(("distance", "0.5")));
    check("bri", None, 128.0, Some(("brightness", "0.501960784")));
    check("ct", None, 250.0, Some(("color_temperature", "4000")));
    check("ct", None, 0.0, None);
    check("accx", None, 1_000.0, Some(("acceleration_x", "9.80665")));
    check("vibration", Some("mm/s"), 0.15, Some(("vibration_velocity", "0.15")));
    check("vibration", Some("g"), 0.15, None);
    check("oil", None, 1.0, None);
}

#[test]
fn a_truth_may_be_a_number_or_a_word() {
    let truth = |name, value| {
        let bound = bind(name, None, value)?;
        Some((bound.row.name, bound.truth(value)?))
    };
    assert_eq!(truth("on", Value::Bool(true)), Some(("on", true)));
    assert_eq!(truth("relay", Value::Number(0.0)), Some(("on", false)));
    assert_eq!(truth("switch", Value::Text("on")), Some(("on", true)));
    assert_eq!(truth("state.2100", Value::Number(1.0)), Some(("presence", true)));
    assert_eq!(truth("hall", Value::Number(0.0)), Some(("open", true)));
    assert_eq!(truth("on", Value::Number(2.0)), None);
    assert_eq!(truth("on", Value::Text("yes")), None);
    assert_eq!(truth("temperature", Value::Number(1.0)), None);
}

#[test]
fn a_name_may_end_with_an_instance() {
    for (name, stem, instance) in [
        ("on", "on", 1),
        ("on.1", "on", 1),
        ("on.15", "on", 15),
        ("on.16", "on.16", 1),
        ("on.0", "on.0", 1),
        ("on.02", "on.02", 1),
        ("on.", "on.", 1),
        (".2", ".2", 1),
        ("a.b.3", "a.b", 3),
        ("on.9999999999", "on.9999999999", 1),
    ] {
        assert_eq!(split_instance(name), (stem, instance));
    }
    let bound = bind("temp.3", None, Value::Number(1.0)).unwrap();
    assert_eq!((bound.row.name, bound.instance), ("temperature", 3));
}

#[test]
fn each_name_stands_once_and_binds_itself() {
    for (at, row) in ROWS.iter().enumerate() {
        assert!(ROWS.iter().skip(at + 1).all(|other| other.name != row.name), "{}", row.name);
        assert_eq!(canonical(row.name), Some(row));
        let value = match row.value {
            Type::Number | Type::Integer => Value::Number(1.0),
            Type::Bool => Value::Bool(true),
            Type::String => Value::Text("x"),
            Type::Json => Value::Other,
        };
        let bound = bind(row.name, None, value).unwrap();
        assert_eq!((bound.row, bound.instance, bound.scale), (row, 1, Scale::Same));
    }
}

#[test]
fn converted_numbers_have_nine_digits() {
    for (number, text) in [
        (2_130.0 / 100.0, "21.3"),
        (0.1 + 0.2, "0.3"),
        (-0.0, "0"),
        (127.999_999_92, "128"),
        (1.0 / 3.0, "0.333333333"),
        (101_364.599, "101364.599"),
        (1e-7, "0.0000001"),
    ] {
        assert_eq!(format_converted(number), text);
    }
}

proptest! {
    #[test]
    fn a_byte_survives_the_way_there_and_back(byte in 0..=255_u8, instance in 1..=INSTANCE_MAX) {
        let bound = bind(&format!("bri.{instance}"), None, Value::Number(0.0)).unwrap();
        prop_assert_eq!(bound.instance, instance);
        let canonical = bound.number(Value::Number(f64::from(byte))).unwrap();
        let text = format_converted(canonical);
        let own = bound.scale.undo(text.parse().unwrap()).unwrap();
        // Nine digits are not all: a wire of whole numbers rounds.
        prop_assert_eq!(own.round(), f64::from(byte));
    }

    #[test]
    fn no_reading_panics(name: String, unit: Option<String>, number: f64, text: String) {
        for value in [Value::Number(number), Value::Text(&text), Value::Bool(true), Value::Other] {
            if let Some(bound) = bind(&name, unit.as_deref(), value) {
                let _ = (bound.number(value), bound.truth(value));
            }
        }
        let _ = format_converted(number);
    }
}
