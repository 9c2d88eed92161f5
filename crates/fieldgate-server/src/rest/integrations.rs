//! Integrations: what flows in from another system, or out to one.

mod acts;
mod aside;
mod target;
mod view;

use std::sync::Arc;

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use fieldgate_core::{fault::Fault, id::DeviceId};
use fieldgate_store::{
    registry::{
        Change, Integration, IntegrationEdit, IntegrationKind, IntegrationStep, Start, Target,
    },
    secret::{TokenKind, make_token},
    state::Integrated,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    target::Place,
    view::{IntegrationView, doing},
};
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
use crate::{deliver::Known, http::Problem};

/// What is delivered unless it is said.
const FILTER: &str = "devices/+/telemetry";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, edit, remove))
        .merge(acts::router())
        .merge(aside::router())
}

/// An integration to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIntegration {
    /// Its name, unique in the tenant, written like a device id.
    #[schema(pattern = "^[A-Za-z0-9._:~-]{1,128}$")]
    name: String,
    /// `thingsee-in`: the Thingsee cloud connects to us. `websocket`: we connect to a WebSocket server.
    /// `rest`: we post to an HTTP server. The other members are for the last two.
    kind: String,
    /// Where to: `ws:` or `wss:`, `http:` or `https:`.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// The topics that are delivered: `devices/+/telemetry`, unless it is said.
    filter: Option<String>,
    /// `thingsee`: arrays of Thingsee objects, the default. `native`: arrays of messages as a history
    /// has them. `native-lines`: these, one a line.
    format: Option<String>,
    /// Where the secret stands: `header:NAME` (in `Authorization` behind `Bearer`) or `query:NAME`;
    /// with `hash:` in front if the secret is behind the `#` of `url`.
    token_in: Option<String>,
    /// The secret that the target is shown.
    secret: Option<String>,
    /// Whether requests are signed: a secret for that is made, and told once.
    #[serde(default)]
    sign: bool,
    /// From where on: `now`, the default; `all`; a position; or a time, Unix ms or RFC 3339.
    from: Option<String>,
    /// Whether private addresses may be connected to.
    #[serde(default)]
    allow_private: bool,
    /// Most messages a second while 1000 numbers of the log or more are behind the cursor.
    #[schema(minimum = 1)]
    messages_per_second: Option<u64>,
    /// Most messages of a batch.
    #[schema(minimum = 1, maximum = 10000)]
    batch_max: Option<u64>,
}

/// An integration that was made. Its secrets are told this once.
#[derive(Serialize, ToSchema)]
struct MadeIntegration {
    /// Its name.
    name: String,
    /// `thingsee-in`, `websocket` or `rest`.
    kind: &'static str,
    /// Of what comes in: the token to be shown to us.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What requests are signed with, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<String>,
}

impl Forgets for MadeIntegration {
    fn forget(&mut self) {
        (self.token, self.signing_secret) = (None, None);
    }
}

/// What of an integration is to be another. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct IntegrationPatch {
    /// Where to. Another one needs the secret again, if there is one.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// The topics that are delivered.
    filter: Option<String>,
    /// `thingsee`, `native` or `native-lines`.
    format: Option<String>,
    /// Where the secret stands; null with `"secret":null`: none is shown.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    token_in: Option<Option<String>>,
    /// The secret that the target is shown.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<String>>,
    /// False: requests are not signed any more. To sign with a new secret: `…/rotate`.
    sign: Option<bool>,
    /// Whether private addresses may be connected to.
    allow_private: Option<bool>,
    /// Most messages a second while it is far behind; null: as many as it takes.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    messages_per_second: Option<Option<u64>>,
    /// Most messages of a batch; null: as many as is usual.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    batch_max: Option<Option<u64>>,
}

/// The integrations, by name.
#[utoipa::path(get, path = "/v1/integrations", tag = "integrations",
    operation_id = "listIntegrations", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<IntegrationView>), Problems))]
async fn list(Admin(asker): Admin, page: Page) -> Json<List<IntegrationView>> {
    let all = asker.shared.state.integrations(asker.tenant());
    let List { items, next } = page.cut(all.iter(), |known| &known.integration.name);
    let items = items
        .into_iter()
        .map(|known| IntegrationView::of(&asker, known, doing(&asker, known).as_ref()))
        .collect();
    Json(List { items, next })
}

/// One integration and how it does. Its tag stands for what people want of it, and is the same
/// however far it came.
#[utoipa::path(get, path = "/v1/integrations/{name}", tag = "integrations",
    operation_id = "showIntegration", params(("name" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = IntegrationView,
            headers(("ETag" = String, description = "Its revision."))),
        Problems))]
async fn show(Admin(asker): Admin, Path(name): Path<String>) -> Result<Response, Problem> {
    let known = known(&asker, &name)?;
    Ok(answer(&asker, &known, doing(&asker, &known).as_ref()))
}

fn known(asker: &Asker, name: &str) -> Result<Integrated, Fault> {
    let found = asker.shared.state.integration(asker.tenant(), name);
    found.ok_or_else(|| no_such("integration", name))
}

fn answer(asker: &Asker, known: &Integrated, doing: Option<&Known>) -> Response {
    let view = IntegrationView::of(asker, known, doing);
    ([etag::tag(known.integration.tag())], Json(view)).into_response()
}

/// Makes a change, and answers with what came of it.
async fn change(
    asker: &Asker,
    name: &str,
    headers: &HeaderMap,
    step: IntegrationStep,
) -> Result<Response, Problem> {
    let expected = etag::expected(headers)?;
    let begins_anew = matches!(step, IntegrationStep::Replay(_));
    let change = Change::Integration { name: name.to_owned(), expected, step };
    let changed = asker.change(change).await;
    changed.map_err(|fault| {
        let now = asker.shared.state.integration(asker.tenant(), name);
        etag::refused(fault, expected, now.map_or(0, |known| known.integration.tag()))
    })?;
    let known = known(asker, name)?;
    // What is at work yet is where it was before.
    let doing = doing(asker, &known).filter(|_| !begins_anew);
    Ok(answer(asker, &known, doing.as_ref()))
}

/// Makes an integration. The token of what comes in, and the secret that requests are signed with, are
/// told once.
#[utoipa::path(post, path = "/v1/integrations", tag = "integrations",
    operation_id = "addIntegration",
    request_body(content = NewIntegration, example = json!({"name": "warehouse", "kind": "rest",
        "url": "https://api.example.com/in", "token_in": "header:Authorization",
        "secret": "their token"})),
    responses((status = 201, description = "It is made.", body = MadeIntegration), Problems))]
async fn add(
    Admin(asker): Admin,
    Body(new): Body<NewIntegration>,
) -> Result<Once<MadeIntegration>, Problem> {
    let _valid: DeviceId =
        new.name.parse().map_err(|_| bad("an integration's name is written like a device id"))?;
    let kind = IntegrationKind::parse(&new.kind);
    let kind = kind.ok_or_else(|| bad("kind is thingsee-in, websocket or rest"))?;
    let name = new.name.clone();
    let mut made = MadeIntegration {
        name: name.clone(),
        kind: kind.as_str(),
        token: None,
        signing_secret: None,
    };
    let (mut token, mut target, mut start) = (None, None, Start::Now);
    if kind == IntegrationKind::ThingseeIn {
        check_source(&new)?;
        let made_token = make_token(TokenKind::Source).map_err(|error| io_fault(&error))?;
        token = Some(asker.shared.state.master_key().hash_source(&made_token));
        made.token = Some(made_token);
    } else {
        start = acts::start(&asker, new.from.as_deref().unwrap_or("now")).await?;
        let (read, signing_secret) = new_target(&asker, kind, &name, new)?;
        (target, made.signing_secret) = (Some(read), signing_secret);
    }
    let integration =
        Box::new(Integration { name: name.clone(), kind, paused: false, token, target });
    let step = IntegrationStep::Add { integration, start };
    asker.change(Change::Integration { name, expected: None, step }).await?;
    Ok(Once(made))
}

/// Refuses what a source has not.
fn check_source(new: &NewIntegration) -> Result<(), Fault> {
    let NewIntegration { url, filter, format, token_in, secret, from, .. } = new;
    let is_target = [url, filter, format, token_in, secret, from].iter().any(|it| it.is_some())
        || new.sign
        || new.allow_private
        || new.messages_per_second.is_some()
        || new.batch_max.is_some();
    if is_target {
        return Err(bad("thingsee-in takes and delivers nothing: it has a name alone"));
    }
    Ok(())
}

/// The target as it is to be, and the secret to sign with, if one was made.
fn new_target(
    asker: &Asker,
    kind: IntegrationKind,
    name: &str,
    new: NewIntegration,
) -> Result<(Target, Option<String>), Fault> {
    let (shared, tenant) = (&asker.shared, asker.tenant());
    let place = new.token_in.as_deref().map(Place::read).transpose()?;
    let url = new.url.ok_or_else(|| bad("url is missing: where is it to deliver?"))?;
    let (url, hashed) = target::address(kind, &url, place.as_ref(), new.allow_private)?;
    if hashed.is_some() && new.secret.is_some() {
        return Err(bad("the secret is given twice: as secret and behind the # of url"));
    }
    let secret = new.secret.or(hashed);
    if secret.is_some() != place.is_some() {
        return Err(bad("secret and token_in, where it stands, come together"));
    }
    if new.sign && kind != IntegrationKind::Rest {
        return Err(bad("a request is signed, and of these kinds rest alone makes requests"));
    }
    let signing = new.sign.then(|| target::signing(shared, tenant, name)).transpose()?;
    let (signing, signing_secret) = signing.unzip();
    let target = Target {
        url,
        filter: target::filter(shared, new.filter.as_deref().unwrap_or(FILTER))?,
        format: new.format.as_deref().map(target::format).transpose()?.unwrap_or_default(),
        token_in: place.map(|place| place.token_in),
        secret: secret.map(|text| target::seal(shared, tenant, name, &text)).transpose()?,
        signing,
        allow_private: new.allow_private,
        rate_max: new.messages_per_second.map(target::rate).transpose()?,
        batch_max: new.batch_max.map(target::batch).transpose()?,
    };
    Ok((target, signing_secret))
}

/// Changes where an integration delivers to, and what: a JSON merge patch (RFC 7396). It holds from the
/// next batch on. With `If-Match` only if it has that revision still.
#[utoipa::path(patch, path = "/v1/integrations/{name}", tag = "integrations",
    operation_id = "editIntegration", params(("name" = String, Path)),
    request_body(content = IntegrationPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = IntegrationView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn edit(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(patch): Body<IntegrationPatch>,
) -> Result<Response, Problem> {
    let known = known(&asker, &name)?;
    let edit = edit_of(&asker, &known.integration, patch)?;
    change(&asker, &name, &headers, IntegrationStep::Edit(Box::new(edit))).await
}

fn edit_of(
    asker: &Asker,
    before: &Arc<Integration>,
    patch: IntegrationPatch,
) -> Result<IntegrationEdit, Fault> {
    let (shared, tenant, name) = (&asker.shared, asker.tenant(), before.name.as_str());
    let place = patch.token_in.as_ref().map(|text| text.as_deref().map(Place::read).transpose());
    let place = place.transpose()?;
    let mut secret = patch.secret;
    let mut url = None;
    if let Some(text) = patch.url {
        let kept_place = before.target.as_ref().and_then(|target| target.token_in.clone());
        let of_now = place.clone().unwrap_or_else(|| kept_place.map(Place::apart));
        let is_allowed = before.target.as_ref().is_some_and(|target| target.allow_private);
        let is_allowed = patch.allow_private.unwrap_or(is_allowed);
        let (kept, hashed) = target::address(before.kind, &text, of_now.as_ref(), is_allowed)?;
        if hashed.is_some() && secret.is_some() {
            return Err(bad("the secret is given twice: as secret and behind the # of url"));
        }
        (url, secret) = (Some(kept), secret.or(hashed.map(Some)));
    }
    if patch.sign == Some(true) {
        return Err(bad("a new secret to sign with is made by …/rotate"));
    }
    let seal = |text: String| target::seal(shared, tenant, name, &text);
    Ok(IntegrationEdit {
        url,
        filter: patch.filter.map(|text| target::filter(shared, &text)).transpose()?,
        format: patch.format.as_deref().map(target::format).transpose()?,
        token_in: place.map(|place| place.map(|place| place.token_in)),
        secret: secret.map(|text| text.map(seal).transpose()).transpose()?,
        signing: patch.sign.map(|_| None),
        allow_private: patch.allow_private,
        rate_max: patch.messages_per_second.map(|n| n.map(target::rate).transpose()).transpose()?,
        batch_max: patch.batch_max.map(|n| n.map(target::batch).transpose()).transpose()?,
    })
}

/// Removes an integration: it delivers no more, and its token ends within a second. The devices that it
/// brought stay.
#[utoipa::path(delete, path = "/v1/integrations/{name}", tag = "integrations",
    operation_id = "removeIntegration", params(("name" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<Changed>, Problem> {
    let step = IntegrationStep::Remove;
    let change = Change::Integration { name, expected: None, step };
    Ok(Json(Changed { seq: asker.change(change).await? }))
}
