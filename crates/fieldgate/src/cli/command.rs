//! `fieldgate command`: a command and how it ended.
//!
//! Exit 0 if it was completed, or is on its way when `--wait` is over; 1 if it failed or
//! expired, of several devices at any of them.

use serde_json::{Value, json};

use super::{block_on, now_ms, payload, session::Session};
use crate::{
    args::CommandArgs,
    failure::{Exit, Failure},
    output,
};

pub(crate) fn run(args: CommandArgs) -> Result<(), Failure> {
    block_on(async move {
        let session = Session::open(&args.remote).await?;
        let expires = u64::try_from(args.expires.as_millis()).unwrap_or(u64::MAX);
        let ask = session.client.command(&args.to, payload(&args.payload));
        let ask = ask.expires(now_ms().saturating_add(expires));
        let many = args.to.starts_with("group:") || args.to.contains(['+', '#']);
        let result = if many { broadcast(ask, &args).await } else { one(ask, &args).await };
        session.close().await;
        result
    })
}

async fn one(ask: fieldgate_client::CommandRequest, args: &CommandArgs) -> Result<(), Failure> {
    let outcome = ask.wait(args.wait).await?;
    let said = outcome.payload.as_deref().and_then(|p| serde_json::from_str::<Value>(p).ok());
    if args.remote.output.json {
        let line = json!({"msgid": outcome.msgid, "state": outcome.state, "payload": said});
        output::line(&line.to_string())?;
    } else {
        let said = outcome.payload.as_deref().map(|p| format!(" {p}")).unwrap_or_default();
        output::line(&format!("{}{said}", outcome.state))?;
    }
    if is_bad_end(&outcome.state) {
        let text = format!("the command to {} is {}", args.to, outcome.state);
        return Err(Failure::new(Exit::Failed, &outcome.state, text));
    }
    Ok(())
}

/// Whether nothing comes of a command that is in this state.
fn is_bad_end(state: &str) -> bool {
    matches!(state, "failed" | "expired" | "cancelled")
}

async fn broadcast(
    ask: fieldgate_client::CommandRequest,
    args: &CommandArgs,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + args.wait;
    let mut life = ask.send().await?;
    let msgid = life.accepted().msgid.clone();
    let mut open = life.accepted().devices.unwrap_or(0);
    if args.remote.output.json {
        output::line(&json!({"msgid": msgid, "devices": open}).to_string())?;
    } else {
        output::note(&format!("queued for {open} devices"));
    }
    let (mut bad_count, mut worst) = (0_u64, None);
    while open > 0 {
        let Ok(Some(update)) = tokio::time::timeout_at(deadline, life.next()).await else { break };
        if update.is_end() {
            open -= 1;
        }
        if is_bad_end(&update.state) {
            bad_count += 1;
            // That it failed says more than that nobody answered.
            if worst.is_none() || update.state == "failed" {
                worst = Some(update.state.clone());
            }
        }
        if args.remote.output.json {
            let said =
                update.payload.as_deref().and_then(|p| serde_json::from_str::<Value>(p).ok());
            let line = json!({
                "msgid": msgid, "deviceId": update.device, "state": update.state, "payload": said,
            });
            output::line(&line.to_string())?;
        } else {
            let said = update.payload.as_deref().map(|p| format!(" {p}")).unwrap_or_default();
            output::line(&format!("{} {}{said}", update.device, update.state))?;
        }
    }
    let Some(worst) = worst else { return Ok(()) };
    let text = format!("the command to {} came to nothing at {bad_count} devices", args.to);
    Err(Failure::new(Exit::Failed, &worst, text))
}
