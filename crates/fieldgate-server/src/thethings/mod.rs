//! The thethings.iO dialect (`docs/protocol/thethings.md`): its REST interface, and what its
//! Socket.IO namespace asks of the rest.
//!
//! Things are devices, and their tokens are credentials of the kind `thing`; apps are tenants; what a
//! person may is what their role lets them, and the things that they linked.

mod answer;
mod asker;
mod mine;
mod people;
mod stream;
mod thing;
mod values;
mod who;

use std::{convert::Infallible, net::IpAddr, sync::LazyLock};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri, uri::PathAndQuery},
    response::Response,
    routing::get,
};
use tower::ServiceExt as _;
use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        OpenApi,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    http::Caller,
    rest::{Entrance, unused},
};
use answer::Refused;
pub(crate) use who::{Seen, ThingOf, devices_of, session_principal, thing_of_token};

static ROUTES: LazyLock<(Router, OpenApi)> = LazyLock::new(routes);

struct Session;

impl Modify for Session {
    fn modify(&self, openapi: &mut OpenApi) {
        let told = "The session token that a login gave, with or without `Bearer` in front.";
        let key = ApiKey::Header(ApiKeyValue::with_description("Authorization", told));
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("session", SecurityScheme::ApiKey(key));
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Fieldgate: thethings.iO",
        description = "What clients of thethings.iO use, served as they know it. Every refusal is \
                       `{\"status\":\"error\",\"code\",\"message\"}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This gateway")),
    tags(
        (name = "things", description = "What things do, by the token in their addresses."),
        (name = "people", description = "Who people of apps are."),
        (name = "mine", description = "What people of apps see, and write to."),
    ),
    security(("session" = [])),
    modifiers(&Session),
)]
struct Head;

fn routes() -> (Router, OpenApi) {
    let (router, mut openapi) = OpenApiRouter::with_openapi(Head::openapi())
        .merge(thing::router())
        .merge(people::router())
        .merge(mine::router())
        .split_for_parts();
    unused::forget(&mut openapi);
    let router = router
        .route("/v2", get(|| async { Refused::unauthorized("Invalid session token") }))
        .fallback(|| async { Refused::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Refused::new(StatusCode::BAD_REQUEST, "this address does not take this method")
        });
    (router, openapi)
}

/// The description of everything below `/v2`.
pub(crate) fn openapi() -> &'static OpenApi {
    &ROUTES.1
}

/// Whether an address is of this dialect.
pub(crate) fn is_ours(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

/// Answers a request for an address below `/v2`.
pub(crate) async fn answer(caller: &Caller, client: IpAddr, mut request: Request) -> Response {
    // What an outer router found in the path is not this one's.
    request.extensions_mut().clear();
    request.extensions_mut().insert(Entrance::Listener(caller.clone(), client));
    if let Some(plain) = without_final_slash(request.uri()) {
        *request.uri_mut() = plain;
    }
    let answered: Result<Response, Infallible> = ROUTES.0.clone().oneshot(request).await;
    answered.unwrap_or_else(|never| match never {})
}

/// The same address without the slash at its end: its clients write both.
fn without_final_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/')?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{path}{query}").parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_the_same_with_a_slash_at_its_end() {
        let plain = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            without_final_slash(&uri).unwrap_or(uri).to_string()
        };
        assert_eq!(plain("/v2/"), "/v2");
        assert_eq!(plain("/v2/things/"), "/v2/things");
        assert_eq!(plain("/v2/things/x/resources/y/?limit=1"), "/v2/things/x/resources/y?limit=1");
        assert_eq!(plain("/v2/things"), "/v2/things");
        assert!(is_ours("/v2") && is_ours("/v2/things") && !is_ours("/v20"));
    }
}
