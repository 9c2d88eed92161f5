//! `fieldgate integration`: what flows in from other systems, and out to them.

use fieldgate_client::Since;
use serde_json::{Value, json};

use super::{
    admin::{Admin, segment},
    device::rows,
    now_ms,
    prompt::{confirm, secret_from_stdin},
    subscribe::parse_since,
};
use crate::{
    args::{IntegrationAdd, IntegrationCommand, Named, Place},
    failure::{Exit, Failure},
    output,
};

/// What `show` tells, line by line; a `.` leads into a part.
const SHOWN: [&str; 20] = [
    "name",
    "kind",
    "state",
    "devices",
    "target.url",
    "target.filter",
    "target.format",
    "target.token_in",
    "target.sign",
    "target.allow_private",
    "target.messages_per_second",
    "target.batch_max",
    "progress.cursor",
    "progress.behind",
    "progress.delivered",
    "progress.failed",
    "progress.set_aside",
    "progress.last_error",
    "progress.last_error_at",
    "progress.retry_at",
];

pub(crate) fn run(command: IntegrationCommand) -> Result<(), Failure> {
    match command {
        IntegrationCommand::Add(args) => add(&args),
        IntegrationCommand::List(args) => list(&args.place),
        IntegrationCommand::Show(args) => show(&args),
        IntegrationCommand::Test(args) => test(&args),
        IntegrationCommand::Pause(args) => act(&args, "pause", "rests"),
        IntegrationCommand::Resume(args) => act(&args, "resume", "goes on"),
        IntegrationCommand::Rotate(args) => {
            confirm(&format!("End the secret of {} for a new one?", args.id), args.yes)?;
            let admin = Admin::open(&args.place)?;
            let made = admin.post(&path(&args.id, "/rotate"), &json!({}))?;
            show_secrets(&made, args.place.output.json)
        }
        IntegrationCommand::Replay { id, from, yes, place } => replay(&id, &from, yes, &place),
        IntegrationCommand::SetAside(args) => {
            let list = Admin::open(&args.place)?.list(&path(&args.id, "/set-aside"))?;
            let fields = ["position", "time", "retry", "reason"];
            rows(&list, &fields, &["POSITION", "TIME", "RETRY", "REASON"], args.place.output.json)
        }
        IntegrationCommand::Retry(args) => {
            let rest = format!("/set-aside/{}/retry", segment(&args.position));
            Admin::open(&args.place)?.post(&path(&args.id, &rest), &json!({}))?;
            output::note(&format!("{} is tried once more", args.position));
            Ok(())
        }
        IntegrationCommand::Drop { aside: args, yes } => {
            confirm(&format!("Forget {} of {} for good?", args.position, args.id), yes)?;
            let rest = format!("/set-aside/{}", segment(&args.position));
            Admin::open(&args.place)?.delete(&path(&args.id, &rest))?;
            output::note(&format!("{} is forgotten", args.position));
            Ok(())
        }
        IntegrationCommand::Remove(args) => {
            confirm(&format!("Remove integration {}?", args.id), args.yes)?;
            Admin::open(&args.place)?.delete(&path(&args.id, ""))?;
            output::note(&format!("integration {} is removed", args.id));
            Ok(())
        }
    }
}

fn list(place: &Place) -> Result<(), Failure> {
    let list = Admin::open(place)?.list("/integrations")?;
    if place.output.json {
        return rows(&list, &[], &[], true);
    }
    let columns = [
        ("NAME", "name"),
        ("KIND", "kind"),
        ("STATE", "state"),
        ("FILTER", "target.filter"),
        ("BEHIND", "progress.behind"),
        ("DELIVERED", "progress.delivered"),
        ("SET ASIDE", "progress.set_aside"),
        ("LAST ERROR", "progress.last_error"),
    ];
    let told = |one: &Value| columns.iter().map(|(_, field)| part(one, field)).collect();
    let cells: Vec<Vec<_>> = list.iter().map(told).collect();
    Ok(output::table(&columns.map(|(heading, _)| heading), &cells)?)
}

fn show(args: &Named) -> Result<(), Failure> {
    let shown = Admin::open(&args.place)?.get(&path(&args.id, ""))?;
    if args.place.output.json {
        return Ok(output::line(&shown.to_string())?);
    }
    for field in SHOWN {
        let value = part(&shown, field);
        let name = field.rsplit('.').next().unwrap_or(field);
        if !value.is_empty() {
            output::line(&format!("{name:<20} {value}"))?;
        }
    }
    Ok(())
}

fn replay(id: &str, from: &str, yes: bool, place: &Place) -> Result<(), Failure> {
    let body = json!({"from": moment(from)?});
    let admin = Admin::open(place)?;
    if from != "all" && !yes {
        let shown = admin.get(&path(id, ""))?;
        let behind = shown.pointer("/progress/behind").and_then(Value::as_u64).unwrap_or_default();
        if behind > 0 {
            let question =
                format!("{behind} messages wait for {id}. Pass over those before {from}?");
            confirm(&question, yes)?;
        }
    }
    let shown = admin.post(&path(id, "/replay"), &body)?;
    if place.output.json {
        return Ok(output::line(&shown.to_string())?);
    }
    let cursor = part(&shown, "progress.cursor");
    output::note(&format!("integration {id} delivers what is behind {cursor}"));
    Ok(())
}

fn path(name: &str, rest: &str) -> String {
    format!("/integrations/{}{rest}", segment(name))
}

/// A part of an answer, for people.
fn part(value: &Value, field: &str) -> String {
    match field.split_once('.') {
        None => output::cell(value, field),
        Some((first, rest)) => value.get(first).map(|inner| part(inner, rest)).unwrap_or_default(),
    }
}

fn add(args: &IntegrationAdd) -> Result<(), Failure> {
    let place = args.place.place();
    let admin = Admin::open(&place)?;
    let from = args.from.as_deref().map(moment).transpose()?;
    let secret = args.secret_stdin.then(secret_from_stdin).transpose()?;
    let body = json!({
        "name": args.name,
        "kind": args.kind.as_str(),
        "url": args.url,
        "filter": args.filter,
        "format": args.format.map(crate::args::FormatName::as_str),
        "token_in": args.token_in,
        "secret": secret,
        "sign": args.sign,
        "from": from,
        "allow_private": args.allow_private,
        "messages_per_second": args.messages_per_second,
        "batch_max": args.batch_max,
    });
    let made = admin.post("/integrations", &body)?;
    show_secrets(&made, place.output.json)
}

/// The secrets that were made are data: they go to stdout alone, what surrounds them to stderr.
fn show_secrets(made: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(output::line(&made.to_string())?);
    }
    let name = output::cell(made, "name");
    let made = ["token", "signing_secret"].map(|field| (field, output::cell(made, field)));
    if made.iter().all(|(_, secret)| secret.is_empty()) {
        output::note(&format!("integration {name} is there"));
    }
    for (field, secret) in made.iter().filter(|(_, secret)| !secret.is_empty()) {
        output::note(&format!("{} of {name} (shown once):", field.replace('_', " ")));
        output::line(secret)?;
    }
    Ok(())
}

fn act(args: &Named, act: &str, done: &str) -> Result<(), Failure> {
    let shown = Admin::open(&args.place)?.post(&path(&args.id, &format!("/{act}")), &json!({}))?;
    if args.place.output.json {
        return Ok(output::line(&shown.to_string())?);
    }
    output::note(&format!("integration {} {done}", args.id));
    Ok(())
}

fn test(args: &Named) -> Result<(), Failure> {
    let tested = Admin::open(&args.place)?.post(&path(&args.id, "/test"), &json!({}))?;
    let detail = output::cell(&tested, "detail");
    if args.place.output.json {
        output::line(&tested.to_string())?;
    } else {
        output::line(&format!("{detail} ({} ms)", output::cell(&tested, "took_ms")))?;
    }
    if tested.get("ok") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let text = format!("the target of {} would take nothing: {detail}", args.id);
    Err(Failure::new(Exit::Failed, "failed", text)
        .hint("fieldgate integration show tells where it delivers to, and with what"))
}

/// When something begins, as the gateway reads it: a time that is told from now on is reckoned here.
fn moment(text: &str) -> Result<String, Failure> {
    if text == "now" {
        return Ok(text.to_owned());
    }
    let since = parse_since(text, now_ms(), "now, all")?;
    if let (Since::Time(time), true) = (since, text.starts_with('-')) {
        return Ok(time.0.to_string());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_from_now_on_is_a_time_and_the_rest_is_the_gateways_to_read() {
        for text in ["now", "all", "k3f9:4711", "2026-11-20T06:00:00Z"] {
            assert_eq!(moment(text).unwrap(), text);
        }
        let before = now_ms();
        let told: u64 = moment("-10s").unwrap().parse().unwrap();
        assert!((before - 10_000..=now_ms() - 10_000).contains(&told));
        for text in ["-yesterday", "foo"] {
            let told = moment(text).unwrap_err().message;
            assert!(told.contains(text) && told.contains("now, all") && told.contains("-10m"));
        }
    }

    #[test]
    fn parts_of_parts_are_found() {
        let value = json!({"a": {"b": 3}, "c": null, "d": "x"});
        let told = ["a.b", "c", "c.e", "d", "f.g"].map(|field| part(&value, field));
        assert_eq!(told, ["3", "", "", "x", ""]);
    }
}
