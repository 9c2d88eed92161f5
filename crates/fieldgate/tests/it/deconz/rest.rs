//! REST below `/api`, to the byte where apps look at it: tags, preflights, every error, bodies that are
//! none, and sensors that apps make.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::{Bridge, error, error_of, json_of, lamp, tell};
use crate::support::{Seen, exchange, post, wait_for};

#[test]
fn what_did_not_change_is_not_sent_again() {
    let bridge = Bridge::start(&[]);
    let mut lamp = bridge.device("lamp-1", &lamp());
    tell(&mut lamp, &json!({"on": true, "brightness": 0.5}));
    wait_for("the light", || (bridge.get("/lights/1").1["state"]["on"] == true).then_some(()));
    let ask = |path: &str, tag: &str| {
        let headers =
            if tag.is_empty() { String::new() } else { format!("If-None-Match: {tag}\r\n") };
        exchange(&bridge.address(), "GET", &format!("/api/{}{path}", bridge.key), &headers, "")
    };
    for path in ["/lights", "/lights/1", "/sensors", "/groups"] {
        let first = ask(path, "");
        let tag = first.header("etag").unwrap().to_owned();
        assert_eq!(first.status, 200);
        json_of(&first);
        for known in [tag.clone(), format!("W/{tag}, \"x\""), "*".to_owned()] {
            let again = ask(path, &known);
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{path} {known}");
        }
        assert_eq!(ask(path, "\"other\"").status, 200, "{path}");
    }
    let whole = ask("", "");
    assert!(whole.header("etag").is_some() && ask("/config", "").header("etag").is_some());
    let tag = ask("/lights/1", "").header("etag").unwrap().to_owned();
    tell(&mut lamp, &json!({"on": false}));
    wait_for("another tag", || (ask("/lights/1", &tag).status == 200).then_some(()));
}

#[test]
fn a_browser_is_told_what_it_may_send() {
    let bridge = Bridge::start(&[]);
    let path = format!("/api/{}/lights/1/state", bridge.key);
    for asked in ["", "Access-Control-Request-Method: PUT\r\n"] {
        let headers = format!("Origin: http://page.example\r\n{asked}");
        let answer = exchange(&bridge.address(), "OPTIONS", &path, &headers, "");
        assert!(answer.status < 300, "{}", answer.status);
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("http://page.example"), "{asked}");
        let methods = answer.header("access-control-allow-methods").unwrap();
        let headers = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        assert!(["POST", "GET", "PUT", "DELETE"].iter().all(|m| methods.contains(m)), "{methods}");
        assert!(headers.contains("content-type") && headers.contains("authorization"), "{headers}");
    }
    for (path, status) in [("/api/config", 200), ("/api/x/lights", 403)] {
        let headers = "Origin: http://page.example\r\n";
        let answer = exchange(&bridge.address(), "GET", path, headers, "");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
    }
}

#[test]
fn everybody_may_know_what_the_gateway_is_and_no_more() {
    let bridge = Bridge::start(&["deconz.name=Hall"]);
    let (status, basic) = bridge.ask("GET", "/api/config", "");
    assert_eq!(
        (status, &basic["name"], &basic["modelid"]),
        (200, &json!("Hall"), &json!("deCONZ"))
    );
    let id = basic["bridgeid"].as_str().unwrap();
    assert!(id.len() == 16 && &id[6..10] == "FFFF", "{id}");
    for secret in ["whitelist", "websocketport", "ipaddress", "port"] {
        assert_eq!(basic[secret], Value::Null, "{secret}");
    }
    let whole = bridge.get("/config").1;
    assert_eq!((&whole["bridgeid"], &whole["mac"]), (&basic["bridgeid"], &basic["mac"]));
    let port: u16 = bridge.address().rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(whole["websocketport"], port);
    assert_eq!(error_of(bridge.ask("GET", "/api/x/config", "")).1, 1);
}

#[test]
fn a_lenient_gateway_shows_a_wrong_key_what_everybody_may_know() {
    let bridge = Bridge::start(&["deconz.basic_config=true"]);
    let basic = bridge.ask("GET", "/api/config", "");
    assert_eq!(bridge.ask("GET", "/api/x/config", ""), basic);
    for (method, path) in [("PUT", "/api/x/config"), ("GET", "/api/x/config/whitelist/x")] {
        assert_eq!(bridge.ask(method, path, "{}").0, 403, "{method} {path}");
    }
}

#[test]
fn every_error_has_its_number_its_address_and_its_words() {
    let bridge = Bridge::start(&[]);
    let mut light = bridge.device("lamp-1", &lamp());
    tell(&mut light, &json!({"on": true}));
    bridge.listed("lights", 1);
    let none =
        |address: &str| error(404, 3, address, &format!("resource, {address}, not available"));
    let method = |method: &str, address: &str| {
        let said = format!("method, {method}, not available for resource, {address}");
        error(404, 4, address, &said)
    };
    for (asked, path, body, expected) in [
        ("GET", "/lights/9", "", none("/lights/9")),
        ("GET", "/lights/x", "", none("/lights/x")),
        ("GET", "/lights/-1", "", none("/lights/-1")),
        ("GET", "/lights/99999999999999999999999", "", none("/lights/99999999999999999999999")),
        ("GET", "/sensors/1", "", none("/sensors/1")),
        ("GET", "/groups/7", "", none("/groups/7")),
        ("GET", "/groups/x", "", none("/groups/x")),
        ("PUT", "/lights/9/state", r#"{"on":true}"#, none("/lights/9")),
        ("PUT", "/sensors/9/config", r#"{"on":true}"#, none("/sensors/9")),
        ("GET", "/foo", "", method("GET", "/foo")),
        ("DELETE", "/lights", "", method("DELETE", "/lights")),
        ("DELETE", "/lights/1", "", method("DELETE", "/lights/1")),
        ("GET", "/lights/1/state/on", "", method("GET", "/lights/1/state/on")),
        ("POST", "/config", "{}", method("POST", "/config")),
        (
            "PUT",
            "/lights/1/state",
            "",
            error(400, 2, "/lights/1/state", "body contains invalid JSON"),
        ),
        (
            "PUT",
            "/lights/1/state",
            "{\"on\":",
            error(400, 2, "/lights/1/state", "body contains invalid JSON"),
        ),
        (
            "PUT",
            "/lights/1/state",
            "[true]",
            error(400, 2, "/lights/1/state", "body contains invalid JSON"),
        ),
        (
            "PUT",
            "/lights/1/state",
            "{}",
            error(400, 5, "/lights/1/state", "missing parameters in body"),
        ),
        (
            "PUT",
            "/lights/1/state",
            r#"{"<b>":1}"#,
            error(400, 6, "/lights/1/state/&lt;b&gt;", "parameter, &lt;b&gt;, not available"),
        ),
        (
            "PUT",
            "/lights/1/state",
            r#"{"bri":"bright"}"#,
            error(400, 7, "/lights/1/state/bri", "invalid value, bright, for parameter, bri"),
        ),
        (
            "PUT",
            "/lights/1/state",
            r#"{"reachable":true}"#,
            error(400, 8, "/lights/1/state/reachable", "parameter, reachable, is not modifiable"),
        ),
    ] {
        assert_eq!(error_of(bridge.call(asked, path, body)), expected, "{asked} {path} {body}");
    }
}

#[test]
fn without_a_key_or_elsewhere_there_is_nothing() {
    let bridge = Bridge::start(&[]);
    for path in ["", "/lights", "/groups/0/action", "/anything"] {
        let told = error_of(bridge.ask("GET", &format!("/api/wrong{path}"), ""));
        let address = if path.is_empty() { "/" } else { path };
        assert_eq!(told, error(403, 1, address, "unauthorized user"));
    }
    for path in ["/", "/description.xml", "/v1/devices"] {
        assert_eq!(error_of(bridge.ask("GET", path, "")).1, 4, "{path}");
    }
}

#[test]
fn bodies_that_are_none_are_refused_and_cost_nothing() {
    let bridge = Bridge::start(&[]);
    let mut light = bridge.device("lamp-1", &lamp());
    tell(&mut light, &json!({"on": true}));
    bridge.listed("lights", 1);
    let deep = format!("{{\"on\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for (body, status) in [
        (deep, 400),
        (format!("{{\"on\":\"{}\"}}", "x".repeat(60_000)), 400),
        (format!("{{\"on\":\"{}\"}}", "x".repeat(70_000)), 413),
        (format!("{{\"on\":\"{}\"}}", "x".repeat(4 << 20)), 413),
        ("{\"on\":1e999}".to_owned(), 400),
        ("\u{feff}{\"on\":true}".to_owned(), 400),
    ] {
        for path in ["/lights/1/state", "/sensors", "/groups"] {
            let method = if path.ends_with("state") { "PUT" } else { "POST" };
            let (told, answer) = bridge.call(method, path, &body);
            let shown: String = body.chars().take(40).collect();
            assert_eq!(told, status, "{method} {path} {shown}: {answer}");
            assert!(answer[0]["error"]["description"].as_str().unwrap().len() < 400);
        }
    }
    // A value that is told back is cut.
    assert_eq!(bridge.call("PUT", "/lights/1/state", r#"{"on":true}"#).0, 200);
}

#[test]
fn what_there_is_nothing_of_is_empty_and_not_missing() {
    let bridge = Bridge::start(&[]);
    let all = bridge.get("").1;
    for name in ["scenes", "schedules", "rules", "resourcelinks", "alarmsystems"] {
        assert_eq!(bridge.get(&format!("/{name}")), (200, json!({})), "{name}");
        assert_eq!(all[name], json!({}), "{name}");
    }
    for name in ["lights", "sensors", "groups"] {
        assert_eq!((bridge.get(&format!("/{name}")), &all[name]), ((200, json!({})), &json!({})));
    }
    // A path may end with a slash.
    assert_eq!(bridge.get("/lights/"), (200, json!({})));
}

/// The answer to one more request on a connection.
fn asked_on(open: &mut TcpStream, bridge: &Bridge) -> String {
    let (key, address) = (&bridge.key, bridge.address());
    write!(open, "GET /api/{key}/lights HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    let mut bytes = [0; 4_096];
    // The body is a list or an object, whole, behind the head.
    while !answer.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with([']', '}'])) {
        let len = open.read(&mut bytes).unwrap();
        assert!(len > 0, "closed: {answer}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    answer
}

#[test]
fn without_storage_and_while_draining_it_is_not_connected() {
    let mut bridge = Bridge::start(&[]);
    let mut open = TcpStream::connect(bridge.address()).unwrap();
    assert!(asked_on(&mut open, &bridge).starts_with("HTTP/1.1 200"));
    let mut listener = bridge.listen();
    bridge.gateway.signal("TERM");
    // Who is told that it ends shows that it does.
    while listener.see() != Seen::Close(Some(1012)) {}
    let told = asked_on(&mut open, &bridge);
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("\"type\":950"), "{told}");
    drop((open, listener));
    assert_eq!(bridge.gateway.ended(), Some(0));
    bridge.gateway.set("--set=store.free_bytes_min=1000TiB");
    bridge.gateway.up();
    wait_for("the low disk", || (bridge.gateway.get("/readyz", None).0 == 503).then_some(()));
    for path in ["/", "/lights"] {
        let path = if path == "/" { "" } else { path };
        let address = if path.is_empty() { "/" } else { path };
        assert_eq!(error_of(bridge.get(path)), error(503, 950, address, "Not connected"));
    }
    // Who asks wrongly is told of that: nothing is told of the gateway.
    assert_eq!(error_of(bridge.ask("GET", "/api/wrong/lights", "")).1, 1);
    assert_eq!(bridge.ask("GET", "/api/config", "").0, 200);
}

/// What `/v1` says that a device is in.
fn reported(bridge: &Bridge, device: &str, key: &str) -> Value {
    let (status, body) = bridge.gateway.get(&format!("/v1/devices/{device}/state"), Some(key));
    assert_eq!(status, 200, "{body}");
    let state: Value = serde_json::from_str(&body).unwrap();
    state["reported"].clone()
}

#[test]
fn a_sensor_of_an_app_is_a_way_in_for_values() {
    let mut bridge = Bridge::start(&[]);
    let key = bridge.gateway.key("operator");
    let mut app = bridge.gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let mut push = bridge.listen();
    let body = json!({
        "name": "Greenhouse", "type": "CLIPTemperature", "modelid": "T1", "swversion": "1",
        "uniqueid": "greenhouse-1", "manufacturername": "Acme",
    });
    let (status, told) = bridge.call("POST", "/sensors", &body.to_string());
    assert_eq!((status, &told), (200, &json!([{"success": {"id": "1"}}])));
    let added = push.next();
    assert_eq!(
        (&added["e"], &added["r"], &added["id"]),
        (&json!("added"), &json!("sensors"), &json!("1"))
    );
    assert_eq!(added["sensor"]["type"], "CLIPTemperature");
    let (status, told) = bridge.call("PUT", "/sensors/1/state", r#"{"temperature":2182}"#);
    assert_eq!(
        (status, &told),
        (200, &json!([{"success": {"/sensors/1/state/temperature": 2182}}]))
    );
    let frame = app.next_of("mqtt");
    assert_eq!(frame["payload"], json!({"temperature": 21.82}));
    let device = frame["topic"].as_str().unwrap().split('/').nth(1).unwrap().to_owned();
    assert_eq!(reported(&bridge, &device, &key), json!({"temperature": 21.82}));
    let changed = push.next();
    assert_eq!(
        (&changed["e"], &changed["state"]["temperature"]),
        (&json!("changed"), &json!(2182))
    );
    let sensor = bridge.get("/sensors/1").1;
    assert_eq!(
        (&sensor["name"], &sensor["state"]["temperature"]),
        (&json!("Greenhouse"), &json!(2182))
    );
    let wrong = bridge.call("PUT", "/sensors/1/state", r#"{"humidity":1}"#);
    assert_eq!(error_of(wrong).1, 6);
    // It is what it was after a restart, and gone for good once it is removed.
    bridge.gateway.kill();
    bridge.gateway.up();
    bridge.ready();
    assert_eq!(bridge.get("/sensors/1").1["state"]["temperature"], 2182);
    let (status, told) = bridge.call("DELETE", "/sensors/1", "");
    assert_eq!((status, &told), (200, &json!([{"success": {"id": "1"}}])));
    wait_for("it to be gone", || (bridge.get("/sensors/1").0 == 404).then_some(()));
    assert_eq!(bridge.gateway.get(&format!("/v1/devices/{device}"), Some(&key)).0, 404);
    let (_, told) = bridge.call("POST", "/sensors", &body.to_string());
    assert_eq!(told, json!([{"success": {"id": "2"}}]), "a number is never given again");
}

#[test]
fn of_many_who_make_a_sensor_of_one_name_at_once_one_does() {
    let bridge = Bridge::start(&[]);
    let body = |unique: &str| {
        json!({"type": "CLIPTemperature", "name": "Greenhouse", "modelid": "m", "swversion": "1",
            "manufacturername": "us", "uniqueid": unique})
        .to_string()
    };
    for round in ["a", "b", "c"] {
        let mut told: Vec<u16> = std::thread::scope(|scope| {
            let ask = |nth: usize| {
                let unique = format!("house-{round}");
                let unique = if nth.is_multiple_of(2) { unique.to_uppercase() } else { unique };
                let (bridge, body) = (&bridge, body(&unique));
                scope.spawn(move || bridge.call("POST", "/sensors", &body).0)
            };
            let asking: Vec<_> = (0..8).map(ask).collect();
            asking.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        told.sort_unstable();
        assert_eq!(told, [200, 400, 400, 400, 400, 400, 400, 400]);
    }
    assert_eq!(bridge.get("/sensors").1.as_object().unwrap().len(), 3);
    // What was refused keeps no name.
    assert_eq!(bridge.call("DELETE", "/sensors/1", "").0, 200);
    wait_for("it to be gone", || (bridge.get("/sensors/1").0 == 404).then_some(()));
    assert_eq!(bridge.call("POST", "/sensors", &body("house-a")).0, 200);
}

#[test]
fn lists_longer_than_what_is_read_at_once_are_whole() {
    let bridge = Bridge::start(&[]);
    let key = bridge.gateway.key("admin");
    let kinds = ["temperature", "humidity", "pressure", "co2", "open"];
    let names = kinds.iter().flat_map(|kind| (1..=15).map(move |n| format!("{kind}.{n}")));
    let payload: serde_json::Map<_, _> = names.map(|name| (name, json!(1))).collect();
    for device in 0..8 {
        let topic = format!("devices/sensor-{device}/telemetry");
        let body = json!({"topic": topic, "qos": 1, "payload": payload}).to_string();
        assert_eq!(post(&bridge.gateway.address, "/v1/publish", &key, &body).0, 201);
    }
    let all = bridge.listed("sensors", 8 * 75);
    let numbers: std::collections::BTreeSet<u64> =
        all.as_object().unwrap().keys().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=8 * 75), "{numbers:?}");
    let names: std::collections::BTreeSet<&str> =
        all.as_object().unwrap().values().map(|one| one["uniqueid"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 8 * 75);
    assert_eq!(bridge.get("").1["sensors"], all);
    assert_eq!(bridge.get("/sensors/300").1, all["300"]);
}

#[test]
fn a_group_goes_with_its_scenes_by_one_record() {
    let bridge = Bridge::start(&[]);
    let key = bridge.gateway.key("admin");
    assert_eq!(bridge.call("POST", "/groups", r#"{"name":"Hall"}"#).0, 200);
    for name in ["Evening", "Night"] {
        let body = json!({"name": name}).to_string();
        assert_eq!(bridge.call("POST", "/groups/1/scenes", &body).0, 200);
    }
    let scenes = || bridge.gateway.get("/v1/scenes", Some(&key)).1;
    assert!(scenes().contains("evening") && scenes().contains("night"), "{}", scenes());
    assert_eq!(bridge.call("DELETE", "/groups/1", "").0, 200);
    assert!(!scenes().contains("evening") && !scenes().contains("night"), "{}", scenes());
    let (_, audit) = bridge.gateway.get("/v1/audit", Some(&key));
    assert_eq!(audit.matches("\"group.remove\"").count(), 1, "{audit}");
    assert_eq!(audit.matches("\"scene.remove\"").count(), 0, "{audit}");
}

#[test]
fn what_a_device_measured_is_not_written_nor_removed_by_an_app() {
    let bridge = Bridge::start(&[]);
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &json!({"temperature": 21.3}));
    let all = bridge.listed("sensors", 1);
    assert_eq!(all["1"]["type"], "ZHATemperature");
    let told = error_of(bridge.call("PUT", "/sensors/1/state", r#"{"temperature":1}"#));
    assert_eq!((told.0, told.1), (400, 8), "{told:?}");
    let told = error_of(bridge.call("DELETE", "/sensors/1", ""));
    assert_eq!((told.0, told.1), (404, 4), "{told:?}");
    assert_eq!(bridge.get("/sensors/1").1["state"]["temperature"], 2130);
}
