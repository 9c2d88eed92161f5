//! The push socket of deCONZ (`docs/protocol/deconz.md`): what changes, at once.

use serde_json::{Value, json};

use super::{Field, Interface, Message, Way, object, put};
use crate::deconz::{Examples, scene_called};

const EVENT: Field = Field("t", "const event", "Always so.");
const ID: Field = Field("id", "string", "Its number.");
const UNIQUE: Field = Field("uniqueid", "string?", "Its address; a group has none.");

/// Any path on `listen.deconz`.
pub(super) fn push() -> Interface {
    let examples = Examples::new();
    let shown =
        |frames: fn(&Examples) -> Vec<Option<Value>>| examples.iter().flat_map(frames).flatten();
    Interface {
        key: "deconzPush",
        address: "/",
        title: "deCONZ, push",
        about: "One JSON object a frame, at any path. Who showed no key is let in from an address that \
                made a call with one within 24 hours. After a break a client hears first what changed \
                since it last read everything or last listened. What it sends is ignored."
            .to_owned(),
        server: "deconz",
        query: &[Field("apikey", "string?", "The key of an app.")],
        parameters: Value::Null,
        messages: vec![
            Message::new("changed", Way::Sub, "A light, a sensor or a group changed.", changed())
                .like(shown(Examples::changed)),
            Message::new("added", Way::Sub, "There is a new one, told whole.", added())
                .like(shown(Examples::added)),
            Message::new("deleted", Way::Sub, "It is there no more.", object(&[
                EVENT,
                Field("e", "const deleted", "What happened."),
                list(),
                ID,
                UNIQUE,
            ]))
            .like(shown(|examples| vec![examples.deleted()])),
            Message::new("scene-called", Way::Sub, "A scene was called, by whomever.", object(&[
                EVENT,
                Field("e", "const scene-called", "What happened."),
                Field("r", "const scenes", "Always so."),
                Field("gid", "string", "The number of its group."),
                Field("scid", "string", "Its number."),
            ]))
            .like(scene_called()),
        ],
    }
}

/// The words that apps know.
const fn list() -> Field {
    Field("r", "enum lights sensors groups", "Which list it is in.")
}

fn changed() -> Value {
    with_one_of(
        "const changed",
        [
            Field("state", "object?", "What it is in: what changed of that, and lastupdated."),
            Field("config", "object?", "How it is set up: what changed of that."),
            Field("name", "string?", "What it is called now."),
            Field("attr", "object?", "What changed beside: lights and scenes of a group."),
        ],
    )
}

fn added() -> Value {
    with_one_of(
        "const added",
        [
            Field("light", "object?", "A light, as GET answers."),
            Field("sensor", "object?", "A sensor."),
            Field("group", "object?", "A group."),
        ],
    )
}

/// What happened to a light, a sensor or a group; one of these members is there.
fn with_one_of<const N: usize>(event: &'static str, members: [Field; N]) -> Value {
    let one = members.iter().map(|Field(name, ..)| json!({"required": [name]})).collect();
    let always = [EVENT, Field("e", event, "What happened."), list(), ID, UNIQUE];
    let mut schema = object(&always.into_iter().chain(members).collect::<Vec<_>>());
    put(&mut schema, "oneOf", one);
    schema
}
