//! How the gateway is.

use axum::Json;
use fieldgate_core::access::Verb;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Problems, asker::Asker};
use crate::{http::Problem, status::status_of};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(status))
}

/// How the gateway is: its log, tables, connections, and what it dropped. Fields are added, never
/// renamed.
#[utoipa::path(get, path = "/v1/status", tag = "operation", operation_id = "showStatus",
    responses((status = 200, description = "It is there.", body = Object), Problems))]
async fn status(asker: Asker) -> Result<Json<Value>, Problem> {
    asker.must(Verb::Read)?;
    Ok(Json(status_of(&asker.shared)))
}
