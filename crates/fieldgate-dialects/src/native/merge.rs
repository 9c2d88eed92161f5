//! Conflation of telemetry: two payloads of one topic in, the newest state of both out.
//!
//! Pure. Source: `guarantees.md`, "Slow receivers", mode `latest`. Absent: times; the newer payload
//! is the one that arrived later. Invariant: no resource is lost, and no value is re-encoded.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use super::json::{self, Members, Text, write_string};

/// What conflation makes of two payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merge {
    /// The newer one says all that the older one said, or one of them holds no resources.
    Newer,
    /// Both together.
    Merged(Vec<u8>),
}

/// Merges `newer` over `older`, resource by resource.
///
/// Resources are the members of an object, or the tags of `{"values":[…]}`. Payloads of different
/// shape are not merged: the newer one stands.
#[must_use]
pub fn merge_latest(older: &[u8], newer: &[u8]) -> Merge {
    let (Ok(older), Ok(newer)) = (members(older), members(newer)) else {
        return Merge::Newer;
    };
    let merged = match (samples(&older), samples(&newer)) {
        (Some(old), Some(new)) => {
            let quality = older
                .member("quality")
                .filter(|q| q.get() != newer.member("quality").map_or("\"good\"", RawValue::get));
            merge_samples(&old, &new, &newer, quality.map(RawValue::get))
        }
        (None, None) => merge_members(&older, &newer),
        _ => None,
    };
    merged.map_or(Merge::Newer, Merge::Merged)
}

fn members(payload: &[u8]) -> Result<Members<'_>, serde_json::Error> {
    serde_json::from_slice(payload)
}

/// One element of an industrial sample.
struct Sample<'a> {
    tag: Cow<'a, str>,
    own_quality: bool,
    raw: &'a str,
}

#[derive(serde::Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    tag: Text<'a>,
    #[serde(borrow)]
    quality: Option<&'a RawValue>,
}

fn samples<'a>(members: &Members<'a>) -> Option<Vec<Sample<'a>>> {
    let values = members.member("values")?;
    let values: Vec<&'a RawValue> = serde_json::from_str(values.get()).ok()?;
    let sample_of = |value: &'a RawValue| {
        let tag: Tag<'a> = json::from_object(value.get()).ok()?;
        let own_quality = tag.quality.is_some();
        Some(Sample { tag: tag.tag.0, own_quality, raw: value.get() })
    };
    values.into_iter().map(sample_of).collect()
}

/// Nothing where the newer one carries every resource of the older one.
fn merge_members(older: &Members<'_>, newer: &Members<'_>) -> Option<Vec<u8>> {
    let names: HashSet<&str> = newer.0.iter().map(|(name, _)| name.as_ref()).collect();
    let mut kept = older.0.iter().filter(|(name, _)| !names.contains(name.as_ref())).peekable();
    kept.peek()?;
    let mut out = vec![b'{'];
    for (nth, (name, value)) in kept.chain(&newer.0).enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    Some(out)
}

/// As [`merge_members`], by tag; what stands beside `values` is the newer one's. `quality` is the
/// older one's where it differs: the elements kept from it take it along.
fn merge_samples(
    old: &[Sample<'_>],
    new: &[Sample<'_>],
    newer: &Members<'_>,
    quality: Option<&str>,
) -> Option<Vec<u8>> {
    let tags: HashSet<&str> = new.iter().map(|sample| sample.tag.as_ref()).collect();
    let mut kept = old.iter().filter(|sample| !tags.contains(sample.tag.as_ref())).peekable();
    kept.peek()?;
    let mut out = b"{\"values\":[".to_vec();
    for sample in kept {
        match (quality, sample.raw.strip_prefix('{')) {
            (Some(quality), Some(rest)) if !sample.own_quality => {
                out.extend_from_slice(b"{\"quality\":");
                out.extend_from_slice(quality.as_bytes());
                out.push(b',');
                out.extend_from_slice(rest.as_bytes());
            }
            _ => out.extend_from_slice(sample.raw.as_bytes()),
        }
        out.push(b',');
    }
    if new.is_empty() {
        out.pop();
    }
    for (nth, sample) in new.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(sample.raw.as_bytes());
    }
    out.push(b']');
    for (name, value) in newer.0.iter().filter(|(name, _)| name != "values") {
        out.push(b',');
        write_string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    out.push(b'}');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(older: &str, newer: &str, expected: Option<&str>) {
        let expected = expected.map_or(Merge::Newer, |text| Merge::Merged(text.into()));
        assert_eq!(merge_latest(older.as_bytes(), newer.as_bytes()), expected);
    }

    #[test]
    fn a_value_is_replaced_only_by_one_that_carries_it() {
        check(r#"{"t":1}"#, r#"{"t":2,"h":3}"#, None);
        check(r#"{"t":1,"h": 2.50}"#, r#"{"t":3.0}"#, Some(r#"{"h":2.50,"t":3.0}"#));
        check(r#"{"a\"":1}"#, r#"{"b":2}"#, Some(r#"{"a\"":1,"b":2}"#));
    }

    #[test]
    fn samples_are_merged_by_tag() {
        check(
            r#"{"values":[{"tag":"t","value":1},{"tag":"p","value":2,"unit":"kPa"}],"quality":"bad"}"#,
            r#"{"values":[{"tag":"t","value":3}],"quality":"good"}"#,
            Some(
                r#"{"values":[{"quality":"bad","tag":"p","value":2,"unit":"kPa"},{"tag":"t","value":3}],"quality":"good"}"#,
            ),
        );
        check(
            r#"{"values":[{"tag":"t","value":1}]}"#,
            r#"{"values":[]}"#,
            Some(r#"{"values":[{"tag":"t","value":1}]}"#),
        );
        check(
            r#"{"values":[{"tag":"t","value":1}]}"#,
            r#"{"values":[{"tag":"t","value":3}]}"#,
            None,
        );
    }

    #[test]
    fn what_is_no_object_of_resources_is_replaced() {
        check("[1]", r#"{"t":3}"#, None);
        check(r#"{"t":3}"#, "", None);
        check(r#"{"t":3}"#, r#"{"values":[{"tag":"t","value":3}]}"#, None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(older: Vec<u8>, newer: Vec<u8>) {
            let _ = merge_latest(&older, &newer);
        }
    }
}
