//! When a device was last said to come through another gateway: a mesh changes its ways all the time,
//! and the registry is to hear of it now and then.
//!
//! Bounded; where there is no room for a device, its gateway stays what it was.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use fieldgate_core::{
    access::Principal,
    id::{DeviceId, TenantId, UnixMs},
};
use fieldgate_dialects::thingsee::Element;

/// How long a gateway stands before another one is told.
const PERIOD_MS: u64 = 60_000;
/// Most devices of which it is known when they were told.
const DEVICES_MAX: usize = 16_384;

/// When each device's gateway was told.
#[derive(Debug, Default)]
pub(crate) struct Gateways(Mutex<HashMap<(TenantId, DeviceId), UnixMs>>);

impl Gateways {
    /// Whether the gateway of an element is to be told; if so, not again for a while.
    pub(super) fn may_tell(&self, principal: &Principal, element: &Element, now: UnixMs) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &UnixMs| at.0.saturating_add(PERIOD_MS) > now.0;
        let key = (principal.tenant.clone(), element.device.clone());
        if told.get(&key).is_some_and(is_recent) {
            return false;
        }
        if told.len() >= DEVICES_MAX {
            told.retain(|_, at| is_recent(at));
        }
        let has_room = told.len() < DEVICES_MAX || told.contains_key(&key);
        if has_room {
            told.insert(key, now);
        }
        has_room
    }
}
