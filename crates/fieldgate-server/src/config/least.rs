//! What keys must be at the least: those with which nothing would work, or which would mean nothing.
//!
//! Zero is a value where it says something: `limits.connections_per_address_max` is off then.

use toml::Value;

use super::{
    Config,
    about::{look, table_of},
    units,
};

/// Keys, and the least that each may be; of sizes in bytes, of times in ms.
pub(super) const LEAST: [(&str, u64); 24] = [
    ("heartbeat.ping_ms", 1),
    ("limits.connections_max", 1),
    ("limits.unauthenticated_max", 1),
    ("limits.unauthenticated_frame_bytes_max", 1),
    ("limits.auth_failures_per_minute_max", 1),
    ("limits.handshake_ms", 1),
    ("limits.auth_ms", 1),
    ("limits.idle_http_ms", 1),
    ("limits.frame_bytes_max", 1),
    ("limits.message_bytes_max", 1),
    ("limits.json_depth_max", 1),
    ("limits.batch_len_max", 1),
    ("limits.topic_bytes_max", 1),
    ("limits.topic_levels_max", 1),
    ("limits.messages_per_second", 1),
    ("limits.message_burst", 1),
    ("limits.bytes_per_second", 1),
    ("limits.outbox_bytes_max", 1),
    ("limits.outbox_total_bytes_max", 1),
    ("limits.input_total_bytes_max", 1),
    ("limits.inflight_max", 1),
    ("limits.replays_per_principal_max", 1),
    // A command lives no longer than the log keeps it.
    ("retention.age", 60_000),
    // A file of the log.
    ("retention.bytes", 64 << 20),
];

/// The least that a key may be.
pub(super) fn of(path: &str) -> u64 {
    LEAST.iter().find(|(key, _)| *key == path).map_or(0, |(_, least)| *least)
}

/// Which keys are below their least, and what that is.
pub(super) fn wrong(config: &Config) -> Vec<(&'static str, String)> {
    let table = table_of(config);
    let told = |(path, least): (&'static str, u64)| {
        let (value, written) = match look(&table, path)? {
            Value::Integer(value) => (u64::try_from(*value).ok()?, least.to_string()),
            Value::String(text) => units::read_back(text, least)?,
            Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => return None,
        };
        (value < least).then(|| (path, format!("must be {written} or more")))
    };
    LEAST.into_iter().filter_map(told).collect()
}
