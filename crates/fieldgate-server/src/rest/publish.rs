//! Messages over HTTP: the frames of the native dialect, one in each request.

use std::{cell::OnceCell, ops::RangeInclusive};

use axum::{Json, http::StatusCode};
use fieldgate_core::{
    dialect::Ask,
    fault::{Code, Fault},
    id::{MsgId, Seq},
};
use fieldgate_dialects::native;
use fieldgate_store::{AppendError, Log, Record, log::LocalLog};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Text, bad},
    idempotency::Derived,
};
use crate::{
    admit::{admit, append_each, append_once},
    asks::limits_of,
    fabric::{FULL_TRIES, FULL_WAIT, append_fault, now},
    http::Problem,
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(publish))
}

/// What was stored.
#[derive(Debug, Serialize, ToSchema)]
struct Published {
    /// Its number in the log; of a batch the first one's, also where it is a repeat.
    seq: u64,
    /// Its position, `epoch:seq`: what its deliveries carry as `msgid`. Who goes on behind that of a
    /// batch gets the other elements of it.
    #[schema(examples("k3f9:1042"))]
    position: String,
    /// How many elements of a batch were accepted; 1 for a single message.
    accepted: usize,
    /// What of a batch, or of the readings of a status, was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedElement>,
}

/// An element that was refused; its neighbours stand.
#[derive(Debug, Serialize, ToSchema)]
struct RefusedElement {
    /// Which, from 0 on.
    index: usize,
    /// A stable word.
    code: &'static str,
    /// What was wrong with it.
    message: String,
}

/// What is to be appended, and what of it was refused before.
struct Outgoing {
    records: Vec<Record>,
    refused: Vec<RefusedElement>,
    reference: Option<MsgId>,
    retain: bool,
}

/// Publishes what one frame of the native dialect holds: `publish` (also without its `type`),
/// `status`, `event`, `batch`, or an industrial sample. It is on stable storage when this answers. A
/// repeat with the same `msgid` is stored once. At `qos` 0 a receiver that is slow may lose it.
#[utoipa::path(post, path = "/v1/publish", tag = "messages", operation_id = "publish",
    request_body(content = Object,
        example = json!({"topic": "house/door", "payload": {"open": true}, "retain": true})),
    responses((status = 201, description = "It is stored.", body = Published), Problems))]
async fn publish(
    asker: Asker,
    Derived(derived): Derived,
    Text(text): Text,
) -> Result<(StatusCode, Json<Published>), Problem> {
    let mut tries = 0;
    let (range, outgoing, accepted) = loop {
        let decoded = native::decode_text_as("publish", &text, &limits_of(&asker.shared));
        let ask = decoded.map_err(|refusal| refusal.fault)?;
        // What found no room is decoded again: that is rare, and copies of all messages are not.
        let paid = tries > 0;
        let mut outgoing = outgoing(&asker, ask, derived.clone(), text.len(), paid)?;
        let records = std::mem::take(&mut outgoing.records);
        let accepted = records.len();
        match append(&asker, outgoing.reference.as_ref(), records) {
            Ok(range) => break (range, outgoing, accepted),
            Err(AppendError::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(error) => return Err(append_fault(&error).into()),
        }
        tries += 1;
    };
    asker.shared.settled(Seq(*range.end()), outgoing.retain).await?;
    let seq = *range.start();
    let position = asker.shared.position(Seq(seq)).to_string();
    let published = Published { seq, position, accepted, refused: outgoing.refused };
    Ok((StatusCode::CREATED, Json(published)))
}

/// `derived`: what the messages are called if their sender gives no id.
fn outgoing(
    asker: &Asker,
    ask: Ask,
    derived: Option<MsgId>,
    byte_len: usize,
    paid: bool,
) -> Result<Outgoing, Problem> {
    let (reference, items) = match ask {
        Ask::Publish(draft) => (draft.reference.clone(), vec![Ok(*draft)]),
        Ask::Batch { reference, items, .. } => (reference, items),
        Ask::Authenticate(_)
        | Ask::Subscribe(_)
        | Ask::Unsubscribe(_)
        | Ask::Command(_)
        | Ask::Cancel(_)
        | Ask::Reply { .. }
        | Ask::Ack(_)
        | Ask::Desired(_)
        | Ask::Profile(_)
        | Ask::Ping => {
            return Err(bad("only publish, status, event and batch are published").into());
        }
    };
    let reference = reference.or(derived);
    if !paid {
        asker.pay(items.len().max(1), byte_len)?;
    }
    let (time, own_telemetry) = (now(), OnceCell::new());
    let single = items.len() == 1;
    let mut outgoing =
        Outgoing { records: Vec::new(), refused: Vec::new(), reference, retain: false };
    for (index, item) in items.into_iter().enumerate() {
        let admitted = item
            .and_then(|draft| admit(&asker.shared, &own_telemetry, &asker.principal, draft, time));
        match admitted {
            Ok(mut message) => {
                // Who gets an answer is promised what it says.
                message.reference = outgoing.reference.clone().or(message.reference);
                outgoing.retain |= message.retain;
                outgoing.records.push(Record::Message(message));
            }
            Err(fault) if single => return Err(fault.into()),
            Err(fault) => outgoing.refused.push(RefusedElement {
                index,
                code: fault.code.as_str(),
                message: fault.message.into_owned(),
            }),
        }
    }
    if outgoing.records.is_empty() {
        let first = outgoing.refused.first().map_or("", |refused| refused.message.as_str());
        let text = format!("no element of the batch was accepted; the first: {first}");
        return Err(Fault::new(Code::BatchRefused, text).into());
    }
    Ok(outgoing)
}

/// Appends, unless the log has it: the numbers to answer with, of a repeat the first one.
fn append(
    asker: &Asker,
    reference: Option<&MsgId>,
    records: Vec<Record>,
) -> Result<RangeInclusive<u64>, AppendError> {
    let (shared, principal, time) = (&asker.shared, &asker.principal, now());
    let range = match reference {
        Some(reference) => {
            let append = |log: &LocalLog| log.append(records, time);
            append_once(shared, principal, reference, time, append)?
        }
        // What had none was refused before.
        None => append_each(shared, principal, records, time)?.unwrap_or(0..=0),
    };
    shared.log.announce();
    Ok(range)
}
