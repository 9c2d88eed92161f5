//! The tenants of the gateway: whoever administers it as a whole makes and removes them.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_store::registry::{Change, TenantInfo, TenantLimits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Asker, Body, Path, bad},
    list::{List, Page, PageQuery},
    no_such,
};
use crate::{fabric::Shared, http::Problem};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(show, set, remove))
}

/// Who asks, and may administer the gateway as a whole: on this machine, or an admin of `default`.
#[derive(Debug)]
struct GatewayAdmin(Asker);

impl<S: Sync> FromRequestParts<S> for GatewayAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asker = Asker::from_request_parts(parts, state).await?;
        asker.must(Verb::Admin)?;
        if asker.is_of_gateway() {
            return Ok(Self(asker));
        }
        let text = "no right to do this: it takes admin:# in the tenant default";
        Err(Fault::new(Code::NotAllowed, text).into())
    }
}

/// What a tenant may have. Without a number, as much as the configuration gives each.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    /// Most connections that have proved whose they are; past it 4503.
    connections_max: Option<u64>,
    /// Most devices, where that is less than `limits.devices_per_tenant_max`.
    devices_max: Option<u64>,
    /// Most retained messages, where that is less than `limits.retained_per_tenant_max`.
    retained_max: Option<u64>,
    /// Messages a second of all its principals together.
    messages_per_second: Option<u64>,
}

impl From<Limits> for TenantLimits {
    fn from(limits: Limits) -> Self {
        let Limits { connections_max, devices_max, retained_max, messages_per_second } = limits;
        Self { connections_max, devices_max, retained_max, messages_per_second }
    }
}

impl From<TenantLimits> for Limits {
    fn from(limits: TenantLimits) -> Self {
        let TenantLimits { connections_max, devices_max, retained_max, messages_per_second } =
            limits;
        Self { connections_max, devices_max, retained_max, messages_per_second }
    }
}

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// Its name. One that was removed is not given again.
    #[schema(pattern = "^[a-z0-9-]{1,64}$", examples("acme"))]
    name: String,
    /// What it may have.
    #[serde(default)]
    limits: Limits,
}

/// A tenant, with what it has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantView {
    /// Its name.
    id: String,
    /// Since when it is, in Unix ms; null of `default`.
    #[schema(required = true)]
    added: Option<u64>,
    /// What it may have.
    limits: Limits,
    /// Its connections that have proved whose they are.
    connections: usize,
    /// Its devices.
    devices: usize,
    /// Its API keys.
    keys: usize,
    /// Its people.
    users: usize,
    /// Its retained messages.
    retained: usize,
    /// Their bytes.
    retained_bytes: usize,
    /// Its commands that have not ended.
    commands: usize,
    /// Messages accepted since the gateway started.
    accepted: u64,
}

impl TenantView {
    pub(crate) fn of(shared: &Shared, id: &TenantId, info: &TenantInfo) -> Self {
        let counts = shared.state.tenant_counts(id);
        Self {
            id: id.as_str().to_owned(),
            added: Some(info.added_ms).filter(|added| *added > 0),
            limits: info.limits.into(),
            connections: shared.present.count_of(id),
            devices: counts.devices,
            keys: counts.keys,
            users: counts.users,
            retained: counts.retained,
            retained_bytes: counts.retained_bytes,
            commands: counts.commands,
            accepted: shared.throttle.tenants.of(id).accepted(),
        }
    }
}

fn named(name: &str) -> Result<TenantId, Fault> {
    name.parse().map_err(bad)
}

/// The tenants, by name.
#[utoipa::path(get, path = "/v1/tenants", tag = "access", operation_id = "listTenants",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = List<TenantView>), Problems))]
async fn list(GatewayAdmin(asker): GatewayAdmin, page: Page) -> Json<List<TenantView>> {
    let tenants = asker.shared.state.tenants();
    let List { items, next } = page.cut(tenants.iter(), |(id, _)| id.as_str());
    let view = |(id, info): (&TenantId, &TenantInfo)| TenantView::of(&asker.shared, id, info);
    Json(List { items: items.into_iter().map(view).collect(), next })
}

/// One tenant.
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "access", operation_id = "showTenant",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is there.", body = TenantView), Problems))]
async fn show(
    GatewayAdmin(asker): GatewayAdmin,
    Path(name): Path<String>,
) -> Result<Json<TenantView>, Problem> {
    let tenants = asker.shared.state.tenants();
    let found = tenants.get(name.as_str()).ok_or_else(|| no_such("tenant", &name))?;
    Ok(Json(TenantView::of(&asker.shared, &named(&name)?, found)))
}

/// Makes a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "access", operation_id = "addTenant",
    request_body = NewTenant,
    responses((status = 201, description = "It is made.", body = TenantView), Problems))]
async fn add(
    GatewayAdmin(asker): GatewayAdmin,
    Body(new): Body<NewTenant>,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    let id = named(&new.name)?;
    asker.change_of(&id, Change::TenantAdd(new.limits.into())).await?;
    let tenants = asker.shared.state.tenants();
    let made = tenants.get(&id).ok_or_else(|| no_such("tenant", &new.name))?;
    Ok((StatusCode::CREATED, Json(TenantView::of(&asker.shared, &id, made))))
}

/// Replaces what a tenant may have. Connections and devices that are there stay.
#[utoipa::path(put, path = "/v1/tenants/{id}", tag = "access", operation_id = "setTenant",
    params(("id" = String, Path)), request_body = Limits,
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn set(
    GatewayAdmin(asker): GatewayAdmin,
    Path(name): Path<String>,
    Body(limits): Body<Limits>,
) -> Result<Json<Changed>, Problem> {
    let seq = asker.change_of(&named(&name)?, Change::TenantSet(limits.into())).await?;
    Ok(Json(Changed { seq }))
}

/// Removes a tenant with everything in it: its connections end within a second, and its name is not
/// given again. Its messages stay in the log until retention takes them; nobody can read them.
#[utoipa::path(delete, path = "/v1/tenants/{id}", tag = "access", operation_id = "removeTenant",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(
    GatewayAdmin(asker): GatewayAdmin,
    Path(name): Path<String>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change_of(&named(&name)?, Change::TenantRemove).await? }))
}
