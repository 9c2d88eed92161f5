//! What devices are in, and what they are wished to be in, resource by resource.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Verb,
    dialect::DesiredAsk,
    fault::{Code, Fault},
    id::{DeviceId, Seq},
    message::Qos,
    state::{Desired, Reported, Wish},
};
use fieldgate_dialects::native;
use fieldgate_store::AppendError;
use serde::Serialize;
use serde_json::value::{RawValue, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Path, Text, bad},
    etag,
};
use crate::{
    asks::{Refused, limits_of},
    fabric::{FULL_TRIES, FULL_WAIT, append_fault},
    http::Problem,
    wishes,
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(wish))
}

/// What a device reported last and what it is wished to be in, resource by resource.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `native::encode_document` writes")]
struct StateView {
    /// The value of each resource, as the device wrote it; null where none was ever good.
    reported: BTreeMap<String, Value>,
    /// What is wished, until the device is in it.
    desired: BTreeMap<String, Value>,
    /// Where each reported value comes from.
    meta: BTreeMap<String, Meta>,
}

/// What a device is wished to be in, as it stands now.
#[derive(Debug, Serialize, ToSchema)]
struct DesiredView {
    /// The number of the wish that was made.
    seq: u64,
    /// What is wished.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    desired: BTreeMap<String, Box<RawValue>>,
}

/// Where a value comes from.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `native::encode_document` writes")]
struct Meta {
    /// When it was so, in Unix ms: as the device said, else when it arrived.
    time: u64,
    /// The number of its message.
    seq: u64,
    /// Its unit, if the reading had one.
    #[schema(nullable = false)]
    unit: Option<String>,
    /// `uncertain` or `bad`; absent where it is good.
    #[schema(nullable = false)]
    quality: Option<&'static str>,
}

/// What a device reported last, whatever it came by, and what it is wished to be in. `ETag` names the
/// last message in it.
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
    known: etag::Known,
) -> Result<Response, Problem> {
    let device: DeviceId = id.parse().map_err(bad)?;
    asker.must_of(Verb::Read, &device)?;
    let reported = asker.shared.state.reported(asker.tenant(), &device);
    let desired = asker.shared.state.desired(asker.tenant(), &device);
    if reported.is_none() && desired.is_none() {
        return Err(Fault::new(Code::NotFound, format!("device {id} has reported nothing")).into());
    }
    let none = (Reported::default(), Desired::default());
    let reported = reported.as_deref().unwrap_or(&none.0);
    let desired = desired.as_deref().unwrap_or(&none.1);
    let newest = reported.taken().max(desired.taken()).0;
    known.or_whole(newest, || {
        let mut response = Response::new(native::encode_document(reported, desired).into());
        let (name, tag) = etag::tag(newest);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(name, tag);
        Ok(response)
    })
}

fn values_of(desired: &Desired) -> Result<BTreeMap<String, Box<RawValue>>, Fault> {
    let pair = |(name, wish): (&str, &Wish)| {
        let value = RawValue::from_string(wish.value.as_ref().to_owned()).map_err(bad)?;
        Ok((name.to_owned(), value))
    };
    desired.all().map(pair).collect()
}

/// Wishes a device to be in something: a merge patch (RFC 7396) of resources, under the device's own
/// names or canonical ones; null withdraws. A wish is on stable storage when this answers, goes to the
/// device at once or when it connects, and ends when the device reports it. With `If-Match` only if no
/// newer wish names the same resources.
#[utoipa::path(patch, path = "/v1/devices/{id}/desired", tag = "devices",
    operation_id = "wishDevice", params(("id" = String, Path)),
    request_body(content = Object, example = json!({"on": true, "brightness": 0.5})),
    responses(
        (status = 200, description = "It is wished, and durable.", body = DesiredView,
            headers(("ETag" = String, description = "Names this wish."))),
        Problems))]
async fn wish(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<Response, Problem> {
    let device: DeviceId = id.parse().map_err(bad)?;
    let if_seq = etag::expected(&headers)?.map(Seq);
    let patch = native::desired_patch(&text, &limits_of(&asker.shared))?;
    let ask = DesiredAsk { device, reference: None, qos: Qos::AtLeastOnce, if_seq, patch };
    asker.pay(1, text.len())?;
    let mut tries = 0;
    let range = loop {
        match wishes::admit(&asker.shared, &asker.principal, &ask) {
            Ok(range) => break range,
            Err(Refused::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(Refused::Full) => return Err(append_fault(&AppendError::Full).into()),
            Err(Refused::Fault(fault)) if if_seq.is_some() && fault.code == Code::Conflict => {
                return Err(Problem::new(StatusCode::PRECONDITION_FAILED, fault));
            }
            Err(Refused::Fault(fault)) => return Err(fault.into()),
        }
        tries += 1;
    };
    let seq = Seq(*range.end());
    asker.shared.settled(seq, true).await?;
    let desired = asker.shared.state.desired(asker.tenant(), &ask.device).unwrap_or_default();
    let view = DesiredView { seq: seq.0, desired: values_of(&desired)? };
    Ok(([etag::tag(seq.0)], Json(view)).into_response())
}
