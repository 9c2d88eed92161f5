//! Commands over HTTP: sent, waited for, looked at, taken back.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    http::{StatusCode, Uri},
};
use fieldgate_core::{
    dialect::{Ask, CommandState},
    fault::{Code, Fault},
    id::{Position, Seq},
};
use fieldgate_dialects::native;
use fieldgate_store::{AppendError, Log, state::Admit};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Path, Text, bad},
    idempotency::Derived,
    no_such, query,
};
use crate::{
    asks::{Refused, limits_of},
    commands::{self, Issued},
    fabric::{FULL_TRIES, FULL_WAIT, append_fault},
    http::Problem,
    outcomes::Outcome,
};

/// How long a request may wait for the end of a command.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long for that of one which is over: it is told, if at all, a moment after it ended.
const OVER_WAIT: Duration = Duration::from_secs(1);
/// Most devices whose ends one request waits for.
const WAIT_DEVICES_MAX: usize = 256;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(send)).routes(routes!(show))
}

/// A command that was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Commanded {
    /// Its position: that of the first device's.
    #[schema(examples("k3f9:1042"))]
    position: String,
    /// Each device that it is for; of a repeat only the first.
    devices: Vec<CommandView>,
}

/// A command for one device.
#[derive(Debug, Serialize, ToSchema)]
struct CommandView {
    /// The device.
    device: String,
    /// Its position.
    position: String,
    /// `queued`, `sent`, `acknowledged`, `completed`, `failed`, `expired` or `cancelled`; `ended` of a
    /// repeat whose end is no longer known here.
    state: &'static str,
    /// What the device said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    payload: Option<Box<RawValue>>,
}

/// Sends a command to a device, a group (`group:NAME`) or a filter (`devices/+`). It is on stable
/// storage when this answers; with `wait` the answer comes when each device has ended it, at the
/// latest after that time.
#[utoipa::path(post, path = "/v1/commands", tag = "messages", operation_id = "sendCommand",
    params(("wait" = Option<String>, Query, description = "At most `60s`.", example = "5s")),
    request_body(content = Object, example = json!({"to": "lamp-1", "payload": {"set": {"on": true}}})),
    responses((status = 201, description = "It is stored.", body = Commanded), Problems))]
async fn send(
    asker: Asker,
    uri: Uri,
    Derived(derived): Derived,
    Text(text): Text,
) -> Result<(StatusCode, Json<Commanded>), Problem> {
    let wait = wait_of(&uri)?;
    let decoded = native::decode_text_as("command", &text, &limits_of(&asker.shared));
    let Ask::Command(mut ask) = decoded.map_err(|refusal| refusal.fault)? else {
        return Err(bad("the body is a frame of type command").into());
    };
    ask.reference = ask.reference.or(derived);
    asker.pay(1, text.len())?;
    let issue = |is_first| {
        let pay = |more| if is_first { asker.pay(more, 0) } else { Ok(()) };
        commands::issue(&asker.shared, &asker.principal, &ask, pay)
    };
    sent(&asker, wait, issue).await
}

/// Sends a command, and waits for its ends if that is asked for. `issue` is tried again while the log
/// is full; it is told whether it is asked for the first time.
pub(super) async fn sent(
    asker: &Asker,
    wait: Option<Duration>,
    issue: impl Fn(bool) -> Result<Issued, Refused>,
) -> Result<(StatusCode, Json<Commanded>), Problem> {
    let mut tries = 0;
    let issued = loop {
        match issue(tries == 0) {
            Ok(issued) => break issued,
            Err(Refused::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(Refused::Full) => return Err(append_fault(&AppendError::Full).into()),
            Err(Refused::Fault(fault)) => return Err(fault.into()),
        }
        tries += 1;
    };
    let last = Seq(*issued.admitted.range().end());
    asker.shared.settled(last, true).await?;
    if wait.is_some() && issued.devices.len() > WAIT_DEVICES_MAX {
        let text = format!(
            "it is sent, as {}; wait is for {WAIT_DEVICES_MAX} devices or fewer",
            asker.shared.position(Seq(*issued.admitted.range().start()))
        );
        return Err(Fault::new(Code::TooLarge, text).into());
    }
    Ok((StatusCode::CREATED, Json(told(asker, &issued, wait.unwrap_or_default()).await)))
}

/// A command for one device: where it is in its life, and how it ended if that was not long ago.
#[utoipa::path(get, path = "/v1/commands/{position}", tag = "messages", operation_id = "showCommand",
    params(("position" = String, Path)),
    responses((status = 200, description = "It is there.", body = CommandView), Problems))]
async fn show(asker: Asker, Path(position): Path<String>) -> Result<Json<CommandView>, Problem> {
    let none = || no_such("command", &position);
    let at: Position = position.parse().map_err(bad)?;
    let view = view(&asker, at.seq).filter(|_| at.epoch == asker.shared.log.epoch());
    let view = view.ok_or_else(none)?;
    let may = view.device.parse().is_ok_and(|device| asker.principal.may_command(&device));
    if may { Ok(Json(view)) } else { Err(none().into()) }
}

pub(super) fn wait_of(uri: &Uri) -> Result<Option<Duration>, Fault> {
    let mut wait = None;
    for (name, value) in query::parameters(uri)? {
        if name != "wait" {
            return Err(query::unknown(&name, "wait"));
        }
        let time = crate::config::duration(&value).map(Duration::from_millis);
        let time = time.filter(|time| *time <= WAIT_MAX);
        let time = time.ok_or_else(|| bad("wait is a time up to 60s, as 5s or 500ms"))?;
        query::once(&mut wait, "wait", time)?;
    }
    Ok(wait)
}

/// How it stands with each device, at the latest after `wait`.
async fn told(asker: &Asker, issued: &Issued, wait: Duration) -> Commanded {
    let seqs: Vec<Seq> = issued.admitted.range().map(Seq).collect();
    let mut ended: BTreeMap<Seq, Outcome> = BTreeMap::new();
    let is_repeat = matches!(issued.admitted, Admit::Repeat(_));
    let is_over = is_repeat && seqs.iter().all(|seq| view(asker, *seq).is_none());
    let wait = if is_over { wait.min(OVER_WAIT) } else { wait };
    if !wait.is_zero() {
        let mut watch = asker.shared.outcomes.watch(&seqs);
        let all = async {
            while ended.len() < seqs.len()
                && let Some((seq, outcome)) = watch.next().await
            {
                ended.insert(seq, outcome);
            }
        };
        // What has not ended by then is told as it stands.
        let _late = tokio::time::timeout(wait, all).await;
    }
    let position = |seq| asker.shared.position(seq).to_string();
    let one = |(seq, device): (&Seq, &String)| match ended.get(seq) {
        Some(outcome) => ended_view(asker, *seq, outcome.clone()),
        None => view(asker, *seq).unwrap_or_else(|| CommandView {
            device: device.clone(),
            position: position(*seq),
            state: if is_repeat { "ended" } else { native::command_state(CommandState::Queued) },
            payload: None,
        }),
    };
    let devices = seqs.iter().zip(&issued.devices).map(one).collect();
    let first = seqs.first().copied().unwrap_or(Seq(0));
    Commanded { position: position(first), devices }
}

fn ended_view(asker: &Asker, seq: Seq, outcome: Outcome) -> CommandView {
    let payload =
        outcome.payload.and_then(|payload| serde_json::from_slice::<Box<RawValue>>(&payload).ok());
    CommandView {
        device: outcome.device,
        position: asker.shared.position(seq).to_string(),
        state: native::command_state(outcome.state),
        payload,
    }
}

/// A command of the asker's tenant as it stands.
fn view(asker: &Asker, seq: Seq) -> Option<CommandView> {
    let open = asker.shared.state.open_command(seq);
    if let Some(open) = open.filter(|open| open.tenant == *asker.tenant()) {
        return Some(CommandView {
            device: open.device.as_str().to_owned(),
            position: asker.shared.position(seq).to_string(),
            state: native::command_state(open.state),
            payload: None,
        });
    }
    let outcome = asker.shared.outcomes.of(seq);
    let ours = outcome.filter(|outcome| outcome.tenant == *asker.tenant());
    ours.map(|outcome| ended_view(asker, seq, outcome))
}
