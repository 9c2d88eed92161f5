//! Configuration: file, environment and `--set` in, one typed value out.
//!
//! Later sources win: defaults, file, environment (`FIELDGATE__LIMITS__AUTH_MS`), `--set`. An unknown
//! key is an error that names the nearest known one. Source: `cli.md`, "Configuration".

mod about;
mod live;
mod load;
mod units;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use about::{About, AboutField};

pub use about::{schema, template};
pub(crate) use live::LiveConfig;
pub use live::Reloaded;
pub use load::{ConfigError, Loaded, Sources, load, load_all};

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
    /// Who somebody is.
    pub auth: AuthConfig,
    /// The key of everything secret.
    pub security: Security,
    /// The log.
    pub store: StoreConfig,
    /// How long the log keeps.
    pub retention: Retention,
    /// The description of the interface.
    pub doc: Doc,
    /// Thingsee, coming in.
    pub thingsee: Thingsee,
    /// The thethings.iO dialect.
    pub thethings: Thethings,
    /// Kamea clients.
    pub kamea: Kamea,
    /// The deCONZ interface.
    pub deconz: Deconz,
    /// Stopping.
    pub drain: Drain,
    /// Logging.
    pub log: LogConfig,
}

macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $field_doc:literal])* $(#[serde($($serde:tt)*)])?
            $field:ident: $kind:ty = $default:expr,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $field_doc])* $(#[serde($($serde)*)])? pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// What `config template` and `config schema` say of it.
            pub(in crate::config) const ABOUT: About = About {
                doc: concat!($($doc,)*),
                fields: &[$(AboutField {
                    field: stringify!($field),
                    doc: concat!($($field_doc,)*),
                    kind: stringify!($kind),
                    serde: concat!($(stringify!($($serde)*))?),
                },)*],
            };
        }
    };
}

section! {
    /// Where connections are taken.
    Listen {
        /// Addresses of HTTP and WebSocket; port 0 takes a free one.
        http: Vec<String> = vec!["127.0.0.1:8080".to_owned()],
        /// Addresses of the deCONZ interface, REST and push; without one it is off.
        deconz: Vec<String> = Vec::new(),
        /// Addresses that serve `/metrics` alone, without a key.
        metrics: Vec<String> = Vec::new(),
        /// `"loopback"`: without TLS only loopback may be bound; or a list of listeners that may be plain.
        plaintext: Plaintext = Plaintext::Word("loopback".to_owned()),
        /// Certificate and key.
        tls: Tls = Tls::default(),
        /// Host names answered besides loopback and the bound addresses.
        hosts: Vec<String> = Vec::new(),
        /// Addresses and networks of proxies whose `X-Forwarded-For` and `Forwarded` count.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Origins, besides the gateway's own, whose pages may use what needs no credential of theirs:
        /// an open `/metrics`. What brings its own token is open to any origin.
        origins: Vec<String> = vec!["same".to_owned()],
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

mod deconz;
mod issuers;
mod kamea;
mod least;
mod limits;
mod paths;
mod places;
mod things;

pub use deconz::{Deconz, WsPort};
pub use issuers::{Algorithm, Issuer};
pub(crate) use issuers::{Right, discovery_address, is_loopback, key_address};
pub use kamea::{Authorization, Kamea};
pub use limits::Limits;
pub use paths::Thingsee;
pub use things::{App, Thethings};
pub(crate) use units::duration_of as duration;

section! {
    /// Who somebody is: people who sign in, and who else may say so.
    AuthConfig {
        /// Issuers whose tokens (JWT) are taken: a table `[[auth.issuers]]` for each. See
        /// docs/operate/access.md.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        issuers: Vec<Issuer> = Vec::new(),
        /// What a person who signed in shows is worthless after this, and what it opened closes: at
        /// most 1 hour.
        #[serde(rename = "access_lifetime", with = "units::duration")]
        access_lifetime_ms: u64 = 15 * 60_000,
        /// Who did not come for new tokens for this long must sign in again: at most 90 days.
        #[serde(rename = "refresh_lifetime", with = "units::duration")]
        refresh_lifetime_ms: u64 = 30 * 86_400_000,
    }
}

section! {
    /// The key of everything secret.
    Security {
        /// Where it is, if not in the data folder: 32 random bytes, made where there are none beside a
        /// new folder. The data folder's `master.key` becomes a symbolic link to it.
        master_key_file: Option<PathBuf> = None,
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
        /// Segments older than this go: milliseconds, or `"7d"`.
        #[serde(rename = "age", with = "units::duration")]
        age_ms: u64 = 7 * 86_400_000,
        /// The oldest segments go while all of them exceed this: bytes, or `"10GiB"`.
        #[serde(with = "units::size")]
        bytes: u64 = 10 << 30,
    }
}

section! {
    /// The description of the interface, under `/doc`.
    Doc {
        /// Whether anybody may read it. Otherwise it takes a credential, or an address on this machine.
        public: bool = false,
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
        /// `"off"`, `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
        level: String = "info".to_owned(),
    }
}

impl Config {
    /// What does not go together: the key to change, and what is wrong with it.
    fn contradictions(&self) -> Vec<(&'static str, String)> {
        let owned = |(key, why): (&'static str, &str)| (key, why.to_owned());
        let of_issuers = issuers::wrong(&self.auth.issuers).into_iter();
        let of_issuers = of_issuers.map(|why| ("auth.issuers", why));
        let of_paths = self.thingsee.wrong().into_iter().map(|why| ("thingsee.paths", why));
        let of_apps = self.thethings.wrong_apps().into_iter().map(|why| ("thethings.apps", why));
        let simple = self.simple_contradictions().into_iter().map(owned);
        let of_dialects =
            self.kamea.wrong().into_iter().chain(self.deconz.wrong(!self.listen.deconz.is_empty()));
        let of_values = self.listen.wrong().into_iter().chain(least::wrong(self));
        let of_tables = of_issuers.chain(of_paths).chain(of_apps);
        of_values.chain(simple).chain(of_tables).chain(of_dialects).collect()
    }

    fn simple_contradictions(&self) -> Vec<(&'static str, &'static str)> {
        let mut wrong = Vec::new();
        if self.heartbeat.silence_ms <= self.heartbeat.ping_ms {
            wrong.push(("heartbeat.silence_ms", "must be more than `heartbeat.ping_ms`"));
        }
        if !(1_000..=3_600_000).contains(&self.auth.access_lifetime_ms) {
            wrong.push(("auth.access_lifetime", "is 1s to 1h"));
        }
        let at_most = 90 * 86_400_000;
        if !(self.auth.access_lifetime_ms..=at_most).contains(&self.auth.refresh_lifetime_ms) {
            wrong.push(("auth.refresh_lifetime", "is `auth.access_lifetime` to 90d"));
        }
        if self.thethings.has_wrong_days() {
            wrong.push(("thethings.session_days", "is 1 to 365"));
        }
        wrong.extend(self.limits.wrong());
        wrong
    }
}

#[cfg(test)]
mod tests;
