//! `/doc`: the description of the interface, as JSON and YAML, and as a page that is drawn from it.
//!
//! The page says nothing about this gateway and is open; the description takes a credential or an
//! address on this machine, unless the configuration makes it public.

use std::sync::LazyLock;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use super::{Caller, Problem, probes, unauthorized};
use crate::{asyncapi::asyncapi, deconz, ingest, rest, thethings};
use fieldgate_core::fault::{Code, Fault};
use utoipa::{OpenApi as _, openapi::OpenApi};

/// Nothing but what this gateway serves runs, and nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is served beside `/v1`, to be told with it.
#[derive(utoipa::OpenApi)]
#[openapi(paths(
    probes::alive,
    probes::ready,
    probes::keyed_metrics,
    ingest::post::open,
    ingest::post::post
))]
struct Beside;

/// Everything that speaks in problems.
static DESCRIBED: LazyLock<OpenApi> = LazyLock::new(|| {
    let mut openapi = rest::openapi().clone();
    openapi.merge(Beside::openapi());
    openapi
});

pub(super) fn routes(caller: &Caller) -> Router<Caller> {
    let page = "text/html; charset=utf-8";
    let script = "text/javascript; charset=utf-8";
    let style = "text/css; charset=utf-8";
    Router::new()
        .route("/doc/openapi.json", get(|| async { Json(&*DESCRIBED) }))
        .route("/doc/openapi.yaml", get(|| async { yaml(&DESCRIBED) }))
        .route("/doc/thethings.json", get(|| async { Json(thethings::openapi()) }))
        .route("/doc/thethings.yaml", get(|| async { yaml(thethings::openapi()) }))
        .route("/doc/deconz.json", get(|| async { Json(deconz::openapi()) }))
        .route("/doc/deconz.yaml", get(|| async { yaml(deconz::openapi()) }))
        .route("/doc/asyncapi.json", get(events))
        .route("/doc/asyncapi.yaml", get(events_yaml))
        .layer(from_fn_with_state(caller.clone(), known))
        .route("/doc", get(|| file(page, include_str!("../../../../console/doc/index.html"))))
        .route("/doc/", get(|| async { Redirect::permanent("/doc") }))
        .route("/doc/doc.js", get(|| file(script, include_str!("../../../../console/doc/doc.js"))))
        .route("/doc/doc.css", get(|| file(style, include_str!("../../../../console/doc/doc.css"))))
}

/// Lets through who may read the description.
async fn known(
    State(caller): State<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let client = caller.client(request.extensions());
    let shared = caller.shared();
    let is_open = shared.config.doc.public || client.to_canonical().is_loopback();
    if !is_open {
        let found = caller.principal(request.headers(), request.uri(), client).await?;
        found.ok_or_else(|| unauthorized("send Authorization: Bearer, or see doc.public"))?;
    }
    Ok(next.run(request).await)
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

fn yaml(description: &OpenApi) -> Response {
    written(description.to_yaml())
}

/// What is no request, as it is configured now.
async fn events(State(caller): State<Caller>) -> Response {
    Json(asyncapi(&caller.shared().config.kamea)).into_response()
}

async fn events_yaml(State(caller): State<Caller>) -> Response {
    written(yaml_serde::to_string(&asyncapi(&caller.shared().config.kamea)))
}

fn written(text: Result<String, impl std::fmt::Display>) -> Response {
    let kind = (header::CONTENT_TYPE, "application/yaml");
    match text {
        Ok(text) => ([kind], text).into_response(),
        Err(error) => {
            let fault = Fault::new(Code::Busy, format!("the description was not written: {error}"));
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, fault).into_response()
        }
    }
}
