//! What was dropped, and why.

use axum::{Json, http::Uri};
use fieldgate_core::access::Verb;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Problems, asker::Asker};
use crate::{
    http::Problem,
    ledger::{DropsPage, DropsParams, DropsQuery},
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(drops))
}

/// What was dropped in this tenant, newest first.
#[utoipa::path(get, path = "/v1/drops", tag = "operation",
    operation_id = "listDrops", params(DropsParams),
    responses((status = 200, description = "A page.", body = DropsPage), Problems))]
async fn drops(asker: Asker, uri: Uri) -> Result<Json<DropsPage>, Problem> {
    asker.must(Verb::Read)?;
    let query = DropsQuery::of(&uri)?;
    Ok(Json(asker.shared.ledger.page(asker.tenant(), query).await?))
}
