//! How the gateway is.

use axum::Json;
use fieldgate_core::access::Verb;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Problems, asker::Asker};
use crate::{
    http::Problem,
    status::{status_of, status_of_tenant},
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(status))
}

/// How the gateway is: its log, tables, connections, tenants, and what it dropped; to another tenant
/// than `default`, that it takes messages, and what that tenant has. Fields are added, never renamed.
#[utoipa::path(get, path = "/v1/status", tag = "operation", operation_id = "showStatus",
    responses((status = 200, description = "It is there.", body = Object), Problems))]
async fn status(asker: Asker) -> Result<Json<Value>, Problem> {
    asker.must(Verb::Read)?;
    Ok(Json(if asker.is_of_gateway() {
        status_of(&asker.shared)
    } else {
        status_of_tenant(&asker.shared, asker.tenant())
    }))
}
