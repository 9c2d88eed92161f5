//! `listen.deconz` with TLS: REST and the push socket for clients that look at the certificate.
//!
//! Absent: pydeconz, which asks for `http://` whatever the gateway says.

use serde_json::{Value, json};

use super::tell;
use crate::support::{Gateway, Wire, exchange_tls, wait_for};

/// A key, over TLS.
fn key_of(gateway: &Gateway, ask: impl Fn(&str, &str, &str) -> (u16, Value)) -> String {
    gateway.admin(&["deconz", "unlock"]);
    let (status, told) = ask("POST", "/api", r#"{"devicetype":"a test"}"#);
    assert_eq!(status, 200, "{told}");
    let key = told[0]["success"]["username"].as_str().unwrap().to_owned();
    wait_for("an answer", || (ask("GET", &format!("/api/{key}"), "").0 == 200).then_some(()));
    key
}

#[test]
fn rest_and_both_push_sockets_are_for_whoever_trusts_the_certificate() {
    let settings = ["--self-signed", "listen.deconz=127.0.0.1:0", "--ws-port=auto"];
    let gateway = Gateway::with(&settings);
    let certificate = gateway.data().join("certs/self-signed.crt");
    let [rest, beside] = ["deconz", "deconz_push"].map(|name| gateway.listener(name).unwrap());
    let ask = |method: &str, path: &str, body: &str| {
        let answer = exchange_tls(&rest, &certificate, (method, path), body).unwrap();
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let key = key_of(&gateway, ask);
    let (_, config) = ask("GET", &format!("/api/{key}/config"), "");
    let port: u16 = beside.rsplit_once(':').unwrap().1.parse().unwrap();
    // Apps open a plain socket at the one, and there is none.
    assert_eq!(config["websocketport_wss"], port);
    assert_eq!(config["websocketport"], Value::Null);
    let open = |address: &str| Wire::open_tls(address, &certificate, "/", &[]).unwrap();
    let mut listening = [open(&rest), open(&beside)];
    let token = gateway.admin(&["device", "add", "sensor-1"])["token"].take();
    let bearer = format!("Authorization: Bearer {}", token.as_str().unwrap());
    let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
    let mut device = Wire::open_tls(&gateway.address, &certificate, "/", &headers).unwrap();
    device.next();
    tell(&mut device, &json!({"temperature": 20}));
    for wire in &mut listening {
        assert_eq!(wire.next()["e"], "added");
        assert_eq!(wire.next()["state"]["temperature"], 2_000);
    }
    // Who trusts another one asks nothing, and who speaks no TLS is not heard.
    let other = Gateway::with(&["--self-signed"]);
    let foreign = other.data().join("certs/self-signed.crt");
    let refused = exchange_tls(&rest, &foreign, ("GET", "/api/config"), "").err();
    assert!(refused.is_some_and(|why| why.contains("certificate")));
    for address in [&rest, &beside] {
        assert!(Wire::open_tls(address, &foreign, "/", &[]).is_err());
        assert!(Wire::open(address, "/", &[]).is_err());
    }
}
