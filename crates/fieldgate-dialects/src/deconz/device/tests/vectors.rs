//! The vectors of `resources.md` 7.

use super::*;

#[test]
fn vector_1_a_thingsee_message() {
    let mut bench = Bench::new(None);
    let payload = r#"{"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7}"#;
    let changes = bench.telemetry(1_520_416_221_000, payload);
    let at = "2018-03-07T09:50:21.000";
    let light = json!({
        "lightlevel": 7783, "lux": 6, "dark": true, "daylight": false, "lastupdated": at,
    });
    assert_eq!(
        changes,
        [
            Change::New(Part::Temperature, 1),
            Change::New(Part::Humidity, 1),
            Change::New(Part::LightLevel, 1),
            Change::New(Part::Pressure, 1),
            state(Part::Temperature, 1, &json!({"temperature": 2130, "lastupdated": at})),
            state(Part::Humidity, 1, &json!({"humidity": 2170, "lastupdated": at})),
            state(Part::LightLevel, 1, &light),
            state(Part::Pressure, 1, &json!({"pressure": 1014, "lastupdated": at})),
        ]
    );
}

#[test]
fn vector_2_a_status_is_this_frame() {
    let mut bench = Bench::new(None);
    let changes = bench.telemetry(T, r#"{"temperature":21.3}"#);
    let Change::State { part, instance, changed } = &changes[1] else { panic!("{changes:?}") };
    let unique_id = part.unique_id(ID.address, *instance);
    let subject =
        Subject { list: List::of(part.is_light()), number: ID.number, unique_id: Some(&unique_id) };
    let frame: Value =
        serde_json::from_str(&event::changed(subject, What::State(changed))).unwrap();
    let expected = json!({
        "t": "event", "e": "changed", "r": "sensors", "id": "1",
        "state": {"temperature": 2130, "lastupdated": L},
        "uniqueid": "0a:20:15:96:f3:d2:04:29-01-0402",
    });
    assert_eq!(frame, expected);
}

#[test]
fn vector_3_an_industrial_sample_good_and_bad() {
    let values = r#"[{"tag":"temperature","value":42.5,"unit":"°C"},{"tag":"pressure","value":101.3,"unit":"kPa"},{"tag":"vibration","value":0.15,"unit":"mm/s"}]"#;
    let mut bench = Bench::new(None);
    let good = bench.telemetry(T, &format!(r#"{{"values":{values},"quality":"good"}}"#));
    let told = [
        state(Part::Temperature, 1, &json!({"temperature": 4250, "lastupdated": L})),
        state(Part::Pressure, 1, &json!({"pressure": 1013, "lastupdated": L})),
    ];
    let new = [Change::New(Part::Temperature, 1), Change::New(Part::Pressure, 1)];
    assert_eq!(good, [&new[..], &told[..]].concat());
    let bad = format!(r#"{{"values":{values},"quality":"bad"}}"#);
    let reachable = json!({"reachable": false});
    let unreachable = [config(Part::Temperature, &reachable), config(Part::Pressure, &reachable)];
    assert_eq!(bench.telemetry(T, &bad), unreachable);
    // From the beginning as well.
    let mut bench = Bench::new(None);
    assert_eq!(bench.telemetry(T, &bad), [&new[..], &unreachable[..]].concat());
}

#[test]
fn vector_5_protobuf() {
    let mut bench = Bench::new(None);
    let payload = r#"{"values":[{"tag":"temp","value":23.5,"unit":"C"},{"tag":"humid","value":45.2,"unit":"%"}]}"#;
    let changes = bench.telemetry(T, payload);
    assert_eq!(
        changes[2..],
        [
            state(Part::Temperature, 1, &json!({"temperature": 2350, "lastupdated": L})),
            state(Part::Humidity, 1, &json!({"humidity": 4520, "lastupdated": L})),
        ]
    );
}

#[test]
fn vector_6_a_button_once() {
    let mut bench = Bench::new(None);
    let press = r#"{"event":"button","data":{"button":2002}}"#;
    let changes = bench.send("devices/switch-1/events", T, press);
    let told = state(Part::Switch, 1, &json!({"buttonevent": 2002, "lastupdated": L}));
    assert_eq!(changes, [Change::New(Part::Switch, 1), told]);
    let address = [0xa6, 0xaa, 0xc2, 0xf5, 0x0a, 0xae, 0x4e, 0xe5];
    let whole = bench.device.resource(Part::Switch, 1, &Id { number: 1, address }).unwrap();
    assert_eq!(whole["uniqueid"], "a6:aa:c2:f5:0a:ae:4e:e5-01-1000");
}

#[test]
fn vector_7_presence() {
    let mut bench = Bench::new(None);
    let changes = bench.telemetry(T, r#"{"presence":true}"#);
    let told = state(Part::Presence, 1, &json!({"presence": true, "lastupdated": L}));
    assert_eq!(changes[1..], [told]);
}

#[test]
fn vector_8_what_has_no_row_is_nothing() {
    let mut bench = Bench::new(None);
    assert_eq!(bench.telemetry(T, r#"{"oil":{"level":0.70,"grade":"5W30"}}"#), []);
    assert_eq!(bench.device.parts(), []);
}

#[test]
fn vector_10_a_time_that_is_not_believed_does_not_stay() {
    let mut bench = Bench::new(None);
    let mut doubtful = message("devices/d/telemetry", T, r#"{"temperature":1}"#);
    doubtful.is_time_given = false;
    doubtful.device_timestamp = Some(UnixMs(4_070_908_800_000));
    bench.seq += 1;
    let changes = bench.device.take(Seq(bench.seq), &doubtful);
    let told = state(Part::Temperature, 1, &json!({"temperature": 100, "lastupdated": L}));
    assert_eq!(changes[1..], [told]);
    let changes = bench.telemetry(T + 1, r#"{"temperature":2}"#);
    let expected = json!({"temperature": 200, "lastupdated": "2021-10-18T14:38:10.124"});
    assert_eq!(changes, [state(Part::Temperature, 1, &expected)]);
}
