//! Who may let deCONZ apps make keys, and see or end those that they made.

use serde_json::{Value, json};

use crate::support::{Gateway, post, request, run};

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
