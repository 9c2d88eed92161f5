//! Who may do what: principals, roles, grants, and the one decision over them.
//!
//! Pure. Invariant: a denial wins over any grant, and what nothing allows is refused.

use std::sync::Arc;

use crate::{
    id::{DeviceId, TenantId},
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

impl Principal {
    /// Tells whether this principal may publish to `topic`.
    #[must_use]
    pub fn may_publish(&self, topic: &Topic) -> bool {
        self.may(Verb::Publish, &Filter::from(topic))
    }

    /// Tells whether this principal may do `verb` everywhere that `filter` selects.
    #[must_use]
    pub fn may(&self, verb: Verb, filter: &Filter) -> bool {
        let about = |grant: &&Grant| grant.verb == verb;
        let allowed = self.grants.iter().filter(about).any(|g| !g.deny && g.filter.covers(filter));
        let denied = self.grants.iter().filter(about).any(|g| g.deny && filter.covers(&g.filter));
        allowed && !denied
    }
}
