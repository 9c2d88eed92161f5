//! A light or a sensor whole, as `GET` answers and `added` tells.
//!
//! Pure. Source: `wire.md` 2.6. Invariant: the tag of a resource is the same as long as the resource
//! is.

use std::hash::Hasher as _;

use fieldgate_core::id::UnixMs;
use serde_json::{Value, json};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{
    super::{Map, Part},
    Device, Id,
    seen::Mode,
    sights::Key,
};
use crate::utc::write_utc;

/// Who made what does not say who made it.
const MANUFACTURER: &str = "Fieldgate";

impl Device {
    /// A part whole; nothing if there is none.
    #[must_use]
    pub fn resource(&self, part: Part, instance: u8, id: &Id) -> Option<Map> {
        let key = (part, instance);
        self.sights.parts.get(&key)?;
        let mut map = self.attributes(key);
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        put("name", self.name(instance).into());
        put("state", self.state(part, instance).into());
        if !part.is_light() {
            put("config", self.config(part, instance).into());
        }
        put("uniqueid", self.unique_id(part, instance, id.address).into());
        let tag = tag(&map);
        map.insert("etag".to_owned(), tag.into());
        let heard = (self.heard > UnixMs(0)).then(|| minute(self.heard));
        map.insert("lastseen".to_owned(), heard.into());
        Some(map)
    }

    /// What tells a part from every other one: what its app named it, else what follows from the
    /// address of its device.
    #[must_use]
    pub fn unique_id(&self, part: Part, instance: u8, address: [u8; 8]) -> String {
        let given = self.facts.clip.as_ref().and_then(|clip| clip.unique_id.clone());
        given.unwrap_or_else(|| part.unique_id(address, instance))
    }

    /// What a part is, whatever it is in.
    pub(super) fn attributes(&self, key: Key) -> Map {
        let (part, instance) = key;
        let profile = self.facts.profile.as_deref();
        let text = |text: Option<&str>, other: &'static str| {
            Value::from(text.filter(|text| !text.is_empty()).unwrap_or(other))
        };
        let maker = text(profile.map(|profile| profile.manufacturer.as_str()), MANUFACTURER);
        let kind = profile.map_or("sensor", |profile| profile.kind.as_str());
        let is_clip = self.facts.clip.is_some();
        let mut map = Map::from_iter([
            ("manufacturername".to_owned(), maker),
            ("modelid".to_owned(), text(profile.map(|profile| profile.model.as_str()), kind)),
            ("swversion".to_owned(), text(profile.map(|profile| profile.version.as_str()), "")),
            ("type".to_owned(), part.type_word(instance, profile, is_clip).into()),
        ]);
        if !part.is_light() {
            map.insert("ep".to_owned(), part.endpoint(instance).into());
            return map;
        }
        let modes = self.sights.parts.get(&key).into_iter().flat_map(|seen| seen.modes());
        let capability = |mode| match mode {
            Mode::HueSaturation => 1,
            Mode::Xy => 8,
            Mode::Temperature => 16,
        };
        let capabilities: u8 = modes.map(capability).sum();
        map.insert("hascolor".to_owned(), (capabilities > 0).into());
        if capabilities > 0 {
            map.insert("colorcapabilities".to_owned(), capabilities.into());
        }
        if let Some((min, max)) = self.mired(instance) {
            #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
            map.extend([
                ("ctmin".to_owned(), json!(min as i64)),
                ("ctmax".to_owned(), json!(max as i64)),
            ]);
        }
        map
    }

    /// What a part is called: as its device, with the instance where it is not the first.
    pub(super) fn name(&self, instance: u8) -> String {
        let name = &self.facts.name;
        if instance == 1 { name.clone() } else { format!("{name} {instance}") }
    }
}

/// A tag of what a map says.
pub(in super::super) fn tag(map: &Map) -> String {
    tag_of(&serde_json::to_string(map).unwrap_or_default())
}

/// A tag of a text.
#[must_use]
pub fn tag_of(text: &str) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}

/// A time in UTC, without a `Z`.
pub(in super::super) fn local(time: UnixMs) -> String {
    let mut out = Vec::new();
    write_utc(&mut out, time);
    let text = String::from_utf8(out).unwrap_or_default();
    text.strip_suffix('Z').unwrap_or(&text).to_owned()
}

/// A minute in UTC: `2021-03-12T22:55Z`.
fn minute(time: UnixMs) -> String {
    let local = local(time);
    format!("{}Z", local.get(..16).unwrap_or(&local))
}
