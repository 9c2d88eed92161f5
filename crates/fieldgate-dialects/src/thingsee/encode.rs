//! Messages as Thingsee objects: one for each time and `tsmId`, with only what the message held.
//!
//! Pure. In: a delivery, and what is known of its device. Out: objects with a comma between, for an
//! array that the caller opens and ends. Source: `resources.md` 2, "To Thingsee". What came as
//! Thingsee goes out as it came, byte for byte. Absent: everything that has no row.

use std::collections::BTreeMap;

use fieldgate_core::{
    dialect::Delivery,
    id::UnixMs,
    json,
    message::{Content, Kind},
    profile::{Profile, read_value},
    resource::{Bound, Scale, Value, format_converted},
};

use super::{
    catalogue,
    rows::{Column, ROWS},
};
use crate::{
    json::{write_number, write_string},
    readings::{Known, Names, Reading, digits, each_reading},
};

/// Of a report as it came.
const EVENT_TIMED: u32 = 10;
/// Of what a device says it is in now.
const EVENT_STATE: u32 = 7;
/// Most ids that a reader names.
const IDS_MAX: usize = 8;

/// Which messages a reader wants, by `tsmId`; none named: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ids([u32; IDS_MAX]);

impl Ids {
    /// These ids; nothing if they are more than a reader may name, or one of them is none.
    #[must_use]
    pub fn new(wanted: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut ids = Self::default();
        for id in wanted {
            if id == 0 {
                return None;
            }
            if !ids.0.contains(&id) {
                *ids.0.iter_mut().find(|place| **place == 0)? = id;
            }
        }
        // The same ids in another order are the same.
        ids.0.sort_unstable();
        Some(ids)
    }

    fn takes(&self, id: impl FnOnce() -> Option<u32>) -> bool {
        *self == Self::default() || id().is_some_and(|id| id != 0 && self.0.contains(&id))
    }
}

/// Appends the objects of a message and tells how many. `out` ends with the `[` of an array or with
/// an object of it.
pub fn write_objects(
    out: &mut Vec<u8>,
    delivery: &Delivery<'_>,
    ids: &Ids,
    known: Known<'_>,
) -> usize {
    let message = delivery.message;
    if let Some(original) = &message.original {
        return write_original(out, original, ids);
    }
    let Some(device) = message.topic.device() else { return 0 };
    if !matches!(message.kind, Kind::Telemetry | Kind::Reported | Kind::State)
        || message.content != Content::Json
    {
        return 0;
    }
    let about = known(&message.tenant, device);
    let mut found = Found::new(about.profile.as_deref(), about.is_thingsee);
    each_reading(message, |reading| found.take(reading));
    let event = if message.kind == Kind::Reported { EVENT_STATE } else { EVENT_TIMED };
    found.write(out, ids, event, device, about.gateway.as_deref())
}

fn write_original(out: &mut Vec<u8>, original: &[u8], ids: &Ids) -> usize {
    let id = || {
        let mut id = None;
        json::each_member(std::str::from_utf8(original).ok()?, |member| {
            if member.name.as_deref() == Some("tsmId") {
                id = member.value.parse().ok();
            }
        })?;
        id
    };
    if !ids.takes(id) {
        return 0;
    }
    begin(out);
    out.extend_from_slice(original);
    1
}

fn begin(out: &mut Vec<u8>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
}

/// A field that a message held.
struct Held {
    /// The name that the device has for it.
    name: String,
    /// Whether the profile says what it is.
    is_named: bool,
    field: &'static str,
    text: String,
}

/// What a message held, in the order in which it is written.
struct Found<'p> {
    names: Names<'p>,
    is_thingsee: bool,
    held: BTreeMap<(UnixMs, u32, usize), Held>,
}

impl<'p> Found<'p> {
    fn new(profile: Option<&'p Profile>, is_thingsee: bool) -> Self {
        Self { names: Names::new(profile), is_thingsee, held: BTreeMap::new() }
    }

    /// Takes a reading. Of two names for one resource the profile's `as` counts, else the first; of
    /// one name said twice the last.
    fn take(&mut self, reading: Reading<'_>) {
        let Reading { time, name, text, unit } = reading;
        read_value(text, |value| {
            let bound = self.names.bind(name, value, unit);
            // There is no field for a second instance.
            let Some((bound, is_named)) = bound.filter(|(bound, _)| bound.instance == 1) else {
                return self.take_field(time, name, text);
            };
            let mut has_row = false;
            let rows = ROWS.iter().enumerate();
            for (place, row) in rows.filter(|(_, row)| row.canonical == bound.row.name) {
                has_row = true;
                let Some(text) = row.column.write(&bound, value, text) else { continue };
                let key = (time, row.id, place);
                let old = self.held.get(&key);
                if old.is_none_or(|old| old.name == name || (is_named && !old.is_named)) {
                    self.held.insert(
                        key,
                        Held { name: name.to_owned(), is_named, field: row.field, text },
                    );
                }
            }
            if !has_row {
                self.take_field(time, name, text);
            }
        });
    }

    /// Takes a field without a row by the one id that has it, where its device speaks so.
    fn take_field(&mut self, time: UnixMs, name: &str, text: &str) {
        if !self.is_thingsee {
            return;
        }
        let of_id = name.split_once('.').and_then(|(field, id)| Some((field, id.parse().ok()?)));
        let found = match of_id {
            Some((field, id)) => {
                catalogue::find(id).and_then(|kind| Some((kind, kind.field(field)?)))
            }
            None => {
                let mut kinds = catalogue::KINDS.iter();
                let mut all = kinds.by_ref().filter_map(|kind| Some((kind, kind.field(name)?)));
                all.next().filter(|_| all.next().is_none())
            }
        };
        let Some((kind, field)) = found else { return };
        let place = kind.fields.iter().position(|other| other == field).unwrap_or_default();
        let key = (time, kind.id, ROWS.len() + place);
        let (name, text) = (name.to_owned(), text.to_owned());
        self.held.insert(key, Held { name, is_named: false, field: field.name, text });
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        ids: &Ids,
        event: u32,
        device: &str,
        gateway: Option<&str>,
    ) -> usize {
        let mut held =
            self.held.iter().filter(|((_, id, _), _)| ids.takes(|| Some(*id))).peekable();
        let mut count = 0;
        while let Some(((time, id, _), first)) = held.next() {
            begin(out);
            out.extend_from_slice(b"{\"tsmId\":");
            write_number(out, u64::from(*id));
            out.extend_from_slice(b",\"tsmEv\":");
            write_number(out, u64::from(event));
            write_field(out, first);
            let is_same = |next: &(&(UnixMs, u32, usize), _)| (next.0.0, next.0.1) == (*time, *id);
            while let Some((_, next)) = held.next_if(is_same) {
                write_field(out, next);
            }
            out.extend_from_slice(b",\"tsmTs\":");
            out.extend_from_slice(seconds(*time).as_bytes());
            out.extend_from_slice(b",\"tsmTuid\":");
            write_string(out, device);
            if let Some(gateway) = gateway {
                out.extend_from_slice(b",\"tsmGw\":");
                write_string(out, gateway);
            }
            out.push(b'}');
            count += 1;
        }
        count
    }
}

fn write_field(out: &mut Vec<u8>, held: &Held) {
    out.push(b',');
    write_string(out, held.field);
    out.push(b':');
    out.extend_from_slice(held.text.as_bytes());
}

/// Seconds, with decimals where they say something.
fn seconds(time: UnixMs) -> String {
    let (seconds, ms) = (time.0 / 1_000, time.0 % 1_000);
    if ms == 0 {
        return seconds.to_string();
    }
    let text = format!("{seconds}.{ms:03}");
    text.trim_end_matches('0').to_owned()
}

impl Column {
    /// The value of a field; nothing where the reading has none for it. `text` is the JSON of
    /// `value`.
    fn write(&self, bound: &Bound, value: Value<'_>, text: &str) -> Option<String> {
        match self {
            Self::Truth { is_one } => {
                let truth = bound.truth(value)?;
                Some(if truth == *is_one { "1" } else { "0" }.to_owned())
            }
            Self::Number { scale, whole } => number(bound, value, text, *scale, *whole),
            Self::Member(names) => {
                let mut found = None;
                json::each_member(text, |member| {
                    if member.name.as_deref().is_some_and(|name| names.contains(&name)) {
                        found = read_value(member.value, |value| digits(value, member.value));
                    }
                })?;
                found
            }
        }
    }
}

fn number(bound: &Bound, value: Value<'_>, text: &str, to: Scale, whole: bool) -> Option<String> {
    if bound.scale == to && !whole {
        return digits(value, text);
    }
    let number =
        if bound.scale == to { value.as_number()? } else { to.undo(bound.number(value)?)? };
    // Half away from zero; no minus in front of nothing.
    Some(if whole { format!("{:.0}", number.round() + 0.0) } else { format_converted(number) })
}

#[cfg(test)]
mod tests;
