//! `fieldgate log`: looking into the log on disk, without any gateway.
//!
//! `verify` and `dump` only read, also beside a running gateway, whose last batch may then look torn.

use std::path::Path;

use fieldgate_core::{
    dialect::{CommandState, GapReason},
    id::Seq,
};
use fieldgate_store::{
    Entry, Record,
    log::{self, VerifyReport},
};
use serde_json::{Value, json};

use super::{admin, prompt::confirm};
use crate::{
    args::{Folder, LogCommand},
    failure::{Exit, Failure, chain},
    output, wire,
};

pub(crate) fn run(command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Verify(args) => verify(&args.place),
        LogCommand::Dump(args) => dump(&args.place),
        LogCommand::Repair { yes, place } => repair(&place, yes),
    }
}

fn store(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Store, "storage", chain(error))
}

fn check(folder: &Path) -> Result<VerifyReport, Failure> {
    log::verify(&folder.join("log")).map_err(|error| store(&error))
}

fn verify(place: &Folder) -> Result<(), Failure> {
    let is_running = admin::runs_on(&place.data);
    let report = check(&place.data)?;
    let place_of =
        |(segment, offset): &(String, u64)| json!({"segment": segment, "offset": offset});
    let range_of = |(from, to): &(Seq, Seq)| json!({"from": from.0, "to": to.0});
    if place.output.json {
        let line = json!({
            "segments": report.segment_count,
            "batches": report.batch_count,
            "records": report.record_count,
            "first": report.first.0,
            "last": report.last.0,
            "clean": report.clean_end,
            "running": is_running,
            "damages": report.damages.iter().map(place_of).collect::<Vec<_>>(),
            "missing": report.missing.iter().map(range_of).collect::<Vec<_>>(),
            "torn_tail": report.torn_tail.as_ref().map(place_of),
        });
        output::line(&line.to_string())?;
    } else {
        output::line(&format!(
            "{} records in {} batches, {} segments; last number {}; {}",
            report.record_count,
            report.batch_count,
            report.segment_count,
            report.last,
            how_it_ended(is_running, report.clean_end),
        ))?;
        for (segment, offset) in &report.damages {
            output::line(&format!("damaged: {segment} at byte {offset}"))?;
        }
        for (from, to) in &report.missing {
            output::line(&format!("missing: {from} to {to}"))?;
        }
        if let Some((segment, offset)) = &report.torn_tail {
            output::line(&format!("torn tail: {segment} at byte {offset}; a start cuts it"))?;
        }
    }
    if report.is_sound() {
        return Ok(());
    }
    let (damages, missing) = (report.damages.len(), report.missing.len());
    let text = format!("the log has {damages} damaged places and lacks {missing} ranges");
    Err(Failure::new(Exit::Store, "damaged", text)
        .hint("what is damaged is fenced and told to subscribers as a gap; the rest is served"))
}

fn how_it_ended(is_running: bool, clean_end: bool) -> &'static str {
    match (is_running, clean_end) {
        (true, _) => "its gateway runs",
        (false, true) => "stopped cleanly",
        (false, false) => "not stopped cleanly",
    }
}

fn dump(place: &Folder) -> Result<(), Failure> {
    let mut failed = None;
    let mut visit = |entry: Entry| {
        if failed.is_none() {
            failed = output::line(&entry_json(&entry).to_string()).err();
        }
    };
    log::dump(&place.data.join("log"), &mut visit).map_err(|error| store(&error))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Rewrites damaged segments. The folder is locked meanwhile, and the old files are kept beside.
fn repair(place: &Folder, yes: bool) -> Result<(), Failure> {
    let _lock = wire::lock(&place.data)?;
    let report = check(&place.data)?;
    if report.damages.is_empty() {
        output::note("nothing is damaged: nothing to repair");
        return Ok(());
    }
    let count = report.damages.len();
    confirm(&format!("Give up {count} damaged places for good?"), yes)?;
    let repaired = log::repair(&place.data.join("log")).map_err(|error| store(&error))?;
    if place.output.json {
        let lost: Vec<_> =
            repaired.lost.iter().map(|(from, to)| json!({"from": from.0, "to": to.0})).collect();
        let line = json!({"rewritten": repaired.rewritten, "lost": lost});
        return Ok(output::line(&line.to_string())?);
    }
    for segment in &repaired.rewritten {
        output::line(&format!("rewritten: {segment}"))?;
    }
    for (from, to) in &repaired.lost {
        output::line(&format!("lost: {from} to {to}; subscribers are told of the gap"))?;
    }
    Ok(())
}

fn entry_json(entry: &Entry) -> Value {
    let record = match &entry.record {
        Record::Message(message) => json!({
            "message": {
                "tenant": message.tenant.as_str(),
                "topic": message.topic.as_str(),
                "from": &*message.from,
                "timestamp": message.timestamp.0,
                "ref": message.reference.as_ref().map(|r| r.as_str()),
                "qos": message.qos as u8,
                "retain": message.retain,
                "payload": payload(&message.payload),
            }
        }),
        Record::Command(change) => json!({
            "command": {
                "tenant": change.tenant.as_str(),
                "device": change.device.as_str(),
                "seq": change.command.0,
                "state": state(change.state),
                "by": &*change.by,
            }
        }),
        // Hashes of secrets stay out of what people paste elsewhere.
        Record::Registry(change) => json!({"registry": {"tenant": change.tenant}}),
        Record::Note(note) => json!({"note": {
            "tenant": note.tenant,
            "act": note.said.act,
            "by": note.said.author.name,
            "target": note.said.target,
            "outcome": note.said.outcome,
            "count": note.said.count,
        }}),
        Record::Gap { from, to, reason } => json!({
            "gap": {"from": from.0, "to": to.0, "reason": gap(*reason)}
        }),
    };
    let mut line = json!({"seq": entry.seq.0, "arrived": entry.arrived.0});
    if let (Value::Object(line), Value::Object(record)) = (&mut line, record) {
        line.extend(record);
    }
    line
}

fn payload(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": fieldgate_dialects::native::base64_encode(bytes)}),
    })
}

const fn state(state: CommandState) -> &'static str {
    match state {
        CommandState::Queued => "queued",
        CommandState::Sent => "sent",
        CommandState::Acknowledged => "acknowledged",
        CommandState::Completed => "completed",
        CommandState::Failed => "failed",
        CommandState::Expired => "expired",
        CommandState::Cancelled => "cancelled",
    }
}

const fn gap(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Overflow => "overflow",
        GapReason::Crash => "crash",
        GapReason::Damaged => "damaged",
        GapReason::Epoch => "epoch",
    }
}
