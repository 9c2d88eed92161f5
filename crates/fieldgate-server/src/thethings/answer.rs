//! Answers as thethings.iO gives them: compact JSON on one line, and refusals with a status of its
//! list (`wire.md` 1.5).

use std::collections::BTreeMap;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::fault::{Code, Fault};
use serde::Serialize;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, response},
};

use crate::http::Problem;

/// The statuses that its clients know; any other one is told as the nearest of them.
const KNOWN: [u16; 8] = [400, 401, 403, 404, 429, 500, 502, 503];

/// A refusal.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: Code,
    message: String,
}

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refused)]
pub(super) struct RefusedBody {
    /// Always `error`.
    status: &'static str,
    /// The status of the answer.
    code: u16,
    /// What was wrong; for people.
    message: String,
}

/// That something was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// `success`, or `created`.
    status: &'static str,
    /// For people.
    message: &'static str,
}

/// The refusals that any address may answer with.
pub(super) struct Refusals;

const TOLD: [(u16, &str); 6] = [
    (400, "The request is not as it must be."),
    (401, "The token is missing, or nobody's."),
    (403, "No right to do this."),
    (404, "There is no such thing."),
    (429, "Above a rate, or too many wrong secrets from this address."),
    (503, "Not now; `Retry-After` tells when to try again."),
];

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        let told = |(status, text): &(u16, &str)| {
            let schema = Ref::from_schema_name("Refused");
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let told = ResponseBuilder::new().description(*text);
            (status.to_string(), told.content("application/json", content).build().into())
        };
        TOLD.iter().map(told).collect()
    }
}

impl Done {
    pub(super) const fn success(message: &'static str) -> Self {
        Self { status: "success", message }
    }

    pub(super) const fn created() -> Self {
        Self { status: "created", message: "created" }
    }
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: Code::NotAllowed, message: message.into() }
    }

    /// Nobody, or somebody with a wrong secret.
    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self { code: Code::NotFound, ..Self::new(StatusCode::NOT_FOUND, message) }
    }
}

fn known(status: u16) -> StatusCode {
    let near = match status {
        known if KNOWN.contains(&known) => known,
        500.. => 503,
        _ => 400,
    };
    StatusCode::from_u16(near).unwrap_or(StatusCode::BAD_REQUEST)
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let status = known(fault.code.http_status());
        Self { status, code: fault.code, message: fault.message.into_owned() }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let (status, fault) = problem.into_parts();
        Self { status: known(status.as_u16()), ..fault.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, code, message } = self;
        let body = RefusedBody { status: "error", code: status.as_u16(), message };
        let mut response = json(status, &body);
        response.extensions_mut().insert(code);
        if code.is_temporary() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An answer of JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    // Plain data: writing it has no way to fail.
    text(status, serde_json::to_vec(body).unwrap_or_default())
}

/// An answer of JSON that is written already.
pub(super) fn text(status: StatusCode, body: Vec<u8>) -> Response {
    // Nothing here is for anybody between: the secrets are in the addresses.
    const HEADERS: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, HEADERS, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_status_that_its_clients_know() {
        for (code, status) in [
            (Code::BadJson, 400),
            (Code::TooLarge, 400),
            (Code::Conflict, 400),
            (Code::NotAllowed, 403),
            (Code::NotFound, 404),
            (Code::RateLimited, 429),
            (Code::QueueFull, 503),
            (Code::StorageUnavailable, 503),
        ] {
            let refused = Refused::from(Fault::new(code, "x"));
            assert_eq!(refused.status.as_u16(), status, "{code:?}");
        }
        let problem = crate::http::unauthorized("x");
        assert_eq!(Refused::from(problem).status, StatusCode::UNAUTHORIZED);
    }
}
