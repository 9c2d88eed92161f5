//! Canonical payloads, as `resources.md` 5 has them.

use fieldgate_core::profile::Kind;
use proptest::prelude::*;

use super::*;

fn lamp() -> Profile {
    crate::native::decode_profile(
        r#"{"kind":"light","resources":[
            {"name":"relay","type":"bool","writable":true},
            {"name":"bri","type":"integer","writable":true,"min":0,"max":255},
            {"name":"heat","as":"target_temperature","unit":"F","type":"number","writable":true,"min":40,"max":100,"step":0.5},
            {"name":"effect","type":"string","writable":true,"options":["none","l\"p"]},
            {"name":"scene","type":"json","writable":true},
            {"name":"closed","as":"open","type":"bool","writable":true},
            {"name":"serial","type":"integer","writable":true},
            {"name":"power","type":"number"}]}"#,
    )
    .unwrap()
}

fn fit(payload: &str) -> Result<Option<String>, Fault> {
    let read = canonical(payload.as_bytes())?.expect("canonical");
    let fitted = read.fit(Some(&lamp()), None)?;
    Ok(fitted.map(|bytes| String::from_utf8(bytes).unwrap()))
}

#[test]
fn what_has_none_of_the_keys_is_free() {
    for payload in ["", "1", "\"set\"", "[{\"set\":1}]", r#"{"on":true}"#, r#"{"Set":{}}"#] {
        assert!(canonical(payload.as_bytes()).unwrap().is_none(), "{payload}");
    }
}

#[test]
fn a_value_arrives_under_its_own_name_and_in_its_own_unit() {
    for (payload, expected) in [
        (r#" {"set": {"bri": 128.0}} "#, None),
        (r#"{"set":{"bri":128},"transition":0.4,"later":[1]}"#, None),
        (r#"{"set":{"scene":{"a":[1e2]}},"action":"stop"}"#, None),
        (r#"{"action":"identify"}"#, None),
        (
            r#"{"later": [1e2], "set":{"on":true,"brightness":0.501960784},"transition":0.40}"#,
            Some(r#"{"later":[1e2],"set":{"relay":true,"bri":128},"transition":0.40}"#),
        ),
        (r#"{"set":{"target_temperature":20}}"#, Some(r#"{"set":{"heat":68}}"#)),
        (r#"{"set":{"heat":68.30}}"#, Some(r#"{"set":{"heat":68.5}}"#)),
        (r#"{"set":{"effect":"l\u0022p"}}"#, None),
        (r#"{"set":{"serial":12345678901.4}}"#, Some(r#"{"set":{"serial":12345678901}}"#)),
        (r#"{"set":{"serial":-0.4}}"#, Some(r#"{"set":{"serial":0}}"#)),
    ] {
        assert_eq!(fit(payload).unwrap().as_deref(), expected, "{payload}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_resource() {
    for (payload, code, resource) in [
        (r#"{"set":{"bri":256}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"brightness":1.1}}"#, Code::BadValue, Some("bri")),
        (r#"{"\u0073et":{"b\u0072i":-0.2}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"relay":1}}"#, Code::BadValue, Some("relay")),
        (r#"{"set":{"bri":"128"}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"bri":null}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"effect":"disco"}}"#, Code::BadValue, Some("effect")),
        (r#"{"set":{"power":1}}"#, Code::NotAllowed, Some("power")),
        (r#"{"set":{"nothing":1}}"#, Code::NotAllowed, Some("nothing")),
        (r#"{"set":{"bri":1,"brightness":1}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"bri":1,"bri":2}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"bri":1},"set":{}}"#, Code::BadValue, None),
        (r#"{"set":[1]}"#, Code::BadValue, None),
        (r#"{"set":{}}"#, Code::BadValue, None),
        (r#"{"change":{"bri":1}}"#, Code::BadValue, Some("bri")),
        (r#"{"set":{"bri":1},"toggle":["on"]}"#, Code::BadValue, Some("relay")),
        (r#"{"change":{"power":1}}"#, Code::NotAllowed, Some("power")),
        (r#"{"toggle":["power"]}"#, Code::NotAllowed, Some("power")),
        (r#"{"change":{"relay":1}}"#, Code::BadValue, Some("relay")),
        (r#"{"toggle":["bri"]}"#, Code::BadValue, Some("bri")),
        (r#"{"change":{"bri":true}}"#, Code::BadValue, Some("bri")),
        (r#"{"change":{}}"#, Code::BadValue, None),
        (r#"{"change":["bri"]}"#, Code::BadValue, None),
        (r#"{"toggle":[]}"#, Code::BadValue, None),
        (r#"{"toggle":"on"}"#, Code::BadValue, None),
        (r#"{"toggle":["on","on"]}"#, Code::BadValue, Some("on")),
        (r#"{"set":{"on":true},"toggle":["on"]}"#, Code::BadValue, Some("on")),
        (r#"{"action":"explode"}"#, Code::BadValue, None),
        (r#"{"action":1}"#, Code::BadValue, None),
        (r#"{"set":{"bri":1},"transition":-1}"#, Code::BadValue, None),
        (r#"{"transition":"slow"}"#, Code::BadValue, None),
    ] {
        let fault = fit(payload).unwrap_err();
        let named = fault.reading.as_ref().map(|reading| &*reading.resource);
        assert_eq!((fault.code, named), (code, resource), "{payload}: {fault}");
    }
    let many: Vec<String> = (0..=SET_LEN_MAX).map(|n| format!("\"r{n}\":1")).collect();
    let many = format!("{{\"set\":{{{}}}}}", many.join(","));
    assert_eq!(fit(&many).unwrap_err().code, Code::TooLarge);
}

#[test]
fn without_a_profile_nothing_is_set_and_the_rest_is_free() {
    let fit = |payload: &str| canonical(payload.as_bytes()).unwrap().unwrap().fit(None, None);
    for payload in [r#"{"set":{"on":true}}"#, r#"{"toggle":["on"]}"#, r#"{"change":{"x":1}}"#] {
        assert_eq!(fit(payload).unwrap_err().code, Code::NotAllowed);
    }
    assert_eq!(fit(r#"{"action":"restart"}"#), Ok(None));
}

#[test]
fn what_was_made_for_a_device_is_looked_at_as_it_is() {
    let still = |payload: &str| {
        let read = canonical(payload.as_bytes()).unwrap().unwrap();
        read.still_fits(Some(&lamp())).map_err(|fault| fault.code)
    };
    assert_eq!(still(r#"{"set":{"bri":128,"heat":68.3}}"#), Ok(()));
    assert_eq!(still(r#"{"set":{"brightness":0.5}}"#), Err(Code::NotAllowed));
    assert_eq!(still(r#"{"set":{"bri":300}}"#), Err(Code::BadValue));
    assert_eq!(still(r#"{"set":{"bri":1},"change":{"heat":1}}"#), Err(Code::BadValue));
    let read = canonical(br#"{"set":{"bri":1}}"#).unwrap().unwrap();
    assert_eq!(read.still_fits(None).unwrap_err().code, Code::NotAllowed);
}

proptest! {
    /// What fits once fits again, and nothing panics.
    #[test]
    fn what_was_fitted_still_fits(
        name in proptest::sample::select(vec!["on", "relay", "bri", "brightness", "heat", "open", "x\\u0022"]),
        value in "(true|false|null|-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?|\"[a-z]{0,5}\"|\\[1\\])",
        more in "(,\"transition\":[0-9])?",
    ) {
        let payload = format!("{{\"set\":{{\"{name}\":{value}}}{more}}}");
        let read = canonical(payload.as_bytes()).unwrap().unwrap();
        if let Ok(fitted) = read.fit(Some(&lamp()), None) {
            let fitted = fitted.unwrap_or_else(|| payload.clone().into_bytes());
            let again = canonical(&fitted).unwrap().unwrap();
            prop_assert_eq!(again.still_fits(Some(&lamp())), Ok(()));
            prop_assert_eq!(again.fit(Some(&lamp()), None), Ok(None));
        }
    }

    #[test]
    fn every_brightness_of_a_byte_survives(bri in 0u8..=255) {
        let wanted = format_converted(f64::from(bri) / 255.0);
        let payload = format!("{{\"set\":{{\"brightness\":{wanted}}}}}");
        prop_assert_eq!(fit(&payload), Ok(Some(format!("{{\"set\":{{\"bri\":{bri}}}}}"))));
    }
}

#[test]
fn a_converted_value_stays_in_its_range() {
    let profile = crate::native::decode_profile(
        r#"{"resources":[{"name":"heat","as":"target_temperature","unit":"K","type":"number","writable":true,"min":290.1234567891,"max":300.1234567891}]}"#,
    )
    .unwrap();
    for celsius in ["16.9734567891001", "26.9734567890999"] {
        let payload = format!("{{\"set\":{{\"target_temperature\":{celsius}}}}}");
        let read = canonical(payload.as_bytes()).unwrap().unwrap();
        let fitted = read.fit(Some(&profile), None).unwrap().unwrap();
        let again = canonical(&fitted).unwrap().unwrap();
        assert_eq!(again.still_fits(Some(&profile)), Ok(()), "{fitted:?}");
    }
}

#[test]
fn a_template_takes_what_its_kind_says() {
    let kind = Kind::Light;
    let profile = Profile { kind, resources: kind.template(), ..Profile::default() };
    let read = canonical(br#"{"set":{"on":true,"brightness":0.5}}"#).unwrap().unwrap();
    assert_eq!(read.fit(Some(&profile), None), Ok(None));
}

/// What the lamp reported, as telemetry without units.
fn lamp_is(reported: &str) -> Reported {
    let mut state = Reported::default();
    let message = fieldgate_core::message::Message {
        content: fieldgate_core::message::Content::Json,
        ..fieldgate_core::testing::message(
            "devices/lamp/telemetry",
            fieldgate_core::message::Qos::AtLeastOnce,
            reported,
        )
    };
    assert_eq!(state.take(fieldgate_core::id::Seq(1), &message, Default::default()), 0);
    state
}

fn resolve(payload: &str, reported: &str) -> Result<String, Fault> {
    let read = canonical(payload.as_bytes())?.expect("canonical");
    let fitted = read.fit(Some(&lamp()), Some(&lamp_is(reported)))?;
    Ok(String::from_utf8(fitted.expect("what is relative never goes out")).unwrap())
}

#[test]
fn what_is_relative_goes_out_as_what_it_comes_to() {
    let is = r#"{"relay":true,"bri":100,"heat":68,"closed":0,"serial":7}"#;
    for (payload, expected) in [
        (r#"{"toggle":["on"]}"#, r#"{"set":{"relay":false}}"#),
        (r#"{"toggle":["relay","open"]}"#, r#"{"set":{"relay":false,"closed":true}}"#),
        (r#"{"change":{"bri":27.6}}"#, r#"{"set":{"bri":128}}"#),
        (r#"{"change":{"brightness":0.1}}"#, r#"{"set":{"bri":126}}"#),
        (r#"{"change":{"bri":-1e9}}"#, r#"{"set":{"bri":0}}"#),
        (r#"{"change":{"brightness":7}}"#, r#"{"set":{"bri":255}}"#),
        (r#"{"change":{"target_temperature":1}}"#, r#"{"set":{"heat":70}}"#),
        (r#"{"change":{"heat":0.3}}"#, r#"{"set":{"heat":68.5}}"#),
        (r#"{"change":{"serial":-8}}"#, r#"{"set":{"serial":-1}}"#),
        (
            r#"{"later":1,"toggle":["on"],"transition":0.40,"set":{"effect":"none"},"change":{"bri":1}}"#,
            r#"{"later":1,"set":{"effect":"none","bri":101,"relay":false},"transition":0.40}"#,
        ),
    ] {
        assert_eq!(resolve(payload, is).as_deref(), Ok(expected), "{payload}");
    }
    let kelvin = r#"{"values":[{"tag":"heat","value":293.15,"unit":"K"}]}"#;
    let warmer = r#"{"change":{"heat":2}}"#;
    assert_eq!(resolve(warmer, kelvin).as_deref(), Ok(r#"{"set":{"heat":70}}"#));
}

#[test]
fn what_was_not_reported_is_no_ground_for_a_change() {
    for (payload, is) in [
        (r#"{"toggle":["on"]}"#, r#"{"bri":1}"#),
        (r#"{"toggle":["on"]}"#, r#"{"relay":"maybe"}"#),
        (r#"{"change":{"bri":1}}"#, r#"{"bri":"much"}"#),
        (r#"{"change":{"bri":1}}"#, r#"{"values":[{"tag":"bri","value":1,"quality":"bad"}]}"#),
        (r#"{"change":{"heat":1}}"#, r#"{"values":[{"tag":"heat","value":1,"unit":"lx"}]}"#),
    ] {
        let fault = resolve(payload, is).unwrap_err();
        assert_eq!(fault.code, Code::BadValue, "{payload} {is}");
        assert!(fault.message.contains("reported"), "{fault}");
    }
}

proptest! {
    /// What a change comes to is in the range and on a step, and goes out again as it is.
    #[test]
    fn a_resolved_change_fits(bri in 0u8..=255, by in -400.0..400.0f64, heat in 40.0..100.0f64) {
        let payload = format!("{{\"change\":{{\"bri\":{by},\"target_temperature\":{by}}},\"toggle\":[\"on\"]}}");
        let is = format!("{{\"relay\":false,\"bri\":{bri},\"heat\":{heat}}}");
        let resolved = resolve(&payload, &is).unwrap();
        let again = canonical(resolved.as_bytes()).unwrap().unwrap();
        prop_assert!(!again.is_relative());
        prop_assert_eq!(again.still_fits(Some(&lamp())), Ok(()), "{}", resolved);
    }
}

#[test]
fn a_wish_is_fitted_as_a_set_is_and_null_withdraws() {
    let fit = |patch: &str| fit_desired(patch.as_bytes(), Some(&lamp()));
    let wished = r#"{ "on":true, "brightness":0.5,"heat":null,"scene":{"a":null,"b":[1.0]}}"#;
    let fitted = r#"{"relay":true,"bri":128,"heat":null,"scene":{"a":null,"b":[1.0]}}"#;
    assert_eq!(fit(wished).unwrap(), fitted.as_bytes());
    for (patch, code) in [
        (r#"{"power":null}"#, Code::NotAllowed),
        (r#"{"relay":{"a":1}}"#, Code::BadValue),
        (r#"{"bri":256}"#, Code::BadValue),
        (r#"{"on":true,"relay":null}"#, Code::BadValue),
        ("{}", Code::BadValue),
        ("[]", Code::BadValue),
    ] {
        assert_eq!(fit(patch).unwrap_err().code, code, "{patch}");
    }
    assert_eq!(fit_desired(b"{\"on\":true}", None).unwrap_err().code, Code::NotAllowed);
}

proptest! {
    /// What was fitted is what its device takes, as it is.
    #[test]
    fn what_was_wished_goes_out_as_it_is(bri in 0.0..1.0f64, heat in 5.0..37.0f64, on: bool) {
        let patch = format!("{{\"brightness\":{bri},\"target_temperature\":{heat},\"open\":{on}}}");
        let fitted = fit_desired(patch.as_bytes(), Some(&lamp())).unwrap();
        let again = fit_desired(&fitted, Some(&lamp()));
        prop_assert_eq!(again.as_ref(), Ok(&fitted));
        let payload = [b"{\"set\":", &fitted[..], b"}"].concat();
        let again = canonical(&payload).unwrap().unwrap();
        prop_assert_eq!(again.still_fits(Some(&lamp())), Ok(()));
    }
}
