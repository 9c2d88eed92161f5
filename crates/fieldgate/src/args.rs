//! The command line: what a person types in, checked values out.
//!
//! The names are settled in the operator's page and change only on purpose. A token is never an
//! argument: other users of the machine would see it.

mod deconz;
mod integration;
mod registry;

use std::{ffi::OsString, num::NonZeroU16, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

pub(crate) use deconz::{DeconzCommand, DeconzKeyCommand};
pub(crate) use integration::{FormatName, IntegrationAdd, IntegrationCommand};
pub(crate) use registry::{
    ActivationCommand, CredentialCommand, DeviceAdd, DeviceCommand, KeyCommand, LoginLinkArgs,
    RoleName, TenantCommand, UserCommand,
};

/// Self-hosted real-time gateway for the Internet of Things.
#[derive(Debug, Parser)]
#[command(name = "fieldgate", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Try it: fieldgate demo")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway.
    #[command(
        after_help = "Example: fieldgate serve --data /var/lib/fieldgate --listen 127.0.0.1:8080"
    )]
    Serve(ServeArgs),
    /// Run the gateway with a small simulated building, in a temporary folder.
    #[command(after_help = "Example: fieldgate demo --for 30s")]
    Demo(DemoArgs),
    /// Devices and their tokens.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Codes that make a device once, for things of the thethings.iO dialect.
    #[command(subcommand)]
    Activation(ActivationCommand),
    /// People and their passwords.
    #[command(subcommand)]
    User(UserCommand),
    /// Make a code with which a person signs in once, within ten minutes.
    #[command(after_help = "Example: fieldgate login-link --user ada")]
    LoginLink(LoginLinkArgs),
    /// API keys for programs.
    #[command(subcommand)]
    Key(KeyCommand),
    /// What flows in from other systems, and out to them.
    #[command(subcommand)]
    Integration(IntegrationCommand),
    /// Tenants: what is in one cannot be seen from another.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Apps for a deCONZ gateway, and their keys.
    #[command(subcommand)]
    Deconz(DeconzCommand),
    /// Publish a message, or one for each line of stdin.
    #[command(after_help = "Example: fieldgate publish plant/line-1/note '\"started\"' --retain")]
    Publish(PublishArgs),
    /// Receive messages: a live table on a terminal, JSON lines elsewhere.
    #[command(
        after_help = "Example: fieldgate subscribe 'devices/+/telemetry' --since -10m --json"
    )]
    Subscribe(SubscribeArgs),
    /// Send a command to a device, and tell how it ended.
    #[command(
        after_help = r#"Exit 0 if it was completed, or is still on its way when --wait is over; 1 if it failed or expired, of several devices at any of them.
With --json and several devices the first line is {"msgid","devices"}; then there is one for each news of a device.
Example: fieldgate command lamp-1 '{"on":true}' --wait 5s"#
    )]
    #[command(name = "command")]
    Send(CommandArgs),
    /// How the gateway is, and what it dropped.
    #[command(after_help = "Example: fieldgate status --json")]
    Status(StatusArgs),
    /// The log on disk.
    #[command(subcommand)]
    Log(LogCommand),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example: fieldgate completions bash > /etc/bash_completion.d/fieldgate"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    #[command(after_help = "Example: fieldgate version --json")]
    Version {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Output {
    /// Print JSON, errors too.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a command that administers finds the gateway.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// A gateway elsewhere, with an API key in FIELDGATE_TOKEN; else FIELDGATE_URL.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub(crate) url: Option<String>,
    /// The data folder of a gateway on this machine; else FIELDGATE_DATA, else ./fieldgate-data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// PEM file of certificates to trust in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The tenant.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A data folder that is looked into.
#[derive(Debug, Clone, Args)]
pub(crate) struct Folder {
    /// The data folder; else FIELDGATE_DATA, else ./fieldgate-data.
    #[arg(long, value_name = "DIR", default_value_os_t = folder(), hide_default_value = true)]
    pub(crate) data: PathBuf,
    /// The tenant; the log is of all.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Where a command that sends or receives finds the gateway. The token is in FIELDGATE_TOKEN.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The gateway's address; else FIELDGATE_URL, else http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", default_value_t = url(), hide_default_value = true)]
    pub(crate) url: String,
    /// The data folder of a gateway that runs on this machine; no token is needed.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// PEM file of certificates to trust in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The tenant.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What makes a configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigSources {
    /// The configuration file; else FIELDGATE_CONFIG.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// One setting, as TOML; beats the environment and the file.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) sources: ConfigSources,
    /// The data folder; else FIELDGATE_DATA, else ./fieldgate-data.
    #[arg(long, value_name = "DIR", default_value_os_t = folder(), hide_default_value = true)]
    pub(crate) data: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// A further port of the deCONZ push socket, or `auto` for the first free one that its apps know.
    #[arg(long, value_name = "N|auto", value_parser = ws_port)]
    pub(crate) ws_port: Option<String>,
    /// Written once every listener accepts.
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Make a certificate for the bound names, and print its fingerprint.
    #[arg(long)]
    pub(crate) self_signed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The data folder; else a temporary one, removed at exit.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen; else 127.0.0.1:8080, or a free port if that is taken.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// End by itself after this time, with a summary.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) limit: Option<Duration>,
    /// Written once the data moves.
    #[arg(long, value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// [`Folder`] alone, as a variant's arguments.
#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    #[command(flatten)]
    pub(crate) place: Folder,
}

/// [`Place`] alone, as a variant's arguments.
#[derive(Debug, Args)]
pub(crate) struct Place2 {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Its id.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct NamedYes {
    /// Its id.
    pub(crate) id: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Where to.
    pub(crate) topic: String,
    /// JSON if it is JSON, else text; `-`: one message for each line of stdin; absent: null.
    pub(crate) payload: Option<String>,
    /// The promise: 0 fire and forget, 1 stored.
    #[arg(long, default_value_t = 1, value_parser = qos)]
    pub(crate) qos: u8,
    /// Keep it as the topic's retained message.
    #[arg(long)]
    pub(crate) retain: bool,
    /// Send it this often.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) repeat: u64,
    /// Time between repeats.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub(crate) every: Duration,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    /// What; several are one stream each.
    #[arg(required = true)]
    pub(crate) filters: Vec<String>,
    /// The highest promise wanted.
    #[arg(long, default_value_t = 1, value_parser = qos)]
    pub(crate) qos: u8,
    /// Begin with the history: a position `epoch:seq`, an RFC 3339 time, `-10m`, or `all`.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// A device, `group:NAME`, or a filter such as `devices/+`.
    pub(crate) to: String,
    /// What to do: JSON, else text.
    pub(crate) payload: String,
    /// How long to wait for its end.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) wait: Duration,
    /// When it becomes worthless.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    pub(crate) expires: Duration,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Read every batch and say what is whole and what is not.
    #[command(after_help = "Example: fieldgate log verify --data /var/lib/fieldgate")]
    Verify(FolderArgs),
    /// Print every record as a JSON line.
    #[command(after_help = "Example: fieldgate log dump --data /var/lib/fieldgate | head")]
    Dump(FolderArgs),
    /// Rewrite damaged segments without what cannot be read, after asking.
    #[command(after_help = "Example: fieldgate log repair --yes")]
    Repair {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Folder,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration; exit 2 names every mistake.
    #[command(after_help = "Example: fieldgate config check -c fieldgate.toml")]
    Check(ConfigArgs),
    /// Print every value and where it came from, secrets masked.
    #[command(after_help = "Example: fieldgate config print --set drain.grace_ms=5000")]
    Print(ConfigArgs),
    /// Print a configuration file with every key and its default.
    #[command(after_help = "Example: fieldgate config template > fieldgate.toml")]
    Template,
    /// Print the JSON Schema of the configuration.
    #[command(after_help = "Example: fieldgate config schema > fieldgate.schema.json")]
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) sources: ConfigSources,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A variable of the environment; one that is empty is not set.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The data folder, if none is named.
pub(crate) fn folder() -> PathBuf {
    variable("FIELDGATE_DATA").unwrap_or_else(|| "fieldgate-data".into()).into()
}

/// The gateway's address that the environment names.
pub(crate) fn url_variable() -> Option<String> {
    // What is no text is no address, and is told as one that nobody can reach.
    variable("FIELDGATE_URL").map(|url| url.to_string_lossy().into_owned())
}

fn url() -> String {
    url_variable().unwrap_or_else(|| "http://127.0.0.1:8080".to_owned())
}

/// Reads a promise that this release keeps.
fn qos(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "2" => Err("QoS 2 comes with a later release: take 1".to_owned()),
        _ => Err("write 0 or 1".to_owned()),
    }
}

/// Reads a port, or `auto`.
fn ws_port(text: &str) -> Result<String, String> {
    let is_port = text == "auto" || text.parse::<NonZeroU16>().is_ok();
    is_port.then(|| text.to_owned()).ok_or_else(|| "write a port, 1 to 65535, or auto".to_owned())
}

/// Reads `500ms`, `30s`, `5m`, `2h`, `90d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is no time: write 500ms, 30s, 5m, 2h or 90d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for text in ["", "5", "s", "5 s", "-1s", "1w", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(sub.has_subcommands() || help.contains("Example:"), "{}", sub.get_name());
                check(sub);
            }
        }
        check(&Cli::command());
    }
}
