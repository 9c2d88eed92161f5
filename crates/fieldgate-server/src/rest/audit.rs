//! The audit of a tenant: who did what, when, and how it ended; and whether its chains hold.

use std::sync::Arc;

use axum::{Json, http::Uri};
use fieldgate_core::{
    audit::{Act, Trail},
    fault::{Code, Fault},
    id::UnixMs,
};
use fieldgate_store::audit::{AuditEntry, broken_at};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::Admin,
    query::{bad, once, parameters, time_of, unknown},
};
use crate::http::Problem;

const LEN: usize = 100;
const LEN_MAX: usize = 1_000;
const KNOWN: &str = "from, to, cursor, limit, order, act, by and trail";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify))
}

/// A page of the audit.
#[derive(Debug, Serialize, ToSchema)]
struct AuditPage {
    /// What was done, or refused.
    items: Vec<AuditItem>,
    /// What `cursor` is to be for the next page; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
}

/// Something that was done, or refused.
#[derive(Debug, Serialize, ToSchema)]
struct AuditItem {
    /// The number of its record in the log.
    seq: u64,
    /// When it was entered, in Unix ms.
    time: u64,
    /// `admin`: what administrators did; `access`: everything else.
    trail: &'static str,
    /// Its place in its trail, from 1.
    number: u64,
    /// What was done, or was to be.
    #[schema(examples("key.add"))]
    act: String,
    /// Who: as `from` in messages; `local` on this machine; empty for nobody known; `*` for several.
    by: String,
    /// From which address, if by the network.
    address: Option<String>,
    /// To what; empty where that is not known.
    target: String,
    /// `ok`, or the code of the refusal.
    outcome: String,
    /// How often; of refusals, in one minute.
    count: u64,
    /// What else there is to say, by name.
    details: Vec<AuditDetail>,
    /// The hash of the entry before in its trail, in hex.
    previous: String,
    /// Its own, over the one before and all of this.
    hash: String,
}

/// Something else about an entry.
#[derive(Debug, Serialize, ToSchema)]
struct AuditDetail {
    /// What.
    name: String,
    /// Its value.
    value: String,
}

impl AuditItem {
    fn of(trail: Trail, entry: &AuditEntry) -> Self {
        let said = &entry.said;
        let detail = |(name, value): &(String, String)| AuditDetail {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            seq: entry.seq,
            time: entry.time_ms,
            trail: trail.as_str(),
            number: entry.number,
            act: said.act.clone(),
            by: said.author.name.clone(),
            address: said.author.address.map(|address| address.to_string()),
            target: said.target.clone(),
            outcome: said.outcome.clone(),
            count: said.count,
            details: said.details.iter().map(detail).collect(),
            previous: hex(&entry.previous),
            hash: hex(&entry.hash),
        }
    }
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parameters of the list, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: `Wanted` refuses with better words")]
struct AuditParams {
    /// From this time on: Unix ms or RFC 3339.
    from: Option<String>,
    /// Up to this time.
    to: Option<String>,
    /// The `next` of the page before, or the `seq` of any entry: what is behind it.
    cursor: Option<String>,
    /// Most items of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// `desc`: the newest first; `asc`: the oldest.
    #[param(default = "desc")]
    order: Option<String>,
    /// Only this act.
    act: Option<String>,
    /// Only what this principal did.
    by: Option<String>,
    /// Only this trail: `admin` or `access`.
    trail: Option<String>,
}

/// What of the audit is asked for.
#[derive(Debug, Default)]
struct Wanted {
    from: Option<UnixMs>,
    to: Option<UnixMs>,
    after: Option<u64>,
    limit: Option<usize>,
    oldest_first: Option<bool>,
    act: Option<Act>,
    by: Option<String>,
    trail: Option<Trail>,
}

impl Wanted {
    fn of(uri: &Uri) -> Result<Self, Fault> {
        let mut wanted = Self::default();
        for (name, value) in parameters(uri)? {
            let time = || {
                let text = || bad(format!("{name} is a time in Unix ms or RFC 3339"));
                time_of(&value).ok_or_else(text)
            };
            match name.as_str() {
                "from" => once(&mut wanted.from, &name, time()?)?,
                "to" => once(&mut wanted.to, &name, time()?)?,
                "cursor" => {
                    let seq = value.parse();
                    let seq = seq.map_err(|_| bad("cursor is the next of an earlier page"))?;
                    once(&mut wanted.after, &name, seq)?;
                }
                "limit" => {
                    let len = value.parse().ok().filter(|len| (1..=LEN_MAX).contains(len));
                    let text = || bad(format!("limit is a whole number from 1 to {LEN_MAX}"));
                    once(&mut wanted.limit, &name, len.ok_or_else(text)?)?;
                }
                "order" => {
                    let oldest_first = match value.as_str() {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err(bad("order is asc or desc")),
                    };
                    once(&mut wanted.oldest_first, &name, oldest_first)?;
                }
                "act" => {
                    let text = || bad("act is a word of the audit, such as key.add");
                    once(&mut wanted.act, &name, value.parse().map_err(|_| text())?)?;
                }
                "by" => once(&mut wanted.by, &name, value)?,
                "trail" => once(&mut wanted.trail, &name, trail_of(&value)?)?,
                _ => return Err(unknown(&name, KNOWN)),
            }
        }
        Ok(wanted)
    }

    fn selects(&self, entry: &AuditEntry) -> bool {
        let (said, time) = (&entry.said, UnixMs(entry.time_ms));
        self.from.is_none_or(|from| from <= time)
            && self.to.is_none_or(|to| time <= to)
            && self.act.is_none_or(|act| act.as_str() == said.act)
            && self.by.as_ref().is_none_or(|by| *by == said.author.name)
            && self.after.is_none_or(|after| {
                if self.oldest_first == Some(true) { after < entry.seq } else { entry.seq < after }
            })
    }
}

fn trail_of(value: &str) -> Result<Trail, Fault> {
    value.parse().map_err(|_| bad("trail is admin or access"))
}

/// What was done in this tenant, and what was refused.
#[utoipa::path(get, path = "/v1/audit", tag = "operation", operation_id = "listAudit",
    params(AuditParams),
    responses((status = 200, description = "A page.", body = AuditPage), Problems))]
async fn list(Admin(asker): Admin, uri: Uri) -> Result<Json<AuditPage>, Problem> {
    let wanted = Wanted::of(&uri)?;
    let mut found: Vec<(Trail, Arc<AuditEntry>)> = Vec::new();
    for trail in Trail::ALL {
        if wanted.trail.is_none_or(|only| only == trail) {
            let entries = asker.shared.state.trail(asker.tenant(), trail);
            let selected = entries.into_iter().filter(|entry| wanted.selects(entry));
            found.extend(selected.map(|entry| (trail, entry)));
        }
    }
    found.sort_unstable_by_key(|(_, entry)| entry.seq);
    if wanted.oldest_first != Some(true) {
        found.reverse();
    }
    let len = wanted.limit.unwrap_or(LEN);
    let more = found.len() > len;
    found.truncate(len);
    let next = found.last().filter(|_| more).map(|(_, entry)| entry.seq.to_string());
    let items = found.iter().map(|(trail, entry)| AuditItem::of(*trail, entry)).collect();
    Ok(Json(AuditPage { items, next }))
}

/// Whether the chains of the audit hold.
#[derive(Debug, Serialize, ToSchema)]
struct AuditVerified {
    /// Whether all of them do, and what was noted is in its chain.
    sound: bool,
    /// Each trail.
    trails: Vec<AuditTrail>,
    /// What became of the entry that was noted: `holds`, `differs`, `gone` (older than what is kept)
    /// or `missing` (newer than what there is).
    #[schema(required = true)]
    noted: Option<&'static str>,
}

/// Whether a chain holds.
#[derive(Debug, Serialize, ToSchema)]
struct AuditTrail {
    /// `admin` or `access`.
    trail: &'static str,
    /// Whether every entry follows the one before it and is what it was.
    sound: bool,
    /// How many entries are kept.
    entries: usize,
    /// The number of the oldest one kept; those before it gave way.
    first: Option<u64>,
    /// The number of the newest one.
    last: Option<u64>,
    /// The hash of the newest one: note it elsewhere, and ask later whether it still holds.
    head: Option<String>,
    /// The first number that is not what it was, or does not follow.
    broken_at: Option<u64>,
}

/// The parameters of the check, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: `noted_of` refuses with better words")]
struct VerifyParams {
    /// The trail of an entry that was noted elsewhere.
    trail: Option<String>,
    /// Its number.
    number: Option<u64>,
    /// Its hash.
    hash: Option<String>,
}

/// An entry that was noted elsewhere.
struct Noted {
    trail: Trail,
    number: u64,
    hash: String,
}

fn noted_of(uri: &Uri) -> Result<Option<Noted>, Fault> {
    let (mut trail, mut number, mut hash) = (None, None, None);
    for (name, value) in parameters(uri)? {
        match name.as_str() {
            "trail" => once(&mut trail, &name, trail_of(&value)?)?,
            "number" => {
                let parsed = value.parse().map_err(|_| bad("number is a whole number"))?;
                once(&mut number, &name, parsed)?;
            }
            "hash" => once(&mut hash, &name, value.to_ascii_lowercase())?,
            _ => return Err(unknown(&name, "trail, number and hash")),
        }
    }
    match (trail, number, hash) {
        (None, None, None) => Ok(None),
        (Some(trail), Some(number), Some(hash)) => Ok(Some(Noted { trail, number, hash })),
        _ => Err(bad("trail, number and hash go together: give all of them, or none")),
    }
}

/// Whether each entry of the audit is what it was and follows the one before. With `trail`, `number`
/// and `hash` of an entry that was noted elsewhere, also whether that one is still in its chain.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "operation", operation_id = "verifyAudit",
    params(VerifyParams),
    responses((status = 200, description = "It was looked at.", body = AuditVerified), Problems))]
async fn verify(Admin(asker): Admin, uri: Uri) -> Result<Json<AuditVerified>, Problem> {
    let noted = noted_of(&uri)?;
    let (state, tenant) = (Arc::clone(&asker.shared.state), asker.tenant().clone());
    let looked = tokio::task::spawn_blocking(move || {
        let trails = Trail::ALL.map(|trail| (trail, state.trail(&tenant, trail)));
        verified(&trails, noted.as_ref())
    });
    Ok(Json(looked.await.map_err(|_| Fault::new(Code::Busy, "the audit was not read"))?))
}

type Trails = [(Trail, Vec<Arc<AuditEntry>>); 2];

fn verified(trails: &Trails, noted: Option<&Noted>) -> AuditVerified {
    let checked: Vec<_> = trails.iter().map(|(trail, entries)| check(*trail, entries)).collect();
    let noted = noted.map(|noted| {
        let entries = trails.iter().find(|(trail, _)| *trail == noted.trail);
        became(noted, entries.map(|(_, entries)| entries.as_slice()).unwrap_or_default())
    });
    let sound = checked.iter().all(|trail| trail.sound)
        && noted.is_none_or(|noted| noted == "holds" || noted == "gone");
    AuditVerified { sound, trails: checked, noted }
}

fn check(trail: Trail, entries: &[Arc<AuditEntry>]) -> AuditTrail {
    let broken = broken_at(entries);
    AuditTrail {
        trail: trail.as_str(),
        sound: broken.is_none(),
        entries: entries.len(),
        first: entries.first().map(|entry| entry.number),
        last: entries.last().map(|entry| entry.number),
        head: entries.last().map(|entry| hex(&entry.hash)),
        broken_at: broken,
    }
}

fn became(noted: &Noted, entries: &[Arc<AuditEntry>]) -> &'static str {
    match entries.iter().find(|entry| entry.number == noted.number) {
        Some(entry) if hex(&entry.hash) == noted.hash => "holds",
        Some(_) => "differs",
        None if entries.first().is_some_and(|first| noted.number < first.number) => "gone",
        None => "missing",
    }
}
