//! Answers as deCONZ gives them: JSON, whatever happened (`wire.md` 2.2).

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_dialects::deconz::{Answer, Error, status, tag_of, write_answers};
use serde_json::{Map, Value};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// An answer.
#[derive(Debug)]
pub(in crate::deconz) enum Reply {
    /// What there is, with a tag that its like has.
    Tagged { text: String, tag: String },
    /// What there is.
    Plain(String),
    /// What was done, and what was not.
    Done(Vec<Answer>),
}

impl Reply {
    pub(super) fn empty() -> Self {
        Self::Plain("{}".to_owned())
    }

    pub(super) fn tagged(map: Map<String, Value>) -> Self {
        Self::tagged_text(Value::Object(map).to_string())
    }

    pub(super) fn tagged_text(text: String) -> Self {
        Self::Tagged { tag: tag_of(&text), text }
    }

    /// One thing was done: this is its new id.
    pub(super) fn id(number: u64) -> Self {
        Self::Done(vec![Answer::Success("id".to_owned(), Value::from(number.to_string()))])
    }

    pub(super) fn respond(self, headers: &HeaderMap) -> Response {
        match self {
            Self::Plain(text) => json(StatusCode::OK, text),
            Self::Done(answers) => json(
                StatusCode::from_u16(status(&answers)).unwrap_or(StatusCode::OK),
                write_answers(&answers),
            ),
            Self::Tagged { text, tag } => {
                let tag = format!("\"{tag}\"");
                let known = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
                let is_known = known.is_some_and(|known| known == "*" || known.contains(&tag));
                let mut response = if is_known {
                    StatusCode::NOT_MODIFIED.into_response()
                } else {
                    json(StatusCode::OK, text)
                };
                if let Ok(tag) = HeaderValue::from_str(&tag) {
                    response.headers_mut().insert(header::ETAG, tag);
                }
                response
            }
        }
    }
}

/// The answer to what was not done at all.
pub(in crate::deconz) fn failure(error: Error) -> Response {
    let answers = [Answer::Failure(error)];
    let status = StatusCode::from_u16(status(&answers)).unwrap_or(StatusCode::BAD_REQUEST);
    json(status, write_answers(&answers))
}

fn json(status: StatusCode, text: String) -> Response {
    let cached = HeaderValue::from_static("no-store");
    (status, [(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, cached)], text).into_response()
}
