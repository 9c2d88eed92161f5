//! Who gets a key, and who may listen to the push socket, which clients open without a credential.

use std::net::IpAddr;

use serde_json::json;

use super::{Bridge, error, error_of};
use crate::support::{Gateway, Seen, Wire, exchange, wait_for};

const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden";

fn address(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

fn listen_from(bridge: &Bridge, source: IpAddr) -> Result<Wire, String> {
    Wire::open_from(source, &bridge.address(), "/", &[])
}

fn refused(opened: Result<Wire, String>) -> String {
    opened.err().unwrap()
}

/// Has a device say something; whoever listens hears of it.
fn press(bridge: &Bridge, name: &str) -> Wire {
    let token = bridge.gateway.device(name);
    let mut device = bridge.gateway.as_device(name, &token);
    super::tell(&mut device, &json!({"temperature": 1}));
    device
}

#[test]
fn a_key_is_given_out_only_while_it_is_unlocked() {
    let gateway = Gateway::with(&["listen.deconz=127.0.0.1:0"]);
    let bridge = Bridge { gateway, key: "none".to_owned() };
    let ask = |headers: &str| {
        bridge.ask_with("POST", "/api", headers, r#"{"devicetype":"app","username":"0123456789"}"#)
    };
    // Neither the password of the web page nor this machine's own address is a way in.
    for headers in ["", "Authorization: Basic ZGVsaWdodDpkZWxpZ2h0\r\n"] {
        let locked = error(403, 101, "/", "link button not pressed");
        assert_eq!(error_of(ask(headers)), locked);
    }
    let admin = bridge.gateway.key("admin");
    let unlock = "/v1/deconz/unlock";
    let (status, told) =
        crate::support::post(&bridge.gateway.address, unlock, &admin, r#"{"seconds":60}"#);
    assert_eq!(status, 200, "{told}");
    let (status, told) = ask("");
    assert_eq!(status, 200, "{told}");
    let key = told[0]["success"]["username"].as_str().unwrap();
    assert!(key.len() >= 32 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    assert_ne!(key, "0123456789", "keys are made here");
    let other = ask("").1;
    assert_ne!(other[0]["success"]["username"], key, "each has its own");
    let bridge = Bridge { key: key.to_owned(), ..bridge };
    bridge.ready();
    // It counts here, and nowhere else.
    assert_eq!(bridge.gateway.get("/v1/devices", Some(&bridge.key)).0, 401);
    let bearer = format!("Authorization: Bearer {}", bridge.key);
    let opened = Wire::open(&bridge.gateway.address, "/", &[&bearer]);
    assert_eq!(refused(opened), "HTTP/1.1 401 Unauthorized");
    let (_, listed) = bridge.gateway.get("/v1/deconz/keys", Some(&admin));
    assert!(!listed.contains(key), "{listed}");
}

#[test]
fn an_address_is_known_once_a_key_was_used_from_it() {
    let bridge = Bridge::with(&[]);
    assert_eq!(refused(listen_from(&bridge, address(2))), FORBIDDEN);
    assert_eq!(refused(Wire::open(&bridge.address(), "/", &[])), FORBIDDEN, "this machine neither");
    bridge.ready();
    assert_eq!(bridge.get_from(address(2), "/config").0, 200);
    // At once: libraries open it next.
    let mut known = listen_from(&bridge, address(2)).unwrap();
    assert_eq!(refused(listen_from(&bridge, address(3))), FORBIDDEN);
    let _device = press(&bridge, "sensor-1");
    assert_eq!(known.next()["e"], "added");
}

#[test]
fn a_wrong_key_makes_no_address_known() {
    let bridge = Bridge::with(&[]);
    bridge.ready();
    let path = format!("/api/{}x/config", bridge.key);
    let answer =
        crate::support::exchange_from(address(4), &bridge.address(), ("GET", &path), "", "");
    assert_eq!(answer.status, 403);
    let opened = format!("/?apikey={}x", bridge.key);
    let opened = Wire::open_from(address(4), &bridge.address(), &opened, &[]);
    assert_eq!(refused(opened), FORBIDDEN);
    assert_eq!(refused(listen_from(&bridge, address(4))), FORBIDDEN);
}

#[test]
fn a_key_opens_it_from_anywhere_in_the_query_or_the_header() {
    let bridge = Bridge::with(&[]);
    let query = format!("/any/path?x=1&apikey={}", bridge.key);
    let bearer = format!("Authorization: Bearer {}", bridge.key);
    let page = "Origin: http://elsewhere.example";
    let mut all = [
        Wire::open_from(address(5), &bridge.address(), &query, &[]).unwrap(),
        Wire::open_from(address(6), &bridge.address(), "/", &[&bearer]).unwrap(),
        Wire::open_from(address(7), &bridge.address(), &query, &[page]).unwrap(),
    ];
    let _device = press(&bridge, "sensor-1");
    for wire in &mut all {
        assert_eq!(wire.next()["e"], "added");
    }
    // Who listened with a key is known from then on, as who called with it.
    let _listening = wait_for("to be known", || listen_from(&bridge, address(5)).ok());
}

#[test]
fn a_revoked_key_ends_what_it_opened_and_its_addresses() {
    let bridge = Bridge::start(&[]);
    let mut with_key = {
        let query = format!("/?apikey={}", bridge.key);
        Wire::open_from(address(5), &bridge.address(), &query, &[]).unwrap()
    };
    let mut by_address = wait_for("to be known", || Wire::open(&bridge.address(), "/", &[]).ok());
    let key = bridge.gateway.admin(&["deconz", "keys", "list"]);
    let id = key["id"].as_str().unwrap();
    bridge.gateway.admin(&["deconz", "keys", "revoke", id, "--yes"]);
    for wire in [&mut with_key, &mut by_address] {
        assert!(wire.closed().is_some(), "it is told why");
    }
    assert_eq!(refused(Wire::open(&bridge.address(), "/", &[])), FORBIDDEN);
    assert_eq!(refused(listen_from(&bridge, address(5))), FORBIDDEN);
    let gone = error(403, 1, "/lights", "unauthorized user");
    assert_eq!(error_of(bridge.get("/lights")), gone);
}

#[test]
fn an_app_gives_up_its_own_key_and_no_other_one() {
    let bridge = Bridge::start(&[]);
    bridge.gateway.admin(&["deconz", "unlock"]);
    let (_, told) = bridge.ask("POST", "/api", r#"{"devicetype":"other"}"#);
    let other = told[0]["success"]["username"].as_str().unwrap().to_owned();
    let path = |key: &str| format!("/config/whitelist/{key}");
    let kept = bridge.call("DELETE", &path(&other), "");
    assert_eq!((kept.0, &kept.1[0]["error"]["type"]), (404, &json!(3)), "{}", kept.1);
    let (status, told) = bridge.call("DELETE", &path(&bridge.key), "");
    assert_eq!(status, 200, "{told}");
    assert!(told[0]["success"].is_string(), "{told}");
    assert_eq!(bridge.get("/config").0, 403);
    let bridge = Bridge { key: other, ..bridge };
    assert_eq!(bridge.get("/config").0, 200);
    // The list shows ids, by which each can tell its own, and no key.
    let whitelist = bridge.get("/config").1["whitelist"].take();
    assert_eq!(whitelist.as_object().unwrap().len(), 1, "{whitelist}");
    assert!(!whitelist.to_string().contains(&bridge.key));
    let id = whitelist.as_object().unwrap().keys().next().unwrap();
    assert_eq!(bridge.call("DELETE", &path(id), "").0, 200, "by its id, too");
    assert_eq!(bridge.get("/config").0, 403);
}

#[test]
fn listed_addresses_listen_without_any_key() {
    let bridge = Bridge::with(&["deconz.push_allow=127.0.0.8/30"]);
    let mut inside = listen_from(&bridge, address(9)).unwrap();
    assert_eq!(refused(listen_from(&bridge, address(12))), FORBIDDEN);
    let page = ["Origin: http://elsewhere.example"];
    let opened = Wire::open_from(address(9), &bridge.address(), "/", &page);
    assert_eq!(refused(opened), FORBIDDEN, "a page is not whom the list means");
    let _device = press(&bridge, "sensor-1");
    assert_eq!(inside.next()["e"], "added");
}

#[test]
fn an_open_gateway_lets_everybody_listen_but_foreign_pages_and_says_so() {
    let bridge = Bridge::with(&["deconz.push=open"]);
    let mut anybody = listen_from(&bridge, address(2)).unwrap();
    let page = ["Origin: http://elsewhere.example"];
    assert_eq!(refused(Wire::open(&bridge.address(), "/", &page)), FORBIDDEN);
    let own = format!("Origin: http://{}", bridge.address());
    let _own_page = Wire::open(&bridge.address(), "/", &[&own]).unwrap();
    assert!(bridge.gateway.output().contains("deconz.push is open"));
    let _device = press(&bridge, "sensor-1");
    assert_eq!(anybody.next()["e"], "added");
    // To listen is all that it may: nothing is answered without a key.
    let answered = exchange(&bridge.address(), "GET", "/api/x/lights", "", "");
    assert_eq!(answered.status, 403);
}

#[test]
fn a_known_page_of_another_origin_listens_and_others_do_not() {
    let bridge = Bridge::start(&["listen.origins=http://app.example"]);
    let open = |origin: &str| {
        let origin = format!("Origin: {origin}");
        Wire::open(&bridge.address(), "/", &[&origin])
    };
    wait_for("to be known", || open("http://app.example").ok());
    for origin in ["http://app.example.org", "http://localhost:1", "null"] {
        assert_eq!(refused(open(origin)), FORBIDDEN, "{origin}");
    }
}

#[test]
fn behind_a_proxy_no_address_is_known() {
    let bridge =
        Bridge::start(&["listen.trusted_proxies=127.0.0.1", "deconz.push_allow=10.0.0.0/8"]);
    let from = |client: &str| {
        let header = format!("X-Forwarded-For: {client}");
        let headers = format!("{header}\r\n");
        let path = format!("/api/{}/config", bridge.key);
        let answer = exchange(&bridge.address(), "GET", &path, &headers, "");
        assert_eq!(answer.status, 200);
        Wire::open(&bridge.address(), "/", &[&header])
    };
    assert_eq!(refused(from("192.0.2.7")), FORBIDDEN);
    assert_eq!(refused(Wire::open(&bridge.address(), "/", &[])), FORBIDDEN);
    assert!(from("10.1.2.3").is_ok(), "the list decides");
    let query = format!("/?apikey={}", bridge.key);
    assert!(Wire::open(&bridge.address(), &query, &["X-Forwarded-For: 192.0.2.7"]).is_ok());
    // Who does not come through it is known as everywhere.
    assert_eq!(bridge.get_from(address(2), "/config").0, 200);
    wait_for("to be known", || listen_from(&bridge, address(2)).ok());
}

#[test]
fn wrong_keys_are_throttled_by_address() {
    let bridge = Bridge::with(&["limits.auth_failures_per_minute_max=3"]);
    bridge.ready();
    let wrong = |source| {
        let asked = ("GET", "/api/wrong/lights");
        crate::support::exchange_from(source, &bridge.address(), asked, "", "").status
    };
    assert_eq!([(); 3].map(|()| wrong(address(2))), [403; 3]);
    assert_eq!(wrong(address(2)), 503);
    let query = format!("/?apikey={}", bridge.key);
    let opened = Wire::open_from(address(2), &bridge.address(), &query, &[]);
    assert!(opened.is_ok(), "a right one is not held back with them");
    assert_eq!(bridge.get_from(address(3), "/lights").0, 200, "others are not held up");
}

#[test]
fn what_is_known_of_addresses_outlives_a_kill() {
    let mut bridge = Bridge::start(&[]);
    assert_eq!(bridge.get_from(address(2), "/config").0, 200);
    drop(wait_for("to be known", || listen_from(&bridge, address(2)).ok()));
    // That is in the log once something behind it is durable.
    drop(press(&bridge, "sensor-1"));
    bridge.gateway.kill();
    bridge.gateway.up();
    let mut known = listen_from(&bridge, address(2)).unwrap();
    assert_eq!(refused(listen_from(&bridge, address(3))), FORBIDDEN);
    let _device = press(&bridge, "sensor-2");
    assert!(matches!(known.see(), Seen::Frame(_)));
}
