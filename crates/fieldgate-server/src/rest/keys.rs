//! API keys.

use axum::{Json, http::StatusCode};
use fieldgate_core::{
    access::{Grant, Role},
    id::DeviceId,
};
use fieldgate_store::{
    registry::{ApiKey, Change},
    secret::{TokenKind, make_token},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Body, Path, bad},
    io_fault,
    list::{List, Page, PageQuery},
    no_such,
};
use crate::{fabric::now, http::Problem};

/// Each decision looks at every grant.
pub(super) const GRANTS_MAX: usize = 64;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(show, revoke))
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct KeyView {
    /// Its name.
    id: String,
    /// Its role.
    #[schema(examples("operator"))]
    role: Option<String>,
    /// Its grants, `VERB:FILTER`, with `!` in front of a denial.
    #[schema(examples("subscribe:devices/#"))]
    grants: Vec<String>,
    /// Worthless from this time on, in Unix ms.
    expires: Option<u64>,
}

impl KeyView {
    fn of(key: &ApiKey) -> Self {
        Self {
            id: key.name.clone(),
            role: key.role.clone(),
            grants: key.grants.clone(),
            expires: key.expires_ms,
        }
    }
}

/// An API key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// Its name, unique in the tenant, written like a device id.
    #[schema(pattern = "^[A-Za-z0-9._:~-]{1,128}$")]
    name: String,
    /// `admin`, `operator` or `viewer`; without one the grants are all it has.
    role: Option<String>,
    /// `VERB:FILTER`, with `!` in front to deny.
    #[serde(default)]
    #[schema(max_items = 64)]
    grants: Vec<String>,
    /// Worthless from this time on, in Unix ms.
    expires_ms: Option<u64>,
}

/// An API key that was made. The secret is told this once.
#[derive(Serialize, ToSchema)]
struct MadeKey {
    /// Its name.
    id: String,
    /// The secret.
    key: String,
    /// Worthless from this time on, in Unix ms.
    #[schema(required = true)]
    expires: Option<u64>,
}

/// The API keys, by name.
#[utoipa::path(get, path = "/v1/keys", tag = "access", operation_id = "listKeys", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<KeyView>), Problems))]
async fn list(Admin(asker): Admin, page: Page) -> Result<Json<List<KeyView>>, Problem> {
    let keys = asker.shared.state.keys(asker.tenant());
    let List { items, next } = page.cut(keys.iter(), |key| &key.name);
    Ok(Json(List { items: items.into_iter().map(|key| KeyView::of(key)).collect(), next }))
}

/// One API key, without its secret.
#[utoipa::path(get, path = "/v1/keys/{id}", tag = "access", operation_id = "showKey",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is there.", body = KeyView), Problems))]
async fn show(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<KeyView>, Problem> {
    let keys = asker.shared.state.keys(asker.tenant());
    let key = keys.iter().find(|key| key.name == name).ok_or_else(|| no_such("key", &name))?;
    Ok(Json(KeyView::of(key)))
}

/// Makes an API key and tells its secret, once.
#[utoipa::path(post, path = "/v1/keys", tag = "access",
    operation_id = "addKey", request_body = NewKey,
    responses((status = 201, description = "It is made.", body = MadeKey), Problems))]
async fn add(
    Admin(asker): Admin,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    let _valid: DeviceId =
        new.name.parse().map_err(|_| bad("a key's name is written like a device id"))?;
    for grant in &new.grants {
        grant.parse::<Grant>().map_err(bad)?;
    }
    if let Some(role) = &new.role {
        role.parse::<Role>().map_err(bad)?;
    }
    if new.role.is_none() && new.grants.is_empty() {
        return Err(bad("a key needs a role or a grant").into());
    }
    if new.grants.len() > GRANTS_MAX {
        return Err(bad(format!("a key has at most {GRANTS_MAX} grants")).into());
    }
    if new.expires_ms.is_some_and(|end| end <= now().0) {
        return Err(bad("the key would be over at once: its end is not in the future").into());
    }
    let token = make_token(TokenKind::Key).map_err(|e| io_fault(&e))?;
    let hash = asker.shared.state.master_key().hash(&token);
    let made = MadeKey { id: new.name.clone(), key: token, expires: new.expires_ms };
    let NewKey { name, role, grants, expires_ms } = new;
    asker.change(Change::KeyAdd(ApiKey { name, hash, role, grants, expires_ms })).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes an API key; what it opened ends within a second.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access",
    operation_id = "revokeKey", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn revoke(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change(Change::KeyRevoke(name)).await? }))
}
