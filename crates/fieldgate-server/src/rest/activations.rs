//! Codes that make a device once: made, listed without the code, taken back. They are used in the
//! thethings.iO dialect (`POST /v2/things`).

use axum::Json;
use fieldgate_core::id::DeviceId;
use fieldgate_dialects::native;
use fieldgate_store::{
    registry::{Activation, ActivationStep, Change},
    secret::{TokenKind, make_token, random_text},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Body, Path, bad},
    devices::groups_of,
    idempotency::{Forgets, Once},
    io_fault,
    list::{List, Page, PageQuery},
};
use crate::{fabric::now, http::Problem};

/// How long a code holds unless it says.
const LIFETIME_MS: u64 = 30 * 86_400_000;
/// Length of a code's id.
const ID_LEN: usize = 8;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// A code to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewActivation {
    /// The id of the device to be; without it, a random one.
    #[schema(pattern = "^[A-Za-z0-9._:~-]{1,128}$")]
    device: Option<String>,
    /// What the device is to be: light, plug, cover, lock, thermostat, switch, sensor, gateway,
    /// machine or other. It gets the profile of that kind.
    kind: Option<String>,
    /// The groups that it is to be in.
    #[serde(default)]
    #[schema(max_items = 64)]
    groups: Vec<String>,
    /// Worthless from this time on, in Unix ms; 30 days from now unless named.
    expires: Option<u64>,
}

/// A code that was made. It is told this once.
#[derive(Serialize, ToSchema)]
struct MadeActivation {
    /// Its tenant.
    tenant: String,
    /// Its id, which is no secret.
    id: String,
    /// The code, for `POST /v2/things`; null in the answer to a repeat.
    #[schema(required = true)]
    code: Option<String>,
    /// Worthless from this time on, in Unix ms.
    expires: u64,
}

impl Forgets for MadeActivation {
    fn forget(&mut self) {
        self.code = None;
    }
}

/// A code that is not spent, without the code.
#[derive(Debug, Serialize, ToSchema)]
struct ActivationView {
    /// Its id.
    id: String,
    /// The id of the device to be; null: a random one.
    device: Option<String>,
    /// What the device is to be.
    kind: Option<String>,
    /// The groups that it is to be in.
    groups: Vec<String>,
    /// Worthless from this time on, in Unix ms.
    expires: u64,
}

impl ActivationView {
    fn of(activation: &Activation) -> Self {
        let Activation { id, hash: _, device, kind, groups, ends_ms } = activation.clone();
        Self { id, device, kind, groups, expires: ends_ms }
    }
}

/// The codes that are not spent, by id.
#[utoipa::path(get, path = "/v1/activation-codes", tag = "devices",
    operation_id = "listActivationCodes", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<ActivationView>), Problems))]
async fn list(Admin(asker): Admin, page: Page) -> Json<List<ActivationView>> {
    let time = now().0;
    let mut codes = asker.shared.state.activations(asker.tenant());
    codes.retain(|code| time < code.ends_ms);
    let List { items, next } = page.cut(codes.iter(), |code| &code.id);
    Json(List { items: items.into_iter().map(|code| ActivationView::of(code)).collect(), next })
}

/// Makes a code with which a thing is activated, once, and tells it, once.
#[utoipa::path(post, path = "/v1/activation-codes", tag = "devices",
    operation_id = "addActivationCode", request_body = NewActivation,
    responses((status = 201, description = "It is made.", body = MadeActivation), Problems))]
async fn add(
    Admin(asker): Admin,
    Body(new): Body<NewActivation>,
) -> Result<Once<MadeActivation>, Problem> {
    let device = new.device.map(|id| id.parse::<DeviceId>()).transpose().map_err(bad)?;
    new.kind.as_deref().map(native::parse_kind).transpose()?;
    let groups = groups_of(new.groups)?;
    let time = now().0;
    let ends_ms = new.expires.unwrap_or_else(|| time.saturating_add(LIFETIME_MS));
    if ends_ms <= time {
        return Err(bad("expires is in the past").into());
    }
    let code = make_token(TokenKind::Activation).map_err(|error| io_fault(&error))?;
    let id = random_text(ID_LEN).map_err(|error| io_fault(&error))?;
    let id = format!("code-{id}");
    let activation = Activation {
        id: id.clone(),
        hash: asker.shared.state.master_key().hash_activation(&code),
        device: device.map(|device| device.as_str().to_owned()),
        kind: new.kind,
        groups,
        ends_ms,
    };
    let step = ActivationStep::Add(activation);
    asker.change(Change::Activation { id: id.clone(), step }).await?;
    let tenant = asker.tenant().as_str().to_owned();
    Ok(Once(MadeActivation { tenant, id, code: Some(code), expires: ends_ms }))
}

/// Takes a code back.
#[utoipa::path(delete, path = "/v1/activation-codes/{id}", tag = "devices",
    operation_id = "removeActivationCode", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(Admin(asker): Admin, Path(id): Path<String>) -> Result<Json<Changed>, Problem> {
    let change = Change::Activation { id, step: ActivationStep::Remove };
    Ok(Json(Changed { seq: asker.change(change).await? }))
}
