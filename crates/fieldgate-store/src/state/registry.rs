//! What registry records do to the people of a tenant.
//!
//! Called in seq order by the one thread that applies the log. Conditions are decided here, when the
//! record's turn comes.

use std::sync::Arc;

use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};

use super::{
    Effect, State,
    tenants::{Tenant, no_such},
};
use crate::registry::{Change, User};

/// Most people of a tenant.
const USERS_MAX: usize = 10_000;

impl State {
    /// Every person of a tenant, by name.
    #[must_use]
    pub fn users(&self, tenant: &TenantId) -> Vec<Arc<User>> {
        let inner = self.read();
        inner.tenants.get(tenant).map(|t| t.users.values().cloned().collect()).unwrap_or_default()
    }
}

impl Tenant {
    /// Applies a change that is about a person; does nothing with any other.
    pub(super) fn change_user(
        &mut self,
        tenant: &TenantId,
        change: &Change,
    ) -> Result<Vec<Effect>, Fault> {
        match change {
            Change::UserAdd(user) => {
                if self.users.contains_key(&user.name) {
                    let text = format!("user {} exists already", user.name);
                    return Err(Fault::new(Code::Conflict, text));
                }
                if self.users.len() >= USERS_MAX {
                    let text = format!("a tenant has at most {USERS_MAX} users");
                    return Err(Fault::new(Code::QueueFull, text));
                }
                self.users.insert(user.name.clone(), Arc::new(user.clone()));
                Ok(Vec::new())
            }
            Change::UserRemove(name) => {
                self.users.remove(name).ok_or_else(|| no_such("user", name))?;
                let name = format!("user:{name}").into();
                Ok(vec![Effect::RightsChanged { tenant: tenant.clone(), name }])
            }
            Change::UserPassword { name, password } => {
                let user = self.users.get_mut(name).ok_or_else(|| no_such("user", name))?;
                Arc::make_mut(user).password = password.clone();
                Ok(Vec::new())
            }
            Change::DeviceAdd(_)
            | Change::DeviceRemove(_)
            | Change::DeviceRotate { .. }
            | Change::KeyAdd(_)
            | Change::KeyRevoke(_) => Ok(Vec::new()),
        }
    }
}
