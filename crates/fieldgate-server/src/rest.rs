//! `/v1`: what the gateway knows, as resources over HTTP.
//!
//! One router, with its description in OpenAPI 3.1 made of the same types, for the listeners, for
//! `admin.sock`, and for a folder that no gateway has open. A request carries its [`Entrance`], which
//! decides who asks. Errors are problems (RFC 9457) with a stable code.

mod activations;
mod asker;
mod audit;
mod clients;
mod commands;
mod credentials;
mod deconz;
mod describe;
mod devices;
mod drops;
mod etag;
mod groups;
mod history;
mod idempotency;
mod integrations;
mod keys;
mod list;
mod names;
mod parameters;
mod patch;
mod profiles;
mod publish;
pub(crate) mod query;
mod scenes;
mod sign_in;
mod state;
mod status;
mod stored;
mod stream;
mod tenants;
mod tickets;
pub(crate) mod unused;
mod users;
mod watch;

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    response::Response,
};
use fieldgate_core::fault::{Code, Fault};
use serde::Serialize;
use tower::ServiceExt as _;
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::http::{Problem, refuse};
pub(crate) use asker::{Entrance, body_of, check_tenant};
pub(crate) use commands::WAIT_MAX;
pub(crate) use describe::Problems;
pub(crate) use devices::profile_of as kind_profile;
pub(crate) use history::page as history_page;
pub(crate) use scenes::payload as scene_payload;
pub(crate) use stored::stored_of;
pub(crate) use tenants::TenantView;
use watch::Watched;

static ROUTES: LazyLock<(Router, OpenApi)> = LazyLock::new(routes);

/// A change of the registry that was made: it is durable.
#[derive(Debug, Serialize, ToSchema)]
struct Changed {
    /// Its number in the log.
    seq: u64,
}

fn routes() -> (Router, OpenApi) {
    let (router, mut openapi) = OpenApiRouter::with_openapi(describe::head())
        .merge(devices::router())
        .merge(credentials::router())
        .merge(activations::router())
        .merge(profiles::router())
        .merge(groups::router())
        .merge(scenes::router())
        .merge(state::router())
        .merge(keys::router())
        .merge(users::router())
        .merge(tenants::router())
        .merge(deconz::router())
        .merge(tickets::router())
        .merge(integrations::router())
        .merge(publish::router())
        .merge(commands::router())
        .merge(audit::router())
        .merge(status::router())
        .merge(drops::router())
        .merge(clients::router())
        .merge(stream::router())
        .merge(history::router())
        .merge(sign_in::router())
        .split_for_parts();
    unused::forget(&mut openapi);
    names::describe(&mut openapi);
    idempotency::describe(&mut openapi);
    let known = Arc::new(parameters::Known::of(&openapi));
    let router = router
        .route_layer(from_fn_with_state(known, parameters::check))
        .fallback(|| async { refuse(Code::NotFound, "there is nothing at this address") })
        .method_not_allowed_fallback(|method: Method| async move {
            let text = format!("this address does not take {method}: see Allow");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, Fault::new(Code::BadValue, text))
        });
    (router, openapi)
}

/// Answers a request for an address below `/v1`.
pub(crate) async fn answer(entrance: Entrance, mut request: Request) -> Response {
    // What an outer router found in the path is not this one's.
    request.extensions_mut().clear();
    if request.method().is_safe() {
        entrance.shared().caught_up().await;
    }
    let watched = Watched::of(&entrance, request.method(), request.uri().path());
    request.extensions_mut().insert(entrance);
    if let Some(watched) = &watched {
        request.extensions_mut().insert(watched.trace());
    }
    let response = if idempotency::concerns(&request) {
        idempotency::answer(request).await
    } else {
        routed(request).await
    };
    if let Some(watched) = watched {
        watched.answered(&response);
    }
    response
}

async fn routed(request: Request) -> Response {
    let answered: Result<Response, Infallible> = ROUTES.0.clone().oneshot(request).await;
    answered.unwrap_or_else(|never| match never {})
}

/// The description of everything below `/v1`.
pub(crate) fn openapi() -> &'static OpenApi {
    &ROUTES.1
}

fn io_fault(error: &std::io::Error) -> Fault {
    Fault::new(Code::Busy, error.to_string())
}

fn no_such(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("there is no {what} {name}"))
}
