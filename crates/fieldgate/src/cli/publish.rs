//! `fieldgate publish`: one message, repeats of it, or one for each line of stdin.
//!
//! Exit 0 only after everything is acknowledged.

use std::{collections::VecDeque, io::BufRead};

use fieldgate_client::{Accepted, Receipt, SendError};
use serde_json::json;
use tokio::sync::mpsc;

use super::{block_on, payload, session::Session};
use crate::{args::PublishArgs, failure::Failure, output};

/// Lines sent and not yet acknowledged.
const PENDING_MAX: usize = 256;

pub(crate) fn run(args: PublishArgs) -> Result<(), Failure> {
    block_on(async move {
        let session = Session::open(&args.remote).await?;
        let result = if args.payload.as_deref() == Some("-") {
            lines(&session, &args).await
        } else {
            repeats(&session, &args).await
        };
        session.close().await;
        result
    })
}

fn enqueue(session: &Session, args: &PublishArgs, text: &str) -> Result<Receipt, SendError> {
    let mut message = session.client.publish(&args.topic, payload(text));
    if args.qos > 0 {
        message = message.qos1();
    }
    if args.retain {
        message = message.retain();
    }
    message.enqueue()
}

async fn repeats(session: &Session, args: &PublishArgs) -> Result<(), Failure> {
    let mut ticks = tokio::time::interval(args.every);
    for _ in 0..args.repeat {
        ticks.tick().await;
        let receipt = enqueue(session, args, args.payload.as_deref().unwrap_or("null"))?;
        settle(receipt, args).await?;
    }
    Ok(())
}

async fn lines(session: &Session, args: &PublishArgs) -> Result<(), Failure> {
    let mut lines = stdin_lines();
    let mut pending = VecDeque::new();
    while let Some(line) = lines.recv().await {
        let line = line?;
        if pending.len() >= PENDING_MAX
            && let Some(oldest) = pending.pop_front()
        {
            settle(oldest, args).await?;
        }
        pending.push_back(enqueue(session, args, &line)?);
    }
    for receipt in pending {
        settle(receipt, args).await?;
    }
    Ok(())
}

/// Waits for the acknowledgement, and tells it.
async fn settle(receipt: Receipt, args: &PublishArgs) -> Result<(), Failure> {
    let limit = std::time::Duration::from_secs(30);
    let answer = tokio::time::timeout(limit, receipt).await;
    let Accepted { seq, msgid, .. } =
        answer.unwrap_or(Err(SendError::Unacknowledged { last: None }))?;
    if args.remote.output.json {
        let seq = (args.qos > 0).then_some(seq);
        let msgid = (args.qos > 0).then_some(msgid);
        output::line(&json!({"seq": seq, "msgid": msgid}).to_string())?;
    }
    Ok(())
}

/// The lines of stdin. A thread of its own reads them: a read of stdin cannot be cancelled, and must
/// not keep the process from ending.
fn stdin_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, lines) = mpsc::channel(PENDING_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
