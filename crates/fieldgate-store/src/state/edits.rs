//! What edits do: parts of a device, an API key or a person that are replaced.
//!
//! Called in seq order by the one thread that applies the log. Conditions are decided here, when the
//! record's turn comes. Invariant: what is refused changes nothing.

use std::sync::Arc;

use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
    profile::{Kind, Profile},
};

use super::{
    Effect, StateLimits,
    changes::RowKey,
    tenants::{Tenant, no_such},
};
use crate::registry::{Described, Device, Edit};

/// What an edit did: whose rights changed, and the rows that it touched.
pub(super) type Edited = (Vec<Effect>, Vec<RowKey>);

fn check(what: &str, name: &str, expected: Option<u64>, now: u64) -> Result<(), Fault> {
    if expected.is_none_or(|expected| expected == now) {
        return Ok(());
    }
    let text = format!("the {what} {name} is not what it was: read it again");
    Err(Fault::new(Code::Conflict, text))
}

impl Tenant {
    /// Applies an edit, if what it is about is what `expected` stands for.
    pub(super) fn edit(
        &mut self,
        tenant: &TenantId,
        expected: Option<u64>,
        edit: &Edit,
        limits: &StateLimits,
    ) -> Result<Edited, Fault> {
        let changed = |name: String| {
            vec![Effect::RightsChanged { tenant: tenant.clone(), name: name.into() }]
        };
        match edit {
            Edit::Device { id, .. } => {
                let device = self.devices.get(id.as_str()).ok_or_else(|| no_such("device", id))?;
                let guard = self.guards.get(id.as_str()).map(|guard| &**guard);
                let origin = self.integrations.origin(id);
                check("device", id, expected, device.tag(guard, origin))?;
                self.edit_device(tenant, edit, limits)
            }
            Edit::Key { name, role, grants, expires_ms } => {
                let key = self.keys.get_mut(name).ok_or_else(|| no_such("key", name))?;
                check("key", name, expected, key.tag())?;
                let mut edited = (**key).clone();
                set(&mut edited.role, role);
                set(&mut edited.grants, grants);
                set(&mut edited.expires_ms, expires_ms);
                if edited.role.is_none() && edited.grants.is_empty() {
                    return Err(Fault::new(Code::BadValue, "a key needs a role or a grant"));
                }
                *key = Arc::new(edited);
                let row = RowKey::Key(tenant.clone(), name.clone());
                Ok((changed(format!("key:{name}")), vec![row]))
            }
            Edit::User { name, role } => {
                let user = self.users.get_mut(name).ok_or_else(|| no_such("user", name))?;
                check("user", name, expected, user.tag())?;
                set(&mut Arc::make_mut(user).role, role);
                let row = RowKey::User(tenant.clone(), name.clone());
                Ok((changed(format!("user:{name}")), vec![row]))
            }
        }
    }

    fn edit_device(
        &mut self,
        tenant: &TenantId,
        edit: &Edit,
        limits: &StateLimits,
    ) -> Result<Edited, Fault> {
        let Edit::Device { id, name, kind, groups, gateway_for } = edit else {
            return Ok(Edited::default());
        };
        let missing = || no_such("device", id);
        let (key, device) = self.devices.get_key_value(id.as_str()).ok_or_else(missing)?;
        let (key, mut edited) = (key.clone(), Device::clone(device));
        let (groups_before, bytes_before) = (edited.groups.clone(), edited.profile_bytes());
        set(&mut edited.name, name);
        set(&mut edited.gateway_for, gateway_for);
        set(&mut edited.groups, groups);
        if let Some(word) = kind {
            set_kind(&mut edited, word)?;
        }
        self.check_groups(&edited.groups)?;
        self.take_room(bytes_before, edited.profile_bytes(), limits)?;
        let mut touched = self.make_groups(tenant, &edited.groups);
        self.groups.leave(&key, &groups_before);
        self.groups.enter(&key, &edited.groups);
        touched.push(RowKey::Device(tenant.clone(), key.clone()));
        let named = edited.id.as_str().into();
        let rights = gateway_for
            .is_some()
            .then(|| Effect::RightsChanged { tenant: tenant.clone(), name: named });
        self.devices.insert(key, Arc::new(edited));
        Ok((rights.into_iter().collect(), touched))
    }
}

fn set<T: Clone>(place: &mut T, with: &Option<T>) {
    if let Some(with) = with {
        place.clone_from(with);
    }
}

/// Another kind in the profile that there is, or the profile of that kind.
fn set_kind(device: &mut Device, word: &str) -> Result<(), Fault> {
    let unknown = || Fault::new(Code::BadValue, "there is no such kind of device");
    let kind = Kind::parse(word).ok_or_else(unknown)?;
    let before = device.profile.as_ref();
    if before.is_some_and(|described| described.profile.kind == kind) {
        return Ok(());
    }
    let profile = match before {
        Some(described) => Profile { kind, ..Profile::clone(&described.profile) },
        None => Profile { kind, resources: kind.template(), ..Profile::default() },
    };
    let revision = before.map_or(0, |described| described.revision) + 1;
    device.kind = Some(word.to_owned());
    device.profile = Some(Described { revision, profile: Arc::new(profile) });
    Ok(())
}

#[cfg(test)]
mod tests;
