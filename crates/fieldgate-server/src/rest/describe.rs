//! What the description of `/v1` says beside its addresses.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::http::ProblemBody;

/// The refusals that any address may answer with.
pub(crate) struct Problems;

const REFUSALS: [(&str, &str); 11] = [
    (
        "400",
        "The request is not as it must be: `bad_value`, `bad_json`, `missing_field`, `bad_topic`.",
    ),
    ("401", "It has no credential, or one that is not valid."),
    ("403", "The credential has no right to do this: `not_allowed`."),
    ("404", "There is no such thing in this tenant: `not_found`."),
    ("405", "The address does not take this method; `Allow` tells what it takes."),
    ("409", "What is there stands against it: `conflict`."),
    ("413", "The body is too large: `too_large`."),
    ("421", "The host name is not served: see `listen.hosts`."),
    ("429", "Above a limit; `Retry-After` tells when to try again: `rate_limited`, `queue_full`."),
    ("500", "A defect of the gateway."),
    ("503", "Not now; `Retry-After` tells when to try again: `busy`, `storage_unavailable`."),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let schema = || Ref::from_schema_name("Problem");
        let content = || ContentBuilder::new().schema(Some(schema())).build();
        let response = |text: &str| {
            let response = ResponseBuilder::new().description(text);
            response.content("application/problem+json", content()).build()
        };
        let all =
            REFUSALS.iter().map(|(status, text)| ((*status).to_owned(), response(text).into()));
        all.collect()
    }
}

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key or the token of a device."))
            .build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fieldgate",
        description = "What the gateway knows and does, over HTTP. Every error is a problem (RFC 9457) \
                       with a stable `code`. Times are Unix milliseconds.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact()
    ),
    servers((url = "/", description = "This gateway")),
    security(("bearer" = [])),
    tags(
        (name = "devices", description = "Devices, their secrets and what they say."),
        (name = "access", description = "People, programs, and what they may do."),
        (name = "operation", description = "How the gateway is.")
    ),
    components(schemas(ProblemBody<'_>)),
    modifiers(&Bearer)
)]
struct Head;

/// The description without the addresses.
pub(super) fn head() -> openapi::OpenApi {
    Head::openapi()
}
