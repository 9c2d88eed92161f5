//! `/v1`: status, drops, and administration with an API key that has the right.
//!
//! The requests of administration are those of `admin.sock`, in the tenant of the key. Nothing of a
//! body is read before the right is known; then it is bounded in bytes and time.

use std::time::Duration;

use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
};

use super::{Caller, authorize, problem};
use crate::{
    admin::{self, BODY_BYTES_MAX},
    ledger::DropsQuery,
    status::status_of,
};

fn answer(fault: &Fault) -> Response {
    let status = StatusCode::from_u16(fault.code.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    problem(status, fault)
}

pub(super) async fn drops(State(caller): State<Caller>, request: Request) -> Response {
    let principal = match authorize(&caller.0, &request, Verb::Read) {
        Ok(principal) => principal,
        Err(response) => return response,
    };
    let page = match DropsQuery::of(request.uri()) {
        Ok(query) => caller.0.shared.ledger.page(&principal.tenant, query).await,
        Err(fault) => Err(fault),
    };
    page.map_or_else(|fault| answer(&fault), |page| Json(page).into_response())
}

pub(super) async fn status(State(caller): State<Caller>, request: Request) -> Response {
    match authorize(&caller.0, &request, Verb::Read) {
        Err(response) => response,
        Ok(_) => Json(status_of(&caller.0.shared)).into_response(),
    }
}

/// Devices, users and keys.
pub(super) async fn administer(State(caller): State<Caller>, request: Request) -> Response {
    let principal = match authorize(&caller.0, &request, Verb::Admin) {
        Ok(principal) => principal,
        Err(response) => return response,
    };
    let shared = &caller.0.shared;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let limit = Duration::from_millis(shared.config.limits.handshake_ms);
    let body =
        match tokio::time::timeout(limit, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return answer(&Fault::new(Code::TooLarge, "the body is too large")),
            Err(_) => return answer(&Fault::new(Code::Busy, "the body did not come in time")),
        };
    let path = path.strip_prefix("/v1").unwrap_or(&path);
    match admin::act_in(shared, principal.tenant, method.as_str(), path, &body).await {
        Ok(value) if method == Method::POST => (StatusCode::CREATED, Json(value)).into_response(),
        Ok(value) => Json(value).into_response(),
        Err(fault) => answer(&fault),
    }
}
