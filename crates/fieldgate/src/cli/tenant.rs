//! `fieldgate tenant`: who shares the gateway without seeing each other.

use serde_json::json;

use super::{
    admin::{Admin, segment},
    device::rows,
    prompt::confirm,
};
use crate::{args::TenantCommand, failure::Failure, output};

pub(crate) fn run(command: TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Add { name, connections, devices, retained, messages_per_second, place } => {
            let limits = json!({
                "connections_max": connections,
                "devices_max": devices,
                "retained_max": retained,
                "messages_per_second": messages_per_second,
            });
            let body = json!({"name": name, "limits": limits});
            let made = Admin::open(&place)?.post("/tenants", &body)?;
            if place.output.json {
                return Ok(output::line(&made.to_string())?);
            }
            output::note(&format!("tenant {name} is there"));
            Ok(())
        }
        TenantCommand::List(args) => {
            let tenants = Admin::open(&args.place)?.list("/tenants")?;
            let fields = ["id", "connections", "devices", "keys", "users", "retained"];
            let headings = ["NAME", "CONNECTIONS", "DEVICES", "KEYS", "USERS", "RETAINED"];
            rows(&tenants, &fields, &headings, args.place.output.json)
        }
        TenantCommand::Remove(args) => {
            let question = format!("Remove tenant {} with everything in it?", args.id);
            confirm(&question, args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/tenants/{}", segment(&args.id)))?;
            output::note(&format!("tenant {} is removed", args.id));
            Ok(())
        }
    }
}
