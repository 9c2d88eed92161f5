//! What devices are: their profiles.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
};
use fieldgate_dialects::native;
use fieldgate_store::registry::{Change, Described};
use serde::{Deserialize, de::IgnoredAny};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Path, Text},
    devices::{device, must_read, topics_of},
    etag,
};
use crate::{http::Problem, profiles::check_size};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(show, replace))
}

/// What a device is: its resources, their units, and what may be told to it. `ETag` is its revision.
#[utoipa::path(get, path = "/v1/devices/{id}/profile", tag = "devices",
    operation_id = "showProfile", params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = Object,
            headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "`If-None-Match` names the revision that it has."),
        Problems))]
async fn show(
    asker: Asker,
    Path(id): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    must_read(&asker, &id)?;
    let device = device(&asker, &id)?;
    let none = || Fault::new(Code::NotFound, format!("device {id} has no profile"));
    let described = device.profile.as_ref().ok_or_else(none)?;
    known.or_whole(described.revision, || Ok(answer(described)))
}

/// Replaces what a device is. With `If-Match` only if its profile has that revision still, with
/// `If-None-Match: *` only if it has none.
#[utoipa::path(put, path = "/v1/devices/{id}/profile", tag = "devices",
    operation_id = "replaceProfile", params(("id" = String, Path)),
    request_body(content = Object, example = json!({"kind": "light", "resources": [
        {"name": "on", "type": "bool", "writable": true},
        {"name": "brightness", "type": "number", "writable": true, "min": 0, "max": 1}]})),
    responses(
        (status = 200, description = "It is replaced, and durable.", body = Object,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn replace(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<Response, Problem> {
    if !asker.may_at(Verb::Admin, "#") {
        asker.must_at(Verb::Write, &topics_of(&id))?;
    }
    let expected = etag::expected(&headers)?;
    must_say_kind(&text)?;
    let profile = Arc::new(native::decode_profile(&text)?);
    check_size(&asker.shared, &profile)?;
    let device_id = device(&asker, &id)?.id.clone();
    let change = Change::ProfileSet { device: device_id, expected, profile };
    let changed = asker.change(change).await;
    let device = device(&asker, &id)?;
    let revision = device.profile.as_ref().map_or(0, |described| described.revision);
    changed.map_err(|fault| etag::refused(fault, expected, revision))?;
    let gone = || Fault::new(Code::NotFound, format!("device {id} has gone"));
    Ok(answer(device.profile.as_ref().ok_or_else(gone)?))
}

/// A frame without a kind is a sensor's; a request that replaces a whole profile and does not say
/// what the device is, is a mistake that would cost the profile that is there.
fn must_say_kind(text: &str) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Said {
        kind: Option<IgnoredAny>,
    }
    let said: Option<Said> = serde_json::from_str(text).ok();
    if said.is_some_and(|said| said.kind.is_none()) {
        return Err(Fault::new(Code::MissingField, "a profile needs the field \"kind\""));
    }
    Ok(())
}

fn answer(described: &Described) -> Response {
    let kind = (header::CONTENT_TYPE, "application/json");
    let text = native::encode_profile(&described.profile);
    ([kind], [etag::tag(described.revision)], text).into_response()
}
