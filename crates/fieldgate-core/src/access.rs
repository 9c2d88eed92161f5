//! Who may do what: principals, roles, grants, and the one decision over them.
//!
//! Pure. Invariant: a denial wins over any grant, and what nothing allows is refused.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    id::{DeviceId, TenantId, UnixMs},
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
    /// Say what a device is that it speaks for (`resources.md` 3).
    Profile,
}

/// A named bundle of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything in the tenant.
    Admin,
    /// Everything but administration and speaking for devices.
    Operator,
    /// Reads and subscribes; metrics need a grant.
    Viewer,
    /// Nothing of its own: grants say what, and the things that a person linked.
    Member,
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
    /// A system that brings messages of its devices: an integration that comes in.
    Source {
        /// The integration.
        name: Arc<str>,
    },
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
    /// What of its rights a ticket leaves it, whatever they are by now; without one, all of them.
    pub only: Option<Arc<[Grant]>>,
    /// Names the secret that proved it, without telling it: what that secret opened ends with it.
    pub proof: Option<u64>,
    /// Worthless from this time on.
    pub expires: Option<UnixMs>,
}

macro_rules! words {
    ($name:ty, $error:ident, $($variant:ident = $word:literal),*) => {
        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($error(text.chars().take(60).collect())),
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
    InvalidGrant,
    Publish = "publish",
    Subscribe = "subscribe",
    Command = "command",
    Read = "read",
    Write = "write",
    Admin = "admin",
    Metrics = "metrics",
    Impersonate = "impersonate",
    Profile = "profile"
);
/// Why a role was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is admin, operator, viewer or member, not {0:?}")]
pub struct InvalidRole(String);

words!(
    Role,
    InvalidRole,
    Admin = "admin",
    Operator = "operator",
    Viewer = "viewer",
    Member = "member"
);

/// Why a verb or grant was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a grant is VERB:FILTER, with ! in front to deny; verbs are publish, subscribe, command, read, \
     write, admin, metrics, impersonate and profile; not {0:?}"
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
            Self::Operator => !matches!(verb, Verb::Admin | Verb::Impersonate | Verb::Profile),
            Self::Viewer => matches!(verb, Verb::Subscribe | Verb::Read),
            Self::Member => false,
        }
    }
}

impl Principal {
    /// Tells whether `verb` is permitted everywhere that `filter` selects, by role or grant.
    #[must_use]
    pub fn may(&self, verb: Verb, filter: &Filter) -> bool {
        let reaches = |grant: &Grant| grant.filter.overlaps(filter);
        if !self.leaves(verb, reaches, |grant| grant.filter.covers(filter)) {
            return false;
        }
        if self.about(verb).any(|grant| grant.deny && grant.filter.overlaps(filter)) {
            return false;
        }
        self.role.is_some_and(|role| role.permits(verb))
            || self.about(verb).any(|grant| !grant.deny && grant.filter.covers(filter))
    }

    /// Tells whether `verb` is permitted at `topic`: as [`Self::may`], exactly.
    #[must_use]
    pub fn may_at(&self, verb: Verb, topic: &Topic) -> bool {
        !self.is_denied(verb, topic)
            && self.leaves(verb, |g| g.filter.matches(topic), |g| g.filter.matches(topic))
            && (self.role.is_some_and(|role| role.permits(verb))
                || self.names(verb, topic).any(|grant| !grant.deny))
    }

    /// Tells whether this principal may publish to `topic`.
    ///
    /// Topics under `devices/` are written only by that device, its gateway, or a principal with
    /// `impersonate` (`native.md`). Commands are sent as commands and wishes as wishes, and presence,
    /// the document of a device, `system/…` and `$…` are written by the gateway alone.
    #[must_use]
    pub fn may_publish(&self, topic: &Topic) -> bool {
        let root = topic.root();
        if root == "system" || root.starts_with('$') {
            return false;
        }
        let Some(owner) = topic.device() else {
            return self.may_at(Verb::Publish, topic);
        };
        let kind = topic.kind();
        if matches!(kind, Kind::Command | Kind::Desired | Kind::State | Kind::Presence) {
            return false;
        }
        match &self.identity {
            Identity::Device { id, gateway_for } => {
                kind != Kind::Application
                    && (id.as_str() == owner || speaks_for(gateway_for.as_ref(), owner))
                    && !self.is_denied(Verb::Publish, topic)
            }
            Identity::Key | Identity::User => {
                self.may_at(Verb::Impersonate, topic) && self.may_at(Verb::Publish, topic)
            }
            // Which devices are its own, the registry says.
            Identity::Source { .. } => matches!(kind, Kind::Telemetry | Kind::Event),
        }
    }

    /// Tells whether this principal may receive all that `filter` selects.
    ///
    /// A filter that reaches into a denial is refused as a whole. A device may always follow its
    /// own topics, and those of a device that it is a gateway for.
    #[must_use]
    pub fn may_subscribe(&self, filter: &Filter) -> bool {
        let mut denials = self.about(Verb::Subscribe).filter(|grant| grant.deny);
        if denials.any(|grant| grant.filter.overlaps(filter)) {
            return false;
        }
        let mut levels = filter.levels();
        let owner = (levels.next() == Some("devices")).then(|| levels.next()).flatten();
        owner.is_some_and(|owner| self.is_or_carries(owner)) || self.may(Verb::Subscribe, filter)
    }

    /// Tells whether this principal may receive a message of `topic`: the question for each message
    /// after rights changed. What [`Self::may_subscribe`] permits, this permits for every topic.
    #[must_use]
    pub fn may_receive(&self, topic: &Topic) -> bool {
        let own = topic.device().is_some_and(|owner| self.is_or_carries(owner));
        if own {
            !self.is_denied(Verb::Subscribe, topic)
        } else {
            self.may_at(Verb::Subscribe, topic)
        }
    }

    /// Whether what a ticket leaves has a grant that `gives` this, and no denial that `reaches` it.
    fn leaves(
        &self,
        verb: Verb,
        reaches: impl Fn(&Grant) -> bool,
        gives: impl Fn(&Grant) -> bool,
    ) -> bool {
        let Some(only) = &self.only else { return true };
        let mut of_verb = only.iter().filter(|grant| grant.verb == verb);
        let denied = of_verb.clone().any(|grant| grant.deny && reaches(grant));
        !denied && of_verb.any(|grant| !grant.deny && gives(grant))
    }

    fn about(&self, verb: Verb) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| grant.verb == verb)
    }

    fn names(&self, verb: Verb, topic: &Topic) -> impl Iterator<Item = &Grant> {
        self.about(verb).filter(|grant| grant.filter.matches(topic))
    }

    fn is_denied(&self, verb: Verb, topic: &Topic) -> bool {
        self.names(verb, topic).any(|grant| grant.deny)
    }

    /// Tells whether this is the device `owner` or a gateway for it.
    fn is_or_carries(&self, owner: &str) -> bool {
        match &self.identity {
            Identity::Device { id, gateway_for } => {
                id.as_str() == owner || speaks_for(gateway_for.as_ref(), owner)
            }
            Identity::Key | Identity::User | Identity::Source { .. } => false,
        }
    }

    /// Tells whether this principal may send commands to `device`.
    #[must_use]
    pub fn may_command(&self, device: &DeviceId) -> bool {
        self.may_at(Verb::Command, &Topic::of_device(device, "commands"))
    }

    /// Tells whether this principal may speak for `device`.
    #[must_use]
    pub fn speaks_for(&self, device: &DeviceId) -> bool {
        self.is_or_carries(device.as_str())
            || (!matches!(self.identity, Identity::Device { .. })
                && self.may_at(Verb::Impersonate, &Topic::of_device(device, "telemetry")))
    }

    /// Tells whether this principal may say what `device` is: it speaks for it, and has the right.
    #[must_use]
    pub fn may_describe(&self, device: &DeviceId) -> bool {
        self.speaks_for(device) && self.may_at(Verb::Profile, &Topic::of_device(device, "profile"))
    }
}

fn speaks_for(gateway_for: Option<&Filter>, device: &str) -> bool {
    gateway_for.is_some_and(|filter| device.parse().is_ok_and(|topic| filter.matches(&topic)))
}

#[cfg(test)]
mod tests;
