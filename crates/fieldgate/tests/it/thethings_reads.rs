//! What clients of thethings.iO read: the newest value first, however it was written, and what the log
//! has where the state has no room for it.

use serde_json::{Value, json};

use crate::{
    support::{Gateway, exchange},
    thethings::{ask, get, post, thing},
};

/// A thing and somebody who sees it.
struct Reader {
    gateway: Gateway,
    token: String,
    key: String,
}

impl Reader {
    fn new(settings: &[&str]) -> Self {
        let gateway = Gateway::with(settings);
        let (token, key) = (thing(&gateway, "a"), gateway.key("viewer"));
        Self { gateway, token, key }
    }

    fn write(&self, values: &[Value]) {
        let body = json!({"values": values}).to_string();
        let path = format!("/v2/things/{}", self.token);
        assert_eq!(post(&self.gateway, &path, &body).0, 201, "{body}");
    }

    /// Status, and the values alone.
    fn read(&self, query: &str) -> (u16, Vec<Value>) {
        let path = format!("/v2/things/{}/resources/{query}", self.token);
        values(&get(&self.gateway, &path))
    }

    fn me(&self, path: &str) -> (u16, Value) {
        let header = format!("Authorization: {}\r\n", self.key);
        ask(&self.gateway, "GET", &format!("/v2/me/resources/{path}"), &header, "")
    }
}

fn values((status, told): &(u16, Value)) -> (u16, Vec<Value>) {
    let items = told.as_array().into_iter().flatten();
    (*status, items.map(|item| item["value"].clone()).collect())
}

fn value(key: &str, value: impl Into<Value>) -> Value {
    json!({"key": key, "value": value.into()})
}

fn at(key: &str, said: impl Into<Value>, time: &str) -> Value {
    json!({"key": key, "value": said.into(), "datetime": time})
}

#[test]
fn what_is_read_alone_is_the_first_of_the_list() {
    let reader = Reader::new(&[]);
    reader.write(&[value("late", "now")]);
    reader.write(&[at("late", 2015, "20150520120000")]);
    reader.write(&[value("batch", "now"), at("batch", 2015, "20150520120000")]);
    reader.write(&[at("given", 2016, "20160520120000"), at("given", 2015, "20150520120000")]);
    reader.write(&[value("live", 1), value("live", 2)]);
    reader.write(&[at("then", 2015, "20150520120000"), value("then", "now")]);
    for (key, newest, older) in [
        ("late", json!("now"), json!(2015)),
        ("batch", json!("now"), json!(2015)),
        ("given", json!(2016), json!(2015)),
        ("live", json!(2), json!(1)),
        ("then", json!("now"), json!(2015)),
    ] {
        let both = vec![newest.clone(), older];
        assert_eq!(reader.read(&format!("{key}?limit=2")), (200, both), "{key}");
        let alone = (200, vec![newest.clone()]);
        assert_eq!(reader.read(key), alone, "{key}");
        assert_eq!(values(&reader.me(&format!("{key}/a"))), alone, "{key}");
        let by_thing = reader.me(key).1;
        assert_eq!(values(&(200, by_thing["a"].clone())), alone, "{key}");
    }
}

#[test]
fn what_the_state_has_no_room_for_is_read_from_the_log() {
    let reader = Reader::new(&["limits.resources_per_device_max=2"]);
    let long = "y".repeat(140_000);
    reader.write(&[value("big", "v0")]);
    reader.write(&[value("big", long.as_str())]);
    assert_eq!(reader.read("big"), (200, vec![json!(long)]));
    assert_eq!(reader.read("big?limit=2"), (200, vec![json!(long), json!("v0")]));
    // What is remembered as removed leaves room for one more.
    for (key, n) in [("first", 1), ("second", 2), ("third", 3)] {
        reader.write(&[value(key, n)]);
    }
    let names = get(&reader.gateway, &format!("/v2/things/{}/resources", reader.token)).1;
    assert!(!names.to_string().contains("third"), "{names}");
    assert_eq!(reader.read("third"), (200, vec![json!(3)]));
    assert_eq!(values(&reader.me("third/a?limit=5")), (200, vec![json!(3)]));
    for query in ["none", "none?limit=5", "third?limit=5&endDate=20150520120000"] {
        let (status, values) = reader.read(query);
        let expected = if query.starts_with("none") { 404 } else { 200 };
        assert_eq!((status, values), (expected, Vec::new()), "{query}");
    }
}

#[test]
fn what_a_device_removed_is_still_in_its_history() {
    let gateway = Gateway::start();
    let own = gateway.device("a");
    let made = gateway.admin(&["device", "credential", "add", "a", "--type", "thing"]);
    let token = made["token"].as_str().unwrap().to_owned();
    let key = gateway.key("viewer");
    let reader = Reader { gateway, token, key };
    reader.write(&[value("h", 10), value("h", 11)]);
    let mut device = reader.gateway.as_device("a", &own);
    device.send(&json!({"type": "state", "reported": {"h": null}, "msgid": "1"}));
    device.next_of("ack");
    assert_eq!(reader.read("h?limit=10"), (200, vec![json!(11), json!(10)]));
    assert_eq!(reader.me("h").1, json!({}), "it is no resource that there is");
}

#[test]
fn an_id_that_is_nobodys_is_no_guess_at_a_token() {
    let reader = Reader::new(&["limits.auth_failures_per_minute_max=3"]);
    reader.write(&[value("k", 1)]);
    for _ in 0..5 {
        assert_eq!(reader.me("k/removed").0, 404);
    }
    assert_eq!(reader.me("k/a").0, 200);
    for _ in 0..3 {
        assert_eq!(reader.me(&format!("k/{}", "x".repeat(43))).0, 404);
    }
    assert_eq!(reader.me("k/a").0, 429);
}

#[test]
fn a_device_that_is_not_theirs_is_answered_as_none() {
    const OPEN: &str = r#"thethings.apps={"open"={tenant="default",register=true}}"#;
    let gateway = Gateway::with(&[OPEN, "limits.auth_failures_per_minute_max=5"]);
    // An id that looks like a token, too.
    let shaped = "d".repeat(43);
    gateway.device("other");
    gateway.device(&shaped);
    let body = json!({"email": "a@b.cc", "password": "correct horse", "app": "open"});
    let (status, told) = post(&gateway, "/v2/register", &body.to_string());
    assert_eq!(status, 201, "{told}");
    let header = format!("Authorization: {}\r\n", told["token"].as_str().unwrap());
    let read = |name: &str| {
        let path = format!("/v2/me/resources/k/{name}");
        ask(&gateway, "GET", &path, &header, "")
    };
    let nobody = read("nobody");
    assert_eq!(nobody.0, 404);
    assert_eq!(read("other"), nobody);
    // The registration counted once; each of these does, whether there is such a device or not.
    for name in [&shaped, &"e".repeat(43), &shaped, &shaped] {
        assert_eq!(read(name), nobody, "{name}");
    }
    assert_eq!(read("nobody").0, 429);
}

#[test]
fn a_description_is_one_value_and_a_form_has_a_type_in_any_case() {
    let reader = Reader::new(&[]);
    let path = format!("/v2/things/{}/resources/description", reader.token);
    let put = |body: &str| ask(&reader.gateway, "PUT", &path, "", body);
    for body in [r#"1,"datetime":"20150520120000""#, r#"1},{"value":2"#, r#"1}],"x":[{"y":2"#] {
        let (status, told) = put(body);
        let message = told["message"].as_str().unwrap();
        assert_eq!(status, 400, "{body}: {message}");
        assert!(message.starts_with("the body is not JSON"), "{message}");
    }
    assert_eq!(reader.read("description").0, 404, "nothing was stored");
    assert_eq!(put(r#" {"a": 1} "#).0, 200);
    assert_eq!(reader.read("description"), (200, vec![json!({"a": 1})]));
    let form = "Content-Type: APPLICATION/X-WWW-Form-Urlencoded ; charset=UTF-8\r\n";
    let path = format!("/v2/things/{}", reader.token);
    let body = "values[0][key]=LED&values[0][value]=ON";
    let answer = exchange(&reader.gateway.address, "POST", &path, form, body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(reader.read("LED"), (200, vec![json!("ON")]));
}
