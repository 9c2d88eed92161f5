//! `fieldgate device`: devices and their tokens.

use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    end_after,
    prompt::{confirm, secret_from_stdin},
    told_end,
};
use crate::{
    args::{ActivationCommand, CredentialCommand, DeviceAdd, DeviceCommand},
    failure::Failure,
    output,
};

/// What `device show` tells, line by line.
const SHOWN: [&str; 10] = [
    "id",
    "name",
    "kind",
    "groups",
    "gateway_for",
    "credentials",
    "integrity",
    "source",
    "gateway",
    "revision",
];

pub(crate) fn run(command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::Add(args) => add(&args),
        DeviceCommand::List(args) => {
            let devices = Admin::open(&args.place)?.list("/devices")?;
            let fields = ["id", "name", "kind", "groups"];
            rows(&devices, &fields, &["ID", "NAME", "KIND", "GROUPS"], args.place.output.json)
        }
        DeviceCommand::Show(args) => {
            let path = format!("/devices/{}", segment(&args.id));
            let device = Admin::open(&args.place)?.get(&path)?;
            if args.place.output.json {
                return Ok(output::line(&device.to_string())?);
            }
            for name in SHOWN {
                output::line(&format!("{name:<12} {}", output::cell(&device, name)))?;
            }
            let profile = device.get("profile").filter(|profile| !profile.is_null());
            profile.map_or(Ok(()), show_profile)
        }
        DeviceCommand::Remove(args) => {
            confirm(&format!("Remove device {} and end its tokens?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/devices/{}", segment(&args.id)))?;
            output::note(&format!("device {} is removed", args.id));
            Ok(())
        }
        DeviceCommand::Rotate(args) => {
            confirm(&format!("End every token of {} for a new one?", args.id), args.yes)?;
            let path = format!("/devices/{}/rotate", segment(&args.id));
            let made = Admin::open(&args.place)?.post(&path, &json!({}))?;
            show_secret(&made, "token", args.place.output.json)
        }
        DeviceCommand::Integrity { id, integrity, place } => {
            let path = format!("/devices/{}/integrity", segment(&id));
            let body = json!({"integrity": integrity.as_str()});
            Admin::open(&place)?.put(&path, &body)?;
            output::note(&format!("integrity of {id} is {}", integrity.as_str()));
            Ok(())
        }
        DeviceCommand::Credential(command) => credential(command),
    }
}

fn credential(command: CredentialCommand) -> Result<(), Failure> {
    let path = |id: &str| format!("/devices/{}/credentials", segment(id));
    match command {
        CredentialCommand::Add { id, secret, place } => {
            let admin = Admin::open(&place)?;
            let token = secret.token_stdin.then(secret_from_stdin).transpose()?;
            let body = json!({
                "type": secret.credential.as_str(),
                "token": token,
                "allow_profile": secret.allow_profile,
            });
            let made = admin.post(&path(&id), &body)?;
            show_secret(&made, "token", place.output.json)
        }
        CredentialCommand::List(args) => {
            let list = Admin::open(&args.place)?.list(&path(&args.id))?;
            let fields = ["id", "type", "allow_profile"];
            rows(&list, &fields, &["ID", "TYPE", "MAY SET PROFILE"], args.place.output.json)
        }
        CredentialCommand::Remove { id, credential, yes, place } => {
            confirm(&format!("End credential {credential} of {id}?"), yes)?;
            let path = format!("{}/{}", path(&id), segment(&credential));
            Admin::open(&place)?.delete(&path)?;
            output::note(&format!("credential {credential} of {id} is removed"));
            Ok(())
        }
    }
}

/// `fieldgate activation`: codes that make a device.
pub(crate) fn activation(command: ActivationCommand) -> Result<(), Failure> {
    match command {
        ActivationCommand::Add { device, kind, groups, expires, place } => {
            let body = json!({
                "device": device,
                "kind": kind,
                "groups": groups,
                "expires": expires.map(end_after),
            });
            let made = Admin::open(&place)?.post("/activation-codes", &body)?;
            show_secret(&made, "code", place.output.json)
        }
        ActivationCommand::List(args) => {
            let mut list = Admin::open(&args.place)?.list("/activation-codes")?;
            if !args.place.output.json {
                list.iter_mut().for_each(tell_end);
            }
            let fields = ["id", "device", "kind", "groups", "expires"];
            let headings = ["ID", "DEVICE", "KIND", "GROUPS", "EXPIRES"];
            rows(&list, &fields, &headings, args.place.output.json)
        }
        ActivationCommand::Remove(args) => {
            confirm(&format!("Take activation code {} back?", args.id), args.yes)?;
            Admin::open(&args.place)?
                .delete(&format!("/activation-codes/{}", segment(&args.id)))?;
            output::note(&format!("activation code {} is removed", args.id));
            Ok(())
        }
    }
}

fn add(args: &DeviceAdd) -> Result<(), Failure> {
    let admin = Admin::open(&args.place)?;
    let token = args.secret.token_stdin.then(secret_from_stdin).transpose()?;
    let body = json!({
        "id": args.id,
        "kind": args.kind,
        "name": args.name,
        "groups": args.groups,
        "gateway_for": args.gateway_for,
        "type": args.secret.credential.as_str(),
        "token": token,
        "allow_profile": args.secret.allow_profile,
        "integrity": args.integrity.as_str(),
    });
    let made = admin.post("/devices", &body)?;
    show_secret(&made, "token", args.place.output.json)
}

/// Says for people when something ends.
pub(crate) fn tell_end(item: &mut Value) {
    let end = item.get("expires").and_then(Value::as_u64).map(told_end);
    if let (Some(end), Some(fields)) = (end, item.as_object_mut()) {
        fields.insert("expires".to_owned(), end.into());
    }
}

/// What it is in its own words, and a line for each resource.
fn show_profile(profile: &Value) -> Result<(), Failure> {
    for name in ["manufacturer", "model", "swversion", "uniqueid"] {
        if profile.get(name).is_some() {
            output::line(&format!("{name:<12} {}", output::cell(profile, name)))?;
        }
    }
    let fields = ["name", "as", "type", "unit", "writable", "min", "max", "step", "options"];
    let headings = fields.map(str::to_uppercase);
    let resources = profile.get("resources").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<_>> = resources
        .map(|resource| fields.iter().map(|field| output::cell(resource, field)).collect())
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    Ok(output::table(&headings.each_ref().map(String::as_str), &rows)?)
}

/// A secret is data: it goes to stdout alone, what surrounds it to stderr.
pub(crate) fn show_secret(made: &Value, field: &str, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::line(&made.to_string())?);
    }
    let id = output::cell(made, "id");
    if made.get(field).is_none_or(Value::is_null) {
        output::note(&format!("{id} takes the {field} that was given"));
        return Ok(());
    }
    output::note(&format!("{field} of {id} (shown once):"));
    Ok(output::line(&output::cell(made, field))?)
}

/// Prints a list: JSON lines, or a table of these fields.
pub(crate) fn rows(
    list: &[Value],
    fields: &[&str],
    headings: &[&str],
    json: bool,
) -> Result<(), Failure> {
    if json {
        return list.iter().try_for_each(|item| Ok(output::line(&item.to_string())?));
    }
    let rows: Vec<Vec<_>> =
        list.iter().map(|item| fields.iter().map(|f| output::cell(item, f)).collect()).collect();
    Ok(output::table(headings, &rows)?)
}
