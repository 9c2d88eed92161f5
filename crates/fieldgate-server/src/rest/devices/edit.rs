//! Parts of a device that people change.

use axum::{http::HeaderMap, response::Response};
use fieldgate_core::access::Verb;
use fieldgate_dialects::native;
use fieldgate_store::registry::{Change, Edit};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{
        Problems,
        asker::{Asker, Body, Path},
        etag,
        patch::given,
    },
    DeviceWhole, check_filter, check_text, device, groups_of, tag_of, topics_of, whole,
};
use crate::http::Problem;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(edit))
}

/// What of a device is to be another. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DevicePatch {
    /// Its name for people; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 128)]
    name: Option<Option<String>>,
    /// What it is: the kind in its profile. One without a profile gets that of the kind.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, examples("light"))]
    kind: Option<String>,
    /// The groups that it is in: the whole list; null: none. One that is not there is made.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    groups: Option<Option<Vec<String>>>,
    /// The device ids that it may speak for: a filter; null: none. It takes the right `admin:#`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    gateway_for: Option<Option<String>>,
}

/// Changes parts of a device: a JSON merge patch (RFC 7396). With `If-Match` only if it has that
/// revision still.
#[utoipa::path(patch, path = "/v1/devices/{id}", tag = "devices",
    operation_id = "editDevice", params(("id" = String, Path)),
    request_body(content = DevicePatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = DeviceWhole,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn edit(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(patch): Body<DevicePatch>,
) -> Result<Response, Problem> {
    if patch.gateway_for.is_some() {
        asker.must(Verb::Admin)?;
    } else if !asker.may_at(Verb::Admin, "#") {
        asker.must_at(Verb::Write, &topics_of(&id))?;
    }
    let expected = etag::expected(&headers)?;
    let DevicePatch { name, kind, groups, gateway_for } = patch;
    name.iter().flatten().try_for_each(|name| check_text("a device's name", name))?;
    kind.as_deref().map(native::parse_kind).transpose()?;
    gateway_for.iter().flatten().try_for_each(|filter| check_filter(filter))?;
    let groups = groups.map(Option::unwrap_or_default).map(groups_of).transpose()?;
    let key = device(&asker, &id)?.id.clone();
    let edit = Edit::Device { id: key, name, kind, groups, gateway_for };
    let changed = asker.change(Change::Edit { expected, edit }).await;
    let now = device(&asker, &id)?;
    changed.map_err(|fault| etag::refused(fault, expected, tag_of(&asker, &now)))?;
    Ok(whole(&asker, &now)?)
}
