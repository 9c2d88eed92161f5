//! Administration of people and their passwords.
//!
//! A password is hashed off the runtime's threads, at most [`HASHING_MAX`] at a time: each takes a core
//! and 19 MiB.

use fieldgate_core::{
    access::Role,
    fault::{Code, Fault},
    id::DeviceId,
};
use fieldgate_store::{
    registry::{Change, User},
    secret::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordHash, hash_password},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Ask, bad, io_fault, list, no_such, unknown};

const HASHING_MAX: usize = 2;
static HASHING: Semaphore = Semaphore::const_new(HASHING_MAX);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    role: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    password: String,
}

/// Carries out a request below `/users`.
pub(super) async fn act(ask: &Ask<'_>, method: &str, path: &[&str]) -> Result<Value, Fault> {
    let show = |user: &User| json!({"name": user.name, "role": user.role});
    let users = || ask.shared.state.users(&ask.tenant);
    match (method, path) {
        ("POST", []) => add(ask).await,
        ("GET", []) => Ok(list(users().iter().map(|user| show(user)))),
        ("DELETE", [name]) => ask.change(Change::UserRemove((*name).to_owned())).await,
        ("POST", [name, "password"]) => {
            // Decided again when the record's turn comes; here it saves the work.
            if !users().iter().any(|user| user.name == *name) {
                return Err(no_such("user", name));
            }
            let NewPassword { password } = ask.body()?;
            let (name, password) = ((*name).to_owned(), hashed(password).await?);
            ask.change(Change::UserPassword { name, password }).await
        }
        _ => Err(unknown()),
    }
}

async fn add(ask: &Ask<'_>) -> Result<Value, Fault> {
    let NewUser { name, role, password } = ask.body()?;
    let _valid: DeviceId =
        name.parse().map_err(|_| bad("a user's name is written like a device id"))?;
    let role = role.parse::<Role>().map_err(bad)?.to_string();
    let password = hashed(password).await?;
    let made = json!({"name": name, "role": role});
    ask.change(Change::UserAdd(User { name, role, password })).await?;
    Ok(made)
}

async fn hashed(password: String) -> Result<PasswordHash, Fault> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(bad(format!("a password has {PASSWORD_CHARS_MIN} characters or more")));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(bad(format!("a password has {PASSWORD_BYTES_MAX} bytes or less")));
    }
    let stopped = |_| Fault::new(Code::Busy, "the password was not hashed: try again");
    let _turn = HASHING.acquire().await.map_err(stopped)?;
    let work = tokio::task::spawn_blocking(move || hash_password(&password));
    let hash = work.await.map_err(|_| Fault::new(Code::Busy, "hashing the password failed"))?;
    hash.map_err(|e| io_fault(&e))
}
