//! The description of `/api`: the one in the documentation, and what a running gateway answers, no more
//! and no less.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, exchange, wait_for};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

fn described(gateway: &Gateway) -> Value {
    let (status, text) = gateway.get("/doc/deconz.json", None);
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

/// A change of the interface shows in review: `FIELDGATE_WRITE=1` writes the copy anew.
#[test]
fn the_description_of_api_is_the_one_in_the_documentation() {
    let gateway = Gateway::start();
    let (status, yaml) = gateway.get("/doc/deconz.yaml", None);
    assert_eq!(status, 200);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/deconz.yaml");
    if std::env::var_os("FIELDGATE_WRITE").is_some() {
        std::fs::write(&path, &yaml).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == yaml, "{} is not what is served: see FIELDGATE_WRITE", path.display());
}

/// A gateway with an app, and one of each: light, sensor, group and scene.
struct Bench {
    gateway: Gateway,
    address: String,
    key: String,
    sensor: String,
    /// The lamp is reachable while it is open.
    _lamp: Wire,
}

impl Bench {
    fn start() -> Self {
        let gateway = Gateway::with(&["listen.deconz=127.0.0.1:0"]);
        let status = gateway.admin(&["status"]);
        let address = status["listeners"]["deconz"][0].as_str().unwrap().to_owned();
        let lamp = gateway.admin(&["device", "add", "lamp", "--kind", "light"]);
        let mut wire = gateway.as_device("lamp", lamp["token"].as_str().unwrap());
        let data = json!({"on": true, "brightness": 0.5});
        wire.send(&json!({"type": "status", "msgid": "m", "data": data}));
        wire.next_of("ack");
        gateway.admin(&["deconz", "unlock"]);
        let (key, sensor) = (String::new(), String::new());
        let mut bench = Self { gateway, address, key, sensor, _lamp: wire };
        bench.key = bench.make("/api", &json!({"devicetype": "my app"}), "username");
        let light = format!("/api/{}/lights/1", bench.key);
        wait_for("the light", || {
            let body = bench.ask("GET", &light, "").1;
            (body["state"]["on"] == true).then_some(())
        });
        let made = ["groups", "groups/1/scenes"].map(|list| {
            bench.make(&format!("/api/{}/{list}", bench.key), &json!({"name": "Hall"}), "id")
        });
        assert_eq!(made, ["1", "1"]);
        let lights = json!({"lights": ["1"]});
        let group = format!("/api/{}/groups/1", bench.key);
        assert_eq!(bench.ask("PUT", &group, &lights.to_string()).0, 200);
        let sensor = json!({
            "name": "Hall", "type": "CLIPHumidity", "modelid": "a", "manufacturername": "b",
            "swversion": "1", "uniqueid": "hall-1",
        });
        bench.sensor = bench.make(&format!("/api/{}/sensors", bench.key), &sensor, "id");
        bench
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = exchange(&self.address, method, path, "", body);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    /// Makes something; what it is called.
    fn make(&self, path: &str, body: &Value, name: &str) -> String {
        let (_, made) = self.ask("POST", path, &body.to_string());
        made[0]["success"][name].as_str().unwrap_or_else(|| panic!("{path}: {made}")).to_owned()
    }

    /// An address with what there is.
    fn filled(&self, template: &str) -> String {
        let id = if template.contains("whitelist") {
            &self.key
        } else if template.contains("sensors") {
            &self.sensor
        } else {
            "1"
        };
        let filled = template.replace("{key}", &self.key).replace("{id}", id);
        filled.replace("{group}", "1").replace("{scene}", "1")
    }
}

/// Methods and addresses, what removes something behind what is in it, the key last.
fn operations(described: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all.sort_by_key(|(method, path, _)| {
        (method == "DELETE", path.contains("whitelist"), usize::MAX - path.len())
    });
    all
}

#[test]
fn every_address_that_is_described_is_answered_as_it_is_described() {
    let bench = Bench::start();
    let described = described(&bench.gateway);
    let operations = operations(&described);
    assert!(operations.len() > 30, "{}", operations.len());
    for (method, path, operation) in operations {
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let body =
            body.replace("CLIPTemperature", "CLIPHumidity").replace("temperature", "humidity");
        let (status, told) = bench.ask(&method, &bench.filled(&path), &body);
        if operation["operationId"] == "deconzMakeScene" {
            // A group that has scenes is not removed.
            let scene = told[0]["success"]["id"].as_str().unwrap();
            let path = format!("{}/{scene}", bench.filled(&path));
            assert_eq!(bench.ask("DELETE", &path, "").0, 200);
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key(&status.to_string()), "{method} {path}: {told}");
        let example = &responses["200"]["content"]["application/json"]["example"];
        assert_eq!(told.is_array(), example.is_array(), "{method} {path}: {told}");
        for member in ["success", "error"] {
            let like = |value: &Value| value[0].get(member).map(|told| told["type"].clone());
            assert_eq!(like(&told), like(example), "{method} {path}: {told}");
        }
    }
}

/// Whether an address is one of a template.
fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let is_one = |(one, other): (&&str, &&str)| one.starts_with('{') || one == other;
    template.len() == path.len() && template.iter().zip(&path).all(is_one)
}

#[test]
fn nothing_else_is_answered() {
    let bench = Bench::start();
    let described = described(&bench.gateway);
    let templates: Vec<&String> = described["paths"].as_object().unwrap().keys().collect();
    let words = templates.iter().flat_map(|path| path.split('/').skip(3));
    let words: BTreeSet<&str> =
        words.map(|word| if word.starts_with('{') { "1" } else { word }).collect();
    assert!(words.contains("recall") && words.contains("1"), "{words:?}");
    let mut candidates = BTreeSet::from(["/api".to_owned(), "/".to_owned()]);
    for template in templates.iter().filter(|path| path.contains("{key}")) {
        let filled = bench.filled(template);
        candidates.insert(filled.clone());
        let beside = filled.rsplit_once('/').filter(|_| template.matches('/').count() > 2);
        for word in &words {
            candidates.insert(format!("{filled}/{word}"));
            candidates.extend(beside.map(|(before, _)| format!("{before}/{word}")));
        }
    }
    let mut count = 0;
    for path in candidates {
        for method in METHODS {
            let is_described = templates.iter().any(|template| {
                let item = &described["paths"][template.as_str()];
                matches(template, &path) && item.get(method.to_lowercase()).is_some()
            });
            if !is_described {
                let (_, told) = bench.ask(method, &path, "{}");
                assert_eq!(told[0]["error"]["type"], 4, "{method} {path}: {told}");
                count += 1;
            }
        }
    }
    assert!(count > 1_000, "{count}");
}
