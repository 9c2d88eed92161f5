//! API keys.

use std::sync::Arc;

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::{Grant, Role},
    fault::Fault,
    id::DeviceId,
};
use fieldgate_store::{
    registry::{ApiKey, Change, Edit},
    secret::{TokenKind, make_token},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    etag,
    idempotency::{Forgets, Once},
    io_fault,
    list::{List, Page, PageQuery},
    no_such,
    patch::given,
};
use crate::{fabric::now, http::Problem};

/// Each decision looks at every grant.
pub(super) const GRANTS_MAX: usize = 64;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(show, edit, revoke))
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
    /// `admin`, `operator`, `viewer` or `member`; without one the grants are all it has.
    role: Option<String>,
    /// `VERB:FILTER`, with `!` in front to deny.
    #[serde(default)]
    #[schema(max_items = 64)]
    grants: Vec<String>,
    /// Worthless from this time on, in Unix ms.
    expires_ms: Option<u64>,
}

/// What of an API key is to be another. What is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyPatch {
    /// `admin`, `operator`, `viewer` or `member`; null: the grants are all it has.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    role: Option<Option<String>>,
    /// `VERB:FILTER`, with `!` in front to deny: the whole list; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    grants: Option<Option<Vec<String>>>,
    /// Worthless from this time on, in Unix ms; null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    expires_ms: Option<Option<u64>>,
}

/// An API key that was made. The secret is told this once.
#[derive(Serialize, ToSchema)]
struct MadeKey {
    /// Its name.
    id: String,
    /// The secret; null in the answer to a repeat.
    #[schema(required = true)]
    key: Option<String>,
    /// Worthless from this time on, in Unix ms.
    #[schema(required = true)]
    expires: Option<u64>,
}

impl Forgets for MadeKey {
    fn forget(&mut self) {
        self.key = None;
    }
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
    responses(
        (status = 200, description = "It is there.", body = KeyView,
            headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "`If-None-Match` names the revision that it has."),
        Problems))]
async fn show(
    Admin(asker): Admin,
    Path(name): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    let key = key(&asker, &name)?;
    known.or_whole(key.tag(), || Ok(answer(&key)))
}

fn key(asker: &Asker, name: &str) -> Result<Arc<ApiKey>, Fault> {
    let found = asker.shared.state.key(asker.tenant(), name);
    found.ok_or_else(|| no_such("key", name))
}

fn answer(key: &ApiKey) -> Response {
    ([etag::tag(key.tag())], Json(KeyView::of(key))).into_response()
}

/// Changes the rights or the end of an API key: a JSON merge patch (RFC 7396). What it opened has the
/// new rights within a second. With `If-Match` only if it has that revision still.
#[utoipa::path(patch, path = "/v1/keys/{id}", tag = "access", operation_id = "editKey",
    params(("id" = String, Path)),
    request_body(content = KeyPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = KeyView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn edit(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(patch): Body<KeyPatch>,
) -> Result<Response, Problem> {
    let expected = etag::expected(&headers)?;
    let KeyPatch { role, grants, expires_ms } = patch;
    let grants = grants.map(Option::unwrap_or_default);
    check(role.as_ref().and_then(Option::as_deref), grants.as_deref().unwrap_or_default())?;
    check_end(expires_ms.flatten())?;
    let edit = Edit::Key { name: name.clone(), role, grants, expires_ms };
    let changed = asker.change(Change::Edit { expected, edit }).await;
    let now = key(&asker, &name)?;
    changed.map_err(|fault| etag::refused(fault, expected, now.tag()))?;
    Ok(answer(&now))
}

fn check(role: Option<&str>, grants: &[String]) -> Result<(), Fault> {
    grants.iter().try_for_each(|grant| grant.parse::<Grant>().map(drop)).map_err(bad)?;
    role.map(str::parse::<Role>).transpose().map_err(bad)?;
    if grants.len() > GRANTS_MAX {
        return Err(bad(format!("a key has at most {GRANTS_MAX} grants")));
    }
    Ok(())
}

fn check_end(expires_ms: Option<u64>) -> Result<(), Fault> {
    if expires_ms.is_some_and(|end| end <= now().0) {
        return Err(bad("the key would be over at once: its end is not in the future"));
    }
    Ok(())
}

/// Makes an API key and tells its secret, once.
#[utoipa::path(post, path = "/v1/keys", tag = "access",
    operation_id = "addKey", request_body = NewKey,
    responses((status = 201, description = "It is made.", body = MadeKey), Problems))]
async fn add(Admin(asker): Admin, Body(new): Body<NewKey>) -> Result<Once<MadeKey>, Problem> {
    let _valid: DeviceId =
        new.name.parse().map_err(|_| bad("a key's name is written like a device id"))?;
    check(new.role.as_deref(), &new.grants)?;
    if new.role.is_none() && new.grants.is_empty() {
        return Err(bad("a key needs a role or a grant").into());
    }
    check_end(new.expires_ms)?;
    let token = make_token(TokenKind::Key).map_err(|e| io_fault(&e))?;
    let hash = asker.shared.state.master_key().hash(&token);
    let made = MadeKey { id: new.name.clone(), key: Some(token), expires: new.expires_ms };
    let NewKey { name, role, grants, expires_ms } = new;
    asker.change(Change::KeyAdd(ApiKey { name, hash, role, grants, expires_ms })).await?;
    Ok(Once(made))
}

/// Revokes an API key; what it opened ends within a second.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "access",
    operation_id = "revokeKey", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn revoke(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change(Change::KeyRevoke(name)).await? }))
}
