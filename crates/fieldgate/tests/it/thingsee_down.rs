//! Commands to the devices of a source: the vendor's arrays out, and their echoes in.

use serde_json::{Value, json};

use crate::{
    support::{Gateway, Wire, post, request, wait_for},
    thingsee_in::{DEVICE, connect, gateway},
};

/// Sends a command for the device; its answer.
fn command(gateway: &Gateway, key: &str, payload: &Value) -> (u16, Value) {
    let body = json!({"to": DEVICE, "payload": payload}).to_string();
    let (status, told) = post(&gateway.address, "/v1/commands", key, &body);
    (status, if status == 201 { told["devices"][0].clone() } else { told })
}

/// The transaction of a command: its number.
fn transaction(command: &Value) -> u64 {
    command["position"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// How a command stands once it does so.
fn stands(gateway: &Gateway, key: &str, command: &Value, state: &str) -> Value {
    let path = format!("/v1/commands/{}", command["position"].as_str().unwrap());
    wait_for(state, || {
        let (_, body) = gateway.get(&path, Some(key));
        let told: Value = serde_json::from_str(&body).unwrap();
        (told["state"] == state).then_some(told)
    })
}

fn bring(cloud: &mut Wire, element: &Value) {
    cloud.send(&json!([element]));
}

fn report() -> Value {
    json!({"tsmId": 13100, "tsmEv": 10, "moveCount": 1, "tsmTs": 1_600_000_000, "tsmTuid": DEVICE})
}

/// A gateway whose source brought the device, its connection, and a key.
fn ready() -> (Gateway, Wire, String) {
    let gateway = gateway(&[]);
    let (mut cloud, key) = (connect(&gateway), gateway.key("admin"));
    bring(&mut cloud, &report());
    wait_for("the device", || {
        (gateway.get(&format!("/v1/devices/{DEVICE}"), Some(&key)).0 == 200).then_some(())
    });
    (gateway, cloud, key)
}

const SET: &str = r#"{"set": {"measurementInterval": 10, "reportInterval": 60}}"#;

#[test]
fn a_command_waits_for_its_source_and_ends_with_its_echo() {
    let (mut gateway, cloud, key) = ready();
    drop(cloud);
    wait_for("the end of the source's connection", || {
        (!gateway.get("/v1/clients", Some(&key)).1.contains("source:")).then_some(())
    });
    let set: Value = serde_json::from_str(SET).unwrap();
    let (status, sent) = command(&gateway, &key, &set);
    assert_eq!((status, &sent["state"]), (201, &json!("queued")));
    // It outlives the gateway.
    gateway.kill();
    gateway.up();
    let mut cloud = connect(&gateway);
    let number = transaction(&sent);
    let asked = json!([{"tsmId": 1500, "tsmEv": 30, "tsmDstTuid": DEVICE,
        "measurementInterval": 10, "reportInterval": 60, "transactionId": number}]);
    assert_eq!(cloud.next(), asked);
    stands(&gateway, &key, &sent, "sent");
    let echo = |transaction: u64, report: u64| {
        json!({"tsmId": 1500, "tsmEv": 31, "measurementInterval": 10, "reportInterval": report,
            "transactionId": transaction, "tsmTs": 1_600_000_001, "tsmTuid": DEVICE})
    };
    // Neither of these ends it: another transaction, and a report.
    bring(&mut cloud, &echo(number + 1, 5));
    bring(&mut cloud, &report());
    bring(&mut cloud, &echo(number, 60));
    let done = stands(&gateway, &key, &sent, "completed");
    assert_eq!(done["payload"], echo(number, 60));
    let (_, sent) = command(&gateway, &key, &set);
    assert_eq!(cloud.next()[0]["transactionId"], transaction(&sent));
    bring(&mut cloud, &echo(transaction(&sent), 30));
    let failed = stands(&gateway, &key, &sent, "failed");
    assert_eq!(failed["payload"]["other"], json!({"reportInterval": {"wanted": 60, "got": 30}}));
}

#[test]
fn the_newest_connection_of_a_source_has_the_commands_in_the_vendors_words() {
    let (gateway, _older, key) = ready();
    let mut newer = connect(&gateway);
    // Its first array tells that it has its turn.
    bring(
        &mut newer,
        &json!({"tsmId": 1110, "tsmEv": 10, "batl": 7, "tsmTs": 1, "tsmTuid": DEVICE}),
    );
    wait_for("what it brought", || {
        gateway
            .get(&format!("/v1/devices/{DEVICE}/state"), Some(&key))
            .1
            .contains("\"batl\":7")
            .then_some(())
    });
    let (_, read) = command(&gateway, &key, &json!({"tsmId": 1500}));
    let asked = json!([{"tsmId": 1500, "tsmEv": 30, "tsmDstTuid": DEVICE,
        "transactionId": transaction(&read)}]);
    assert_eq!(newer.next(), asked);
    let vendors =
        json!({"tsmId": 1402, "command": "CELLLOCATE", "payload": "", "transactionId": 1});
    let (_, locate) = command(&gateway, &key, &vendors);
    let asked = json!([{"tsmId": 1402, "tsmEv": 35, "tsmDstTuid": DEVICE, "command": "CELLLOCATE",
        "payload": "", "transactionId": transaction(&locate)}]);
    assert_eq!(newer.next(), asked);
    for (payload, status, code) in [
        (json!({"set": {"on": true}}), 403, "not_allowed"),
        (json!({"set": {"reportInterval": "often"}}), 400, "bad_value"),
        (json!({"blink": true}), 400, "bad_value"),
    ] {
        let (told, problem) = command(&gateway, &key, &payload);
        assert_eq!((told, &problem["code"]), (status, &json!(code)), "{payload}: {problem}");
    }
}

#[test]
fn a_wish_reaches_the_device_when_its_source_is_back_and_ends_with_what_it_reports() {
    let (gateway, cloud, key) = ready();
    let profile = json!({"kind": "sensor", "resources":
        [{"name": "reportInterval", "type": "integer", "writable": true}]});
    let path = format!("/v1/devices/{DEVICE}/profile");
    let made = request(&gateway.address, "PUT", &path, &key, &profile.to_string());
    assert_eq!(made.0, 200, "{}", made.1);
    drop(cloud);
    wait_for("the end of the source's connection", || {
        (!gateway.get("/v1/clients", Some(&key)).1.contains("source:")).then_some(())
    });
    let path = format!("/v1/devices/{DEVICE}/desired");
    let wished =
        request(&gateway.address, "PATCH", &path, &key, &json!({"reportInterval": 60}).to_string());
    assert_eq!(wished.0, 200, "{}", wished.1);
    let mut cloud = connect(&gateway);
    let asked = cloud.next();
    assert_eq!((&asked[0]["tsmId"], &asked[0]["reportInterval"]), (&json!(1500), &json!(60)));
    let echo = json!({"tsmId": 1500, "tsmEv": 31, "reportInterval": 60, "tsmTs": 1_600_000_002,
        "tsmTuid": DEVICE, "transactionId": asked[0]["transactionId"]});
    bring(&mut cloud, &echo);
    wait_for("the wish that is met", || {
        let (_, body) = gateway.get(&format!("/v1/devices/{DEVICE}/state"), Some(&key));
        let state: Value = serde_json::from_str(&body).unwrap();
        (state["desired"] == json!({}) && state["reported"]["reportInterval"] == 60).then_some(())
    });
}
