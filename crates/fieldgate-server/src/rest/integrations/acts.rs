//! What is done with an integration: it rests, goes on, is tried, delivers again, gets another token.

use std::{sync::Arc, time::Duration};

use axum::{Json, http::HeaderMap, response::Response};
use fieldgate_core::{
    audit::Act,
    fault::{Code, Fault},
    id::{Position, Seq},
};
use fieldgate_store::{
    Log as _,
    audit::Said,
    registry::{Change, IntegrationEdit, IntegrationKind, IntegrationStep, Start},
    secret::{TokenKind, make_token},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    super::{
        Problems,
        asker::{Admin, Asker, Body, Path, bad},
        idempotency::Once,
        io_fault,
        query::time_of,
    },
    IntegrationView, MadeIntegration, change, known, target,
};
use crate::{deliver, http::Problem};

/// Longest time that a target is tried.
const TRY: Duration = Duration::from_secs(20);

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(rotate))
        .routes(routes!(replay))
        .routes(routes!(test))
}

/// From where on an integration is to deliver again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Replay {
    /// `all`; a position, behind which it begins; a time, Unix ms or RFC 3339; or `now`: what waits is
    /// passed over.
    from: String,
}

/// How a target answered when it was tried.
#[derive(Debug, Serialize, ToSchema)]
struct Tested {
    /// Whether it would take messages.
    ok: bool,
    /// What happened.
    detail: String,
    /// How long it took.
    took_ms: u64,
}

/// Lets an integration rest: what it has under way is finished, and from there on nothing is delivered
/// or taken. The connections of what comes in end within a second.
#[utoipa::path(post, path = "/v1/integrations/{name}/pause", tag = "integrations",
    operation_id = "pauseIntegration", params(("name" = String, Path)),
    responses((status = 200, description = "It rests.", body = IntegrationView), Problems))]
async fn pause(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&asker, &name, &headers, IntegrationStep::Pause(true)).await
}

/// Lets an integration go on from where it came to.
#[utoipa::path(post, path = "/v1/integrations/{name}/resume", tag = "integrations",
    operation_id = "resumeIntegration", params(("name" = String, Path)),
    responses((status = 200, description = "It goes on.", body = IntegrationView), Problems))]
async fn resume(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&asker, &name, &headers, IntegrationStep::Pause(false)).await
}

/// Replaces the secret of ours that an integration has, and tells the new one once: of what comes in the
/// token that is shown to us, whose connections end within a second; of `rest` what requests are
/// signed with, from the next one on.
#[utoipa::path(post, path = "/v1/integrations/{name}/rotate", tag = "integrations",
    operation_id = "rotateIntegration", params(("name" = String, Path)),
    responses((status = 201, description = "It is made.", body = MadeIntegration), Problems))]
async fn rotate(
    Admin(asker): Admin,
    Path(name): Path<String>,
) -> Result<Once<MadeIntegration>, Problem> {
    let kind = known(&asker, &name)?.integration.kind;
    let mut made = MadeIntegration {
        name: name.clone(),
        kind: kind.as_str(),
        token: None,
        signing_secret: None,
    };
    let step = match kind {
        IntegrationKind::ThingseeIn => {
            let token = make_token(TokenKind::Source).map_err(|error| io_fault(&error))?;
            let hash = asker.shared.state.master_key().hash_source(&token);
            made.token = Some(token);
            IntegrationStep::Rotate(hash)
        }
        IntegrationKind::Rest => {
            let (sealed, secret) = target::signing(&asker.shared, asker.tenant(), &name)?;
            made.signing_secret = Some(secret);
            let signing = Some(Some(sealed));
            IntegrationStep::Edit(Box::new(IntegrationEdit { signing, ..Default::default() }))
        }
        IntegrationKind::WebSocket => {
            return Err(bad("a websocket has no secret of ours: edit the one it is shown").into());
        }
    };
    asker.change(Change::Integration { name, expected: None, step }).await?;
    Ok(Once(made))
}

/// Delivers again what was delivered, from somewhere on; what was set aside behind that is not set
/// aside any more.
#[utoipa::path(post, path = "/v1/integrations/{name}/replay", tag = "integrations",
    operation_id = "replayIntegration", params(("name" = String, Path)),
    request_body(content = Replay, example = json!({"from": "2026-11-20T06:00:00Z"})),
    responses((status = 200, description = "It begins there.", body = IntegrationView), Problems))]
async fn replay(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(Replay { from }): Body<Replay>,
) -> Result<Response, Problem> {
    let after = match start(&asker, &from).await? {
        Start::After(after) => after,
        // The end of the log is where the record of this stands.
        Start::Now => u64::MAX,
    };
    change(&asker, &name, &headers, IntegrationStep::Replay(after)).await
}

/// Reads from where on something is delivered.
pub(super) async fn start(asker: &Asker, from: &str) -> Result<Start, Fault> {
    let log = &asker.shared.log;
    if from == "now" {
        return Ok(Start::Now);
    }
    if from == "all" {
        return Ok(Start::After(log.oldest().prev().0));
    }
    if let Ok(position) = from.parse() {
        return seq_of(asker, position).map(|seq| Start::After(seq.0));
    }
    let wrong = || bad("from is now, all, a position, or a time: Unix ms or RFC 3339");
    let time = time_of(from).ok_or_else(wrong)?;
    let log = Arc::clone(log);
    let found = tokio::task::spawn_blocking(move || log.seek_time(time)).await;
    let unreadable = || Fault::new(Code::Busy, "the times in the log cannot be read now");
    let found = found.map_err(|_| unreadable())?.map_err(|error| {
        tracing::error!(%error, "times in the log are unreadable");
        unreadable()
    })?;
    Ok(Start::After(found.prev().0))
}

/// The number that a position names in this log.
pub(super) fn seq_of(asker: &Asker, position: Position) -> Result<Seq, Fault> {
    let log = &asker.shared.log;
    if position.epoch != log.epoch() || position.seq > log.frontier().ordered {
        return Err(bad(format!("the position {position} is none of this log")));
    }
    Ok(position.seq)
}

/// Tries a target once, without a message: whether it lets us in, and what it says.
#[utoipa::path(post, path = "/v1/integrations/{name}/test", tag = "integrations",
    operation_id = "testIntegration", params(("name" = String, Path)),
    responses((status = 200, description = "It was tried.", body = Tested), Problems))]
async fn test(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<Tested>, Problem> {
    let known = known(&asker, &name)?;
    if known.integration.target.is_none() {
        return Err(bad("what comes in has no target to try").into());
    }
    asker.enter(Said::done(Act::IntegrationTest, &asker.author(), &name)).await?;
    let begun = Instant::now();
    let tried = tokio::time::timeout(TRY, deliver::test(&asker.shared, &known)).await;
    let (ok, detail) = match tried {
        Ok(Ok(())) => (true, "it took an empty batch, or answered a ping".to_owned()),
        Ok(Err(failure)) => (false, failure.text),
        Err(_) => (false, format!("it did not answer within {} s", TRY.as_secs())),
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Tested { ok, detail, took_ms }))
}
