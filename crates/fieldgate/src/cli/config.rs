//! `fieldgate config`: checking and printing what can be set.

use std::path::{Path, PathBuf};

use fieldgate_server::config::{Config, Sources, load};
use serde_json::{Value, json};

use crate::{
    args::{ConfigCommand, ConfigSources},
    failure::Failure,
    output,
};

/// Where a configuration is looked for if none is named.
const DEFAULT_FILES: [&str; 2] = ["./fieldgate.toml", "/etc/fieldgate/fieldgate.toml"];

pub(crate) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            let sources = sources(&args.sources, &[]);
            read(&sources)?;
            if args.output.json {
                let file = sources.file.as_deref().map(Path::to_string_lossy);
                return Ok(output::line(&json!({"ok": true, "file": file}).to_string())?);
            }
            output::note(&format!("{}: no mistake", told(&sources)));
            Ok(())
        }
        ConfigCommand::Print(args) => print(&sources(&args.sources, &[]), args.output.json),
        ConfigCommand::Template => Ok(output::line(Config::default().to_toml().trim_end())?),
        ConfigCommand::Schema => Ok(output::line(&format!("{:#}", schema(&defaults()?)))?),
    }
}

/// The sources of a run: the file named, else the first default one; environment; `--set`, with the
/// flags' own settings last.
pub(crate) fn sources(args: &ConfigSources, flags: &[String]) -> Sources {
    let file = args
        .file
        .clone()
        .or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.exists()));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("FIELDGATE__"))
        .collect();
    let set = args.set.iter().chain(flags).cloned().collect();
    Sources { file, environment, set }
}

/// Names the file, for the start line.
pub(crate) fn told(sources: &Sources) -> String {
    sources.file.as_ref().map_or_else(|| "defaults".to_owned(), |f| f.display().to_string())
}

/// Loads, or tells every mistake.
pub(crate) fn read(sources: &Sources) -> Result<Config, Failure> {
    load(sources).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Failure { code: "configuration".to_owned(), ..Failure::usage(lines.join("\n  ")) }
    })
}

fn defaults() -> Result<Value, Failure> {
    serde_json::to_value(Config::default()).map_err(|e| Failure::usage(e.to_string()))
}

/// Every value with the strongest source that names it.
fn print(sources: &Sources, json: bool) -> Result<(), Failure> {
    let value = |sources: &Sources| -> Result<Value, Failure> {
        serde_json::to_value(read(sources)?).map_err(|e| Failure::usage(e.to_string()))
    };
    let whole = value(sources)?;
    let mut rows = Vec::new();
    leaves("", &whole, &mut rows);
    let named = |path: &str| origin(sources, path);
    for (path, value) in rows {
        let line = if json {
            json!({"key": path, "value": value, "from": named(&path)}).to_string()
        } else {
            format!("{:<56} # {}", format!("{path} = {value}"), named(&path))
        };
        output::line(&line)?;
    }
    Ok(())
}

fn leaves(prefix: &str, value: &Value, rows: &mut Vec<(String, Value)>) {
    let Value::Object(fields) = value else {
        rows.push((prefix.to_owned(), value.clone()));
        return;
    };
    for (name, value) in fields {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        leaves(&path, value, rows);
    }
}

fn origin(sources: &Sources, path: &str) -> String {
    let is_set = |pair: &String| pair.split_once('=').is_some_and(|(key, _)| key.trim() == path);
    if sources.set.iter().any(is_set) {
        return "command line".to_owned();
    }
    let variable = format!("FIELDGATE__{}", path.replace('.', "__").to_uppercase());
    if sources.environment.iter().any(|(name, _)| name.to_uppercase() == variable) {
        return variable;
    }
    let in_file = || {
        let file = sources.file.as_ref()?;
        let text = std::fs::read_to_string(file).ok()?;
        let mut at = &toml::Value::Table(toml::from_str(&text).ok()?);
        for name in path.split('.') {
            at = at.get(name)?;
        }
        Some(file.display().to_string())
    };
    in_file().unwrap_or_else(|| "default".to_owned())
}

/// A schema read off the defaults: names, types and default values.
fn schema(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let properties: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), schema(value))).collect();
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        Value::Array(_) => json!({"type": "array", "items": {"type": "string"}, "default": value}),
        Value::String(_) => json!({"type": ["string", "array"], "default": value}),
        Value::Number(_) => json!({"type": "number", "default": value}),
        Value::Bool(_) => json!({"type": "boolean", "default": value}),
        Value::Null => json!({"type": "string"}),
    }
}
