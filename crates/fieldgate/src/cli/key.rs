//! `fieldgate key`: API keys for programs.

use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    device::{rows, show_secret},
    now_ms,
    prompt::confirm,
};
use crate::{args::KeyCommand, failure::Failure, output};

pub(crate) fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Add { name, role, grants, expires, place } => {
            if role.is_none() && grants.is_empty() {
                return Err(Failure::usage("a key needs a --role or a --grant")
                    .hint("for example --grant 'subscribe:devices/+/telemetry'"));
            }
            let expires = expires.map(|after| now_ms().saturating_add(ms(after)));
            let role = role.map(crate::args::RoleName::as_str);
            let body = json!({"name": name, "role": role, "grants": grants, "expires_ms": expires});
            let made = Admin::open(&place)?.post("/keys", &body)?;
            show_secret(&made, "key", place.output.json)
        }
        KeyCommand::List(args) => {
            let mut keys = Admin::open(&args.place)?.list("/keys")?;
            if args.place.output.json {
                return keys.iter().try_for_each(|key| Ok(output::line(&key.to_string())?));
            }
            for key in &mut keys {
                if let Some(end) = key.get("expires").and_then(Value::as_u64)
                    && let Some(fields) = key.as_object_mut()
                {
                    fields.insert("expires".to_owned(), told(end).into());
                }
            }
            let headings = ["NAME", "ROLE", "EXPIRES", "GRANTS"];
            rows(&keys, &["id", "role", "expires", "grants"], &headings, false)
        }
        KeyCommand::Revoke(args) => {
            confirm(&format!("Revoke key {}?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/keys/{}", segment(&args.id)))?;
            output::note(&format!("key {} is revoked", args.id));
            Ok(())
        }
    }
}

/// When a key ends, for people.
fn told(expires_ms: u64) -> String {
    let time = i64::try_from(expires_ms).ok().and_then(|ms| {
        let time = jiff::Timestamp::from_millisecond(ms).ok()?;
        time.round(jiff::Unit::Second).ok()
    });
    let time = time.map_or_else(|| "never".to_owned(), |time| time.to_string());
    if expires_ms <= now_ms() { format!("{time} (over)") } else { time }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
