//! How an app comes by a key (`wire.md` 2.4).

use std::net::IpAddr;

use axum::http::Method;
use fieldgate_core::fault::Code;
use fieldgate_dialects::deconz::{Answer, Error, gateway};
use fieldgate_store::{
    audit::Author,
    registry::{BridgeKey, BridgeStep, Change, RegistryChange},
    secret::{TokenKind, make_token, random_text},
};
use serde_json::Value;

use super::{
    Asked,
    reply::Reply,
    visit::{error_at, no_method},
};
use crate::{
    deconz::Bridge,
    fabric::now,
    http::{Caller, origin_is_known},
};

/// Length of the random end of the id of a key, which is no secret.
const ID_LEN: usize = 8;

/// Gives an app a key, while somebody lets it.
pub(super) async fn acquire(
    caller: &Caller,
    client: IpAddr,
    bridge: &Bridge,
    asked: &Asked,
) -> Result<Reply, Error> {
    let shared = caller.shared();
    if asked.method != Method::POST {
        return Err(no_method(asked.method.as_str(), "/"));
    }
    // Else any page that a browser here happens to show could take a key.
    if !origin_is_known(shared, &asked.headers) {
        return Err(Error::Unauthorized("/".to_owned()));
    }
    caller.may_try(client).map_err(|_| Error::Busy("/".to_owned()))?;
    let name = gateway::device_type(&asked.body)?;
    if !shared.unlock.is_open(std::time::Instant::now()) {
        return Err(Error::Locked);
    }
    let token = make_token(TokenKind::Bridge).map_err(|_| Error::Busy("/".to_owned()))?;
    let key = BridgeKey {
        id: format!("app-{}", random_text(ID_LEN).map_err(|_| Error::Busy("/".to_owned()))?),
        name,
        hash: shared.state.master_key().hash_bridge(&token),
        created_ms: now().0,
        ..BridgeKey::default()
    };
    let author = Some(Author { name: String::new(), address: Some(client) });
    let change = Change::Bridge(BridgeStep::KeyAdd(key));
    let tenant = bridge.tenant.as_str().to_owned();
    let added = shared.change_registry(RegistryChange { tenant, change, author }).await;
    added.map_err(|fault| {
        // There are as many keys as there may be: it takes somebody to revoke one.
        let is_full = fault.code == Code::QueueFull;
        if is_full { Error::TooMany("/".to_owned()) } else { error_at("/", &fault) }
    })?;
    Ok(Reply::Done(vec![Answer::Success("username".to_owned(), Value::from(token))]))
}
