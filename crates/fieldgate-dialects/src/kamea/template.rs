//! Templates of JSON bodies and of paths: text with `{placeholders}` in, the same text with values out.
//!
//! Pure. In JSON a placeholder stands within a string. One that is a whole string becomes its value,
//! whatever that is; one among other text must be text, and is escaped into it. In a path it is
//! percent-encoded. Invariant: what a template of JSON writes is JSON if its values are, and no value
//! adds to a path or to a query.

use crate::json::write_string;

/// Longest template, in bytes.
const BYTES_MAX: usize = 4_096;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Device,
    Tenant,
    Time,
    TimeMs,
    Telemetries,
    Permission,
}

impl Slot {
    const fn name(self) -> &'static str {
        match self {
            Self::Device => "deviceId",
            Self::Tenant => "tenantId",
            Self::Time => "timestamp",
            Self::TimeMs => "timestampMs",
            Self::Telemetries => "telemetries",
            Self::Permission => "permission",
        }
    }

    const fn is_text(self) -> bool {
        matches!(self, Self::Device | Self::Tenant | Self::Time | Self::Permission)
    }
}

/// What takes the place of a placeholder.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filled<'a> {
    /// Text, not yet escaped.
    Text(&'a str),
    /// One JSON value.
    Json(&'a [u8]),
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTemplate {
    /// Not JSON.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// Over 4096 bytes.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// No path.
    #[error("a path begins with one / and holds no spaces, no \\, no # and nothing but ASCII")]
    NotPath,
    /// A placeholder that there is not.
    #[error("{{{found}}} is none of its placeholders: {known}")]
    Unknown {
        /// The placeholder as written.
        found: String,
        /// Those that there are.
        known: String,
    },
    /// A value that is no text, among text or as a name.
    #[error("{{{0}}} is no text: it must be the whole of a value, \"{{{0}}}\"")]
    NotText(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// As it is.
    Plain(Box<str>),
    /// A value.
    Value(Slot),
    /// Text within a string.
    Inside(Slot),
}

/// A text with places for values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Template {
    source: Box<str>,
    parts: Vec<Part>,
}

impl Template {
    /// Reads JSON that has none but these placeholders.
    pub(super) fn parse(text: &str, slots: &[Slot]) -> Result<Self, InvalidTemplate> {
        if text.len() > BYTES_MAX {
            return Err(InvalidTemplate::TooLong);
        }
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            return Err(InvalidTemplate::NotJson(error.to_string()));
        }
        let mut reading = Reading::new(slots);
        // Of valid JSON every second piece between quotes that are no escapes is a string.
        let mut rest = text;
        while let Some(begin) = rest.find('"') {
            let (before, string) = rest.split_at(begin);
            reading.structure(before);
            let end = string_len(string);
            let (string, behind) = string.split_at(end);
            let is_name = behind.trim_start().starts_with(':');
            reading.string(string, is_name)?;
            rest = behind;
        }
        reading.structure(rest);
        Ok(reading.end(text))
    }

    /// Reads a path, with a query or without, that has none but these placeholders.
    pub(super) fn parse_path(text: &str, slots: &[Slot]) -> Result<Self, InvalidTemplate> {
        if text.len() > BYTES_MAX {
            return Err(InvalidTemplate::TooLong);
        }
        let mut reading = Reading::new(slots);
        reading.text(text)?;
        let template = reading.end(text);
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte);
        let is_plain = template.parts.iter().all(|part| match part {
            Part::Plain(text) => text.bytes().all(plain),
            Part::Value(_) | Part::Inside(_) => true,
        });
        let is_path = text.starts_with('/') && !text.starts_with("//");
        if is_path && is_plain { Ok(template) } else { Err(InvalidTemplate::NotPath) }
    }

    /// The template as it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Appends the body.
    pub(super) fn write<'a>(&self, out: &mut Vec<u8>, fill: impl Fn(Slot) -> Filled<'a>) {
        for part in &self.parts {
            match part {
                Part::Plain(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(slot) => match fill(*slot) {
                    Filled::Text(text) => write_string(out, text),
                    Filled::Json(json) => out.extend_from_slice(json),
                },
                Part::Inside(slot) => {
                    // The quotes are the template's.
                    if let Filled::Text(text) = fill(*slot) {
                        let from = out.len();
                        write_string(out, text);
                        out.pop();
                        out.remove(from);
                    }
                }
            }
        }
    }

    /// Makes the path.
    pub(super) fn write_path<'a>(&self, fill: impl Fn(Slot) -> &'a str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Value(slot) | Part::Inside(slot) => write_encoded(&mut out, fill(*slot)),
            }
        }
        out
    }
}

/// Appends text, percent-encoded but for what needs that nowhere (RFC 3986, 2.3).
fn write_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// How many bytes the string has that `text` begins with, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

struct Reading<'a> {
    slots: &'a [Slot],
    parts: Vec<Part>,
    plain: String,
}

impl<'a> Reading<'a> {
    const fn new(slots: &'a [Slot]) -> Self {
        Self { slots, parts: Vec::new(), plain: String::new() }
    }

    /// Takes what is between strings, where spaces say nothing.
    fn structure(&mut self, text: &str) {
        self.plain.extend(text.chars().filter(|c| !c.is_ascii_whitespace()));
    }

    fn string(&mut self, string: &str, is_name: bool) -> Result<(), InvalidTemplate> {
        let inner = string.trim_matches('"');
        let whole = inner.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(word) = whole.filter(|word| !is_name && is_word(word)) {
            let slot = self.slot(word)?;
            self.part(Part::Value(slot));
            return Ok(());
        }
        self.text(string)
    }

    /// Takes text among which placeholders may be.
    fn text(&mut self, text: &str) -> Result<(), InvalidTemplate> {
        let mut rest = text;
        while let Some((before, found)) = rest.split_once('{') {
            self.plain.push_str(before);
            let Some((word, behind)) = found.split_once('}').filter(|(word, _)| is_word(word))
            else {
                self.plain.push('{');
                rest = found;
                continue;
            };
            let slot = self.slot(word)?;
            if !slot.is_text() {
                return Err(InvalidTemplate::NotText(slot.name()));
            }
            self.part(Part::Inside(slot));
            rest = behind;
        }
        self.plain.push_str(rest);
        Ok(())
    }

    fn slot(&self, word: &str) -> Result<Slot, InvalidTemplate> {
        self.slots.iter().copied().find(|slot| slot.name() == word).ok_or_else(|| {
            let known = self.slots.iter().map(|slot| format!("{{{}}}", slot.name()));
            let known: Vec<_> = known.collect();
            InvalidTemplate::Unknown { found: word.to_owned(), known: known.join(", ") }
        })
    }

    fn part(&mut self, part: Part) {
        self.end_plain();
        self.parts.push(part);
    }

    fn end(mut self, source: &str) -> Template {
        self.end_plain();
        Template { source: source.into(), parts: self.parts }
    }

    fn end_plain(&mut self) {
        if !self.plain.is_empty() {
            self.parts.push(Part::Plain(std::mem::take(&mut self.plain).into()));
        }
    }
}

/// Other braces are what they are.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: [Slot; 3] = [Slot::Device, Slot::TimeMs, Slot::Telemetries];

    fn written(template: &str) -> Result<String, InvalidTemplate> {
        let template = Template::parse(template, &SLOTS)?;
        let mut out = Vec::new();
        template.write(&mut out, |slot| match slot {
            Slot::Device => Filled::Text("a\"b"),
            Slot::TimeMs => Filled::Json(b"7"),
            Slot::Tenant | Slot::Time | Slot::Telemetries | Slot::Permission => {
                Filled::Json(b"{\"t\":1}")
            }
        });
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn placeholders_are_replaced_and_everything_else_stays() {
        for (template, expected) in [
            (r#""{deviceId}""#, r#""a\"b""#),
            (
                r#"{ "d" : "{deviceId}" , "v": {"x":"{telemetries}"}}"#,
                r#"{"d":"a\"b","v":{"x":{"t":1}}}"#,
            ),
            (
                r#"{"at":"{timestampMs}","of":"devices/{deviceId}/t"}"#,
                r#"{"at":7,"of":"devices/a\"b/t"}"#,
            ),
            (
                r#"{"{deviceId}":["{deviceId}{deviceId}", 1.50, null]}"#,
                r#"{"a\"b":["a\"ba\"b",1.50,null]}"#,
            ),
            (
                r#"["{", "}", "{}", "{ deviceId }", "\"{deviceId}\\", "{a b}"]"#,
                r#"["{","}","{}","{ deviceId }","\"a\"b\\","{a b}"]"#,
            ),
            (r#"["a b","é{deviceId}"]"#, r#"["a b","éa\"b"]"#),
        ] {
            assert_eq!(written(template).as_deref(), Ok(expected), "{template}");
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok(), "{expected}");
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        let told = |template: &str| written(template).unwrap_err().to_string();
        assert!(told("{").starts_with("it is no JSON"), "{}", told("{"));
        assert!(told("{deviceId}").starts_with("it is no JSON"));
        let known = "{deviceId}, {timestampMs}, {telemetries}";
        assert_eq!(
            told(r#""{tenantId}""#),
            format!("{{tenantId}} is none of its placeholders: {known}")
        );
        assert!(told(r#""a{x}""#).starts_with("{x} is none"));
        for template in [r#""a{telemetries}""#, r#"{"{timestampMs}":1}"#] {
            assert!(told(template).contains("it must be the whole of a value"), "{template}");
        }
        let long = format!("\"{}\"", "x".repeat(BYTES_MAX));
        assert_eq!(written(&long), Err(InvalidTemplate::TooLong));
    }
}
