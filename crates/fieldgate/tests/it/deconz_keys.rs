//! Who may let deCONZ apps make keys, and see or end those that they made.

use serde_json::{Value, json};

use crate::support::{Gateway, exchange, post, request, run};

fn read(gateway: &Gateway, path: &str, key: &str) -> (u16, Value) {
    let (status, body) = gateway.get(path, Some(key));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn whoever_administers_lets_apps_in_and_nobody_else() {
    let gateway = Gateway::with(&["listen.deconz=127.0.0.1:0"]);
    let told = gateway.admin(&["deconz", "unlock", "--for", "5m"]);
    let made = gateway.admin(&["deconz", "unlock"]);
    let (long, short) = (told["until"].as_u64().unwrap(), made["until"].as_u64().unwrap());
    assert!(short < long, "the last word counts");
    let unlock = |key: &str| post(&gateway.address, "/v1/deconz/unlock", key, "{}");
    assert_eq!(unlock(&gateway.key("admin")).0, 200);
    let operator = gateway.key("operator");
    let (status, problem) = unlock(&operator);
    assert_eq!((status, &problem["code"]), (403, &json!("not_allowed")));
    assert_eq!(read(&gateway, "/v1/deconz/keys", &operator).0, 403);
    let revoke = "/v1/deconz/keys/app-1";
    assert_eq!(request(&gateway.address, "DELETE", revoke, &operator, "").0, 403);
}

#[test]
fn an_app_that_was_let_in_is_listed_until_its_key_is_revoked() {
    let gateway = Gateway::with(&["listen.deconz=127.0.0.1:0"]);
    let status = gateway.admin(&["status"]);
    let address = status["listeners"]["deconz"][0].as_str().unwrap();
    let make = || exchange(address, "POST", "/api", "", r#"{"devicetype":"my hub"}"#);
    assert_eq!(make().status, 403);
    gateway.admin(&["deconz", "unlock"]);
    let made: Value = serde_json::from_str(&make().body).unwrap();
    let key = made[0]["success"]["username"].as_str().unwrap();
    let read = || exchange(address, "GET", &format!("/api/{key}/groups"), "", "").status;
    assert_eq!(read(), 200);
    // One line for each key.
    let listed = gateway.admin(&["deconz", "keys", "list"]);
    assert_eq!(listed["name"], "my hub", "{listed}");
    gateway.admin(&["deconz", "keys", "revoke", listed["id"].as_str().unwrap(), "--yes"]);
    assert_eq!(read(), 403);
    assert_eq!(gateway.admin(&["deconz", "keys", "list"]), Value::Null);
    let audit = read_audit(&gateway);
    assert_eq!(audit, ["deconz_key.remove", "deconz_key.add", "deconz.unlock"]);
    assert!(!gateway.output().contains(key), "what stands in a path is not in the log");
}

/// The acts of deCONZ, the newest first.
fn read_audit(gateway: &Gateway) -> Vec<String> {
    let (_, page) = read(gateway, "/v1/audit?trail=admin&limit=1000", &gateway.key("admin"));
    let acts = page["items"].as_array().unwrap().iter();
    let acts = acts.map(|item| item["act"].as_str().unwrap().to_owned());
    acts.filter(|act| act.starts_with("deconz")).collect()
}

#[test]
fn apps_are_of_the_tenant_that_is_configured() {
    let settings = ["listen.deconz=127.0.0.1:0", "deconz.tenant=acme"];
    let gateway = Gateway::with(&settings);
    gateway.admin(&["tenant", "add", "acme"]);
    assert!(gateway.admin(&["deconz", "unlock", "--tenant", "acme"])["until"].is_u64());
    let output = run(&["deconz", "unlock"], &gateway.data());
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("deconz.tenant"), "{error}");
}
