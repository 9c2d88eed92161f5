//! Refusals as RFC 9457 has them.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::fault::{Code, Fault};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    fault: Fault,
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`: `code` tells what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// A stable word: what programs decide by.
    code: &'static str,
    /// What was wrong, where, and what to do; for people.
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, fault: Fault) -> Self {
        Self { status, fault }
    }

    /// What it says, for another form than this one.
    pub(crate) fn into_parts(self) -> (StatusCode, Fault) {
        (self.status, self.fault)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let status = StatusCode::from_u16(fault.code.http_status());
        Self { status: status.unwrap_or(StatusCode::BAD_REQUEST), fault }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, fault } = self;
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: fault.code.as_str(),
            detail: &fault.message,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (status, [kind], body).into_response();
        response.extensions_mut().insert(fault.code);
        if fault.code.is_temporary() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A request without a credential, or with one that is not valid.
pub(crate) fn unauthorized(message: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, Fault::new(Code::NotAllowed, message))
}

/// A refusal with the status of its code.
pub(crate) fn refuse(code: Code, message: &'static str) -> Problem {
    Fault::new(code, message).into()
}
