//! `fieldgate user`: people, their roles and passwords.

use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    device::rows,
    prompt::{confirm, new_password},
};
use crate::{
    args::{LoginLinkArgs, UserCommand},
    failure::{Exit, Failure},
    output,
};

pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, role, email, password_stdin, place } => {
            let admin = Admin::open(&place)?;
            let password = new_password(password_stdin)?;
            let role_name = role.as_str();
            let body =
                json!({"name": name, "role": role_name, "password": password, "email": email});
            let made = admin.post("/users", &body)?;
            if place.output.json {
                return Ok(output::line(&made.to_string())?);
            }
            output::note(&format!("user {name} is {role_name}"));
            Ok(())
        }
        UserCommand::Password { name, password_stdin, place } => {
            let admin = Admin::open(&place)?;
            let body = json!({"password": new_password(password_stdin)?});
            admin.post(&format!("/users/{}/password", segment(&name)), &body)?;
            output::note(&format!("user {name} has a new password; all sign-ins ended"));
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

/// Makes a code for a person, or for the one admin there is.
pub(crate) fn login_link(args: &LoginLinkArgs) -> Result<(), Failure> {
    let admin = Admin::open(&args.place)?;
    // Asked for in any case: a request that makes nothing makes no mistyped folder either.
    let users = admin.list("/users")?;
    let user = match &args.user {
        Some(user) => user.clone(),
        None => only_admin(&users)?,
    };
    let made = admin.post(&format!("/users/{}/login-link", segment(&user)), &json!({}))?;
    if args.place.output.json {
        return Ok(output::line(&made.to_string())?);
    }
    output::note(&format!("{user} signs in with this once, within ten minutes:"));
    output::note("  POST /v1/login-link with {\"code\": \"…\"}");
    Ok(output::line(&output::cell(&made, "code"))?)
}

fn only_admin(users: &[Value]) -> Result<String, Failure> {
    let mut admins = users.iter().filter(|user| user["role"] == "admin");
    match (admins.next(), admins.next()) {
        (Some(admin), None) => Ok(output::cell(admin, "name")),
        (Some(_), Some(_)) => {
            Err(Failure::usage("there are several admins").hint("--user says which"))
        }
        (None, _) => Err(Failure::new(Exit::Failed, "not_found", "there is no admin")
            .hint("fieldgate user add NAME --role admin makes one; --user names another person")),
    }
}
