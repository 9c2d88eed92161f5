//! What those who watch over the gateway ask: whether it lives, whether it takes messages, its metrics.

use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::{access::Verb, fault::Code, id::TenantId, topic::Filter};

use super::{Caller, Problem, ProblemBody, origin_is_known, refuse, unauthorized};
use crate::{metrics, rest::Problems, status::readiness};

/// Whether somebody asks for one of these. They are answered as they are, whatever else is late.
pub(super) fn is_one(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Tells that the process lives and answers.
#[utoipa::path(get, path = "/healthz", tag = "operation", operation_id = "healthz", security(()),
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain",
            example = "ok\n"),
        (status = "4XX", description = "The request is not as any must be.", body = ProblemBody<'_>,
            content_type = "application/problem+json")))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Tells whether messages are taken and stored.
#[utoipa::path(get, path = "/readyz", tag = "operation", operation_id = "readyz", security(()),
    responses(
        (status = 200, description = "They are.", body = String, content_type = "text/plain",
            example = "ok\n"),
        (status = 503, description = "They are not: `draining`, or `storage` where the log takes \
            nothing.", body = String, content_type = "text/plain", example = "draining\n"),
        (status = "4XX", description = "The request is not as any must be.", body = ProblemBody<'_>,
            content_type = "application/problem+json")))]
pub(super) async fn ready(State(caller): State<Caller>) -> Response {
    match readiness(&caller.0.shared) {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Tells every metric, as OpenMetrics. It takes the right `metrics:#` in the tenant `default`; on
/// `listen.metrics` it takes none.
#[utoipa::path(get, path = "/metrics", tag = "operation", operation_id = "metrics",
    responses(
        (status = 200, description = "The metrics.", body = String,
            content_type = "application/openmetrics-text"),
        Problems))]
pub(super) async fn keyed_metrics(
    State(caller): State<Caller>,
    headers: HeaderMap,
    uri: Uri,
    extensions: Extensions,
) -> Result<Response, Problem> {
    let principal = caller.principal(&headers, &uri, caller.client(&extensions)).await?;
    let principal = principal.ok_or_else(|| unauthorized("send Authorization: Bearer"))?;
    let everything: Option<Filter> = "#".parse().ok();
    // They are of the gateway as a whole.
    let of_gateway = principal.tenant == TenantId::default_tenant();
    if !of_gateway || !everything.is_some_and(|all| principal.may(Verb::Metrics, &all)) {
        let text = "no right to do this: it takes metrics:# in the tenant default";
        return Err(refuse(Code::NotAllowed, text));
    }
    Ok(open_metrics(State(caller)).await)
}

/// For whoever can reach the listener, but for pages that a browser there happens to show.
pub(super) async fn listened_metrics(State(caller): State<Caller>, request: Request) -> Response {
    if !origin_is_known(&caller.0.shared, request.headers()) {
        let text = "a page of this origin may not read this: see listen.origins";
        return refuse(Code::NotAllowed, text).into_response();
    }
    open_metrics(State(caller)).await
}

async fn open_metrics(State(caller): State<Caller>) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    match metrics::text(&caller.0.shared) {
        Ok(text) => ([kind], text).into_response(),
        Err(_) => refuse(Code::Busy, "the metrics could not be written").into_response(),
    }
}
