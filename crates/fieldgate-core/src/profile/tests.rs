//! Tests of `profile`.

use proptest::prelude::*;

use super::*;

fn number(name: &str, unit: Option<&str>, min: f64, max: f64, step: Option<f64>) -> Resource {
    Resource {
        name: name.to_owned(),
        unit: unit.map(str::to_owned),
        writable: true,
        min: Some(min),
        max: Some(max),
        step,
        ..Resource::default()
    }
}

fn lamp() -> Profile {
    let bri = Resource { value: Type::Integer, ..number("bri", None, 0.0, 255.0, None) };
    let on =
        Resource { name: "relay".into(), value: Type::Bool, writable: true, ..Resource::default() };
    let effect = Resource {
        name: "effect".into(),
        value: Type::String,
        writable: true,
        options: vec!["none".into(), "loop".into()],
        ..Resource::default()
    };
    let heat = number("heat", Some("F"), 40.0, 100.0, Some(0.5));
    let heat = Resource { alias_of: Some("target_temperature".into()), ..heat };
    let power = Resource { name: "power".into(), ..Resource::default() };
    Profile {
        kind: Kind::Light,
        resources: vec![bri, on, effect, heat, power],
        ..Profile::default()
    }
}

fn check(name: &str, value: Value<'_>) -> Result<(String, Checked), Code> {
    let profile = lamp();
    profile.validate().unwrap();
    let lookup = profile.lookup();
    let checked = lookup.check(name, value, false).map_err(|fault| fault.code)?;
    Ok((checked.0.name.clone(), checked.1))
}

fn set(name: &str, checked: Checked) -> Result<(String, Checked), Code> {
    Ok((name.to_owned(), checked))
}

#[test]
fn either_name_is_understood_and_arrives_as_the_own_one() {
    assert_eq!(check("bri", Value::Number(128.0)), set("bri", Checked::AsWritten));
    assert_eq!(
        check("brightness", Value::Number(0.501_960_784)),
        set("bri", Checked::Number(128.0))
    );
    assert_eq!(check("on", Value::Bool(true)), set("relay", Checked::AsWritten));
    assert_eq!(
        check("target_temperature", Value::Number(20.0)),
        set("heat", Checked::Number(68.0))
    );
    assert_eq!(check("heat", Value::Number(68.3)), set("heat", Checked::Number(68.5)));
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(check("bri", Value::Number(256.0)), Err(Code::BadValue));
    assert_eq!(check("brightness", Value::Number(1.1)), Err(Code::BadValue));
    assert_eq!(check("bri", Value::Bool(true)), Err(Code::BadValue));
    assert_eq!(check("relay", Value::Number(1.0)), Err(Code::BadValue));
    assert_eq!(check("effect", Value::Text("disco")), Err(Code::BadValue));
    assert_eq!(check("effect", Value::Text("loop")), set("effect", Checked::AsWritten));
    assert_eq!(check("power", Value::Number(1.0)), Err(Code::NotAllowed));
    assert_eq!(check("nothing", Value::Number(1.0)), Err(Code::NotAllowed));
    let fault = lamp().lookup().check("bri", Value::Number(300.0), false).unwrap_err();
    assert_eq!(fault.message, "bri is a number from 0 to 255");
    let reading = fault.reading.unwrap();
    assert_eq!(
        (&*reading.resource, reading.min.as_deref(), reading.max.as_deref()),
        ("bri", Some("0"), Some("255"))
    );
    let long = lamp().lookup().check(&"x".repeat(9_000), Value::Bool(true), false).unwrap_err();
    assert!(long.message.len() < 200);
}

#[test]
fn what_goes_out_again_is_looked_at_under_its_own_name_alone() {
    let lamp = lamp();
    let lookup = lamp.lookup();
    assert_eq!(lookup.check_own("bri", Value::Number(128.0)), Ok(()));
    assert_eq!(lookup.check_own("heat", Value::Number(68.3)), Ok(()));
    let code = |name, value| lookup.check_own(name, value).unwrap_err().code;
    assert_eq!(code("brightness", Value::Number(0.5)), Code::NotAllowed);
    assert_eq!(code("power", Value::Number(0.5)), Code::NotAllowed);
    assert_eq!(code("bri", Value::Number(256.0)), Code::BadValue);
}

#[test]
fn of_two_names_for_one_canonical_resource_the_first_stands() {
    let mut two = lamp();
    two.resources.push(number("level", None, 0.0, 1.0, None));
    let lookup = two.lookup();
    assert_eq!(lookup.find("brightness").unwrap().0.name, "bri");
    assert_eq!(lookup.find("level").unwrap().0.name, "level");
    two.resources.push(number("level.2", None, 0.0, 1.0, None));
    assert_eq!(two.lookup().find("brightness.2").unwrap().0.name, "level.2");
}

#[test]
fn a_relative_change_stops_at_the_end() {
    let lamp = lamp();
    let lamp = lamp.lookup();
    assert_eq!(lamp.check("bri", Value::Number(300.0), true).unwrap().1, Checked::Number(255.0));
    assert_eq!(
        lamp.check("brightness", Value::Number(-1.0), true).unwrap().1,
        Checked::Number(0.0)
    );
}

#[test]
fn a_device_without_a_profile_takes_nothing() {
    let none = Profile::default();
    assert_eq!(none.kind, Kind::Sensor);
    assert_eq!(
        none.lookup().check("on", Value::Bool(true), false).unwrap_err().code,
        Code::NotAllowed
    );
}

#[test]
fn templates_are_whole_and_their_words_unique() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        let resources = kind.template();
        let profile = Profile { kind, resources, ..Profile::default() };
        profile.validate().unwrap();
        assert!(profile.resources.iter().all(|r| r.writable && r.canonical().is_some()));
    }
    assert_eq!(Kind::parse("toaster"), None);
}

#[test]
fn a_profile_that_contradicts_itself_is_refused() {
    let wrong = |change: fn(&mut Resource)| {
        let mut resource = number("level", None, 0.0, 1.0, None);
        change(&mut resource);
        let profile = Profile { resources: vec![resource], ..Profile::default() };
        profile.validate().unwrap_err().code
    };
    assert_eq!(wrong(|r| r.name = String::new()), Code::BadValue);
    assert_eq!(wrong(|r| r.min = Some(2.0)), Code::BadValue);
    assert_eq!(wrong(|r| r.max = Some(f64::NAN)), Code::BadValue);
    assert_eq!(wrong(|r| r.step = Some(0.0)), Code::BadValue);
    let half = |r: &mut Resource| (r.value, r.min) = (Type::Integer, Some(0.5));
    assert_eq!(wrong(half), Code::BadValue);
    assert_eq!(wrong(|r| r.value = Type::Bool), Code::BadValue);
    assert_eq!(wrong(|r| r.options = vec!["a".into()]), Code::BadValue);
    assert_eq!(wrong(|r| r.alias_of = Some("levitation".into())), Code::BadValue);
    assert_eq!(
        wrong(|r| {
            r.value = Type::String;
            r.options = vec!["x".repeat(129)];
            (r.min, r.max) = (None, None);
        }),
        Code::BadValue
    );
    for (id, stands) in [("0a:20:15:96:f3:d2:04:29", true), ("0a:20", false), ("", false)] {
        let profile = Profile { unique_id: Some(id.to_owned()), ..Profile::default() };
        assert_eq!(profile.validate().is_ok(), stands, "{id}");
    }
    let many = (0..RESOURCES_MAX).map(|n| number(&format!("{n:0>128}"), None, 0.0, 1.0, None));
    let mut large = Profile { resources: many.collect(), ..Profile::default() };
    assert_eq!(large.validate().unwrap_err().code, Code::TooLarge);
    large.resources.truncate(500);
    assert_eq!(large.validate(), Ok(()));
    let mut twice = lamp();
    twice.resources.push(number("bri", None, 0.0, 1.0, None));
    assert_eq!(twice.validate().unwrap_err().code, Code::BadValue);
}

proptest! {
    #[test]
    fn what_passes_is_in_range_and_on_a_step(
        wanted in -1e6..1e6_f64, min in -1e3..1e3_f64, span in 0.0..1e3_f64,
        step in proptest::option::of(0.001..10.0_f64), clamp: bool,
    ) {
        let resource = number("x", None, min, min + span, step);
        let profile = Profile { resources: vec![resource], ..Profile::default() };
        match profile.lookup().check("x", Value::Number(wanted), clamp) {
            Err(_) => prop_assert!(!clamp && !(min..=min + span).contains(&wanted)),
            Ok((_, checked)) => {
                let set = if let Checked::Number(set) = checked { set } else { wanted };
                prop_assert!(set >= min - 1e-9 && set <= min + span + 1e-9, "{}", set);
                if let Some(step) = step {
                    let steps = (set - min) / step;
                    prop_assert!((steps - steps.round()).abs() < 1e-6);
                }
            }
        }
    }
}
