//! What the listener of deCONZ says to pages and proxies, and who listens there without a key.

use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire, exchange, request};

fn address(gateway: &Gateway) -> String {
    gateway.admin(&["status"])["listeners"]["deconz"][0].as_str().unwrap().to_owned()
}

/// A gateway, and a key of an app.
fn with_app(settings: &[&str]) -> (Gateway, String, String) {
    let mut all = vec!["listen.deconz=127.0.0.1:0"];
    all.extend(settings);
    let gateway = Gateway::with(&all);
    let address = address(&gateway);
    gateway.admin(&["deconz", "unlock"]);
    let made = exchange(&address, "POST", "/api", "", r#"{"devicetype":"hub"}"#);
    let key = list(&made.body)[0]["success"]["username"].as_str().unwrap().to_owned();
    (gateway, address, key)
}

fn list(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn who_the_configuration_lets_listen_hears_of_changes() {
    for setting in ["deconz.push=open", "deconz.push_allow=127.0.0.1"] {
        let gateway = Gateway::with(&["listen.deconz=127.0.0.1:0", setting]);
        let mut listener = Wire::open(&address(&gateway), "/", &[]).unwrap();
        // It is there once it answers.
        listener.raw(&[0x89, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(listener.see(), Seen::Pong(Vec::new()), "{setting}");
        let body = r#"{"name":"Hall","devices":[]}"#;
        let made =
            request(&gateway.address, "PUT", "/v1/groups/hall", &gateway.key("operator"), body);
        assert!(made.0 < 300, "{made:?}");
        let frame = listener.next();
        assert_eq!((&frame["e"], &frame["r"]), (&json!("added"), &json!("groups")), "{setting}");
    }
}

#[test]
fn an_address_behind_a_proxy_that_nobody_configured_lets_nobody_in() {
    let (_gateway, address, key) = with_app(&[]);
    let relayed = "Via: 1.1 somewhere\r\n";
    let read = |headers: &str| exchange(&address, "GET", &format!("/api/{key}"), headers, "");
    assert_eq!(read(relayed).status, 200);
    let open = |headers: &[&str]| Wire::open(&address, "/", headers).map(drop);
    assert!(open(&[]).unwrap_err().contains("403"), "that call was of anybody");
    let shown = Wire::open(&address, &format!("/?apikey={key}"), &["Via: 1.1 somewhere"]);
    assert!(shown.is_ok(), "a key decides");
    assert_eq!(read("").status, 200);
    assert_eq!(open(&[]), Ok(()));
    for header in ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1", "Via: 1.1 somewhere"] {
        assert!(open(&[header]).unwrap_err().contains("403"), "{header}");
    }
}

#[test]
fn a_page_is_told_what_it_may_send_and_gets_no_key_of_its_own() {
    let (_gateway, address, key) = with_app(&[]);
    let page = "Origin: http://page.example\r\n";
    let asks = format!("{page}Access-Control-Request-Method: PUT\r\n");
    let path = format!("/api/{key}/lights/1/state");
    let answer = exchange(&address, "OPTIONS", &path, &asks, "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://page.example"));
    let methods = answer.header("access-control-allow-methods");
    assert_eq!(methods, Some("POST, GET, OPTIONS, PUT, DELETE"));
    assert_eq!(answer.header("gateway-name"), Some("Fieldgate"));
    assert!(answer.header("gateway-uuid").is_some());
    let answer = exchange(&address, "POST", "/api", page, r#"{"devicetype":"page"}"#);
    assert_eq!((answer.status, &list(&answer.body)[0]["error"]["type"]), (403, &json!(1)));
    let answer = exchange(&address, "GET", &format!("/api/{key}/lights"), page, "");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("Gateway-Name, Gateway-Uuid"));
}

#[test]
fn what_is_refused_before_its_address_is_looked_at_is_a_list_of_errors() {
    let (_gateway, address, key) = with_app(&[]);
    let path = format!("/api/{key}/groups");
    let long = "x".repeat(70_000);
    let answer = exchange(&address, "POST", &path, "", &long);
    let error = &list(&answer.body)[0]["error"];
    assert_eq!((answer.status, &error["type"]), (413, &json!(11)));
    assert_eq!(error["address"], "/groups");
}
