//! Conflation of telemetry: two payloads of one topic in, the newest state of both out.
//!
//! Pure. Source: `guarantees.md`, "Slow receivers", mode `latest`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{Members, write_string};

/// Merges `newer` over `older`, resource by resource.
///
/// Nothing where `newer` alone says it all: it carries every resource of `older`, or one of them is
/// no object of resources.
#[must_use]
pub fn merge_latest(older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
    let older: Members<'_> = serde_json::from_slice(older).ok()?;
    let newer: Members<'_> = serde_json::from_slice(newer).ok()?;
    let carried = |name: &str| newer.0.iter().any(|(other, _)| other == name);
    if older.0.iter().all(|(name, _)| carried(name)) {
        return None;
    }
    let kept = older.0.iter().filter(|(name, _)| !carried(name));
    let mut out = vec![b'{'];
    for (nth, (name, value)) in kept.chain(&newer.0).enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_member(&mut out, name, value);
    }
    out.push(b'}');
    Some(out)
}

fn write_member(out: &mut Vec<u8>, name: &Cow<'_, str>, value: &RawValue) {
    write_string(out, name);
    out.push(b':');
    out.extend_from_slice(value.get().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_only_by_one_that_carries_it() {
        let merge = |a: &str, b: &str| {
            merge_latest(a.as_bytes(), b.as_bytes()).map(|m| String::from_utf8(m).unwrap())
        };
        assert_eq!(merge(r#"{"t":1}"#, r#"{"t":2,"h":3}"#), None);
        assert_eq!(merge(r#"{"t":1,"h":2}"#, r#"{"t":3.0}"#).unwrap(), r#"{"h":2,"t":3.0}"#);
        assert_eq!(merge("[1]", r#"{"t":3}"#), None);
    }
}
