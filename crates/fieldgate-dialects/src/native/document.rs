//! The document of a device: what it reported, what is wished, and where the values come from.
//!
//! Pure. Out: one JSON object; values as they were sent. Source: `resources.md` 4.

use fieldgate_core::state::{Desired, Quality, Reported};

use super::json::{write_number, write_string};

/// Writes `{"reported":{…},"desired":{…},"meta":{name:{time,seq,unit?,quality?}}}`.
#[must_use]
pub fn encode_document(reported: &Reported, desired: &Desired) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + reported.byte_len());
    out.extend_from_slice(b"{\"reported\":");
    members(&mut out, reported.present(), |out, known| {
        out.extend_from_slice(known.value.as_deref().unwrap_or("null").as_bytes());
    });
    out.extend_from_slice(b",\"desired\":");
    members(&mut out, desired.all(), |out, wish| out.extend_from_slice(wish.value.as_bytes()));
    out.extend_from_slice(b",\"meta\":");
    members(&mut out, reported.present(), |out, known| {
        out.extend_from_slice(b"{\"time\":");
        write_number(out, known.origin.time.0);
        out.extend_from_slice(b",\"seq\":");
        write_number(out, known.origin.seq.0);
        if let Some(unit) = &known.unit {
            out.extend_from_slice(b",\"unit\":");
            write_string(out, unit);
        }
        if known.quality != Quality::Good {
            out.extend_from_slice(b",\"quality\":");
            write_string(out, known.quality.as_str());
        }
        out.push(b'}');
    });
    out.push(b'}');
    out
}

fn members<'a, T>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'a str, T)>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    out.push(b'{');
    for (nth, (name, value)) in members.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        id::{Seq, UnixMs},
        state::{Origin, Resource, WISHES},
    };

    use super::*;

    #[test]
    fn a_document_tells_values_as_they_were_sent_and_where_they_come_from() {
        let at = |seq| Origin { time: UnixMs(7), is_given: true, seq: Seq(seq) };
        let known = |value: Option<&str>, unit: Option<&str>, quality, seq| Resource {
            value: value.map(Into::into),
            unit: unit.map(Into::into),
            quality,
            origin: at(seq),
        };
        let parts = vec![
            ("a\"".into(), known(Some("1.50"), Some("\"C\""), Quality::Good, 1)),
            ("bad".into(), known(None, None, Quality::Bad, 2)),
            ("gone".into(), known(None, None, Quality::Good, 3)),
        ];
        let reported = Reported::of_parts(Seq(3), parts).unwrap();
        let mut desired = Desired::default();
        assert_eq!(desired.take(Seq(4), r#"{"a\"":{"x":2.0}}"#, WISHES), 0);
        let text = String::from_utf8(encode_document(&reported, &desired)).unwrap();
        let meta =
            r#""a\"":{"time":7,"seq":1,"unit":"\"C\""},"bad":{"time":7,"seq":2,"quality":"bad"}"#;
        let values = r#"{"a\"":1.50,"bad":null},"desired":{"a\"":{"x":2.0}}"#;
        assert_eq!(text, format!("{{\"reported\":{values},\"meta\":{{{meta}}}}}"));
        let empty = encode_document(&Reported::default(), &Desired::default());
        assert_eq!(empty, br#"{"reported":{},"desired":{},"meta":{}}"#);
    }
}
