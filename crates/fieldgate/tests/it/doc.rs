//! `/doc`: who may read the description, and the page that is drawn from it, in a real browser.

use serde_json::Value;

use crate::support::{Gateway, NodeScript, Script, chromium, exchange, node_modules};

const ELSEWHERE: &str = "X-Forwarded-For: 203.0.113.7\r\n";

#[test]
fn the_description_is_for_this_machine_or_whoever_is_known() {
    let gateway = Gateway::with(&["listen.trusted_proxies=127.0.0.1"]);
    let token = gateway.device("lamp-1");
    let status =
        |path: &str, headers: &str| exchange(&gateway.address, "GET", path, headers, "").status;
    for path in [
        "/doc/openapi.json",
        "/doc/openapi.yaml",
        "/doc/deconz.json",
        "/doc/deconz.yaml",
        "/doc/asyncapi.json",
        "/doc/asyncapi.yaml",
    ] {
        assert_eq!(status(path, ""), 200, "from this machine");
        assert_eq!(status(path, ELSEWHERE), 401, "from elsewhere");
        let wrong = format!("{ELSEWHERE}Authorization: Bearer wrong\r\n");
        assert_eq!(status(path, &wrong), 401);
        let known = format!("{ELSEWHERE}Authorization: Bearer {token}\r\n");
        assert_eq!(status(path, &known), 200);
    }
    assert_eq!(status("/doc", ELSEWHERE), 200, "the page itself says nothing of this gateway");
}

#[test]
fn whoever_asks_may_make_the_description_public() {
    let gateway = Gateway::with(&["listen.trusted_proxies=127.0.0.1", "doc.public=true"]);
    let answer = exchange(&gateway.address, "GET", "/doc/openapi.json", ELSEWHERE, "");
    assert_eq!(answer.status, 200);
}

#[test]
fn the_page_lets_nothing_foreign_in() {
    let gateway = Gateway::start();
    let answer = exchange(&gateway.address, "GET", "/doc", "", "");
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for file in ["index.html", "doc.js", "doc.css"] {
        let path = format!("{}/../../console/doc/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("http://") && !text.contains("https://"), "{file}");
        assert!(!text.contains("innerHTML"), "{file} writes HTML");
    }
}

/// Opens the page with a key, sends what its form for a new device holds, and looks for complaints
/// of the browser; then tries to run a script of its own.
const VISIT: &str = include_str!("data/visit_doc.cjs");

#[test]
fn a_browser_draws_every_address_and_sends_a_request() {
    let (Some(modules), Some(browser)) = (node_modules(), chromium()) else { return };
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let script = NodeScript::new(&modules, VISIT, &[]);
    let visit = Script::start(script.command().arg(browser).args([&gateway.address, &key]));
    let read = |path: &str| {
        let (_, described) = gateway.get(path, None);
        serde_json::from_str::<Value>(&described).unwrap()
    };
    let count_of = |document: &Value| {
        let paths = document["paths"].as_object().unwrap().values();
        paths.map(|item| item.as_object().unwrap().len()).sum::<usize>()
    };
    let described = read("/doc/openapi.json");
    let others = ["/doc/thethings.json", "/doc/deconz.json"];
    let count =
        count_of(&described) + others.iter().map(|path| count_of(&read(path))).sum::<usize>();
    let drawn: Value = serde_json::from_str(&visit.line()).unwrap();
    assert_eq!(drawn["sections"], count, "each address and method has its section");
    let events = read("/doc/asyncapi.json");
    let operations = events["operations"].as_object().unwrap().values();
    let sent = operations.clone().filter(|operation| operation["action"] == "send").count();
    assert_eq!(drawn["sent"], sent, "what a client sends is PUB");
    assert_eq!(drawn["received"], operations.len() - sent, "what it receives is SUB");
    assert_eq!(drawn["codes"], described["x-codes"].as_array().unwrap().len());
    assert_eq!(drawn["broken"], false);
    assert_eq!(visit.line(), "201 Created");
    assert_eq!(visit.line(), "no key");
    assert_eq!(visit.line(), "[]", "the browser complains of nothing");
    assert_eq!(visit.line(), "Fieldgate: the interface", "a foreign script did not run");
    assert_eq!(gateway.get("/v1/devices/lamp-9", Some(&key)).0, 200);
}
