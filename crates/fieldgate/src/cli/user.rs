//! `fieldgate user`: people, their roles and passwords.

use serde_json::json;

use super::{
    admin::{Admin, segment},
    device::rows,
    prompt::{confirm, new_password},
};
use crate::{args::UserCommand, failure::Failure, output};

/// What somebody who makes a user must know today.
const NO_LOGIN: &str =
    "signing in comes with a later release: until then a program needs `fieldgate key add`";

pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, role, password_stdin, place } => {
            let admin = Admin::open(&place)?;
            let password = new_password(password_stdin)?;
            let body = json!({"name": name, "role": role.as_str(), "password": password});
            let made = admin.post("/users", &body)?;
            if place.output.json {
                return Ok(output::line(&made.to_string())?);
            }
            output::note(&format!("user {name} is {}; {NO_LOGIN}", role.as_str()));
            Ok(())
        }
        UserCommand::Password { name, password_stdin, place } => {
            let admin = Admin::open(&place)?;
            let body = json!({"password": new_password(password_stdin)?});
            admin.post(&format!("/users/{}/password", segment(&name)), &body)?;
            output::note(&format!("user {name} has a new password"));
            Ok(())
        }
        UserCommand::List(args) => {
            let users = Admin::open(&args.place)?.list("/users")?;
            rows(&users, &["name", "role"], &["NAME", "ROLE"], args.place.output.json)
        }
        UserCommand::Remove(args) => {
            confirm(&format!("Remove user {}?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&format!("/users/{}", segment(&args.id)))?;
            output::note(&format!("user {} is removed", args.id));
            Ok(())
        }
    }
}
