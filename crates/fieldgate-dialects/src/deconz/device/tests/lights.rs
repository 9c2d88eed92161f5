//! Lamps, plugs, covers, locks and thermostats.

use fieldgate_core::profile::Kind;

use super::*;

fn lamp() -> Profile {
    let names = [("on", Type::Bool), ("bri", Type::Integer), ("xy", Type::Json)];
    let mut resources: Vec<Resource> = names.map(|(name, of)| resource(name, of)).into();
    let (min, max) = (Some(2_000.0), Some(6_535.0));
    resources.push(Resource { min, max, ..resource("color_temperature", Type::Number) });
    profile(Kind::Light, resources)
}

#[test]
fn vector_4_what_a_lamp_reports() {
    let mut bench = Bench::new(Some(profile(Kind::Light, Kind::Light.template())));
    let reported = r#"{"on":true,"brightness":0.5}"#;
    let changes = bench.send("devices/d/state/reported", T, reported);
    let expected = json!({"on": true, "bri": 128, "lastupdated": L});
    assert_eq!(changes, [state(Part::Light, 1, &expected)]);
    let light = Light { on: Some(true), brightness: Some(128), is_reachable: true };
    assert_eq!((bench.device.light(1), bench.device.light(2)), (Some(light), None));
}

#[test]
fn a_lamp_that_said_nothing_yet_shows_what_it_can_do() {
    let bench = Bench::new(Some(lamp()));
    let whole = bench.device.resource(Part::Light, 1, &ID).unwrap();
    let expected = json!({
        "colorcapabilities": 24, "ctmax": 500, "ctmin": 153, "etag": whole["etag"],
        "hascolor": true, "lastseen": null, "manufacturername": "Fieldgate", "modelid": "light",
        "name": "Hall", "swversion": "", "type": "Extended color light",
        "uniqueid": "0a:20:15:96:f3:d2:04:29-01",
        "state": {
            "on": false, "bri": 0, "xy": [0.0, 0.0], "ct": 500, "colormode": "xy",
            "reachable": true, "lastupdated": "none",
        },
    });
    assert_eq!(json!(whole), expected);
    assert_eq!(bench.device.config(Part::Light, 1), Map::new());
}

#[test]
fn the_colour_is_what_was_said_last() {
    let mut bench = Bench::new(Some(lamp()));
    let changes = bench.telemetry(T, r#"{"color_temperature":4000,"bri":255}"#);
    let expected = json!({"ct": 250, "colormode": "ct", "bri": 255, "lastupdated": L});
    assert_eq!(changes, [state(Part::Light, 1, &expected)]);
    let changes = bench.telemetry(T, r#"{"xy":[0.3127,0.329],"color_temperature":4000}"#);
    let expected = json!({"xy": [0.3127, 0.329], "colormode": "xy", "lastupdated": L});
    assert_eq!(changes, [state(Part::Light, 1, &expected)]);
    let changes = bench.telemetry(T, r#"{"on":true,"xy":[0.3127,0.329,1]}"#);
    assert_eq!(changes, [state(Part::Light, 1, &json!({"on": true, "lastupdated": L}))]);
    // Out of what its profile says it can be.
    bench.telemetry(T, r#"{"color_temperature":1000}"#);
    assert_eq!(bench.device.state(Part::Light, 1)["ct"], 500);
    assert_eq!(bench.again().device.state(Part::Light, 1)["colormode"], "ct");
}

#[test]
fn a_lamp_is_reachable_in_its_state_and_its_other_sensors_in_their_configuration() {
    let mut bench = Bench::new(Some(lamp()));
    bench.telemetry(T, r#"{"on.2":true,"power":5}"#);
    assert_eq!(bench.device.parts(), [(Part::Light, 1), (Part::Light, 2), (Part::Power, 1)]);
    let changes = bench.device.set_reachable(false);
    assert_eq!(
        changes,
        [
            state(Part::Light, 1, &json!({"reachable": false, "lastupdated": "none"})),
            state(Part::Light, 2, &json!({"reachable": false, "lastupdated": L})),
            config(Part::Power, &json!({"reachable": false})),
        ]
    );
    assert_eq!(bench.device.set_reachable(false), []);
}

#[test]
fn without_a_profile_there_is_no_lamp() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.telemetry(T, r#"{"on":true,"brightness":1,"locked":true}"#), []);
}

#[test]
fn a_cover_is_open_until_it_is_all_the_way_down() {
    let resources = ["position", "tilt"].map(|name| resource(name, Type::Number)).into();
    let mut bench = Bench::new(Some(profile(Kind::Cover, resources)));
    let changes = bench.telemetry(T, r#"{"position":0.25,"tilt":1}"#);
    assert_eq!(changes, [state(Part::Light, 1, &json!({"lift": 75, "lastupdated": L}))]);
    let changes = bench.telemetry(T, r#"{"position":0}"#);
    let closed = json!({"lift": 100, "open": false, "lastupdated": L});
    assert_eq!(changes, [state(Part::Light, 1, &closed)]);
    let whole = bench.device.state(Part::Light, 1);
    let expected = json!({
        "open": false, "lift": 100, "tilt": 0, "reachable": true, "lastupdated": L,
    });
    assert_eq!(json!(whole), expected);
    assert_eq!(bench.device.light(1).unwrap().on, None);
}

#[test]
fn a_lock_is_on_when_it_is_locked() {
    let mut bench = Bench::new(Some(profile(Kind::Lock, Kind::Lock.template())));
    let changes = bench.telemetry(T, r#"{"locked":true}"#);
    assert_eq!(changes, [state(Part::Light, 1, &json!({"on": true, "lastupdated": L}))]);
}

#[test]
fn a_thermostat_holds_the_temperature_and_what_it_is_to_be() {
    let mut bench = Bench::new(Some(profile(Kind::Thermostat, Kind::Thermostat.template())));
    assert_eq!(bench.device.parts(), [(Part::Thermostat, 1)]);
    let blank = json!({"temperature": 0, "lastupdated": "none"});
    assert_eq!(json!(bench.device.state(Part::Thermostat, 1)), blank);
    let changes = bench.telemetry(T, r#"{"temperature":20.5,"setpoint":21,"humidity":40}"#);
    assert_eq!(
        changes,
        [
            Change::New(Part::Humidity, 1),
            state(Part::Humidity, 1, &json!({"humidity": 4000, "lastupdated": L})),
            state(Part::Thermostat, 1, &json!({"temperature": 2050, "lastupdated": L})),
            config(Part::Thermostat, &json!({"heatsetpoint": 2100})),
        ]
    );
    assert_eq!(bench.telemetry(T + 1, r#"{"setpoint":21}"#), []);
}

#[test]
fn a_new_profile_tells_what_goes_and_what_comes() {
    let mut bench = Bench::new(Some(profile(Kind::Light, Kind::Light.template())));
    bench.telemetry(T, r#"{"on":true,"brightness":0.5,"temperature":20}"#);
    let plug = profile(Kind::Plug, Kind::Plug.template());
    let facts = |name: &str, of: Profile| Facts {
        name: name.into(),
        profile: Some(Arc::new(of)),
        clip: None,
    };
    let changes = bench.device.set_facts(facts("Hall", plug.clone()));
    // Its maker's name of the model is its kind, which is another.
    assert_eq!(changes, [Change::New(Part::Light, 1), Change::New(Part::Temperature, 1)]);
    assert_eq!(bench.device.set_facts(facts("Hall", plug)), []);
    let sensor = Profile { model: "plug".into(), ..Profile::default() };
    let changes = bench.device.set_facts(facts("Stairs", sensor));
    let name = "Stairs".to_owned();
    let renamed = Change::Name { part: Part::Temperature, instance: 1, name };
    assert_eq!(changes, [Change::Gone(Part::Light, 1), renamed]);
}
