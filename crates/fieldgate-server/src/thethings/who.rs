//! Who somebody is in this dialect, and which devices they see.

use std::collections::BTreeSet;

use fieldgate_core::{
    access::{Identity, Principal, Verb},
    id::{DeviceId, TenantId},
    topic::{Filter, Topic},
};
use fieldgate_store::secret::is_thing_token;

use crate::fabric::{Shared, now};

/// The telemetry of every device.
const EVERYTHING: &str = "devices/+/telemetry";

/// What a thing's token is to somebody of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ThingOf {
    /// It is of this device of their tenant.
    Ours(DeviceId),
    /// It is of a device of another tenant: to them as good as none.
    Foreign,
    /// It is nobody's: a guess.
    Unknown,
    /// It has not the form of one, so it is no guess: an id, or a slip.
    Malformed,
}

/// The devices that somebody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// All of their tenant, also those that come.
    All,
    /// These.
    Only(BTreeSet<DeviceId>),
}

impl Seen {
    /// Whether a device is among them.
    pub(crate) fn has(&self, device: &DeviceId) -> bool {
        match self {
            Self::All => true,
            Self::Only(devices) => devices.contains(device),
        }
    }
}

/// Who a session token names, with or without `Bearer` in front: a person who signed in, or an API
/// key. No device, whatever it shows: things have their tokens in the path.
pub(crate) fn session_principal(shared: &Shared, token: &str) -> Option<Principal> {
    let token = token.trim();
    let bare = token.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("bearer"));
    let token = bare.map_or(token, |(_, token)| token.trim());
    let found = shared.state.verify_token(&TenantId::default_tenant(), None, token, now())?;
    let is_of_app = matches!(found.identity, Identity::User | Identity::Key);
    (is_of_app && shared.state.has_tenant(&found.tenant)).then_some(found)
}

/// The device that a thing's token is of, seen from a tenant.
pub(crate) fn thing_of_token(shared: &Shared, tenant: &TenantId, token: &str) -> ThingOf {
    if !is_thing_token(token) {
        return ThingOf::Malformed;
    }
    let Some(found) = thing_principal(shared, token) else { return ThingOf::Unknown };
    match found.identity {
        Identity::Device { id, .. } if found.tenant == *tenant => ThingOf::Ours(id),
        Identity::Device { .. } | Identity::Key | Identity::User | Identity::Source { .. } => {
            ThingOf::Foreign
        }
    }
}

/// The device that a thing's token proves.
pub(crate) fn thing_principal(shared: &Shared, token: &str) -> Option<Principal> {
    let found = shared.state.verify_thing(token)?;
    shared.state.has_tenant(&found.tenant).then_some(found)
}

/// The devices whose telemetry somebody may receive.
pub(crate) fn devices_of(shared: &Shared, principal: &Principal) -> Seen {
    let everything: Option<Filter> = EVERYTHING.parse().ok();
    if everything.is_some_and(|filter| principal.may_subscribe(&filter)) {
        return Seen::All;
    }
    let may = |id: &DeviceId| principal.may_receive(&Topic::of_device(id, "telemetry"));
    let name = principal.name.strip_prefix("user:");
    let linked = name.and_then(|name| shared.state.account(&principal.tenant, name));
    let is_by_role = principal.role.is_some_and(|role| role.permits(Verb::Subscribe));
    if let Some(account) = linked.filter(|_| !is_by_role) {
        // What was linked is all that they have, and far less than all that there is.
        let devices = account.things.iter().filter_map(|id| id.parse().ok());
        return Seen::Only(devices.filter(may).collect());
    }
    if !is_by_role && principal.grants.is_empty() {
        return Seen::Only(BTreeSet::new());
    }
    let devices = shared.state.devices(&principal.tenant);
    let devices = devices.iter().filter_map(|device| device.id.parse().ok());
    Seen::Only(devices.filter(may).collect())
}
