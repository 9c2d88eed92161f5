//! `fieldgate key`: API keys for programs.

use serde_json::json;

use super::{
    admin::{Admin, segment},
    device::{rows, show_secret, tell_end},
    end_after,
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
            let expires = expires.map(end_after);
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
            keys.iter_mut().for_each(tell_end);
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
