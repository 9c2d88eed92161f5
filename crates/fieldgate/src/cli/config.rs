//! `fieldgate config`: checking and printing what can be set.

use std::path::{Path, PathBuf};

use fieldgate_server::config::{Config, ConfigError, Sources, load_all, schema, template};
use serde_json::json;

use crate::{
    args::{ConfigCommand, ConfigSources, variable},
    failure::{Exit, Failure},
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
        ConfigCommand::Template => Ok(output::line(template().trim_end())?),
        ConfigCommand::Schema => Ok(output::line(&format!("{:#}", schema()))?),
    }
}

/// The sources of a run: the file named, else the first default one; environment, of which what is
/// empty is not set; `--set`, and the flags' own settings.
pub(crate) fn sources(args: &ConfigSources, flags: &[(&'static str, String)]) -> Sources {
    let file = args
        .file
        .clone()
        .or_else(|| variable("FIELDGATE_CONFIG").map(PathBuf::from))
        .or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.exists()));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| name.starts_with("FIELDGATE__") && !value.is_empty())
        .collect();
    Sources { file, environment, set: args.set.clone(), flags: flags.to_vec() }
}

/// Names the file, for the start line.
pub(crate) fn told(sources: &Sources) -> String {
    sources.file.as_ref().map_or_else(|| "defaults".to_owned(), |f| f.display().to_string())
}

/// Loads and looks at the files that are named, or tells every mistake.
pub(crate) fn read(sources: &Sources) -> Result<Config, Failure> {
    let loaded = load_all(sources).map_err(|errors| refused(&errors))?;
    match loaded.wrong_files() {
        wrong if wrong.is_empty() => Ok(loaded.config),
        wrong => Err(refused(&wrong)),
    }
}

fn refused(errors: &[ConfigError]) -> Failure {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Failure::new(Exit::Usage, "configuration", lines.join("\n  "))
}

/// Every value with where it was set.
fn print(sources: &Sources, json: bool) -> Result<(), Failure> {
    let loaded = load_all(sources).map_err(|errors| refused(&errors))?;
    for (key, value, from) in loaded.rows() {
        let line = match value {
            _ if json => json!({"key": key, "value": value, "from": from}).to_string(),
            Some(value) => format!("{:<56} # {from}", format!("{key} = {value}")),
            None => format!("{:<56} # {from}", format!("# {key} is not set")),
        };
        output::line(&line)?;
    }
    Ok(())
}
