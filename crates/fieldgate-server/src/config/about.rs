//! Every key that there is: its path, what it is for, what it takes, and its default.
//!
//! Read off the types, so that nothing can be said of a key that is not one. The template and the
//! JSON Schema are made of it.

use serde_json::{Map, json};
use toml::{Table, Value};

use super::{
    AuthConfig, Authorization, Config, Deconz, Doc, Drain, Heartbeat, Kamea, Limits, Listen,
    LogConfig, Retention, Security, StoreConfig, Thethings, Thingsee, Tls, issuers, kamea, least,
    paths, things,
};

/// A section as its type has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) doc: &'static str,
    pub(super) fields: &'static [AboutField],
}

/// A field as its type has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct AboutField {
    pub(super) field: &'static str,
    pub(super) doc: &'static str,
    pub(super) kind: &'static str,
    pub(super) serde: &'static str,
}

/// The sections, in the order of the template.
const SECTIONS: [(&str, About); 16] = [
    ("listen", Listen::ABOUT),
    ("listen.tls", Tls::ABOUT),
    ("heartbeat", Heartbeat::ABOUT),
    ("limits", Limits::ABOUT),
    ("auth", AuthConfig::ABOUT),
    ("security", Security::ABOUT),
    ("store", StoreConfig::ABOUT),
    ("retention", Retention::ABOUT),
    ("doc", Doc::ABOUT),
    ("thingsee", Thingsee::ABOUT),
    ("thethings", Thethings::ABOUT),
    ("kamea", Kamea::ABOUT),
    ("kamea.authorization", Authorization::ABOUT),
    ("deconz", Deconz::ABOUT),
    ("drain", Drain::ABOUT),
    ("log", LogConfig::ABOUT),
];

/// Keys that take one of a few words.
pub(super) const CHOICES: [(&str, &[&str]); 8] = [
    ("store.durability", &["fsync", "os"]),
    ("thethings.names", &["own", "canonical"]),
    ("kamea.names", &["own", "canonical"]),
    ("kamea.authorization.mode", &["builtin", "http"]),
    ("kamea.authorization.method", &["POST", "PUT", "GET"]),
    ("deconz.push", &["known", "open"]),
    ("log.format", &["text", "json"]),
    ("log.level", &["off", "error", "warn", "info", "debug", "trace"]),
];

/// Keys that hold from the moment they are read again; the others need a restart.
pub(super) const LIVE: [&str; 43] = [
    "listen.hosts",
    "listen.origins",
    "heartbeat.ping_ms",
    "heartbeat.silence_ms",
    "limits.unauthenticated_frame_bytes_max",
    "limits.handshake_ms",
    "limits.auth_ms",
    "limits.idle_http_ms",
    "limits.frame_bytes_max",
    "limits.message_bytes_max",
    "limits.json_depth_max",
    "limits.batch_len_max",
    "limits.topics_per_connection_max",
    "limits.topic_bytes_max",
    "limits.topic_levels_max",
    "limits.inflight_max",
    "limits.outbox_bytes_max",
    "auth.access_lifetime",
    "auth.refresh_lifetime",
    "doc.public",
    "thingsee.paths",
    "thethings.apps",
    "thethings.session_days",
    "thethings.names",
    "kamea.tenants",
    "kamea.event",
    "kamea.body",
    "kamea.names",
    "kamea.authorization.mode",
    "kamea.authorization.url",
    "kamea.authorization.method",
    "kamea.authorization.path",
    "kamea.authorization.body",
    "kamea.authorization.permission",
    "kamea.authorization.answer",
    "kamea.authorization.timeout_ms",
    "kamea.authorization.recheck_s",
    "deconz.name",
    "deconz.notify_all",
    "deconz.push",
    "deconz.basic_config",
    "drain.grace_ms",
    "log.level",
];

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Flag,
    Text,
    Texts,
    Size,
    Time,
    File,
    Plaintext,
    WsPort,
    Issuers,
    Paths,
    Apps,
    TenantIds,
    Template,
    Choice(&'static [&'static str]),
}

impl Kind {
    fn of(path: &str, field: &AboutField) -> Self {
        if let Some((_, words)) = CHOICES.iter().find(|(known, _)| *known == path) {
            return Self::Choice(words);
        }
        let kind: String = field.kind.chars().filter(|c| !c.is_whitespace()).collect();
        match kind.as_str() {
            _ if field.serde.contains("size") => Self::Size,
            _ if field.serde.contains("duration") => Self::Time,
            "bool" => Self::Flag,
            "Vec<String>" => Self::Texts,
            "Option<PathBuf>" => Self::File,
            "Plaintext" => Self::Plaintext,
            "WsPort" => Self::WsPort,
            "Vec<Issuer>" => Self::Issuers,
            "BTreeMap<String,String>" if path == "kamea.tenants" => Self::TenantIds,
            "BTreeMap<String,String>" => Self::Paths,
            "BTreeMap<String,App>" => Self::Apps,
            "Body" | "QuestionBody" | "QuestionPath" => Self::Template,
            "String" => Self::Text,
            _ => Self::Count,
        }
    }

    /// What to write, as a sentence goes on after "write".
    pub(super) fn wanted(self) -> String {
        match self {
            Self::Count => "a whole number of 0 or more".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Text => "text in quotes".to_owned(),
            Self::Texts => "a list of texts".to_owned(),
            Self::Size => "bytes, or a size such as \"10GiB\"".to_owned(),
            Self::Time => "milliseconds, or a time such as \"7d\"".to_owned(),
            Self::File => "a path in quotes".to_owned(),
            Self::Plaintext => "\"loopback\", or a list of listeners".to_owned(),
            Self::WsPort => "a port, 1 to 65535, \"auto\", or \"\" for none".to_owned(),
            Self::Issuers => format!("a list of tables such as {}", issuers::EXAMPLE),
            Self::Paths => format!("a table of texts such as {}", paths::EXAMPLE),
            Self::Apps => format!("a table of tables such as {}", things::EXAMPLE),
            Self::TenantIds => format!("a table of texts such as {}", kamea::EXAMPLE),
            Self::Template => "a template, as text in quotes".to_owned(),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("one of {}", words.join(", "))
            }
        }
    }

    fn schema(self) -> serde_json::Value {
        let texts = json!({"type": "array", "items": {"type": "string"}});
        match self {
            Self::Count => json!({"type": "integer", "minimum": 0}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Text | Self::File | Self::Template => json!({"type": "string"}),
            Self::Texts => texts,
            Self::Size => json!({"anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^ *[0-9]+ *(?:[KMGTkmgt][iI])?[bB] *$"},
            ]}),
            Self::Time => json!({"anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^ *[0-9]+ *(?:[dhmsDHMS]|[mM][sS]) *$"},
            ]}),
            Self::Plaintext => json!({"anyOf": [{"const": "loopback"}, texts]}),
            Self::WsPort => json!({"anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 65535},
                {"enum": ["", "auto"]},
            ]}),
            Self::Issuers => issuers::schema(),
            Self::Paths | Self::TenantIds => {
                json!({"type": "object", "additionalProperties": {"type": "string"}})
            }
            Self::Apps => things::schema(),
            Self::Choice(words) => json!({"enum": words}),
        }
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) path: String,
    pub(super) doc: &'static str,
    pub(super) kind: Kind,
    /// `None`: it is not set unless somebody sets it.
    pub(super) default: Option<Value>,
}

impl Key {
    /// Whether a new value holds without a restart.
    pub(super) fn is_live(&self) -> bool {
        LIVE.contains(&self.path.as_str())
    }
}

/// What stands at a path.
pub(super) fn look<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (section, name) = path.rsplit_once('.')?;
    let mut at = table;
    for part in section.split('.') {
        at = at.get(part)?.as_table()?;
    }
    at.get(name)
}

/// Puts a value at a path, or takes away what is there.
pub(super) fn put(table: &mut Table, path: &str, value: Option<Value>) {
    if let Some((section, rest)) = path.split_once('.') {
        let inner = table.entry(section).or_insert_with(|| Table::new().into());
        if let Value::Table(inner) = inner {
            put(inner, rest, value);
        }
        return;
    }
    match value {
        Some(value) => table.insert(path.to_owned(), value),
        None => table.remove(path),
    };
}

/// A configuration as a table.
pub(super) fn table_of(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// Whether a path names a section.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|(name, _)| *name == path)
}

fn keys_of(section: &str, about: &About, defaults: &Table) -> Vec<Key> {
    let nested = |field: &&AboutField| !is_section(&format!("{section}.{}", field.field));
    let key = |field: &AboutField| {
        // A field may be written under another name than it has in the code.
        let renamed = field.serde.split("rename = \"").nth(1);
        let name = renamed.and_then(|rest| rest.split('"').next()).unwrap_or(field.field);
        let path = format!("{section}.{name}");
        let (kind, default) = (Kind::of(&path, field), look(defaults, &path).cloned());
        Key { path, doc: field.doc.trim(), kind, default }
    };
    about.fields.iter().filter(nested).map(key).collect()
}

/// Every key, section by section.
pub(super) fn keys() -> Vec<Key> {
    let defaults = table_of(&Config::default());
    SECTIONS.iter().flat_map(|(name, about)| keys_of(name, about, &defaults)).collect()
}

/// The known key or section nearest to an unknown one, where one is near: a third of its letters differ
/// at most.
pub(super) fn nearest(unknown: &str) -> Option<String> {
    let sections = SECTIONS.iter().map(|(section, _)| (*section).to_owned());
    let known = keys().into_iter().map(|key| key.path).chain(sections);
    // A right name in a wrong section is nearer than any other name.
    let far = |known: &String| {
        let names = distance(last(unknown), last(known));
        (names.min(distance(unknown, known)), distance(unknown, known))
    };
    let near = known.map(|known| (far(&known), known)).min();
    near.filter(|((differs, _), _)| *differs <= (last(unknown).len() + 1) / 3).map(|(_, near)| near)
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

/// The last name of a path.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A configuration file with every key, what it is for, and its default.
#[must_use]
pub fn template() -> String {
    let defaults = table_of(&Config::default());
    let mut text = String::from(
        "# Every key that there is, with its default; what has none is commented out.\n\
         # `fieldgate config check` names every mistake. SIGHUP reads this file again.\n",
    );
    for (section, about) in SECTIONS {
        text.push_str(&format!("\n# {}\n[{section}]\n", about.doc.trim()));
        for key in keys_of(section, &about, &defaults) {
            let name = last(&key.path);
            let restart = if key.is_live() { "" } else { " Needs a restart." };
            text.push_str(&format!("# {}{restart}\n", key.doc.replace('`', "")));
            text.push_str(&match key.default {
                Some(default) => format!("{name} = {default}\n"),
                None if key.kind == Kind::Issuers => {
                    format!("# {name} = {}\n", issuers::EXAMPLE)
                }
                None => format!("# {name} = \"\"\n"),
            });
        }
    }
    text
}

/// The JSON Schema (2020-12) of the configuration.
#[must_use]
pub fn schema() -> serde_json::Value {
    let defaults = table_of(&Config::default());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of Fieldgate",
        "type": "object",
        "additionalProperties": false,
        "properties": sections_within(None, &defaults).collect::<Map<_, _>>(),
    })
}

/// The schemas of the sections right below one, by name.
fn sections_within<'a>(
    parent: Option<&'a str>,
    defaults: &'a Table,
) -> impl Iterator<Item = (String, serde_json::Value)> + 'a {
    let parent_of = |path: &'static str| path.rsplit_once('.').map(|(parent, _)| parent);
    let within = SECTIONS.into_iter().filter(move |(path, _)| parent_of(path) == parent);
    within.map(|(path, about)| {
        let keys = keys_of(path, &about, defaults).into_iter().map(|key| {
            let mut schema = key.kind.schema();
            if let Some(of) = schema.as_object_mut() {
                of.insert("description".to_owned(), json!(key.doc));
                if let Some(minimum) = of.get_mut("minimum") {
                    *minimum = json!(least::of(&key.path));
                }
                of.extend(key.default.map(|default| ("default".to_owned(), json!(default))));
            }
            (last(&key.path).to_owned(), schema)
        });
        let properties: Map<_, _> = keys.chain(sections_within(Some(path), defaults)).collect();
        let schema = json!({
            "type": "object",
            "description": about.doc.trim(),
            "additionalProperties": false,
            "properties": properties,
        });
        (last(path).to_owned(), schema)
    })
}
