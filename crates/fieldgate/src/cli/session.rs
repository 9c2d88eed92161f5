//! A client of the gateway that a command talks to, by address and token or by data folder.
//!
//! With `--data` a key is made for the moment, and revoked at the end; it also ends by itself.

use std::path::Path;

use fieldgate_client::{Builder, Client, Link};
use serde_json::json;

use super::{
    admin::{Admin, in_tenant},
    now_ms,
};
use crate::{
    args::Remote,
    failure::{Exit, Failure},
    output,
};

/// How long a key of the moment lives if it is not revoked.
const KEY_MS: u64 = 12 * 60 * 60 * 1_000;

/// A connected client, and what must be undone at the end.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    key: Option<MomentKey>,
}

#[derive(Debug)]
struct MomentKey {
    folder: std::path::PathBuf,
    tenant: String,
    name: String,
}

impl Drop for MomentKey {
    fn drop(&mut self) {
        let revoke =
            || Admin::running(&self.folder, &self.tenant)?.delete(&format!("/keys/{}", self.name));
        // It ends by itself; a gateway that is gone cannot be told.
        let _ = revoke();
    }
}

impl Session {
    /// Connects, or says why not.
    pub(crate) async fn open(remote: &Remote) -> Result<Self, Failure> {
        let (url, token, key) = match &remote.data {
            Some(folder) => by_folder(folder, &remote.tenant)?,
            None => (remote.url.clone(), token()?, None),
        };
        let url = in_tenant(&url, &remote.tenant);
        // Whoever can read the folder may trust the certificate that the gateway made there.
        let own = remote.data.as_ref().map(|folder| folder.join("certs/self-signed.crt"));
        let ca = remote.ca.clone().or_else(|| own.filter(|own| own.exists()));
        let client = trusting(Client::builder(url).token(token), ca.as_deref())?.connect().await?;
        let mut link = client.link();
        // Ends with the client, which drops the sender.
        tokio::spawn(async move {
            let mut offline = false;
            while link.changed().await.is_ok() {
                match &*link.borrow_and_update() {
                    Link::Offline { reason, retry_in } => {
                        offline = true;
                        let wait = retry_in.as_secs_f32();
                        output::note(&format!("offline: {reason}; next attempt in {wait:.1} s"));
                    }
                    Link::Online { .. } if offline => {
                        offline = false;
                        output::note("online again");
                    }
                    Link::Online { .. } | Link::Connecting | Link::Ended(_) | _ => (),
                }
            }
        });
        Ok(Self { client, key })
    }

    /// Sends what waits, says goodbye, and undoes what was made for the moment.
    pub(crate) async fn close(self) {
        self.client.close().await;
        drop(self.key);
    }
}

/// Trusts the certificates of a PEM file, if one is named.
pub(crate) fn trusting(builder: Builder, ca: Option<&Path>) -> Result<Builder, Failure> {
    let Some(ca) = ca else { return Ok(builder) };
    let pem = std::fs::read(ca)
        .map_err(|e| Failure::usage(format!("{} cannot be read: {e}", ca.display())))?;
    Ok(builder.roots_pem(pem))
}

pub(crate) fn token() -> Result<String, Failure> {
    let token = std::env::var_os("FIELDGATE_TOKEN").unwrap_or_default();
    let token = token.into_string();
    let token =
        token.map_err(|_| Failure::usage("FIELDGATE_TOKEN is no token: it is not UTF-8"))?;
    if token.is_empty() {
        return Err(Failure::new(Exit::Refused, "not_authenticated", "there is no token").hint(
            "set FIELDGATE_TOKEN, or use --data with the folder of a gateway that runs here",
        ));
    }
    Ok(token)
}

fn by_folder(folder: &Path, tenant: &str) -> Result<(String, String, Option<MomentKey>), Failure> {
    let admin = Admin::running(folder, tenant)?;
    let status = admin.get("/status")?;
    let listener = |name: &str| {
        let found = status.pointer(&format!("/listeners/{name}/0"))?;
        found.as_str().map(str::to_owned)
    };
    let address = listener("http").ok_or_else(|| {
        Failure::new(Exit::Failed, "protocol", "the gateway tells no listener for clients")
    })?;
    let url = if address.contains("://") {
        address
    } else {
        let secure = status.get("tls").and_then(serde_json::Value::as_bool).unwrap_or(false);
        format!("{}://{address}", if secure { "https" } else { "http" })
    };
    let name = format!("cli-{}-{}", std::process::id(), now_ms());
    let body =
        json!({"name": name, "role": "admin", "grants": [], "expires_ms": now_ms() + KEY_MS});
    let made = admin.post("/keys", &body)?;
    let key = MomentKey { folder: folder.to_owned(), tenant: tenant.to_owned(), name };
    Ok((url, output::cell(&made, "key"), Some(key)))
}
