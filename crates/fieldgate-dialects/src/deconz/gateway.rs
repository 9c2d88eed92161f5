//! The gateway itself as apps see it: its configuration, groups and scenes, and who asks for a key.
//!
//! Pure. In: what the caller knows. Out: maps. Source: `wire.md` 2.4 and 2.6. There is no radio: what
//! is about one has a plausible value, since apps read it.

use fieldgate_core::id::UnixMs;

use super::{Error, Light, Map};

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Gateway<'a> {
    /// Its name.
    pub name: &'a str,
    /// Six bytes of its own, from which its ids are made.
    pub mac: [u8; 6],
    /// Its address in the network, without a port.
    pub address: &'a str,
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
    /// The lights that it sets.
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

/// What everybody may read.
#[must_use]
pub fn basic(_gateway: &Gateway<'_>) -> Map {
    Map::new()
}

/// The whole configuration.
#[must_use]
pub fn whole(gateway: &Gateway<'_>, _keys: &[Key<'_>]) -> Map {
    basic(gateway)
}

/// A group whole.
#[must_use]
pub fn group(_group: &Group<'_>) -> Map {
    Map::new()
}

/// What a group is in.
#[must_use]
pub fn group_state(_lights: &[(u64, Light)]) -> Map {
    Map::new()
}

/// A scene whole: `GET groups/<id>/scenes/<id>`.
#[must_use]
pub fn scene(_scene: &Scene<'_>) -> Map {
    Map::new()
}

/// The name of an app that asks for a key: `{"devicetype"}`.
///
/// # Errors
///
/// What is wrong with the body.
pub fn device_type(_body: &[u8]) -> Result<String, Error> {
    Err(Error::MissingParameters("/".to_owned()))
}
