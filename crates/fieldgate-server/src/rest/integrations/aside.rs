//! Messages that a target does not take: told, tried once more, or forgotten.

use axum::Json;
use fieldgate_core::id::{Position, Seq};
use fieldgate_store::registry::{Change, IntegrationStep};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{
        Changed, Problems,
        asker::{Admin, Asker, Path, bad},
        list::{List, Page, PageQuery},
    },
    acts::seq_of,
    known,
};
use crate::http::Problem;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(retry)).routes(routes!(forget))
}

/// A message that was set aside.
#[derive(Debug, Serialize, ToSchema)]
struct AsideView {
    /// Its position.
    #[schema(examples("k3f9:4711"))]
    position: String,
    /// What the target said.
    reason: String,
    /// When it was set aside, in Unix ms.
    time: u64,
    /// Whether it is to be tried once more.
    retry: bool,
    #[serde(skip)]
    key: String,
}

/// The messages that the target does not take and that are kept, oldest first: at most 1000, then the
/// oldest is forgotten.
#[utoipa::path(get, path = "/v1/integrations/{name}/set-aside", tag = "integrations",
    operation_id = "listSetAside", params(("name" = String, Path), PageQuery),
    responses((status = 200, description = "A page.", body = List<AsideView>), Problems))]
async fn list(
    Admin(asker): Admin,
    Path(name): Path<String>,
    page: Page,
) -> Result<Json<List<AsideView>>, Problem> {
    let asides = known(&asker, &name)?.asides;
    let view = |(seq, aside): (&u64, &fieldgate_store::registry::Aside)| AsideView {
        position: asker.shared.position(Seq(*seq)).to_string(),
        reason: aside.reason.clone(),
        time: aside.time_ms,
        retry: aside.retry,
        // As numbers are ordered.
        key: format!("{seq:020}"),
    };
    Ok(Json(page.cut(asides.messages.iter().map(view), |aside| &aside.key)))
}

/// Tries a message that was set aside once more, by itself: what the target does not take is set aside
/// again.
#[utoipa::path(post, path = "/v1/integrations/{name}/set-aside/{position}/retry",
    tag = "integrations", operation_id = "retrySetAside",
    params(("name" = String, Path), ("position" = String, Path)),
    responses((status = 200, description = "It is to be tried.", body = Changed), Problems))]
async fn retry(
    Admin(asker): Admin,
    Path((name, position)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    change(&asker, name, &position, IntegrationStep::Retry).await
}

/// Forgets a message that was set aside; it stays in the log.
#[utoipa::path(delete, path = "/v1/integrations/{name}/set-aside/{position}",
    tag = "integrations", operation_id = "dropSetAside",
    params(("name" = String, Path), ("position" = String, Path)),
    responses((status = 200, description = "It is forgotten.", body = Changed), Problems))]
async fn forget(
    Admin(asker): Admin,
    Path((name, position)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    change(&asker, name, &position, IntegrationStep::Drop).await
}

async fn change(
    asker: &Asker,
    name: String,
    position: &str,
    step: impl FnOnce(u64) -> IntegrationStep,
) -> Result<Json<Changed>, Problem> {
    let position: Position =
        position.parse().map_err(|_| bad("a message is named by its position: epoch:seq"))?;
    let step = step(seq_of(asker, position)?.0);
    let change = Change::Integration { name, expected: None, step };
    Ok(Json(Changed { seq: asker.change(change).await? }))
}
