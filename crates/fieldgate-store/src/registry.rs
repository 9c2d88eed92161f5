//! The registry: devices, credentials, keys, users and groups, and how records change them.

/// A change of the registry, as the log holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryChange {}
