//! What a page of another origin may do, and which host names are served.
//!
//! Against pages that a browser shows by chance, and against DNS rebinding (`cli.md`).

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::text;
use crate::fabric::Shared;

/// Whether a browser asks what a page of another origin may send.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

pub(super) fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Whether a page of this request's origin may use what needs no credential of its own.
pub(crate) fn origin_is_known(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = origin.split_once("://").map(|(_, authority)| authority);
    let host = text(headers, "host");
    own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host))
        || shared.config.listen.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
}

/// Loopback names, bound addresses and the configured ones (against DNS rebinding).
pub(super) fn host_is_known(shared: &Shared, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_below = |end: &str| {
        let split = name.len().checked_sub(end.len()).and_then(|at| name.split_at_checked(at));
        split.is_some_and(|(_, behind)| behind.eq_ignore_ascii_case(end))
    };
    let loopback = name.eq_ignore_ascii_case("localhost")
        || is_below(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let bound = |address: &String| {
        address.rsplit_once(':').is_some_and(|(bound, _)| {
            let bound = bound.trim_matches(['[', ']']);
            let any = bound.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
            bound.eq_ignore_ascii_case(name) || (any && name.parse::<IpAddr>().is_ok())
        })
    };
    let listen = &shared.config.listen;
    loopback
        || listen.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
        || [&listen.http, &listen.metrics, &listen.deconz].into_iter().flatten().any(bound)
}
