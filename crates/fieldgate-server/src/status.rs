//! How the gateway is: what `/v1/status` answers and `fieldgate status` shows.
//!
//! Its shape is stable: fields are added, never renamed. Nothing in it is a secret.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use fieldgate_core::id::TenantId;
use fieldgate_store::Log;
use serde_json::{Value, json};

use crate::{
    fabric::{Shared, now},
    present::Counts,
    rest::TenantView,
};

/// Whether messages are taken and stored, else why not, in one word.
pub(crate) fn readiness(shared: &Shared) -> Result<(), &'static str> {
    if shared.draining.load(Ordering::SeqCst) {
        return Err("draining");
    }
    if shared.log.status().refuses.is_some() {
        return Err("storage");
    }
    Ok(())
}

/// What a tenant is told: of the gateway that it takes messages, and of itself.
pub(crate) fn status_of_tenant(shared: &Shared, id: &TenantId) -> Value {
    let info = shared.state.tenants().get(id).copied().unwrap_or_default();
    let mut status = head(shared);
    if let Value::Object(fields) = &mut status {
        fields.insert(
            "tenants".to_owned(),
            json!({ id.as_str(): TenantView::of(shared, id, &info) }),
        );
    }
    status
}

fn head(shared: &Shared) -> Value {
    let up = shared.started.elapsed().as_millis();
    let up = u64::try_from(up).unwrap_or(u64::MAX);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": now().0.saturating_sub(up),
        "uptime_ms": up,
        "ready": readiness(shared).err().unwrap_or("ok"),
        "durability": shared.config.store.durability,
    })
}

/// The answer to whom the gateway as a whole is theirs to look at.
pub(crate) fn status_of(shared: &Shared) -> Value {
    let bound = |name: &str| shared.listeners.get().and_then(|bound| bound.get(name));
    let tenants = shared.state.tenants();
    let tenants = tenants.iter().map(|(id, info)| (id.as_str(), TenantView::of(shared, id, info)));
    let mut status = head(shared);
    let whole = json!({
        "tenants": tenants.collect::<BTreeMap<_, _>>(),
        "listeners": bound("listeners"),
        "tls": bound("tls"),
        "connections": shared.throttle.authenticated_count(),
        "links": links(shared),
        "log": log(shared),
        "tables": {
            "applied": shared.tables.applied().0,
            "exported": shared.tables.exported().0,
            "failing": shared.tables.is_failing(),
        },
        "drops": shared.ledger.totals(),
    });
    if let (Value::Object(status), Value::Object(whole)) = (&mut status, whole) {
        status.extend(whole);
    }
    status
}

fn links(shared: &Shared) -> Value {
    let Counts { devices, keys, users, sources } = shared.present.counts();
    let told = || shared.inboxes.iter().map(|inbox| inbox.told());
    json!({
        "devices": devices,
        "keys": keys,
        "users": users,
        "sources": sources,
        "unauthenticated": shared.throttle.unauthenticated_count(),
        "behind": told().map(|told| told.behind_count).sum::<usize>(),
        "outbox_bytes": told().map(|told| told.outbox_bytes).sum::<usize>(),
    })
}

fn log(shared: &Shared) -> Value {
    let (frontier, status, found) = (shared.log.frontier(), shared.log.status(), shared.recovery);
    let range = |from: u64, to: u64| json!({"from": from, "to": to});
    let damaged = status.damaged.iter().map(|numbers| range(*numbers.start(), *numbers.end()));
    json!({
        "epoch": shared.log.epoch().to_string(),
        "seq": frontier.ordered.0,
        "durable": frontier.durable.0,
        "oldest": shared.log.oldest().0,
        "segments": status.segment_count,
        "bytes": status.byte_len,
        "waiting": status.waiting_records,
        "refuses": status.refuses,
        "retention_held_back": status.is_held_back,
        "failures": status.failure_count,
        "damaged": damaged.collect::<Vec<_>>(),
        "start": {
            "cut_bytes": found.cut_bytes,
            "damages": found.damage_count,
            "crash_gap": found.crash_gap.map(|(from, to)| range(from.0, to.0)),
        },
    })
}
