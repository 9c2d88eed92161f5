//! What the description of `/v1` says beside its addresses.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, RefOr, ResponseBuilder,
        extensions::Extensions,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use fieldgate_core::fault::Code;

use crate::http::ProblemBody;

/// The refusals that any address may answer with.
pub(crate) struct Problems;

const REFUSALS: [(u16, &str); 14] = [
    (400, "The request is not as it must be."),
    (401, "It has no credential, or one that is not valid."),
    (403, "The credential has no right to do this."),
    (404, "There is no such thing in this tenant."),
    (405, "The address does not take this method; `Allow` tells what it takes."),
    (409, "What is there stands against it, or the same request runs."),
    (410, "Its time is over."),
    (412, "It has changed since `If-Match` was read. Code: `conflict`."),
    (413, "A part of it, or the whole, is too large."),
    (421, "The host name is not served: see `listen.hosts`."),
    (422, "No element of it stands, or its `Idempotency-Key` was another request's (`conflict`)."),
    (429, "Above a rate; `Retry-After` tells when to try again."),
    (500, "A defect of the gateway."),
    (503, "Not now; `Retry-After` tells when to try again."),
];

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let reference = |status| RefOr::Ref(Ref::from_response_name(name_of(status)));
        REFUSALS.iter().map(|(status, _)| (status.to_string(), reference(*status))).collect()
    }
}

/// What the refusal with this status is called in the description.
fn name_of(status: u16) -> String {
    format!("Refused{status}")
}

/// What a refusal means, and the codes that come with it.
fn told(status: u16, text: &str) -> String {
    let codes = Code::ALL.iter().filter(|code| code.http_status() == status);
    let codes: Vec<_> = codes.map(|code| format!("`{}`", code.as_str())).collect();
    if codes.is_empty() { text.to_owned() } else { format!("{text} Codes: {}.", codes.join(", ")) }
}

/// The catalogue, for whoever draws the description.
fn codes() -> serde_json::Value {
    let told = |code: &Code| {
        json!({
            "code": code.as_str(),
            "status": code.http_status(),
            "again": code.is_temporary(),
            "about": code.about(),
            "remedy": code.remedy(),
        })
    };
    Code::ALL.iter().map(told).collect()
}

struct Common;

impl Modify for Common {
    fn modify(&self, openapi: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key, the token of a device, or a token of an outside issuer.",
            ))
            .build();
        openapi.extensions = Some(Extensions::from_iter([("x-codes", codes())]));
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for (status, text) in REFUSALS {
            let schema = Ref::from_schema_name("Problem");
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let response = ResponseBuilder::new().description(told(status, text));
            let response = response.content("application/problem+json", content).build();
            components.responses.insert(name_of(status), response.into());
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fieldgate",
        description = "What the gateway knows and does, over HTTP. Every error is a problem (RFC 9457) \
                       with a stable `code`. Times are Unix milliseconds.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This gateway")),
    security(("bearer" = [])),
    tags(
        (name = "devices", description = "Devices, their secrets and what they say."),
        (name = "messages", description = "Messages: in, out, and what was."),
        (name = "access", description = "People, programs, and what they may do."),
        (name = "integrations", description = "What flows in from other systems, and out to them."),
        (name = "operation", description = "How the gateway is.")
    ),
    components(schemas(ProblemBody<'_>)),
    modifiers(&Common)
)]
struct Head;

/// The description without the addresses.
pub(super) fn head() -> openapi::OpenApi {
    Head::openapi()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_is_described() {
        for code in Code::ALL {
            let known = REFUSALS.iter().any(|(status, _)| *status == code.http_status());
            assert!(known, "{} is {}", code.as_str(), code.http_status());
        }
    }
}
