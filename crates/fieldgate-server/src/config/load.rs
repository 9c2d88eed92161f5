//! Reading a configuration: every source, every mistake with its place, in one go.
//!
//! Invariant: a mistake costs its own key alone, so that one run shows them all.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    about::{self, Key, Kind},
};

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
        /// The key, what is wrong with it, and what to write.
        why: String,
    },
}

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Environment variables, those with the prefix `FIELDGATE__` count.
    pub environment: Vec<(String, String)>,
    /// `--set KEY=VALUE`.
    pub set: Vec<String>,
    /// What other flags set: the flag, and KEY=VALUE. `--set` must not set the same.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration, and where each of its values was set.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// By path: file with line and column, variable or flag. What is not in here has its default.
    pub origins: BTreeMap<String, String>,
}

impl Loaded {
    /// Every key in the order of the template: path, value if it has one, and where it was set.
    #[must_use]
    pub fn rows(&self) -> Vec<(String, Option<Value>, String)> {
        let table = about::table_of(&self.config);
        let origin = |path: &str| self.origins.get(path).map_or("default", String::as_str);
        let row = |Key { path, .. }: Key| {
            let (value, origin) = (about::look(&table, &path).cloned(), origin(&path).to_owned());
            (path, value, origin)
        };
        about::keys().into_iter().map(row).collect()
    }
}

/// Reads every source.
///
/// # Errors
///
/// Every error found, so that one run shows them all.
pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
    load_all(sources).map(|loaded| loaded.config)
}

/// Reads every source, and remembers where each value was set.
///
/// # Errors
///
/// Every error found, so that one run shows them all.
pub fn load_all(sources: &Sources) -> Result<Loaded, Vec<ConfigError>> {
    let mut reader = Reader { keys: about::keys(), ..Reader::default() };
    if let Some(file) = &sources.file {
        reader.file(file);
    }
    for (name, value) in &sources.environment {
        if let Some(path) = name.strip_prefix("FIELDGATE__") {
            reader.pair(&path.to_lowercase().replace("__", "."), value, name);
        }
    }
    let path_of = |pair: &str| pair.split_once('=').map(|(path, _)| path.trim().to_owned());
    for (flag, pair) in &sources.flags {
        if let Some(path) = path_of(pair)
            && sources.set.iter().any(|other| path_of(other).as_ref() == Some(&path))
        {
            reader.wrong(flag, format!("this and --set both set `{path}`: give one"));
        }
    }
    let set = sources.set.iter().map(|pair| ("--set", pair));
    for (flag, pair) in set.chain(sources.flags.iter().map(|(flag, pair)| (*flag, pair))) {
        match pair.split_once('=') {
            Some((path, value)) => reader.pair(path.trim(), value, flag),
            None => reader.wrong(flag, format!("{pair:?} is not KEY=VALUE")),
        }
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    keys: Vec<Key>,
    table: Table,
    origins: BTreeMap<String, String>,
    errors: Vec<ConfigError>,
}

/// The lines and columns of a file.
struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

impl Text<'_> {
    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("{}:{line}:{column}", self.file)
    }
}

/// Whether a key can have a value; else why not.
fn fits(path: &str, kind: Kind, value: &Value) -> Result<(), String> {
    if let (Kind::Choice(words), Value::String(word)) = (kind, value) {
        return words.contains(&word.as_str()).then_some(()).ok_or_else(String::new);
    }
    let mut alone = Table::new();
    about::put(&mut alone, path, Some(value.clone()));
    let taken = Value::Table(alone).try_into::<Config>();
    taken.map(drop).map_err(|error| error.message().to_owned())
}

impl Reader {
    fn wrong(&mut self, place: &str, why: String) {
        self.errors.push(ConfigError::Value { place: place.to_owned(), why });
    }

    fn file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.errors.push(ConfigError::File { file, why: error.to_string() });
            }
        };
        let at = Text { file: &file, text: &text };
        let (spanned, broken) = DeTable::parse_recoverable(&text);
        for error in &broken {
            let place = at.place(&error.span().unwrap_or(0..0));
            self.wrong(&place, format!("this is no TOML: {}", error.message()));
        }
        if let (true, Ok(values)) = (broken.is_empty(), text.parse::<Table>()) {
            self.section("", spanned.get_ref(), &values, &at);
        }
    }

    fn section(&mut self, prefix: &str, spanned: &DeTable<'_>, values: &Table, text: &Text<'_>) {
        // In the order of the file, which the table does not keep.
        let mut entries: Vec<_> = spanned.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, inner) in entries {
            let path = format!("{prefix}{}", name.get_ref());
            let Some(value) = values.get(name.get_ref().as_ref()) else { continue };
            let place = |of: &Spanned<DeValue<'_>>| text.place(&of.span());
            match (inner.get_ref(), value) {
                (DeValue::Table(inner), Value::Table(values)) if about::is_section(&path) => {
                    self.section(&format!("{path}."), inner, values, text);
                }
                (_, value) if self.keys.iter().any(|key| key.path == path) => {
                    self.set(&path, value.clone(), &place(inner));
                }
                _ => self.unknown(&path, &text.place(&name.span())),
            }
        }
    }

    fn unknown(&mut self, path: &str, place: &str) {
        let why = if about::is_section(path) {
            format!("`{path}` is a section: set a key in it, such as `{path}.…`")
        } else if let Some(near) = about::nearest(path) {
            format!("there is no key `{path}`; did you mean `{near}`?")
        } else {
            format!(
                "there is no key `{path}`: `fieldgate config template` lists all that there are"
            )
        };
        self.wrong(place, why);
    }

    /// Takes a value if its key can have it.
    fn set(&mut self, path: &str, value: Value, place: &str) {
        let Some(kind) = self.keys.iter().find(|key| key.path == path).map(|key| key.kind) else {
            return self.unknown(path, place);
        };
        if let Err(error) = fits(path, kind, &value) {
            let why = match (kind, &value) {
                // Of what has fields of its own it is said which of them is wrong.
                (Kind::Issuers, Value::Array(_)) | (Kind::Template, Value::String(_)) => {
                    format!("`{path}`: {}", error.trim_end())
                }
                _ => format!("`{path}` cannot be {value}: write {}", kind.wanted()),
            };
            return self.wrong(place, why);
        }
        about::put(&mut self.table, path, Some(value));
        self.origins.insert(path.to_owned(), place.to_owned());
    }

    /// Takes a value as it stands in the environment or on the command line: TOML; bare words are
    /// strings, and commas make lists.
    fn pair(&mut self, path: &str, text: &str, place: &str) {
        let Some(kind) = self.keys.iter().find(|key| key.path == path).map(|key| key.kind) else {
            return self.unknown(path, place);
        };
        let parsed = toml::from_str::<Table>(&format!("v = {text}"));
        let value = parsed.ok().and_then(|mut table| table.remove("v"));
        let words = |text: &str| text.split(',').map(|word| Value::from(word.trim())).collect();
        let value = match (value, kind) {
            (Some(Value::String(one)), Kind::Texts) => Value::Array(vec![one.into()]),
            (Some(value), _) => value,
            (None, Kind::Texts) => Value::Array(words(text)),
            (None, Kind::Text | Kind::Template) => Value::from(text),
            (None, _) if text.contains(',') => Value::Array(words(text)),
            (None, _) => Value::from(text),
        };
        self.set(path, value, place);
    }

    fn finish(mut self) -> Result<Loaded, Vec<ConfigError>> {
        let config: Config = match Value::Table(std::mem::take(&mut self.table)).try_into() {
            Ok(config) => config,
            Err(error) => {
                self.wrong("configuration", error.message().to_owned());
                return Err(self.errors);
            }
        };
        for (key, why) in config.contradictions() {
            let place = self.origins.get(key).map_or("default", String::as_str).to_owned();
            self.wrong(&place, format!("`{key}` {why}"));
        }
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        Ok(Loaded { config, origins: self.origins })
    }
}
