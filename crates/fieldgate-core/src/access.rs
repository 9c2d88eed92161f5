//! Who may do what: principals, roles, grants, and the one decision over them.
//!
//! Pure. Invariant: a denial wins over any grant, and what nothing allows is refused.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    id::{DeviceId, TenantId},
    message::Kind,
    topic::{Filter, Topic},
};

/// What a grant permits (`cli.md`, `key add --grant`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Send messages to a topic.
    Publish,
    /// Receive the messages of a filter.
    Subscribe,
    /// Send commands to devices.
    Command,
    /// Read what the gateway knows.
    Read,
    /// Change what the gateway knows.
    Write,
    /// Change who may do what, and the gateway itself.
    Admin,
    /// Read metrics.
    Metrics,
    /// Write the topics of a device without being it.
    Impersonate,
}

/// A named bundle of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything in the tenant.
    Admin,
    /// Everything but administration.
    Operator,
    /// Reads and subscribes.
    Viewer,
}

/// One line of rights: `VERB:FILTER`, with `!` in front a denial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Whether it denies.
    pub deny: bool,
    /// What it is about.
    pub verb: Verb,
    /// Where it holds.
    pub filter: Filter,
}

/// What kind of identity a principal is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A device; with the filter of device ids that it is a gateway for.
    Device {
        /// Its id.
        id: DeviceId,
        /// `device add --gateway-for FILTER`, matched against device ids.
        gateway_for: Option<Filter>,
    },
    /// An API key.
    Key,
    /// A person.
    User,
}

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant that everything it does stays in.
    pub tenant: TenantId,
    /// A device id, or the name of the key or user: `from` in messages.
    pub name: Arc<str>,
    /// What it is.
    pub identity: Identity,
    /// Its role, if any.
    pub role: Option<Role>,
    /// Its own grants and denials.
    pub grants: Vec<Grant>,
}

macro_rules! words {
    ($name:ty, $($variant:ident = $word:literal),*) => {
        impl FromStr for $name {
            type Err = InvalidGrant;

            fn from_str(text: &str) -> Result<Self, InvalidGrant> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(InvalidGrant(text.chars().take(60).collect())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }
    };
}

words!(
    Verb,
    Publish = "publish",
    Subscribe = "subscribe",
    Command = "command",
    Read = "read",
    Write = "write",
    Admin = "admin",
    Metrics = "metrics",
    Impersonate = "impersonate"
);
words!(Role, Admin = "admin", Operator = "operator", Viewer = "viewer");

/// Why a role, verb or grant was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a grant is VERB:FILTER, with ! in front to deny; verbs are publish, subscribe, command, read, \
     write, admin, metrics and impersonate; roles are admin, operator and viewer; not {0:?}"
)]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let invalid = || InvalidGrant(text.chars().take(60).collect());
        let (deny, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (verb, filter) = rest.split_once(':').ok_or_else(invalid)?;
        let filter = filter.parse().map_err(|_| invalid())?;
        Ok(Self { deny, verb: verb.parse()?, filter })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", if self.deny { "!" } else { "" }, self.verb, self.filter)
    }
}

impl Role {
    /// Tells whether the role alone permits `verb`, everywhere in the tenant.
    #[must_use]
    pub const fn permits(self, verb: Verb) -> bool {
        match self {
            Self::Admin => true,
            Self::Operator => !matches!(verb, Verb::Admin | Verb::Impersonate),
            Self::Viewer => matches!(verb, Verb::Subscribe | Verb::Read),
        }
    }
}

impl Principal {
    /// Tells whether `verb` is permitted everywhere that `filter` selects, by role or grant.
    #[must_use]
    pub fn may(&self, verb: Verb, filter: &Filter) -> bool {
        let about = |grant: &&Grant| grant.verb == verb;
        let mut grants = self.grants.iter().filter(about);
        if grants.clone().any(|grant| grant.deny && grant.filter.overlaps(filter)) {
            return false;
        }
        self.role.is_some_and(|role| role.permits(verb))
            || grants.any(|grant| !grant.deny && grant.filter.covers(filter))
    }

    /// Tells whether this principal may publish to `topic`. Topics under `devices/` are written only
    /// by that device, its gateway, or a principal with `impersonate` (`native.md`).
    #[must_use]
    pub fn may_publish(&self, topic: &Topic) -> bool {
        let filter = Filter::from(topic);
        let Some(owner) = topic.device() else {
            return self.may(Verb::Publish, &filter);
        };
        match &self.identity {
            Identity::Device { id, gateway_for } => {
                let own = topic.kind() != Kind::Application
                    && !matches!(topic.kind(), Kind::Command | Kind::Presence);
                own && (id.as_str() == owner || speaks_for(gateway_for.as_ref(), owner))
            }
            Identity::Key | Identity::User => {
                self.may(Verb::Impersonate, &filter) && self.may(Verb::Publish, &filter)
            }
        }
    }

    /// Tells whether this principal may receive all that `filter` selects.
    #[must_use]
    pub fn may_subscribe(&self, filter: &Filter) -> bool {
        if let Identity::Device { id, .. } = &self.identity {
            let own: Option<Filter> = format!("devices/{id}/#").parse().ok();
            return own.is_some_and(|own| own.covers(filter)) || self.may(Verb::Subscribe, filter);
        }
        self.may(Verb::Subscribe, filter)
    }

    /// Tells whether this principal may send commands to `device`.
    #[must_use]
    pub fn may_command(&self, device: &DeviceId) -> bool {
        let topic = Topic::of_device(device, "commands");
        self.may(Verb::Command, &Filter::from(&topic))
    }

    /// Tells whether this principal may speak for `device`.
    #[must_use]
    pub fn speaks_for(&self, device: &DeviceId) -> bool {
        match &self.identity {
            Identity::Device { id, gateway_for } => {
                id == device || speaks_for(gateway_for.as_ref(), device.as_str())
            }
            Identity::Key | Identity::User => {
                let topic = Topic::of_device(device, "telemetry");
                self.may(Verb::Impersonate, &Filter::from(&topic))
            }
        }
    }
}

fn speaks_for(gateway_for: Option<&Filter>, device: &str) -> bool {
    gateway_for.is_some_and(|filter| device.parse().is_ok_and(|topic| filter.matches(&topic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(grants: &[&str]) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            name: "k".into(),
            identity: Identity::Key,
            role: None,
            grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_denial_wins_over_any_grant() {
        let key = key(&["subscribe:#", "!subscribe:devices/secret/#"]);
        let may = |filter: &str| key.may_subscribe(&filter.parse().unwrap());
        assert!(may("devices/a/telemetry"));
        assert!(!may("devices/secret/telemetry"));
        assert!(!may("devices/+/telemetry"));
        assert!(!may("#"));
    }

    #[test]
    fn what_nothing_allows_is_refused() {
        let key = key(&["publish:app/#"]);
        let may = |topic: &str| key.may_publish(&topic.parse().unwrap());
        assert!(may("app/x"));
        assert!(!may("other"));
        assert!(!may("devices/a/telemetry"));
    }

    #[test]
    fn a_device_writes_its_own_topics_alone() {
        let device = Principal {
            identity: Identity::Device {
                id: "a".parse().unwrap(),
                gateway_for: Some("child-1".parse().unwrap()),
            },
            ..key(&[])
        };
        let may = |topic: &str| device.may_publish(&topic.parse().unwrap());
        assert!(may("devices/a/telemetry"));
        assert!(may("devices/child-1/telemetry"));
        assert!(!may("devices/b/telemetry"));
        assert!(!may("devices/a/commands"));
        assert!(!may("app/x"));
        assert!(device.may_subscribe(&"devices/a/commands".parse().unwrap()));
        assert!(!device.may_subscribe(&"devices/+/commands".parse().unwrap()));
    }

    #[test]
    fn grants_survive_the_round_trip() {
        for text in ["publish:devices/+/telemetry", "!read:#"] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        for text in ["", "publish", "fly:#", "publish:a/#/b", "publish:"] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }
}
