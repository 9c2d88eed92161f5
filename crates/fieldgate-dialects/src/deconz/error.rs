//! What apps are answered: a list with one object for each thing that was asked.
//!
//! Pure. Source: `wire.md` 2.3. Apps look at the first object alone, so successes go before failures.
//! Invariant: a failure always has a type, an address and a description, and its description holds no
//! markup.

use serde_json::{Value, json};

/// Longest piece of what was sent that an answer repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 100;

/// Why something was not done. The texts in it are what was asked for: a path behind the key, the name
/// of a parameter, the value that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The key is none, or is missing.
    Unauthorized(String),
    /// The body is no JSON, or no object.
    InvalidJson(String),
    /// There is no such resource.
    NotAvailable(String),
    /// The method means nothing there.
    Method {
        /// Where.
        path: String,
        /// As it was sent.
        method: String,
    },
    /// The body lacks what it needs.
    MissingParameters(String),
    /// There is no such parameter.
    UnknownParameter {
        /// Where.
        path: String,
        /// Its name.
        name: String,
    },
    /// The parameter does not take this.
    InvalidValue {
        /// Where.
        path: String,
        /// Its name.
        name: String,
        /// What it was to be.
        value: String,
    },
    /// The parameter is only to be read.
    ReadOnly {
        /// Where.
        path: String,
        /// Its name.
        name: String,
    },
    /// There is more than there may be.
    TooMany(String),
    /// Another one has what is to be its own.
    Duplicate {
        /// Where.
        path: String,
        /// The name of the parameter.
        name: String,
        /// What it was to be.
        value: String,
    },
    /// Keys are not given out now.
    Locked,
    /// The device is not there.
    Unreachable(String),
    /// There is no room for one more now.
    QueueFull(String),
    /// There is no radio.
    NotConnected(String),
    /// Nothing can be done now.
    Busy(String),
}

impl Error {
    /// The status of an answer that is nothing but this.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unauthorized(_) | Self::Locked => 403,
            Self::InvalidJson(_)
            | Self::MissingParameters(_)
            | Self::UnknownParameter { .. }
            | Self::InvalidValue { .. }
            | Self::ReadOnly { .. }
            | Self::Duplicate { .. }
            | Self::TooMany(_) => 400,
            Self::NotAvailable(_) | Self::Method { .. } => 404,
            Self::Unreachable(_) | Self::QueueFull(_) => 200,
            Self::NotConnected(_) | Self::Busy(_) => 503,
        }
    }

    const fn number(&self) -> u16 {
        match self {
            Self::Unauthorized(_) => 1,
            Self::InvalidJson(_) => 2,
            Self::NotAvailable(_) => 3,
            Self::Method { .. } => 4,
            Self::MissingParameters(_) => 5,
            Self::UnknownParameter { .. } => 6,
            Self::InvalidValue { .. } => 7,
            Self::ReadOnly { .. } => 8,
            Self::TooMany(_) => 11,
            Self::Duplicate { .. } => 100,
            Self::Locked => 101,
            Self::Unreachable(_) => 202,
            Self::QueueFull(_) => 901,
            Self::NotConnected(_) => 950,
            Self::Busy(_) => 951,
        }
    }

    fn address(&self) -> String {
        match self {
            Self::Unauthorized(path)
            | Self::InvalidJson(path)
            | Self::NotAvailable(path)
            | Self::MissingParameters(path)
            | Self::TooMany(path)
            | Self::Unreachable(path)
            | Self::QueueFull(path)
            | Self::NotConnected(path)
            | Self::Busy(path)
            | Self::Method { path, .. } => path.clone(),
            Self::UnknownParameter { path, name }
            | Self::InvalidValue { path, name, .. }
            | Self::Duplicate { path, name, .. }
            | Self::ReadOnly { path, name } => format!("{path}/{}", shown(name)),
            Self::Locked => "/".to_owned(),
        }
    }

    fn description(&self) -> String {
        match self {
            Self::Unauthorized(_) => "unauthorized user".to_owned(),
            Self::InvalidJson(_) => "body contains invalid JSON".to_owned(),
            Self::NotAvailable(path) => format!("resource, {}, not available", shown(path)),
            Self::Method { path, method } => {
                let (method, path) = (shown(method), shown(path));
                format!("method, {method}, not available for resource, {path}")
            }
            Self::MissingParameters(_) => "missing parameters in body".to_owned(),
            Self::UnknownParameter { name, .. } => {
                format!("parameter, {}, not available", shown(name))
            }
            Self::InvalidValue { name, value, .. } => {
                format!("invalid value, {}, for parameter, {}", shown(value), shown(name))
            }
            Self::ReadOnly { name, .. } => format!("parameter, {}, is not modifiable", shown(name)),
            Self::Duplicate { name, value, .. } => {
                format!("duplicate, {}, for parameter, {}", shown(value), shown(name))
            }
            Self::TooMany(_) => "too many items in list".to_owned(),
            Self::Locked => "link button not pressed".to_owned(),
            Self::Unreachable(path) => {
                let path = shown(path);
                format!("resource, {path}, is not modifiable. Device is not reachable.")
            }
            Self::QueueFull(_) => "Internal error, 951".to_owned(),
            Self::NotConnected(_) => "Not connected".to_owned(),
            Self::Busy(_) => "gateway busy".to_owned(),
        }
    }
}

/// The beginning of what came from outside.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHOWN_BYTES_MAX)).unwrap_or_default()
}

/// Without markup: an app may show a description as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// One object of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What is now so: its path behind the key (or `id`), and its value.
    Success(String, Value),
    /// Why not.
    Failure(Error),
}

impl Answer {
    fn to_json(&self) -> Value {
        match self {
            Self::Success(path, value) => {
                let mut said = serde_json::Map::new();
                said.insert(path.clone(), value.clone());
                json!({ "success": said })
            }
            Self::Failure(error) => json!({ "error": {
                "type": error.number(),
                "address": escaped(shown(&error.address())),
                "description": escaped(&error.description()),
            }}),
        }
    }

    /// Whether it is a success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Success(..))
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

/// The HTTP status of an answer: good where one thing was done, else that of the first failure.
#[must_use]
pub fn status(answers: &[Answer]) -> u16 {
    let mut status = 200;
    for answer in answers.iter().rev() {
        match answer {
            Answer::Success(..) => return 200,
            Answer::Failure(error) => status = error.status(),
        }
    }
    status
}

/// The list as JSON, successes first.
#[must_use]
pub fn write_answers(answers: &[Answer]) -> String {
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.is_success());
    let all: Vec<Value> = good.into_iter().chain(bad).map(Answer::to_json).collect();
    Value::Array(all).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: Error) -> (u16, Value) {
        let answers = [Answer::Failure(error)];
        let list: Value = serde_json::from_str(&write_answers(&answers)).unwrap();
        (status(&answers), list[0]["error"].clone())
    }

    #[test]
    fn the_table_of_errors_is_as_apps_know_it() {
        let path = || "/lights/9".to_owned();
        let name = || "x".to_owned();
        for (error, status, number, address, description) in [
            (Error::Unauthorized("/lights".into()), 403, 1, "/lights", "unauthorized user"),
            (Error::InvalidJson(path()), 400, 2, "/lights/9", "body contains invalid JSON"),
            (
                Error::NotAvailable(path()),
                404,
                3,
                "/lights/9",
                "resource, /lights/9, not available",
            ),
            (
                Error::Method { path: "/foo".into(), method: "GET".into() },
                404,
                4,
                "/foo",
                "method, GET, not available for resource, /foo",
            ),
            (Error::MissingParameters(path()), 400, 5, "/lights/9", "missing parameters in body"),
            (
                Error::UnknownParameter { path: path(), name: name() },
                400,
                6,
                "/lights/9/x",
                "parameter, x, not available",
            ),
            (
                Error::InvalidValue { path: path(), name: name(), value: "7".into() },
                400,
                7,
                "/lights/9/x",
                "invalid value, 7, for parameter, x",
            ),
            (
                Error::ReadOnly { path: path(), name: name() },
                400,
                8,
                "/lights/9/x",
                "parameter, x, is not modifiable",
            ),
            (
                Error::Duplicate { path: path(), name: name(), value: "7".into() },
                400,
                100,
                "/lights/9/x",
                "duplicate, 7, for parameter, x",
            ),
            (Error::Locked, 403, 101, "/", "link button not pressed"),
            (
                Error::Unreachable("/lights/1/state".into()),
                200,
                202,
                "/lights/1/state",
                "resource, /lights/1/state, is not modifiable. Device is not reachable.",
            ),
            (Error::QueueFull(path()), 200, 901, "/lights/9", "Internal error, 951"),
            (Error::NotConnected(path()), 503, 950, "/lights/9", "Not connected"),
            (Error::Busy(path()), 503, 951, "/lights/9", "gateway busy"),
        ] {
            let expected =
                json!({ "type": number, "address": address, "description": description });
            assert_eq!(written(error), (status, expected));
        }
    }

    #[test]
    fn successes_go_first_and_make_the_status_good() {
        let answers = [
            Answer::Failure(Error::Busy("/a".into())),
            Answer::Success("/lights/1/state/on".into(), true.into()),
        ];
        assert_eq!(status(&answers), 200);
        let text = write_answers(&answers);
        assert!(
            text.starts_with(r#"[{"success":{"/lights/1/state/on":true}},{"error":"#),
            "{text}"
        );
        assert_eq!((status(&[]), write_answers(&[]).as_str()), (200, "[]"));
    }

    #[test]
    fn what_was_sent_comes_back_short_and_without_markup() {
        let value = format!("<b>\"&{}", "é".repeat(500));
        let error = Error::InvalidValue { path: "/a".into(), name: "<i>".into(), value };
        let (_, error) = written(error);
        let text = error["description"].as_str().unwrap();
        assert!(text.contains("&lt;b&gt;&quot;&amp;é") && text.len() < 300, "{text}");
        assert_eq!(error["address"], "/a/&lt;i&gt;");
    }
}
