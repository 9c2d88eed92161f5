//! `fieldgate device`: devices and their tokens.

use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    prompt::{confirm, secret_from_stdin},
};
use crate::{
    args::{CredentialType, DeviceAdd, DeviceCommand},
    failure::Failure,
    output,
};

pub(crate) fn run(command: DeviceCommand) -> Result<(), Failure> {
    match command {
        DeviceCommand::Add(args) => add(&args),
        DeviceCommand::List(args) => {
            let devices = Admin::open(&args.place)?.get("/devices")?;
            list(&devices, args.place.output.json)
        }
        DeviceCommand::Show(args) => {
            let path = format!("/devices/{}", segment(&args.id));
            let device = Admin::open(&args.place)?.get(&path)?;
            if args.place.output.json {
                return Ok(output::line(&device.to_string())?);
            }
            for name in ["id", "name", "kind", "groups", "gateway_for"] {
                output::line(&format!("{name:<12} {}", output::cell(&device, name)))?;
            }
            Ok(())
        }
        DeviceCommand::Remove(args) => {
            confirm(&format!("Remove device {} and end its token?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/devices/{}", segment(&args.id)))?;
            output::note(&format!("device {} is removed", args.id));
            Ok(())
        }
        DeviceCommand::Rotate(args) => {
            confirm(&format!("Replace the token of {}?", args.id), args.yes)?;
            let path = format!("/devices/{}/rotate", segment(&args.id));
            let made = Admin::open(&args.place)?.post(&path, &json!({}))?;
            show_secret(&made, "token", args.place.output.json)
        }
    }
}

fn add(args: &DeviceAdd) -> Result<(), Failure> {
    let CredentialType::Token = args.credential;
    let token = if args.token_stdin { Some(secret_from_stdin()?) } else { None };
    let body = json!({
        "id": args.id,
        "kind": args.kind,
        "name": args.name,
        "groups": args.groups,
        "gateway_for": args.gateway_for,
        "token": token,
    });
    let made = Admin::open(&args.place)?.post("/devices", &body)?;
    show_secret(&made, "token", args.place.output.json)
}

/// A secret is data: it goes to stdout alone, what surrounds it to stderr.
pub(crate) fn show_secret(made: &Value, field: &str, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::line(&made.to_string())?);
    }
    output::note(&format!("{} of {} (shown once):", field, output::cell(made, "id")));
    Ok(output::line(&output::cell(made, field))?)
}

/// The elements of a list.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn list(devices: &Value, json: bool) -> Result<(), Failure> {
    if json {
        for device in items(devices) {
            output::line(&device.to_string())?;
        }
        return Ok(());
    }
    let names = ["id", "name", "kind", "groups"];
    let rows: Vec<Vec<_>> =
        items(devices).map(|d| names.iter().map(|n| output::cell(d, n)).collect()).collect();
    Ok(output::table(&["ID", "NAME", "KIND", "GROUPS"], &rows)?)
}
