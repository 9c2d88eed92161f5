//! The gateway itself, and all that there is.

use std::time::Instant;

use fieldgate_core::id::UnixMs;
use fieldgate_dialects::deconz::{Error, gateway, put, tag_of};
use fieldgate_store::registry::{BridgeStep, Change};
use serde_json::{Map, Value, json};

use super::{
    Asked, groups,
    listing::{self, Listing},
    reply::Reply,
    visit::{Visit, no_method},
};
use crate::{
    deconz::Bridge,
    fabric::{Shared, now},
};

/// What everybody may know.
pub(super) fn basic(shared: &Shared, bridge: &Bridge) -> Reply {
    Reply::Plain(Value::Object(gateway::basic(&gateway_of(shared, bridge))).to_string())
}

fn gateway_of<'a>(shared: &'a Shared, bridge: &'a Bridge) -> gateway::Gateway<'a> {
    let push = bridge.push.get();
    gateway::Gateway {
        name: &shared.config.deconz.name,
        mac: bridge.mac,
        address: push.map_or("", |push| &push.address),
        version: env!("CARGO_PKG_VERSION"),
        port: bridge.port.get().copied().unwrap_or_default(),
        // Apps open a plain socket there.
        websocket_port: push.filter(|push| !push.is_tls).map(|push| push.port),
        websocket_port_secure: push.filter(|push| push.is_tls).map(|push| push.port),
        notifies_all: shared.config.deconz.notify_all,
        is_unlocked: shared.unlock.is_open(Instant::now()),
        now: now(),
    }
}

fn whole(visit: &Visit<'_>) -> Map<String, Value> {
    let keys = visit.shared.state.bridge_keys(&visit.bridge.tenant);
    let told = keys.iter().map(|key| gateway::Key {
        id: &key.id,
        name: &key.name,
        created: UnixMs(key.created_ms),
        used: UnixMs(key.used_ms),
    });
    let keys: Vec<_> = told.collect();
    gateway::whole(&gateway_of(visit.shared, visit.bridge), &keys)
}

/// All that there is: what an app begins with.
pub(super) async fn everything(visit: &Visit<'_>) -> Result<Reply, Error> {
    let config = whole(visit);
    let mut lists = [Listing::of(true), Listing::of(false)];
    let (groups, read) = listing::read(visit, &mut lists, groups::all).await?;
    let [lights, sensors] = lists.map(Listing::into_text);
    visit.note_read(read);
    let rest = format!(
        "\"groups\":{},\"lights\":{lights},\"sensors\":{sensors},\"alarmsystems\":{{}},\
         \"resourcelinks\":{{}},\"rules\":{{}},\"scenes\":{{}},\"schedules\":{{}}}}",
        Value::Object(groups)
    );
    let tag = tag_of(&format!("{}{}", still(config.clone()), tag_of(&rest)));
    let text = format!("{{\"config\":{},{rest}", Value::Object(config));
    Ok(Reply::Tagged { text, tag })
}

/// The configuration without what always moves.
fn still(mut config: Map<String, Value>) -> String {
    for moving in ["UTC", "localtime", "whitelist"] {
        config.remove(moving);
    }
    Value::Object(config).to_string()
}

/// What is at `/config` and below.
pub(super) async fn answer(
    visit: &Visit<'_>,
    asked: &Asked,
    rest: &[&str],
) -> Result<Reply, Error> {
    match (asked.method.as_str(), rest) {
        ("GET", []) => {
            let config = whole(visit);
            let tag = tag_of(&still(config.clone()));
            Ok(Reply::Tagged { text: Value::Object(config).to_string(), tag })
        }
        ("PUT", []) => Ok(Reply::Done(put::config(&visit.address, &asked.body, &whole(visit)))),
        ("DELETE", ["whitelist", id]) => forget(visit, id).await,
        (method, _) => Err(no_method(method, &visit.address)),
    }
}

/// An app gives up its key. It ends no other one's: that is administration.
async fn forget(visit: &Visit<'_>, shown: &str) -> Result<Reply, Error> {
    let own = visit.shared.state.verify_bridge_key(shown).map(|(_, key)| key);
    let is_own = shown == visit.key.id || own.is_some_and(|key| key.id == visit.key.id);
    if !is_own {
        return Err(Error::NotAvailable(visit.address.clone()));
    }
    let change = Change::Bridge(BridgeStep::KeyRemove(visit.key.id.clone()));
    visit.change(change).await.map_err(|fault| visit.error(&fault))?;
    let said = format!("{} deleted.", visit.address);
    Ok(Reply::Plain(json!([{ "success": said }]).to_string()))
}
