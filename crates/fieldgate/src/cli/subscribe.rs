//! `fieldgate subscribe`: a live table on a terminal, JSON lines elsewhere.

use std::{collections::BTreeMap, time::Duration};

use fieldgate_client::{Event, Message, Since, SubscribeError, Subscription, UnixMs};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{block_on, now_ms, session::Session};
use crate::{args::SubscribeArgs, failure::Failure, output};

/// Rows of the live table.
const ROWS_MAX: usize = 20;
const REDRAW: Duration = Duration::from_millis(200);

pub(crate) fn run(args: SubscribeArgs) -> Result<(), Failure> {
    let since = args.since.as_deref().map(|text| parse_since(text, now_ms(), "all")).transpose()?;
    block_on(async move {
        let session = Session::open(&args.remote).await?;
        let (sender, events) = mpsc::channel(256);
        for filter in &args.filters {
            let mut ask = session.client.subscribe(filter);
            if args.qos > 0 {
                ask = ask.qos1();
            }
            if let Some(since) = since {
                ask = ask.since(since);
            }
            forward(ask.open().await?, sender.clone());
        }
        drop(sender);
        let table = output::is_terminal() && !args.remote.output.json;
        let result =
            if table { show(events, args.count).await } else { print(events, args.count).await };
        let ended = matches!(result, Ok(false));
        if ended {
            return Err(session.client.ended().await.into());
        }
        session.close().await;
        result.map(|_| ())
    })
}

/// Joins the streams. Ends with its subscription or with the receiver.
fn forward(mut subscription: Subscription, to: mpsc::Sender<Event>) {
    tokio::spawn(async move {
        while let Some(event) = subscription.next().await {
            if to.send(event).await.is_err() {
                return;
            }
        }
    });
}

/// What the server says where it no longer takes a subscription that stood.
fn refused(code: String, message: String) -> Failure {
    SubscribeError::Refused { code, message }.into()
}

/// JSON lines; says whether the count was reached (else the stream ended).
async fn print(mut events: mpsc::Receiver<Event>, count: Option<u64>) -> Result<bool, Failure> {
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let Some(event) = events.recv().await else { return Ok(false) };
        match event {
            Event::Message(message) => {
                output::line(&message_json(&message))?;
                seen += 1;
            }
            Event::Gap(gap) => {
                let gap = json!({"from": gap.from, "to": gap.to, "reason": gap.reason});
                output::line(&json!({"gap": gap}).to_string())?;
            }
            Event::Refused { code, message } => return Err(refused(code, message)),
            Event::CaughtUp | _ => (),
        }
    }
    Ok(true)
}

/// The stable shape of one message. The payload stays as the sender wrote it.
fn message_json(message: &Message) -> String {
    let text = |value: &str| Value::from(value).to_string();
    let payload = if message.payload.is_empty() { "null" } else { &message.payload };
    format!(
        r#"{{"seq":{},"topic":{},"payload":{payload},"timestamp":{},"from":{},"qos":{},"retain":{}}}"#,
        message.seq,
        text(&message.topic),
        message.timestamp,
        text(&message.from),
        message.qos,
        message.retain,
    )
}

/// The newest message of each topic; says whether the count was reached.
async fn show(mut events: mpsc::Receiver<Event>, count: Option<u64>) -> Result<bool, Failure> {
    let mut screen = output::Screen::default();
    let mut newest: BTreeMap<String, (u64, Message)> = BTreeMap::new();
    let (mut seen, mut gaps) = (0_u64, 0_u64);
    let mut redraw = tokio::time::interval(REDRAW);
    let mut dirty = true;
    let mut rate = (Instant::now(), 0_u64, 0.0_f64);
    loop {
        tokio::select! {
            biased;
            _ = redraw.tick() => if dirty {
                let elapsed = rate.0.elapsed();
                if elapsed >= Duration::from_secs(1) {
                    let fresh = u32::try_from(seen - rate.1).unwrap_or(u32::MAX);
                    rate = (Instant::now(), seen, f64::from(fresh) / elapsed.as_secs_f64());
                }
                screen.draw(&rows(&newest, seen, gaps, rate.2))?;
                dirty = false;
            },
            event = events.recv() => {
                dirty = true;
                match event {
                    None => return Ok(false),
                    Some(Event::Message(message)) => {
                        seen += 1;
                        let entry = newest.entry(message.topic.clone());
                        let entry = entry.or_insert_with(|| (0, message.clone()));
                        *entry = (entry.0 + 1, message);
                    }
                    Some(Event::Gap(_)) => gaps += 1,
                    Some(Event::Refused { code, message }) => return Err(refused(code, message)),
                    Some(_) => (),
                }
                if count.is_some_and(|count| seen >= count) {
                    screen.draw(&rows(&newest, seen, gaps, rate.2))?;
                    return Ok(true);
                }
            }
        }
    }
}

fn rows(newest: &BTreeMap<String, (u64, Message)>, seen: u64, gaps: u64, rate: f64) -> Vec<String> {
    let mut latest: Vec<_> = newest.values().collect();
    latest.sort_by_key(|(_, message)| std::cmp::Reverse(message.seq));
    latest.truncate(ROWS_MAX);
    latest.sort_by(|(_, a), (_, b)| a.topic.cmp(&b.topic));
    let rows: Vec<Vec<String>> = latest
        .iter()
        .map(|(count, message)| {
            let payload: String = message.payload.chars().take(100).collect();
            vec![message.topic.clone(), message.seq.to_string(), count.to_string(), payload]
        })
        .collect();
    let mut lines = output::aligned(&["TOPIC", "SEQ", "COUNT", "NEWEST"], &rows);
    lines.push(String::new());
    let hidden = newest.len().saturating_sub(ROWS_MAX);
    lines.push(format!(
        "{seen} messages, {rate:.0}/s, {} topics{}, {gaps} gaps. Ctrl-C ends.",
        newest.len(),
        if hidden > 0 { format!(" ({hidden} not shown)") } else { String::new() },
    ));
    lines
}

/// Reads `all`, `epoch:seq`, an RFC 3339 time, or `-10m`. `words` are those that may stand there.
pub(super) fn parse_since(text: &str, now_ms: u64, words: &str) -> Result<Since, Failure> {
    if text == "all" {
        return Ok(Since::All);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = crate::args::duration(ago).map_err(|_| no_place(text, words))?;
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(Since::Time(UnixMs(now_ms.saturating_sub(ago))));
    }
    if let Ok(position) = text.parse() {
        return Ok(Since::After(position));
    }
    let time = text.parse::<jiff::Timestamp>().map_err(|_| no_place(text, words))?;
    Ok(Since::Time(UnixMs(u64::try_from(time.as_millisecond()).unwrap_or(0))))
}

fn no_place(text: &str, words: &str) -> Failure {
    Failure::usage(format!(
        "{text:?} is no place to start: write {words}, epoch:seq, 2026-11-21T10:00:00Z or -10m"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_position_a_time_or_all() {
        let parse = |text| parse_since(text, 1_000_000, "all").ok();
        assert_eq!(parse("all"), Some(Since::All));
        assert_eq!(parse("-10s"), Some(Since::Time(UnixMs(990_000))));
        assert_eq!(parse("1970-01-01T00:00:05Z"), Some(Since::Time(UnixMs(5_000))));
        assert!(matches!(parse("k3f9:12"), Some(Since::After(_))));
        assert_eq!(parse("yesterday"), None);
    }
}
