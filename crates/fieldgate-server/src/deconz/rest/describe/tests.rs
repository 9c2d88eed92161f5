//! What is described is what the codecs take and write.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_address_has_an_answer_and_one_that_goes_well_where_it_can() {
    let examples = Examples::new().unwrap();
    for address in addresses::all() {
        let (_, body) = address.body.unwrap_or_default();
        let told = (address.answer)(&examples, &address.filled(), body);
        let told = told.unwrap_or_else(|| panic!("{} has no example", address.id));
        if let Some(first) = told.pointer("/0") {
            // Nothing of the configuration can be set.
            assert!(first.get("error").is_none(), "{}: {told}", address.id);
        }
    }
}

#[test]
fn every_type_of_error_is_told_once() {
    let numbers: Vec<u64> = numbers().iter().map(|number| number.as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
    assert_eq!(numbers.len(), errors().len());
    let known = |error: &Error| error.status() == 200 || is_described(error.status());
    assert!(errors().iter().all(known));
}

fn is_described(status: u16) -> bool {
    REFUSALS.iter().any(|(described, _)| *described == status)
}

#[test]
fn what_a_codec_writes_is_described_to_the_last_member() {
    let written = serde_json::to_value(openapi()).unwrap();
    let examples = Examples::new().unwrap();
    let light = examples.light().unwrap();
    let sensor = examples.sensor().unwrap();
    let group = examples.group().unwrap();
    for (schema, value) in [
        ("Light", &light),
        ("LightState", &light["state"]),
        ("Sensor", &sensor),
        ("SensorState", &sensor["state"]),
        ("SensorConfig", &sensor["config"]),
        ("Group", &group),
        ("GroupState", &group["state"]),
        ("SceneOfGroup", &group["scenes"][0]),
        ("Scene", &examples::scene()),
        ("SceneInList", &examples::scenes()["1"]),
        ("Everything", &examples.everything().unwrap()),
    ] {
        let described = &written["components"]["schemas"][schema];
        let members: BTreeSet<&String> = value.as_object().unwrap().keys().collect();
        let known: BTreeSet<&String> =
            described["properties"].as_object().unwrap().keys().collect();
        assert!(members.is_subset(&known), "{schema}: {members:?} of {known:?}");
        for needed in described["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(members.contains(&needed.as_str().unwrap().to_owned()), "{schema}: {needed}");
        }
    }
}
