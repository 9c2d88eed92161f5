//! What is described is what is served.

use std::collections::BTreeSet;

use fieldgate_dialects::{kamea as dialect, native as frames, thingsee as arrays};

use super::*;

/// Everything that a value refers to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == "$ref" => drop(found.insert(text.to_owned())),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

#[test]
fn everything_that_is_referred_to_is_there_and_nothing_else() {
    let document = asyncapi(&Kamea::default());
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        // A key may hold dots, and none holds a slash.
        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{name}");
        }
    }
}

#[test]
fn every_message_of_the_client_is_taken_by_its_decoder() {
    let limits = frames::Limits::default();
    for (key, _, fields, example) in native::AUTH {
        assert!(frames::decode_first(example, &limits).is_ok(), "{key}");
        assert!(!fields.is_empty());
    }
    for (key, _, _, example) in native::SENT {
        let taken = frames::decode_text(example, &limits);
        assert!(taken.is_ok(), "{key}: {taken:?}");
    }
    let taken = arrays::decode_text(thingsee::ARRAY, &arrays::Limits::default()).unwrap();
    assert!(taken.len() == 1 && taken[0].is_ok());
    assert!(dialect::request(socketio::REQUEST).is_ok());
}

#[test]
fn every_example_has_what_is_required_and_nothing_that_is_not_described() {
    let document = asyncapi(&Kamea::default());
    for (id, message) in document["components"]["messages"].as_object().unwrap() {
        let examples = message.get("examples").and_then(Value::as_array);
        let payload = &message["payload"];
        let Some(properties) = payload["properties"].as_object() else { continue };
        let examples = examples.unwrap_or_else(|| panic!("{id} has no example"));
        for example in examples {
            let example = example["payload"].as_object().unwrap_or_else(|| panic!("{id}"));
            let unknown: Vec<_> = example.keys().filter(|k| !properties.contains_key(*k)).collect();
            assert!(unknown.is_empty(), "{id}: {unknown:?}");
            for needed in payload["required"].as_array().into_iter().flatten() {
                assert!(example.contains_key(needed.as_str().unwrap()), "{id}: {needed}");
            }
        }
    }
}

#[test]
fn events_of_kamea_are_described_as_they_are_configured() {
    let config = Kamea {
        event: "measured".to_owned(),
        body: r#"{"id":"{deviceId}","v":"{telemetries}"}"#.parse().unwrap(),
        ..Kamea::default()
    };
    let message = &asyncapi(&config)["components"]["messages"]["kamea.telemetries.sub"];
    assert_eq!(message["name"], "measured");
    assert_eq!(message["payload"]["required"], json!(["id", "v"]));
    assert_eq!(message["payload"]["properties"]["id"], json!({"type": "string"}));
    assert_eq!(message["payload"]["properties"]["v"], json!({"type": "object"}), "any values");
    let asked = &asyncapi(&config)["components"]["messages"]["kamea.telemetries.pub"];
    assert_eq!(asked["name"], "telemetries", "what is asked keeps its name");
}
