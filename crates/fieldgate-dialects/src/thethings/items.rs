//! Messages as items: `[{"key":…,"value":…,"datetime":…}]`, compact, in this order.
//!
//! Pure. In: a delivery, the resource that is wanted, and what is known of its device. Source:
//! `wire.md` 1.3 and 1.6, `resources.md` 1 ("which name where"). Invariant: a value under its device's
//! own name keeps the sender's digits and type.

use std::collections::BTreeMap;

use fieldgate_core::{
    dialect::Delivery, id::UnixMs, message::Message, profile::read_value, resource,
};

use super::date;
use crate::{
    json::write_string,
    readings::{Canonicals, Names, Naming, Reading, Telling, convert, each_reading},
};

/// Appends what a message says of a resource, or of all, as an array, and tells how many items it
/// has; nothing, where it has none.
///
/// A wanted resource is the device's own of this name, as it was sent; else the canonical one of this
/// name, converted, under this name. Where canonical names are told, that one comes first.
pub fn write_items(
    out: &mut Vec<u8>,
    delivery: &Delivery<'_>,
    wanted: Option<&str>,
    telling: Telling<'_>,
) -> usize {
    let mut count = 0;
    each_item(delivery.message, wanted, telling, |key, text, time| {
        out.push(if count == 0 { b'[' } else { b',' });
        write_item(out, Some(key), text, time);
        count += 1;
    });
    if count > 0 {
        out.push(b']');
    }
    count
}

/// Visits the items of a message: key, value and time.
pub fn each_item(
    message: &Message,
    wanted: Option<&str>,
    telling: Telling<'_>,
    mut visit: impl FnMut(&str, &str, UnixMs),
) {
    let Some(device) = message.topic.device() else { return };
    let about = || (telling.known)(&message.tenant, device);
    match (wanted, telling.names) {
        (None, Naming::Own) => {
            each_reading(message, |reading| visit(reading.name, reading.text, reading.time));
        }
        (None, Naming::Canonical) => {
            let about = about();
            let mut all = Canonicals::new(about.profile.as_deref());
            each_reading(message, |reading| all.take(reading));
            all.each(|time, key, text| visit(key, text, time));
        }
        (Some(wanted), names) => {
            let about = about();
            let mut found = Found::new(wanted, Names::new(about.profile.as_deref()), names);
            each_reading(message, |reading| found.take(reading));
            found.each(|text, time| visit(wanted, text, time));
        }
    }
}

/// Appends one item; without its key where the reader knows it.
pub fn write_item(out: &mut Vec<u8>, key: Option<&str>, text: &str, time: UnixMs) {
    out.push(b'{');
    if let Some(key) = key {
        out.extend_from_slice(b"\"key\":");
        write_string(out, key);
        out.push(b',');
    }
    out.extend_from_slice(b"\"value\":");
    write_compact(out, text);
    out.extend_from_slice(b",\"datetime\":\"");
    date::write(out, time);
    out.extend_from_slice(b"\"}");
}

/// A JSON value without the space between its parts.
#[must_use]
pub fn compact(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    write_compact(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends a JSON value without the space between its parts: clients cut texts at fixed places.
fn write_compact(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => continue,
            _ => (),
        }
        out.push(byte);
    }
}

/// A canonical resource of the wanted name, under one name of the device.
struct Converted {
    /// The name that the device has for it.
    name: String,
    /// Whether the profile says what it is.
    is_named: bool,
    text: String,
}

/// What a message holds of one resource.
struct Found<'p> {
    wanted: &'p str,
    names: Names<'p>,
    naming: Naming,
    /// The wanted name's row and instance, if it is canonical.
    canonical: Option<(&'static str, u8)>,
    own: Vec<(String, UnixMs)>,
    converted: BTreeMap<UnixMs, Vec<Converted>>,
}

impl<'p> Found<'p> {
    fn new(wanted: &'p str, names: Names<'p>, naming: Naming) -> Self {
        let (stem, instance) = resource::split_instance(wanted);
        // A device whose own name it is has none by the canonical one.
        let is_own = naming == Naming::Own && names.has(wanted);
        let row = resource::canonical(stem).filter(|_| !is_own);
        let canonical = row.map(|row| (row.name, instance));
        Self { wanted, names, naming, canonical, own: Vec::new(), converted: BTreeMap::new() }
    }

    fn take(&mut self, reading: Reading<'_>) {
        let Reading { time, name, text, unit } = reading;
        if name == self.wanted {
            self.own.push((text.to_owned(), time));
            if self.naming == Naming::Own {
                return;
            }
        }
        let Some(canonical) = self.canonical else { return };
        read_value(text, |value| {
            let Some((bound, is_named)) = self.names.bind(name, value, unit) else { return };
            if (bound.row.name, bound.instance) != canonical {
                return;
            }
            let Some(text) = convert(&bound, value, text) else { return };
            let of_time = self.converted.entry(time).or_default();
            of_time.push(Converted { name: name.to_owned(), is_named, text });
        });
    }

    /// Visits what counts: the own name's values; else, of several names for one resource at one
    /// time, those of the name that the profile gives, or of the first.
    fn each(&self, mut visit: impl FnMut(&str, UnixMs)) {
        let is_own = self.naming == Naming::Own || self.converted.is_empty();
        if is_own && !self.own.is_empty() {
            self.own.iter().for_each(|(text, time)| visit(text, *time));
            return;
        }
        for (time, all) in &self.converted {
            let chosen = all.iter().find(|one| one.is_named).or_else(|| all.first());
            let same = all.iter().filter(|one| chosen.is_some_and(|c| c.name == one.name));
            same.for_each(|one| visit(&one.text, *time));
        }
    }
}

#[cfg(test)]
mod tests;
