//! `fieldgate key`: API keys for programs.

use serde_json::json;

use super::{
    admin::{Admin, segment},
    device::{items, show_secret},
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
            for grant in &grants {
                grant
                    .parse::<fieldgate_core::access::Grant>()
                    .map_err(|e| Failure::usage(e.to_string()))?;
            }
            let expires = expires.map(|after| now_ms().saturating_add(ms(after)));
            let role = role.map(crate::args::RoleName::as_str);
            let body = json!({"name": name, "role": role, "grants": grants, "expires_ms": expires});
            let made = Admin::open(&place)?.post("/keys", &body)?;
            show_secret(&made, "key", place.output.json)
        }
        KeyCommand::List(args) => {
            let keys = Admin::open(&args.place)?.get("/keys")?;
            if args.place.output.json {
                for key in items(&keys) {
                    output::line(&key.to_string())?;
                }
                return Ok(());
            }
            let name = |key: &serde_json::Value| {
                let id = output::cell(key, "id");
                if id.is_empty() { output::cell(key, "name") } else { id }
            };
            let rows: Vec<_> = items(&keys)
                .map(|k| vec![name(k), output::cell(k, "role"), output::cell(k, "grants")])
                .collect();
            Ok(output::table(&["NAME", "ROLE", "GRANTS"], &rows)?)
        }
        KeyCommand::Revoke(args) => {
            confirm(&format!("Revoke key {}?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/keys/{}", segment(&args.id)))?;
            output::note(&format!("key {} is revoked", args.id));
            Ok(())
        }
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
