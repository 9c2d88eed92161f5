//! What bodies and answers are made of, as a description says it.
//!
//! In: tables of fields, and what the codecs write. Out: schemas. A field's kind is a JSON type, `any`,
//! `ref SCHEMA`, or `list`, `map` or `null` and one of those; behind `?` it may be absent.

use serde_json::Value;
use utoipa::openapi::{
    Ref, RefOr, Schema,
    schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type},
};

/// A member of an object: its name, its kind, and what it means.
struct Field(&'static str, &'static str, &'static str);

/// An object: its name, what it is, and its fields.
type Shape = (&'static str, &'static str, &'static [Field]);

const NAME: Field = Field("name", "string", "What it is called: 1 to 128 bytes.");
const ON: Field = Field("on", "boolean?", "Switched; a lock is locked.");
const BRI: Field = Field("bri", "integer?", "Brightness, 0 to 255.");
const HUE: Field = Field("hue", "integer?", "Hue, 0 to 65535 for the whole circle.");
const SAT: Field = Field("sat", "integer?", "Saturation, 0 to 255.");
const CT: Field = Field("ct", "integer?", "Colour temperature in mired, from ctmin to ctmax.");
const XY: Field = Field("xy", "list number?", "CIE 1931 x and y, each 0 to 1.");
const OPEN: Field = Field("open", "boolean?", "Whether a cover lets anything through.");
const LIFT: Field = Field("lift", "integer?", "A cover: 0 is open, 100 closed.");
const TILT: Field = Field("tilt", "integer?", "Its slats, 0 to 100.");
const STOP: Field = Field("stop", "boolean?", "`true`: a cover stops where it is.");
const ALERT: Field =
    Field("alert", "string?", "`select`, `lselect`, `none` and others: show which one it is.");
const TRANSITION: Field =
    Field("transitiontime", "integer?", "How long it may take, in tenths of a second.");
const UPDATED: Field =
    Field("lastupdated", "string?", "When it last said something of this, in UTC; `none` before.");
const MAKER: Field = Field("manufacturername", "string", "Who made it.");
const MODEL: Field = Field("modelid", "string", "Its model.");
const VERSION: Field = Field("swversion", "string", "The version of its program.");
const TYPE: Field = Field("type", "string", "What it is, in words that apps know.");
const UNIQUE: Field = Field("uniqueid", "string", "Its address, given once.");
const ETAG: Field = Field("etag", "string", "The same as long as it is.");
const SEEN: Field =
    Field("lastseen", "null string", "The minute in which it was last heard, in UTC.");
const LIGHTS: Field = Field("lights", "list string", "The numbers of its lights.");
const SCENE_TIME: Field =
    Field("transitiontime", "integer", "How long it takes, in tenths of a second.");

const SHAPES: &[Shape] = &[
    (
        "NewKey",
        "Who asks for a key.",
        &[
            Field("devicetype", "string", "What the app calls itself: 1 to 40 characters."),
            Field(
                "username",
                "string?",
                "Taken, if it has 10 to 40 characters, and not used: keys are made here.",
            ),
        ],
    ),
    ("Name", "Another name.", &[NAME]),
    (
        "LightAction",
        "What a light is to be in. Each parameter stands or falls alone.",
        &[ON, BRI, HUE, SAT, CT, XY, OPEN, LIFT, TILT, STOP, ALERT, TRANSITION],
    ),
    (
        "GroupAction",
        "What the lights of a group are to be in, each as it can.",
        &[
            ON,
            Field("toggle", "boolean?", "`true`: off if any is on, else on."),
            BRI,
            HUE,
            SAT,
            CT,
            XY,
            OPEN,
            LIFT,
            TILT,
            STOP,
            ALERT,
            TRANSITION,
        ],
    ),
    (
        "SensorAction",
        "How a sensor is to be set up.",
        &[
            Field("heatsetpoint", "integer?", "Of a thermostat, in hundredths of a °C."),
            Field("on", "boolean?", "Taken where it is so already."),
            Field("mode", "string?", "Taken where it is so already."),
        ],
    ),
    (
        "NewSensor",
        "A sensor that an app makes, to bring values in.",
        &[
            NAME,
            Field("type", "string", "`CLIPTemperature`, `CLIPPresence` and others."),
            MODEL,
            MAKER,
            VERSION,
            Field("uniqueid", "string", "An address that the app gives it."),
            Field("state", "ref SensorState?", "What it is in at first."),
            Field("config", "any?", "Taken, and not used."),
            Field("recycle", "any?", "Taken, and not used."),
        ],
    ),
    (
        "NewGroup",
        "A group.",
        &[
            NAME,
            Field("lights", "list string?", "The numbers of its lights."),
            Field("type", "string?", "`LightGroup`."),
        ],
    ),
    (
        "GroupEdit",
        "What of a group is to be another one.",
        &[
            Field("name", "string?", "What it is called: 1 to 128 bytes."),
            Field("lights", "list string?", "The numbers of its lights, all of them."),
        ],
    ),
    (
        "Setting",
        "What of the configuration is to be another one: nothing can be.",
        &[Field(
            "permitjoin",
            "integer?",
            "0 to 255. Taken, and opens nothing: there is no radio that others could join.",
        )],
    ),
    (
        "Light",
        "A lamp, a plug, a cover or a lock.",
        &[
            NAME,
            TYPE,
            Field("state", "ref LightState", "What it is in."),
            Field("hascolor", "boolean", "Whether it has colours or colour temperatures."),
            Field(
                "colorcapabilities",
                "integer?",
                "1: hue and saturation, 8: xy, 16: temperatures; their sum.",
            ),
            Field("ctmin", "integer?", "Its coldest white, in mired."),
            Field("ctmax", "integer?", "Its warmest."),
            MAKER,
            MODEL,
            VERSION,
            UNIQUE,
            ETAG,
            SEEN,
        ],
    ),
    (
        "LightState",
        "What a light is in: what it can do, and no more.",
        &[
            Field("reachable", "boolean", "Whether it can be asked."),
            ON,
            BRI,
            HUE,
            SAT,
            CT,
            XY,
            OPEN,
            LIFT,
            TILT,
            Field("colormode", "string?", "Which colours count: `hs`, `xy` or `ct`."),
            Field("alert", "string?", "Always `none`."),
            Field("effect", "string?", "Always `none`."),
            UPDATED,
        ],
    ),
    (
        "Sensor",
        "One thing that a device measures, or that an app brings.",
        &[
            NAME,
            TYPE,
            Field("state", "ref SensorState", "What it is in."),
            Field("config", "ref SensorConfig", "How it is set up."),
            Field("ep", "integer", "Its endpoint."),
            MAKER,
            MODEL,
            VERSION,
            UNIQUE,
            ETAG,
            SEEN,
        ],
    ),
    (
        "SensorState",
        "What a sensor is in: what its type has, and no more.",
        &[
            Field("temperature", "null integer?", "In hundredths of a °C."),
            Field("humidity", "null integer?", "In hundredths of a per cent."),
            Field("pressure", "null integer?", "In hPa."),
            Field("lightlevel", "null integer?", "10000 times the logarithm of lux, plus 1."),
            Field("lux", "null integer?", "In lx."),
            Field("dark", "null boolean?", "Below config.tholddark."),
            Field("daylight", "null boolean?", "Above it by config.tholdoffset."),
            Field("battery", "null integer?", "In per cent."),
            Field("airquality", "null string?", "In words."),
            Field("airqualityppb", "null integer?", "Volatile compounds, in ppb."),
            Field("airquality_co2_density", "null integer?", "Carbon dioxide, in ppm."),
            Field("pm2_5", "null integer?", "Fine dust, in µg/m³."),
            Field("presence", "null boolean?", "Whether somebody is there."),
            Field("open", "null boolean?", "Whether a door or a window is open."),
            Field("vibration", "null boolean?", "Whether something shakes."),
            Field("water", "null boolean?", "Whether there is water."),
            Field("fire", "null boolean?", "Whether there is fire."),
            Field("carbonmonoxide", "null boolean?", "Whether there is carbon monoxide."),
            Field("alarm", "null boolean?", "Whether there is alarm."),
            Field(
                "buttonevent",
                "null integer?",
                "The button times 1000, and what was done with it.",
            ),
            Field("power", "null integer?", "In W."),
            Field("voltage", "null integer?", "In V."),
            Field("current", "null integer?", "In mA."),
            Field("consumption", "null integer?", "In Wh."),
            Field("on", "null boolean?", "Whether a thermostat heats."),
            UPDATED,
        ],
    ),
    (
        "SensorConfig",
        "How a sensor is set up.",
        &[
            Field("on", "boolean", "Always so."),
            Field("reachable", "boolean", "Whether it is heard, and its readings are good."),
            Field("battery", "null integer?", "That of its device, in per cent."),
            Field("tholddark", "integer?", "Below this light level it is dark."),
            Field("tholdoffset", "integer?", "So much above it is daylight."),
            Field("heatsetpoint", "null integer?", "In hundredths of a °C."),
            Field("mode", "string?", "`heat`."),
        ],
    ),
    (
        "Group",
        "Lights that are asked together.",
        &[
            NAME,
            Field("id", "string", "Its number."),
            Field("type", "string", "`LightGroup`."),
            LIGHTS,
            Field("scenes", "list ref SceneOfGroup", "Its scenes."),
            Field("state", "ref GroupState", "What its lights are in."),
            Field("action", "any", "What was last asked of it, as far as its lights are in it."),
            ETAG,
            Field("hidden", "boolean", "Never."),
            Field("devicemembership", "list string", "Nothing."),
            Field("lightsequence", "list string", "Nothing."),
            Field("multideviceids", "list string", "Nothing."),
        ],
    ),
    (
        "GroupState",
        "By those lights that can be asked.",
        &[
            Field("all_on", "boolean", "All of them are on."),
            Field("any_on", "boolean", "One of them is."),
        ],
    ),
    (
        "SceneOfGroup",
        "A scene, where a group tells it.",
        &[
            Field("id", "string", "Its number."),
            NAME,
            Field("lightcount", "integer", "How many lights it sets."),
            SCENE_TIME,
        ],
    ),
    ("SceneInList", "A scene in a list.", &[NAME, LIGHTS, SCENE_TIME]),
    (
        "Scene",
        "A scene.",
        &[
            NAME,
            Field("lights", "list ref LightOfScene", "The lights that it sets."),
            Field("state", "integer", "Always 0."),
        ],
    ),
    (
        "LightOfScene",
        "A light that a scene sets.",
        &[Field("id", "string", "Its number."), SCENE_TIME],
    ),
    (
        "Everything",
        "All that there is.",
        &[
            Field("config", "ref Config", "The gateway itself."),
            Field("lights", "map ref Light", "By their numbers."),
            Field("sensors", "map ref Sensor", "By their numbers."),
            Field("groups", "map ref Group", "By their numbers."),
            Field("scenes", "ref Nothing", "They are in their groups."),
            Field("schedules", "ref Nothing", "None."),
            Field("rules", "ref Nothing", "None."),
            Field("resourcelinks", "ref Nothing", "None."),
            Field("alarmsystems", "ref Nothing", "None."),
        ],
    ),
    ("Nothing", "Of this there is nothing here.", &[]),
    (
        "Success",
        "What is now so.",
        &[Field(
            "success",
            "map any",
            "Its path behind the key, or `id`, `username`; and its value.",
        )],
    ),
    ("Removed", "What is no more.", &[Field("success", "string", "What was deleted.")]),
];

/// Every schema that is a table, by its name.
pub(super) fn tables() -> impl Iterator<Item = (&'static str, RefOr<Schema>)> {
    SHAPES.iter().map(|(name, about, fields)| (*name, object(about, fields)))
}

fn object(about: &'static str, fields: &[Field]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().description(Some(about));
    for Field(name, kind, about) in fields {
        let needed = kind.strip_suffix('?');
        object = object.property(*name, schema_of(needed.unwrap_or(kind), Some(about)));
        if needed.is_none() {
            object = object.required(*name);
        }
    }
    object.into()
}

/// The schema of a kind.
pub(super) fn schema_of(kind: &str, about: Option<&str>) -> RefOr<Schema> {
    let (word, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    let object = ObjectBuilder::new().description(about);
    match word {
        "ref" => {
            let mut reference = Ref::from_schema_name(rest);
            reference.description = about.unwrap_or_default().to_owned();
            reference.into()
        }
        "list" => ArrayBuilder::new().items(schema_of(rest, None)).description(about).into(),
        "map" => {
            let each = AdditionalProperties::RefOr(schema_of(rest, None));
            object.additional_properties(Some(each)).into()
        }
        "null" => object.schema_type(SchemaType::from_iter([plain(rest), Type::Null])).into(),
        "any" => object.schema_type(SchemaType::AnyValue).into(),
        other => object.schema_type(plain(other)).into(),
    }
}

fn plain(word: &str) -> Type {
    match word {
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => Type::Object,
    }
}

/// The schema of what a codec wrote: the members of an object are there each time, and of a map of maps
/// (`whitelist`) each is as the others.
pub(super) fn like(value: &Value) -> RefOr<Schema> {
    let plain = |kind| RefOr::from(ObjectBuilder::new().schema_type(kind));
    match value {
        Value::Null => plain(SchemaType::from(Type::Null)),
        Value::Bool(_) => plain(SchemaType::from(Type::Boolean)),
        Value::Number(_) => plain(SchemaType::from(Type::Integer)),
        Value::String(_) => plain(SchemaType::from(Type::String)),
        Value::Array(_) => ArrayBuilder::new().items(schema_of("any", None)).into(),
        Value::Object(members) => {
            let mut object = ObjectBuilder::new();
            for (name, value) in members {
                let value = match value.as_object().filter(|_| name == "whitelist") {
                    Some(each) => keyed(each.values().next()),
                    None => like(value),
                };
                object = object.property(name, value).required(name);
            }
            object.into()
        }
    }
}

fn keyed(each: Option<&Value>) -> RefOr<Schema> {
    let each = each.map_or_else(|| schema_of("any", None), like);
    let each = AdditionalProperties::RefOr(each);
    ObjectBuilder::new().additional_properties(Some(each)).into()
}

/// Answers: one object for each thing that was asked, what was done first.
pub(super) fn answers() -> RefOr<Schema> {
    let one = OneOfBuilder::new()
        .item(Ref::from_schema_name("Success"))
        .item(Ref::from_schema_name("Failure"));
    ArrayBuilder::new().items(one).into()
}

/// A failure with one of these types.
pub(super) fn failure(written: &Value, numbers: &[Value], types: &str) -> RefOr<Schema> {
    let members = written.pointer("/0/error").and_then(Value::as_object);
    let mut error = ObjectBuilder::new();
    for (name, value) in members.into_iter().flatten() {
        let member = match name.as_str() {
            "type" => ObjectBuilder::new()
                .schema_type(Type::Integer)
                .description(Some(types))
                .enum_values(Some(numbers.iter().cloned()))
                .into(),
            _ => like(value),
        };
        error = error.property(name, member).required(name);
    }
    ObjectBuilder::new().property("error", error).required("error").into()
}
