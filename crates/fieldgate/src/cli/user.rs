//! `fieldgate user`: people and their roles.

use serde_json::json;

use super::{
    admin::{Admin, segment},
    confirm,
    device::items,
    secret_from_stdin,
};
use crate::{args::UserCommand, failure::Failure, output};

pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, role, password_stdin, place } => {
            let password = if password_stdin { Some(secret_from_stdin()?) } else { None };
            let body = json!({"name": name, "role": role.as_str(), "password": password});
            let made = Admin::open(&place)?.post("/users", &body)?;
            if place.output.json {
                return Ok(output::line(&made.to_string())?);
            }
            output::note(&format!("user {name} is {}", role.as_str()));
            Ok(())
        }
        UserCommand::List(args) => {
            let users = Admin::open(&args.place)?.get("/users")?;
            if args.place.output.json {
                for user in items(&users) {
                    output::line(&user.to_string())?;
                }
                return Ok(());
            }
            let rows: Vec<_> = items(&users)
                .map(|user| vec![output::cell(user, "name"), output::cell(user, "role")])
                .collect();
            Ok(output::table(&["NAME", "ROLE"], &rows)?)
        }
        UserCommand::Remove(args) => {
            confirm(&format!("Remove user {}?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/users/{}", segment(&args.id)))?;
            output::note(&format!("user {} is removed", args.id));
            Ok(())
        }
    }
}
