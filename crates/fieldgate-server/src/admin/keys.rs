//! Administration of API keys.

use fieldgate_core::{
    access::{Grant, Role},
    fault::Fault,
    id::DeviceId,
};
use fieldgate_store::{
    registry::{ApiKey, Change},
    secret::{TokenKind, make_token},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fabric::now;

use super::{Ask, bad, io_fault, list, unknown};

/// Each decision looks at every grant.
const GRANTS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    role: Option<String>,
    #[serde(default)]
    grants: Vec<String>,
    expires_ms: Option<u64>,
}

/// Carries out a request below `/keys`.
pub(super) async fn act(ask: &Ask<'_>, method: &str, path: &[&str]) -> Result<Value, Fault> {
    match (method, path) {
        ("POST", []) => add(ask).await,
        ("GET", []) => {
            let keys = ask.shared.state.keys(&ask.tenant);
            Ok(list(keys.iter().map(|key| show(key))))
        }
        ("DELETE", [name]) => ask.change(Change::KeyRevoke((*name).to_owned())).await,
        _ => Err(unknown()),
    }
}

fn show(key: &ApiKey) -> Value {
    json!({"id": key.name, "role": key.role, "grants": key.grants, "expires": key.expires_ms})
}

async fn add(ask: &Ask<'_>) -> Result<Value, Fault> {
    let new: NewKey = ask.body()?;
    let name: DeviceId =
        new.name.parse().map_err(|_| bad("a key's name is written like a device id"))?;
    for grant in &new.grants {
        grant.parse::<Grant>().map_err(bad)?;
    }
    if let Some(role) = &new.role {
        role.parse::<Role>().map_err(bad)?;
    }
    if new.role.is_none() && new.grants.is_empty() {
        return Err(bad("a key needs a role or a grant"));
    }
    if new.grants.len() > GRANTS_MAX {
        return Err(bad(format!("a key has at most {GRANTS_MAX} grants")));
    }
    if new.expires_ms.is_some_and(|end| end <= now().0) {
        return Err(bad("the key would be over at once: its end is not in the future"));
    }
    let token = make_token(TokenKind::Key).map_err(|e| io_fault(&e))?;
    let hash = ask.shared.state.master_key().hash(&token);
    let key = ApiKey {
        name: new.name,
        hash,
        role: new.role,
        grants: new.grants,
        expires_ms: new.expires_ms,
    };
    ask.change(Change::KeyAdd(key)).await?;
    Ok(json!({"id": name.as_str(), "key": token, "expires": new.expires_ms}))
}
