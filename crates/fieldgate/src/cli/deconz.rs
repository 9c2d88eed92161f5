//! `fieldgate deconz`: apps for a deCONZ gateway, and their keys.

use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    device::rows,
    prompt::confirm,
    told_time,
};
use crate::{
    args::{DeconzCommand, DeconzKeyCommand},
    failure::Failure,
    output,
};

pub(crate) fn run(command: DeconzCommand) -> Result<(), Failure> {
    match command {
        DeconzCommand::Unlock { time, place } => {
            // A folder without a gateway has nobody to let in.
            let body = json!({"seconds": time.as_secs()});
            let told = Admin::watch(&place)?.post("/deconz/unlock", &body)?;
            if place.output.json {
                return Ok(output::line(&told.to_string())?);
            }
            let until = told.get("until").and_then(Value::as_u64).unwrap_or_default();
            output::note(&format!("apps may make keys until {}", told_time(until)));
            Ok(())
        }
        DeconzCommand::Keys(DeconzKeyCommand::List(args)) => {
            let mut keys = Admin::open(&args.place)?.list("/deconz/keys")?;
            if args.place.output.json {
                return keys.iter().try_for_each(|key| Ok(output::line(&key.to_string())?));
            }
            keys.iter_mut().for_each(tell);
            let headings = ["ID", "NAME", "CREATED", "USED", "FROM"];
            rows(&keys, &["id", "name", "created", "used", "addresses"], &headings, false)
        }
        DeconzCommand::Keys(DeconzKeyCommand::Revoke { id, yes, place }) => {
            confirm(&format!("Revoke key {id}?"), yes)?;
            Admin::open(&place)?.delete(&format!("/deconz/keys/{}", segment(&id)))?;
            output::note(&format!("key {id} is revoked"));
            Ok(())
        }
    }
}

/// Writes times, and where a key was used from, for people.
fn tell(key: &mut Value) {
    let Some(key) = key.as_object_mut() else { return };
    for name in ["created", "used"] {
        let told = key.get(name).and_then(Value::as_u64).map(told_time);
        key.insert(name.to_owned(), told.unwrap_or_else(|| "never".to_owned()).into());
    }
    let seen = key.get("addresses").and_then(Value::as_array).into_iter().flatten();
    let addresses = seen.filter_map(|seen| seen.get("address").cloned()).collect();
    key.insert("addresses".to_owned(), Value::Array(addresses));
}
