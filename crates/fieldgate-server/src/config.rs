//! Configuration: file, environment and `--set` in, one typed value out.
//!
//! Later sources win: defaults, file, environment (`FIELDGATE__LIMITS__AUTH_MS`), `--set`. An unknown
//! key is an error that names the nearest known one. Source: `cli.md`, "Configuration".

mod units;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where connections are taken.
    pub listen: Listen,
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// Bounds on what a client may cost.
    pub limits: Limits,
    /// The log.
    pub store: StoreConfig,
    /// How long the log keeps.
    pub retention: Retention,
    /// Stopping.
    pub drain: Drain,
    /// Logging.
    pub log: LogConfig,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// Where connections are taken.
    Listen {
        /// Addresses of HTTP and WebSocket; port 0 takes a free one.
        http: Vec<String> = vec!["127.0.0.1:8080".to_owned()],
        /// Addresses that serve `/metrics` alone, without a key.
        metrics: Vec<String> = Vec::new(),
        /// `"loopback"`: without TLS only loopback may be bound; or a list of listeners that may be plain.
        plaintext: Plaintext = Plaintext::Word("loopback".to_owned()),
        /// Certificate and key.
        tls: Tls = Tls::default(),
        /// Host names answered besides loopback and the bound addresses.
        hosts: Vec<String> = Vec::new(),
    }
}

section! {
    /// Certificate and key, PEM.
    Tls {
        /// The certificate chain.
        cert: Option<PathBuf> = None,
        /// The private key.
        key: Option<PathBuf> = None,
    }
}

/// Which listeners may be plain beyond loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Plaintext {
    /// `"loopback"`.
    Word(String),
    /// Listener names.
    List(Vec<String>),
}

section! {
    /// Signs of life, in ms.
    Heartbeat {
        /// The server pings this often.
        ping_ms: u64 = 30_000,
        /// Without any traffic for this long a client is gone.
        silence_ms: u64 = 90_000,
    }
}

section! {
    /// Bounds on what a client may cost; `_max` is inclusive.
    Limits {
        /// Authenticated connections.
        connections_max: usize = 100_000,
        /// Connections of one address; at the default loopback is not counted; 0 is off.
        connections_per_address_max: usize = 1_000,
        /// Sockets that have not authenticated.
        unauthenticated_max: usize = 2_000,
        /// Largest frame before authentication.
        unauthenticated_frame_bytes_max: usize = 16_384,
        /// Failed authentications of one address a minute.
        auth_failures_per_minute_max: u32 = 30,
        /// Time for the HTTP request head.
        handshake_ms: u64 = 5_000,
        /// Time for the first frame.
        auth_ms: u64 = 5_000,
        /// Largest frame.
        frame_bytes_max: usize = 262_144,
        /// Largest message.
        message_bytes_max: usize = 262_144,
        /// Deepest JSON.
        json_depth_max: usize = 32,
        /// Most elements of a batch.
        batch_len_max: usize = 1_000,
        /// Most subscriptions of a connection.
        topics_per_connection_max: usize = 256,
        /// Messages a second of a principal, all its connections together.
        messages_per_second: u64 = 1_000,
        /// Messages at once.
        message_burst: u64 = 2_000,
        /// Bytes a second.
        bytes_per_second: u64 = 4_194_304,
        /// Bytes that wait for one slow receiver.
        outbox_bytes_max: usize = 1_048_576,
        /// Replays that one principal runs at a time.
        replays_per_principal_max: usize = 4,
        /// Devices of a tenant.
        devices_per_tenant_max: usize = 100_000,
        /// Resources in one frame.
        resources_per_device_max: usize = 1_000,
        /// Retained messages of a tenant.
        retained_per_tenant_max: usize = 100_000,
    }
}

section! {
    /// The log.
    StoreConfig {
        /// `"fsync"`, or `"os"`, which weakens every acknowledgement.
        durability: String = "fsync".to_owned(),
        /// Below this much free disk new messages are refused: bytes, or `"1GiB"`.
        #[serde(with = "units::size")]
        free_bytes_min: u64 = 1 << 30,
    }
}

section! {
    /// How long the log keeps.
    Retention {
        /// Milliseconds, or `"7d"`.
        #[serde(rename = "age", with = "units::duration")]
        age_ms: u64 = 7 * 86_400_000,
        /// Bytes, or `"10GiB"`.
        #[serde(with = "units::size")]
        bytes: u64 = 10 << 30,
    }
}

section! {
    /// Stopping.
    Drain {
        /// Time for clients to leave, in ms.
        grace_ms: u64 = 20_000,
    }
}

section! {
    /// Logging.
    LogConfig {
        /// `"text"` or `"json"`.
        format: String = "text".to_owned(),
        /// `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
        level: String = "info".to_owned(),
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {why}")]
    File {
        /// Its path.
        file: String,
        /// The system's words.
        why: String,
    },
    /// A value or key is wrong.
    #[error("{place}: {why}")]
    Value {
        /// File with line and column, or the variable or flag.
        place: String,
        /// What is wrong, and the nearest known key.
        why: String,
    },
}

/// Errors told of one file; the rest is for the next run.
const FILE_ERRORS_MAX: usize = 32;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Environment variables, those with the prefix `FIELDGATE__` count.
    pub environment: Vec<(String, String)>,
    /// `--set KEY=VALUE`.
    pub set: Vec<String>,
}

/// Reads every source.
///
/// # Errors
///
/// Every error found, so that one run shows them all.
pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    let mut table = Table::new();
    let mut errors = Vec::new();
    if let Some(file) = &sources.file {
        table = read_file(file, &mut errors);
    }
    for (name, value) in &sources.environment {
        if let Some(path) = name.strip_prefix("FIELDGATE__") {
            let path = path.to_lowercase().replace("__", ".");
            overlay(&mut table, &path, value, name, &mut errors);
        }
    }
    for pair in &sources.set {
        match pair.split_once('=') {
            Some((path, value)) => overlay(&mut table, path.trim(), value, "--set", &mut errors),
            None => errors.push(ConfigError::Value {
                place: "--set".to_owned(),
                why: format!("{pair:?} is not KEY=VALUE"),
            }),
        }
    }
    let config: Result<Config, _> = Value::Table(table).try_into();
    match config {
        Ok(config) if errors.is_empty() => config.check().map(|()| config),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(ConfigError::Value {
                place: "configuration".to_owned(),
                why: error.message().to_owned(),
            });
            Err(errors)
        }
    }
}

/// What the file says without its wrong lines; each of them is an error.
fn read_file(path: &Path, errors: &mut Vec<ConfigError>) -> Table {
    let file = path.display().to_string();
    let mut text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            errors.push(ConfigError::File { file, why: error.to_string() });
            return Table::new();
        }
    };
    for _ in 0..FILE_ERRORS_MAX {
        let table = toml::from_str::<Table>(&text);
        let error = match (&table, toml::from_str::<Config>(&text)) {
            (Ok(_), Ok(_)) => break,
            (Ok(_), Err(error)) => error,
            (Err(error), _) => error.clone(),
        };
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let place =
            format!("{file}:{}:{}", before.matches('\n').count() + 1, before.len() - start + 1);
        errors.push(ConfigError::Value { place, why: with_nearest(error.message()) });
        if table.is_err() {
            return Table::new();
        }
        // Blanked, the line no longer hides the errors after it, and every place stays right.
        let end =
            text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |n| start + n);
        text.replace_range(start..end, &" ".repeat(end - start));
    }
    toml::from_str(&text).unwrap_or_default()
}

/// An unknown field's message lists the known ones; the nearest is named first.
fn with_nearest(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let Some(unknown) = words.next().filter(|_| message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    let nearest = words.min_by_key(|known| distance(unknown, known));
    nearest.map_or_else(
        || message.to_owned(),
        |nearest| format!("unknown key `{unknown}`; did you mean `{nearest}`?"),
    )
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let value = (diagonal + usize::from(x != y)).min(left + 1).min(*slot + 1);
            diagonal = *slot;
            *slot = value;
            left = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn overlay(table: &mut Table, path: &str, value: &str, place: &str, errors: &mut Vec<ConfigError>) {
    let value = toml::from_str::<Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| match value.split_once(',') {
            Some(_) => Value::Array(value.split(',').map(|v| Value::from(v.trim())).collect()),
            None => Value::from(value),
        });
    let mut names: Vec<&str> = path.split('.').collect();
    let last = names.pop().unwrap_or_default();
    let mut at = &mut *table;
    for name in names {
        let next = at.entry(name).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = next else {
            let why = format!("`{path}` does not name a value");
            errors.push(ConfigError::Value { place: place.to_owned(), why });
            return;
        };
        at = inner;
    }
    let wants_list = matches!((last, at.get(last)), ("http" | "metrics" | "hosts", _));
    let value = if wants_list && value.is_str() { Value::Array(vec![value]) } else { value };
    at.insert(last.to_owned(), value);
    if let Err(error) = Value::Table(table.clone()).try_into::<Config>() {
        let why = with_nearest(error.message());
        errors.push(ConfigError::Value { place: format!("{place} {path}"), why });
        if let Some(Value::Table(section)) = table.get_mut(path.split('.').next().unwrap_or("")) {
            section.remove(last);
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut wrong = |place: &str, why: &str| {
            errors.push(ConfigError::Value { place: place.to_owned(), why: why.to_owned() });
        };
        if !matches!(self.store.durability.as_str(), "fsync" | "os") {
            wrong("store.durability", "is \"fsync\" or \"os\"");
        }
        if !matches!(self.log.format.as_str(), "text" | "json") {
            wrong("log.format", "is \"text\" or \"json\"");
        }
        if self.listen.tls.cert.is_some() != self.listen.tls.key.is_some() {
            wrong("listen.tls", "cert and key go together");
        }
        if self.heartbeat.silence_ms <= self.heartbeat.ping_ms {
            wrong("heartbeat.silence_ms", "must be more than heartbeat.ping_ms");
        }
        if self.limits.message_bytes_max > 524_288 {
            wrong("limits.message_bytes_max", "must not exceed 524288");
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The whole configuration as TOML: what `config print` and `config template` show.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[&str]) -> Result<Config, Vec<ConfigError>> {
        let set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        load(&Sources { set, ..Sources::default() })
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        std::fs::write(&file, "[limits]\nauth_ms = 1\nbatch_len_max = 2\n").unwrap();
        let sources = Sources {
            file: Some(file),
            environment: vec![("FIELDGATE__LIMITS__AUTH_MS".to_owned(), "3".to_owned())],
            set: vec!["listen.http=127.0.0.1:0".to_owned()],
        };
        let config = load(&sources).unwrap();
        assert_eq!((config.limits.auth_ms, config.limits.batch_len_max), (3, 2));
        assert_eq!(config.listen.http, ["127.0.0.1:0"]);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        std::fs::write(&file, "[limits]\nauht_ms = 1\n").unwrap();
        let errors = load(&Sources { file: Some(file), ..Sources::default() }).unwrap_err();
        let text = errors[0].to_string();
        assert!(text.contains("f.toml:2:1") && text.contains("did you mean `auth_ms`"), "{text}");
        let text = set(&["limits.connection_max=1"]).unwrap_err()[0].to_string();
        assert!(text.contains("connections_max"), "{text}");
    }

    #[test]
    fn every_error_is_told_at_once() {
        assert_eq!(set(&["limits.x=1", "heartbeat.y=2", "nonsense"]).unwrap_err().len(), 3);
    }

    #[test]
    fn every_wrong_line_of_a_file_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.toml");
        let text =
            "[limits]\nauht_ms = 1\nbatch_len_max = \"x\"\n\n[retention]\nage = \"7w\"\n[drian]\n";
        std::fs::write(&file, text).unwrap();
        let errors = load(&Sources { file: Some(file), ..Sources::default() }).unwrap_err();
        let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:#?}");
        for (place, word) in [
            ("f.toml:2:1", "auth_ms"),
            ("f.toml:3:17", "expected usize"),
            ("f.toml:6:7", "7d"),
            ("f.toml:7:2", "drain"),
        ] {
            assert!(
                told.iter().any(|t| t.contains(place) && t.contains(word)),
                "{place} {told:#?}"
            );
        }
    }

    #[test]
    fn sizes_and_durations_are_written_as_people_do() {
        let config = set(&["retention.age=2d", "retention.bytes=\"1GiB\""]).unwrap();
        assert_eq!((config.retention.age_ms, config.retention.bytes), (172_800_000, 1 << 30));
    }

    #[test]
    fn the_example_file_is_the_template() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fieldgate.example.toml");
        assert_eq!(std::fs::read_to_string(file).unwrap(), Config::default().to_toml());
    }

    #[test]
    fn the_template_is_the_default() {
        let text = Config::default().to_toml();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }
}
