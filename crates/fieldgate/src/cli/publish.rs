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
        let text = args.payload.as_deref().unwrap_or("null");
        let sent = async { settle(enqueue(session, args, text)?, args).await };
        sent.await.map_err(|failure| told_size(failure, "the payload", text.len()))?;
    }
    Ok(())
}

async fn lines(session: &Session, args: &PublishArgs) -> Result<(), Failure> {
    let mut lines = stdin_lines();
    let mut pending = VecDeque::new();
    let mut longest = Longest::default();
    let mut number = 0_u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        let line = line.map_err(|error| unreadable(number, error))?;
        longest = longest.max(Longest { len: line.len(), number });
        if pending.len() >= PENDING_MAX
            && let Some(oldest) = pending.pop_front()
        {
            settle(oldest, args).await.map_err(|failure| longest.told(failure))?;
        }
        let receipt = enqueue(session, args, &line).map_err(Failure::from);
        pending.push_back(receipt.map_err(|failure| longest.told(failure))?);
    }
    for receipt in pending {
        settle(receipt, args).await.map_err(|failure| longest.told(failure))?;
    }
    Ok(())
}

fn unreadable(number: u64, error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::InvalidData {
        return Failure::usage(format!("line {number} of stdin is not UTF-8"))
            .hint("a message is JSON or text");
    }
    error.into()
}

/// The longest line so far. A frame that is too large ends the connection without a word about which
/// one it was, and no other is it sooner than the longest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Longest {
    len: usize,
    number: u64,
}

impl Longest {
    fn told(self, failure: Failure) -> Failure {
        told_size(failure, &format!("line {}", self.number), self.len)
    }
}

/// A failure of what is too large, with what that is.
fn told_size(failure: Failure, what: &str, len: usize) -> Failure {
    if failure.code != "too_large" {
        return failure;
    }
    let bound = "limits.frame_bytes_max bounds a frame";
    let message = format!("{what} has {len} bytes; {bound} ({})", failure.message);
    Failure { message, hint: None, ..failure }
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
