//! What devices are in: the last value of each of their resources.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
    state::{Quality, Resource},
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Path, bad},
    devices::topics_of,
    etag,
};
use crate::http::Problem;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(show))
}

/// What a device reported last, resource by resource.
#[derive(Debug, Serialize, ToSchema)]
struct StateView {
    /// The value of each resource, as the device wrote it; null where none was ever good.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    reported: BTreeMap<String, Option<Box<RawValue>>>,
    /// Where each value comes from.
    meta: BTreeMap<String, Meta>,
}

/// Where a value comes from.
#[derive(Debug, Serialize, ToSchema)]
struct Meta {
    /// When it was so, in Unix ms: as the device said, else when it arrived.
    time: u64,
    /// The number of its message.
    seq: u64,
    /// Its unit, if the reading had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// `uncertain` or `bad`; absent where it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'static str>,
}

impl Meta {
    fn of(resource: &Resource) -> Self {
        let Resource { unit, quality, origin, .. } = resource;
        let quality = Some(quality).filter(|quality| **quality != Quality::Good);
        Self {
            time: origin.time.0,
            seq: origin.seq.0,
            unit: unit.as_deref().map(str::to_owned),
            quality: quality.map(|quality| quality.as_str()),
        }
    }
}

/// What a device reported last, resource by resource, whatever it came by. `ETag` names the last
/// message in it.
#[utoipa::path(get, path = "/v1/devices/{id}/state", tag = "devices", operation_id = "showState",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = StateView,
            headers(("ETag" = String, description = "Names the last message in it."))),
        (status = 304, description = "`If-None-Match` names the last message in it."),
        Problems))]
async fn show(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    asker.must_at(Verb::Read, &topics_of(&id))?;
    let none = || Fault::new(Code::NotFound, format!("device {id} has reported nothing"));
    let device = id.parse().map_err(bad)?;
    let reported = asker.shared.state.reported(asker.tenant(), &device).ok_or_else(none)?;
    let tag = etag::tag(reported.taken().0);
    if etag::is_known(&headers, reported.taken().0) {
        return Ok((StatusCode::NOT_MODIFIED, [tag]).into_response());
    }
    let mut view = StateView { reported: BTreeMap::new(), meta: BTreeMap::new() };
    for (name, resource) in reported.present() {
        let value = resource.value.as_deref().map(|value| RawValue::from_string(value.to_owned()));
        let value = value.transpose().map_err(bad)?;
        view.reported.insert(name.to_owned(), value);
        view.meta.insert(name.to_owned(), Meta::of(resource));
    }
    Ok(([tag], Json(view)).into_response())
}
