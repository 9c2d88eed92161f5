//! Tenants as records have them.

use serde::{Deserialize, Serialize};

use super::Change;

/// What a tenant may have; without a number, as much as the configuration gives each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Most connections that have proved whose they are.
    pub connections_max: Option<u64>,
    /// Most devices.
    pub devices_max: Option<u64>,
    /// Most retained messages.
    pub retained_max: Option<u64>,
    /// Messages a second of all its principals together.
    pub messages_per_second: Option<u64>,
}

/// A tenant, or what is left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantInfo {
    /// Since when it is, in Unix ms.
    pub added_ms: u64,
    /// When it was removed, in Unix ms. Its name stays.
    pub removed_ms: Option<u64>,
    /// What it may have.
    pub limits: TenantLimits,
}

impl Change {
    /// Whether it is about a tenant as a whole: the business of whoever administers the gateway.
    #[must_use]
    pub const fn is_of_tenant(&self) -> bool {
        matches!(self, Self::TenantAdd(_) | Self::TenantSet(_) | Self::TenantRemove)
    }
}
