//! The question whether somebody may see a device, as it is put to another service, and its answer.
//!
//! Pure. In: ids and the name of a right. Out: address and body of a request. Back in: status and body
//! of what was answered. Source: `wire.md` 3; the service's own form is not public, so that both are
//! the operator's to say. Invariant: what is not understood never allows.

use std::{borrow::Cow, str::FromStr};

use fieldgate_core::json;

use super::template::{Filled, InvalidTemplate, Slot, Template};

/// The address below the service's, unless it is configured.
const DEFAULT_PATH: &str = "/authorization/check-authorized";
/// The body of a question, unless it is configured.
const DEFAULT_QUESTION: &str = r#"{"tenantId":"{tenantId}","entityType":"device","entityId":"{deviceId}","permission":"{permission}"}"#;

const SLOTS: [Slot; 3] = [Slot::Device, Slot::Tenant, Slot::Permission];

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The tenant, as the client wrote it.
    pub tenant_id: &'a str,
    /// The device, as the client wrote it.
    pub device_id: &'a str,
    /// The name of the right.
    pub permission: &'a str,
}

impl Question<'_> {
    const fn text(&self, slot: Slot) -> &str {
        match slot {
            Slot::Device => self.device_id,
            Slot::Tenant => self.tenant_id,
            Slot::Permission => self.permission,
            Slot::Time | Slot::TimeMs | Slot::Telemetries => "",
        }
    }
}

/// What the body of a question is made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionBody(Template);

impl QuestionBody {
    /// Makes the body: one JSON value.
    #[must_use]
    pub fn body(&self, question: &Question<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.write(&mut out, |slot| Filled::Text(question.text(slot)));
        out
    }
}

impl FromStr for QuestionBody {
    type Err = InvalidTemplate;

    /// Reads JSON whose strings may hold `{deviceId}`, `{tenantId}` and `{permission}`.
    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        Template::parse(text, &SLOTS).map(Self)
    }
}

/// What the address of a question is made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionPath(Template);

impl QuestionPath {
    /// Makes path and query; what stands for a placeholder is percent-encoded.
    #[must_use]
    pub fn path(&self, question: &Question<'_>) -> String {
        self.0.write_path(|slot| question.text(slot))
    }
}

impl FromStr for QuestionPath {
    type Err = InvalidTemplate;

    /// Reads a path, with a query or without, that may hold `{deviceId}`, `{tenantId}` and
    /// `{permission}`.
    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        Template::parse_path(text, &SLOTS).map(Self)
    }
}

macro_rules! written {
    ($($name:ident, $default:expr;)*) => {$(
        impl Default for $name {
            fn default() -> Self {
                $default.parse().unwrap_or_else(|_| Self(Template::default()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.0.source())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use written;

written! {
    QuestionBody, DEFAULT_QUESTION;
    QuestionPath, DEFAULT_PATH;
}

/// Where in an answer it stands whether somebody may: a member's name, or a JSON Pointer of members.
/// Empty: nowhere that must be; the status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a>(pub &'a str);

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// They may.
    Allowed,
    /// They may not.
    Denied,
    /// Nobody can tell; why.
    Unclear(String),
}

/// Reads an answer. A status from 200 to 299 allows, unless the body says otherwise; 401 and 403 deny;
/// any other is unclear.
#[must_use]
pub fn answer(status: u16, body: &[u8], place: Place<'_>) -> Answer {
    match status {
        401 | 403 => return Answer::Denied,
        200..=299 => (),
        300..=399 => {
            let text = format!("it answered with status {status}, and redirects are not followed");
            return Answer::Unclear(text);
        }
        _ => return Answer::Unclear(format!("it answered with status {status}")),
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Answer::Unclear("its answer is no text".to_owned());
    };
    let text = text.trim_start_matches('\u{feff}').trim();
    if place.0.is_empty() { by_status(text) } else { place.read(text) }
}

/// What the body of an answer says whose status is good: a refusal where it is one, and otherwise
/// nothing; what looks like the answer to another question is unclear.
fn by_status(text: &str) -> Answer {
    let unquoted = text.trim_matches('"');
    if unquoted.eq_ignore_ascii_case("false") {
        return Answer::Denied;
    }
    match text.bytes().next() {
        None => Answer::Allowed,
        Some(b'{') => match values(text, "authorized") {
            None => Answer::Unclear("its answer is no JSON".to_owned()),
            Some(found) if found.is_empty() => Answer::Allowed,
            Some(found) => said(&found, "authorized"),
        },
        Some(b'<') => Answer::Unclear("its answer is a page".to_owned()),
        Some(b'[' | b'-' | b'0'..=b'9') => {
            Answer::Unclear("its answer says neither yes nor no".to_owned())
        }
        Some(_) if text == "null" => {
            Answer::Unclear("its answer says neither yes nor no".to_owned())
        }
        Some(_) => Answer::Allowed,
    }
}

impl Place<'_> {
    /// What stands there, which must be true or false.
    fn read(self, text: &str) -> Answer {
        let Some(pointer) = self.0.strip_prefix('/') else {
            return match values(text, self.0) {
                Some(found) => said(&found, self.0),
                None => Answer::Unclear("its answer is no JSON object".to_owned()),
            };
        };
        let mut at = vec![text];
        for name in pointer.split('/') {
            let name = name.replace("~1", "/").replace("~0", "~");
            at = at.iter().filter_map(|text| values(text, &name)).flatten().collect();
        }
        said(&at, self.0)
    }
}

/// The values of all members of this name; nothing if the text is no object.
fn values<'a>(text: &'a str, wanted: &str) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    json::each_member(text, |member| {
        if member.name.as_deref() == Some(wanted) {
            found.push(member.value);
        }
    })?;
    Some(found)
}

fn said(found: &[&str], place: &str) -> Answer {
    if found.contains(&"false") {
        return Answer::Denied;
    }
    if !found.is_empty() && found.iter().all(|value| *value == "true") {
        return Answer::Allowed;
    }
    Answer::Unclear(format!("its answer has neither true nor false as {place:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question<'_> =
        Question { tenant_id: "t", device_id: "a:b~c", permission: "read \"x\"/é" };

    #[test]
    fn a_question_names_tenant_device_and_right() {
        let body = String::from_utf8(QuestionBody::default().body(&QUESTION)).unwrap();
        let expected = r#"{"tenantId":"t","entityType":"device","entityId":"a:b~c","permission":"read \"x\"/é"}"#;
        assert_eq!(body, expected);
        assert_eq!(QuestionPath::default().path(&QUESTION), DEFAULT_PATH);
        let path: QuestionPath = "/t/{tenantId}/d/{deviceId}?p={permission}&x=1".parse().unwrap();
        assert_eq!(path.path(&QUESTION), "/t/t/d/a%3Ab~c?p=read%20%22x%22%2F%C3%A9&x=1");
        for wrong in ["", "a", "//b", "/a b", "/a#b", "/é", "/{telemetries}", "/{", "/a\\b"] {
            assert!(wrong.parse::<QuestionPath>().is_err(), "{wrong}");
        }
        assert!(r#""{telemetries}""#.parse::<QuestionBody>().is_err());
    }

    #[test]
    fn a_template_is_written_as_it_was_read() {
        let text = r#"{ "a" : "{deviceId}" }"#;
        let body: QuestionBody = serde_json::from_value(text.into()).unwrap();
        assert_eq!(serde_json::to_value(&body).unwrap(), text);
        let error = serde_json::from_value::<QuestionPath>("x".into()).unwrap_err();
        assert!(error.to_string().contains("a path begins with"), "{error}");
    }

    #[track_caller]
    fn check(place: &str, body: &str, expected: Option<bool>) {
        let found = match answer(200, body.as_bytes(), Place(place)) {
            Answer::Allowed => Some(true),
            Answer::Denied => Some(false),
            Answer::Unclear(_) => None,
        };
        assert_eq!(found, expected, "{place:?} {body}");
    }

    #[test]
    fn a_good_status_allows_unless_the_body_says_no() {
        for body in ["", " \n", "true", "OK", "{}", "{\"id\":7}", " {\"authorized\" : true }"] {
            check("", body, Some(true));
        }
        for body in [
            "false",
            "\u{feff}false\n",
            "False",
            "\"false\"",
            "{\"authorized\":false}",
            "{\"authorized\":true,\"authorized\":false,\"n\":1e999}",
        ] {
            check("", body, Some(false));
        }
        for body in [
            "<html>",
            "{\"authorized\":false",
            "{\"authorized\":\"no\"}",
            "{\"authorized\":null}",
            "[]",
            "[false]",
            "null",
            "0",
            "-1",
            "{\"authorized\":true,\"authorized\":1}",
        ] {
            check("", body, None);
        }
        assert!(matches!(answer(200, &[0xff], Place("")), Answer::Unclear(_)));
    }

    #[test]
    fn a_place_that_is_named_must_say_it() {
        for (place, body, expected) in [
            ("ok", "{\"ok\":true}", Some(true)),
            ("ok", "{\"ok\":false}", Some(false)),
            ("ok", "{\"authorized\":true}", None),
            ("ok", "true", None),
            ("ok", "", None),
            ("/data/a~1b", "{\"data\":{\"a/b\":true}}", Some(true)),
            ("/data/a~1b", "{\"data\":{\"a/b\":false}}", Some(false)),
            ("/data/ok", "{\"data\":{\"ok\":\"true\"}}", None),
            ("/data/ok", "{\"data\":{\"ok\":true},\"data\":{\"ok\":false}}", Some(false)),
            ("/data/ok", "{\"ok\":true}", None),
        ] {
            check(place, body, expected);
        }
    }

    #[test]
    fn no_other_status_allows() {
        for status in [401, 403] {
            assert_eq!(answer(status, b"true", Place("")), Answer::Denied);
        }
        for status in [0, 100, 301, 302, 400, 404, 429, 500, 502, 503, 600] {
            let found = answer(status, b"{\"authorized\":true}", Place("authorized"));
            assert!(matches!(found, Answer::Unclear(why) if why.contains(&status.to_string())));
        }
    }
}
