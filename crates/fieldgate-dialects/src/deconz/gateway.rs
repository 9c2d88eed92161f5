//! The gateway itself as apps see it: its configuration, groups and scenes, and who asks for a key.
//!
//! Pure. In: what the caller knows. Out: maps. Source: `wire.md` 2.4 and 2.6. There is no radio: what
//! is about one has a plausible value, since apps read it. Invariant: nobody without a key learns more
//! than the basic configuration.

use fieldgate_core::id::UnixMs;
use serde_json::{Value, json};

use super::{
    Error, Light, Map, body,
    device::{local, tag},
};

/// The version of the interface that is served.
const API_VERSION: &str = "1.16.0";
/// Longest name of an app, in characters.
const DEVICE_TYPE_LEN_MAX: usize = 40;

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Gateway<'a> {
    /// Its name.
    pub name: &'a str,
    /// Six bytes of its own, from which its ids are made.
    pub mac: [u8; 6],
    /// Its address in the network, without a port.
    pub address: &'a str,
    /// The port of the interface.
    pub port: u16,
    /// The version of the program.
    pub version: &'a str,
    /// The port of the push socket.
    pub websocket_port: Option<u16>,
    /// The same with TLS.
    pub websocket_port_secure: Option<u16>,
    /// Whether frames hold all attributes.
    pub notifies_all: bool,
    /// Whether keys are given out now.
    pub is_unlocked: bool,
    /// The time.
    pub now: UnixMs,
}

/// A key that was given out.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Its id, under which it can be revoked. (The key itself is nobody's to read.)
    pub id: &'a str,
    /// What the app called itself.
    pub name: &'a str,
    /// When it was given out.
    pub created: UnixMs,
    /// When it was used last.
    pub used: UnixMs,
}

/// A scene of a group.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// Its number in its group.
    pub number: u64,
    /// Its name.
    pub name: &'a str,
    /// The numbers of the lights that it sets.
    pub lights: &'a [u64],
    /// How many seconds it takes.
    pub transition: Option<f64>,
}

/// A group.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: &'a str,
    /// The numbers of its lights, and what they are in.
    pub lights: &'a [(u64, Light)],
    /// Its scenes.
    pub scenes: &'a [Scene<'a>],
}

/// The id of a gateway: 16 digits with `FFFF` in the middle.
#[must_use]
pub fn bridge_id(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02X}{b:02X}{c:02X}FFFF{d:02X}{e:02X}{f:02X}")
}

/// Its id as others write it: `Gateway-Uuid`.
#[must_use]
pub fn uuid(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("2f402f80-da50-11e1-9b23-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

/// What everybody may read.
#[must_use]
pub fn basic(gateway: &Gateway<'_>) -> Map {
    map(json!({
        "apiversion": API_VERSION,
        "bridgeid": bridge_id(gateway.mac),
        "datastoreversion": "93",
        "devicename": "ConBee II",
        "factorynew": false,
        "mac": gateway.mac.map(|byte| format!("{byte:02x}")).join(":"),
        "modelid": "deCONZ",
        "name": gateway.name,
        "replacesbridgeid": null,
        "starterkitid": "",
        "swversion": gateway.version,
    }))
}

/// The whole configuration.
#[must_use]
pub fn whole(gateway: &Gateway<'_>, keys: &[Key<'_>]) -> Map {
    let mut config = basic(gateway);
    let now = seconds(gateway.now);
    config.extend(map(json!({
        "UTC": now,
        "backup": {"errorcode": 0, "status": "idle"},
        "dhcp": true,
        "disablePermitJoinAutoOff": false,
        "fwversion": "0x26580700",
        "gateway": "0.0.0.0",
        "internetservices": {"remoteaccess": "disconnected"},
        "ipaddress": gateway.address,
        "lightlastseeninterval": 60,
        "linkbutton": gateway.is_unlocked,
        "localtime": now,
        "netmask": "255.255.255.0",
        "networkopenduration": 60,
        "ntp": "synced",
        "otauactive": false,
        "otaustate": "off",
        "panid": 0,
        "permitjoin": 0,
        "port": gateway.port,
        "portalconnection": "disconnected",
        "portalservices": false,
        "portalstate":
            {"communication": "disconnected", "incoming": false, "outgoing": false, "signedon": false},
        "proxyaddress": "none",
        "proxyport": 0,
        "rfconnected": true,
        "swcategory": "stable",
        "swupdate": {
            "checkforupdate": false, "devicetypes": {"bridge": false, "lights": [], "sensors": []},
            "notify": false, "text": "", "updatestate": 0, "url": "",
        },
        "swupdate2": {
            "autoinstall": {"on": false, "updatetime": ""},
            "bridge": {"lastinstall": "", "state": "noupdates"}, "checkforupdate": false,
            "lastchange": "", "lastinstall": "", "state": "noupdates",
        },
        "system": "linux",
        "timeformat": "24h",
        "timezone": "Etc/UTC",
        "uuid": uuid(gateway.mac),
        "websocketnotifyall": gateway.notifies_all,
        "whitelist": whitelist(keys),
        "zigbeechannel": 15,
    })));
    let ports = [
        ("websocketport", gateway.websocket_port),
        ("websocketport_wss", gateway.websocket_port_secure),
    ];
    let open = ports.into_iter().filter_map(|(name, port)| Some((name.to_owned(), port?.into())));
    config.extend(open);
    config
}

fn whitelist(keys: &[Key<'_>]) -> Map {
    let key = |key: &Key<'_>| {
        let about = json!({
            "create date": seconds(key.created),
            "last use date": seconds(key.used),
            "name": key.name,
        });
        (key.id.to_owned(), about)
    };
    keys.iter().map(key).collect()
}

/// A time in UTC to the second.
fn seconds(time: UnixMs) -> String {
    let local = local(time);
    local.get(..19).unwrap_or(&local).to_owned()
}

fn map(value: Value) -> Map {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// A group whole.
#[must_use]
pub fn group(group: &Group<'_>) -> Map {
    let state = group_state(group.lights);
    let brightness = group.lights.iter().find_map(|(_, light)| light.brightness);
    let numbers = group.lights.iter().map(|(number, _)| number.to_string());
    let mut action = map(json!({"effect": "none", "on": state.get("any_on"), "scene": null}));
    action.extend(brightness.map(|brightness| ("bri".to_owned(), brightness.into())));
    let scenes = group.scenes.iter().map(|scene| {
        json!({
            "id": scene.number.to_string(),
            "lightcount": scene.lights.len(),
            "name": scene.name,
            "transitiontime": tenths(scene.transition),
        })
    });
    let mut whole = map(json!({
        "action": action,
        "devicemembership": [],
        "hidden": false,
        "id": group.number.to_string(),
        "lights": numbers.collect::<Vec<_>>(),
        "lightsequence": [],
        "multideviceids": [],
        "name": group.name,
        "scenes": scenes.collect::<Vec<_>>(),
        "state": state,
        "type": "LightGroup",
    }));
    let tag = tag(&whole);
    whole.insert("etag".to_owned(), tag.into());
    whole
}

/// What a group is in, by those of its lights that can be asked and can be on.
#[must_use]
pub fn group_state(lights: &[(u64, Light)]) -> Map {
    let all = lights.iter().filter(|(_, light)| light.is_reachable);
    let on: Vec<bool> = all.filter_map(|(_, light)| light.on).collect();
    let is_all = !on.is_empty() && on.iter().all(|on| *on);
    map(json!({"all_on": is_all, "any_on": on.contains(&true)}))
}

/// A scene whole: `GET groups/<id>/scenes/<id>`.
#[must_use]
pub fn scene(scene: &Scene<'_>) -> Map {
    let time = tenths(scene.transition);
    let light = |number: &u64| json!({"id": number.to_string(), "transitiontime": time});
    let lights: Vec<Value> = scene.lights.iter().map(light).collect();
    map(json!({"lights": lights, "name": scene.name, "state": 0}))
}

/// A scene in a list: `GET groups/<id>/scenes`.
#[must_use]
pub fn listed_scene(scene: &Scene<'_>) -> Map {
    let lights: Vec<String> = scene.lights.iter().map(u64::to_string).collect();
    let time = tenths(scene.transition);
    map(json!({"lights": lights, "name": scene.name, "transitiontime": time}))
}

fn tenths(seconds: Option<f64>) -> u16 {
    let tenths = (seconds.unwrap_or_default() * 10.0).round().clamp(0.0, f64::from(u16::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range"
    )]
    let tenths = tenths as u16;
    tenths
}

/// The name of an app that asks for a key. A key that it names itself is not looked at: keys are made
/// here.
///
/// # Errors
///
/// What is wrong with the body.
pub fn device_type(body: &[u8]) -> Result<String, Error> {
    let mut name = None;
    for parameter in body::object("/", body)? {
        match parameter.name.as_str() {
            "devicetype" => {
                let word = parameter.word(DEVICE_TYPE_LEN_MAX);
                name = Some(word.ok_or_else(|| parameter.refused(""))?);
            }
            "username" => {
                let word = parameter.word(40).filter(|word| word.chars().count() >= 10);
                word.ok_or_else(|| parameter.refused(""))?;
            }
            _ => return Err(parameter.unknown("")),
        }
    }
    name.ok_or_else(|| Error::MissingParameters("/".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Gateway<'_> = Gateway {
        name: "Fieldgate",
        mac: [0x00, 0x21, 0x2e, 0x00, 0xc5, 0xfb],
        address: "192.168.1.2",
        port: 8_090,
        version: "0.1.0",
        websocket_port: Some(8_090),
        websocket_port_secure: None,
        notifies_all: false,
        is_unlocked: false,
        now: UnixMs(1_634_567_890_123),
    };

    #[test]
    fn the_id_of_a_gateway_has_ffff_in_the_middle() {
        assert_eq!(bridge_id(GATEWAY.mac), "00212EFFFF00C5FB");
        assert_eq!(basic(&GATEWAY)["mac"], "00:21:2e:00:c5:fb");
    }

    #[test]
    fn nobody_without_a_key_learns_more_than_what_the_gateway_is() {
        let basic = basic(&GATEWAY);
        let names: Vec<&str> = basic.keys().map(String::as_str).collect();
        let mut expected = [
            "apiversion",
            "bridgeid",
            "datastoreversion",
            "devicename",
            "factorynew",
            "mac",
            "modelid",
            "name",
            "replacesbridgeid",
            "starterkitid",
            "swversion",
        ];
        expected.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_configuration_has_the_ports_that_are_open_and_the_keys_by_their_ids() {
        let used = UnixMs(GATEWAY.now.0 + 1_000);
        let key = Key { id: "k1", name: "pydeconz", created: GATEWAY.now, used };
        let config = whole(&GATEWAY, &[key]);
        assert_eq!(config["websocketport"], 8_090);
        assert!(!config.contains_key("websocketport_wss"));
        let expected = json!({"k1": {
            "create date": "2021-10-18T14:38:10", "last use date": "2021-10-18T14:38:11",
            "name": "pydeconz",
        }});
        assert_eq!(config["whitelist"], expected);
        assert_eq!((&config["zigbeechannel"], &config["timeformat"]), (&json!(15), &json!("24h")));
        assert_eq!(config["UTC"], "2021-10-18T14:38:10");
    }

    #[test]
    fn a_group_is_what_its_lights_are_that_can_be_asked() {
        let light = |on, is_reachable| Light { on, brightness: Some(7), is_reachable };
        let scene = Scene { number: 3, name: "Evening", lights: &[1, 4], transition: Some(0.4) };
        let lights = [(1, light(Some(true), true)), (4, light(Some(false), false))];
        let group = group(&Group { number: 2, name: "Hall", lights: &lights, scenes: &[scene] });
        let expected = json!({
            "action": {"bri": 7, "effect": "none", "on": true, "scene": null},
            "devicemembership": [], "etag": group["etag"], "hidden": false, "id": "2",
            "lights": ["1", "4"], "lightsequence": [], "multideviceids": [], "name": "Hall",
            "scenes": [{"id": "3", "lightcount": 2, "name": "Evening", "transitiontime": 4}],
            "state": {"all_on": true, "any_on": true}, "type": "LightGroup",
        });
        assert_eq!(json!(group), expected);
        for (lights, all, any) in [
            (vec![], false, false),
            (vec![(1, light(Some(true), true)), (2, light(Some(false), true))], false, true),
            (vec![(1, light(Some(true), true)), (2, light(None, true))], true, true),
            (vec![(1, light(Some(true), false))], false, false),
        ] {
            assert_eq!(json!(group_state(&lights)), json!({"all_on": all, "any_on": any}));
        }
    }

    #[test]
    fn a_scene_is_shown_whole_and_in_a_list() {
        let of = Scene { number: 3, name: "Evening", lights: &[4], transition: None };
        let expected = json!({
            "lights": [{"id": "4", "transitiontime": 0}], "name": "Evening", "state": 0,
        });
        assert_eq!(json!(scene(&of)), expected);
        let expected = json!({"lights": ["4"], "name": "Evening", "transitiontime": 0});
        assert_eq!(json!(listed_scene(&of)), expected);
    }

    #[test]
    fn an_app_says_what_it_is_and_names_no_key_of_its_own() {
        for body in
            [r#"{"devicetype":"pydeconz"}"#, r#"{"username":"0123456789","devicetype":"pydeconz"}"#]
        {
            assert_eq!(device_type(body.as_bytes()).as_deref(), Ok("pydeconz"), "{body}");
        }
        let long = format!(r#"{{"devicetype":"{}"}}"#, "é".repeat(41));
        let refused = |name: &str, value: &str| Error::InvalidValue {
            path: String::new(),
            name: name.into(),
            value: value.into(),
        };
        let unknown = Error::UnknownParameter { path: String::new(), name: "x".into() };
        for (body, error) in [
            ("", Error::InvalidJson("/".into())),
            ("{}", Error::MissingParameters("/".into())),
            (r#"{"username":"0123456789"}"#, Error::MissingParameters("/".into())),
            (r#"{"devicetype":""}"#, refused("devicetype", "")),
            (r#"{"devicetype":7}"#, refused("devicetype", "7")),
            (&long, refused("devicetype", &"é".repeat(41))),
            (r#"{"devicetype":"a","username":"short"}"#, refused("username", "short")),
            (r#"{"devicetype":"a","x":1}"#, unknown),
        ] {
            assert_eq!(device_type(body.as_bytes()), Err(error), "{body}");
        }
    }
}
