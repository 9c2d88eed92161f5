//! Frames of the push socket: one JSON object each.
//!
//! Pure. Source: `wire.md` 2.7. A frame of a change holds one sub-object alone. Invariant: `r` is one
//! of the words that apps know; any other stops them.

use super::Map;
use crate::json::write_string;

/// A list of resources that has frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// Lights.
    Lights,
    /// Sensors.
    Sensors,
    /// Groups.
    Groups,
}

impl List {
    /// The list that a light, or else a sensor, is in.
    #[must_use]
    pub const fn of(is_light: bool) -> Self {
        if is_light { Self::Lights } else { Self::Sensors }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lights => "lights",
            Self::Sensors => "sensors",
            Self::Groups => "groups",
        }
    }

    /// What one of it is called.
    const fn singular(self) -> &'static str {
        match self {
            Self::Lights => "light",
            Self::Sensors => "sensor",
            Self::Groups => "group",
        }
    }
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Its list.
    pub list: List,
    /// Its number there.
    pub number: u64,
    /// Its address; groups have none.
    pub unique_id: Option<&'a str>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What<'a> {
    /// Attributes of the state.
    State(&'a Map),
    /// Attributes of the configuration.
    Config(&'a Map),
    /// The name.
    Name(&'a str),
    /// Attributes beside them.
    Attr(&'a Map),
}

/// Something changed.
#[must_use]
pub fn changed(subject: Subject<'_>, what: What<'_>) -> String {
    let mut out = begin("changed", subject);
    match what {
        What::State(map) => member(&mut out, "state", map),
        What::Config(map) => member(&mut out, "config", map),
        What::Attr(map) => member(&mut out, "attr", map),
        What::Name(name) => {
            out.extend_from_slice(b",\"name\":");
            write_string(&mut out, name);
        }
    }
    end(out, subject)
}

/// Something is new: with all that it is.
#[must_use]
pub fn added(subject: Subject<'_>, whole: &Map) -> String {
    let mut out = begin("added", subject);
    member(&mut out, subject.list.singular(), whole);
    end(out, subject)
}

/// Something is gone.
#[must_use]
pub fn deleted(subject: Subject<'_>) -> String {
    end(begin("deleted", subject), subject)
}

/// A scene of a group was called.
#[must_use]
pub fn scene_called(group: u64, scene: u64) -> String {
    format!(
        "{{\"t\":\"event\",\"e\":\"scene-called\",\"r\":\"scenes\",\"gid\":\"{group}\",\"scid\":\"{scene}\"}}"
    )
}

fn begin(event: &str, subject: Subject<'_>) -> Vec<u8> {
    let (list, number) = (subject.list.as_str(), subject.number);
    format!("{{\"t\":\"event\",\"e\":\"{event}\",\"r\":\"{list}\",\"id\":\"{number}\"").into_bytes()
}

fn member(out: &mut Vec<u8>, name: &str, map: &Map) {
    out.push(b',');
    write_string(out, name);
    out.push(b':');
    // A map of plain values has no way to fail.
    out.extend_from_slice(serde_json::to_string(map).unwrap_or_default().as_bytes());
}

fn end(mut out: Vec<u8>, subject: Subject<'_>) -> String {
    if let Some(unique_id) = subject.unique_id {
        out.extend_from_slice(b",\"uniqueid\":");
        write_string(&mut out, unique_id);
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn map(value: &Value) -> Map {
        value.as_object().unwrap().clone()
    }

    #[track_caller]
    fn is(frame: &str, expected: &Value) {
        assert_eq!(serde_json::from_str::<Value>(frame).unwrap(), *expected);
    }

    const SENSOR: Subject<'_> = Subject {
        list: List::Sensors,
        number: 5,
        unique_id: Some("00:0d:6f:00:10:65:8a:6e-01-1000"),
    };
    const GROUP: Subject<'_> = Subject { list: List::Groups, number: 2, unique_id: None };

    #[test]
    fn a_press_of_a_button_is_as_apps_know_it() {
        let state = map(&json!({"buttonevent": 2002, "lastupdated": "2019-03-15T20:16:30.000"}));
        is(
            &changed(SENSOR, What::State(&state)),
            &json!({
                "t": "event", "e": "changed", "r": "sensors", "id": "5", "state": state,
                "uniqueid": "00:0d:6f:00:10:65:8a:6e-01-1000",
            }),
        );
    }

    #[test]
    fn a_change_holds_one_sub_object() {
        let reachable = map(&json!({"reachable": false}));
        let unique_id = SENSOR.unique_id;
        for (what, name, value) in [
            (What::Config(&reachable), "config", json!(reachable)),
            (What::Attr(&reachable), "attr", json!(reachable)),
            (What::Name("Pulse \"2\""), "name", json!("Pulse \"2\"")),
        ] {
            let mut expected = json!({
                "t": "event", "e": "changed", "r": "sensors", "id": "5", "uniqueid": unique_id,
            });
            expected[name] = value;
            is(&changed(SENSOR, what), &expected);
        }
        let state = map(&json!({"all_on": false, "any_on": true}));
        is(
            &changed(GROUP, What::State(&state)),
            &json!({"t": "event", "e": "changed", "r": "groups", "id": "2", "state": state}),
        );
    }

    #[test]
    fn what_is_new_is_whole_and_what_is_gone_has_its_address() {
        let whole = map(&json!({"name": "All", "scenes": []}));
        is(
            &added(GROUP, &whole),
            &json!({"t": "event", "e": "added", "r": "groups", "id": "2", "group": whole}),
        );
        let light = Subject { list: List::of(true), ..SENSOR };
        is(
            &added(light, &whole),
            &json!({
                "t": "event", "e": "added", "r": "lights", "id": "5", "light": whole,
                "uniqueid": SENSOR.unique_id,
            }),
        );
        is(
            &deleted(SENSOR),
            &json!({
                "t": "event", "e": "deleted", "r": "sensors", "id": "5",
                "uniqueid": SENSOR.unique_id,
            }),
        );
    }

    #[test]
    fn a_scene_has_no_id_of_its_own() {
        let expected =
            json!({"t": "event", "e": "scene-called", "r": "scenes", "gid": "0", "scid": "2"});
        is(&scene_called(0, 2), &expected);
    }
}
