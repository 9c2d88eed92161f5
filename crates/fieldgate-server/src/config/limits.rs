//! `limits.*`: what a client, a tenant and all together may cost. Source: `cli.md`.
//!
//! A key is here if something obeys it.

use fieldgate_core::{
    fault::{Code, Fault},
    topic::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX},
};
use serde::{Deserialize, Serialize};

use super::{About, AboutField, units};

/// A record and its frame must fit a batch of the log.
const MESSAGE_BYTES_MAX: usize = 524_288;

section! {
    /// Bounds on what a client may cost; `_max` is inclusive.
    Limits {
        /// Authenticated connections.
        connections_max: usize = 100_000,
        /// Connections of one address; at the default loopback is not counted; 0 is off.
        connections_per_address_max: usize = 1_000,
        /// Sockets that have not authenticated.
        unauthenticated_max: usize = 2_000,
        /// Largest frame before authentication.
        unauthenticated_frame_bytes_max: usize = 16_384,
        /// Failed authentications of one address a minute.
        auth_failures_per_minute_max: u32 = 30,
        /// Time for the HTTP request head.
        handshake_ms: u64 = 5_000,
        /// Time for the first frame.
        auth_ms: u64 = 5_000,
        /// Time that an HTTP connection may be kept without a request. What is being answered has a time
        /// of its own, which is longer than every wait that may be asked for.
        idle_http_ms: u64 = 60_000,
        /// Largest frame.
        frame_bytes_max: usize = 262_144,
        /// Largest message.
        message_bytes_max: usize = 262_144,
        /// Deepest JSON.
        json_depth_max: usize = 32,
        /// Most elements of a batch.
        batch_len_max: usize = 1_000,
        /// Most subscriptions of a connection.
        topics_per_connection_max: usize = 256,
        /// Longest topic or filter.
        topic_bytes_max: usize = TOPIC_BYTES_MAX,
        /// Deepest topic or filter.
        topic_levels_max: usize = TOPIC_LEVELS_MAX,
        /// Messages a second of a principal, all its connections together.
        messages_per_second: u64 = 1_000,
        /// Messages at once.
        message_burst: u64 = 2_000,
        /// Bytes a second.
        bytes_per_second: u64 = 4_194_304,
        /// Bytes that wait for one slow receiver.
        outbox_bytes_max: usize = 1_048_576,
        /// Bytes that wait for all slow receivers together: bytes, or `"256MiB"`. Above it each bound
        /// shrinks to its fair share.
        #[serde(with = "units::size")]
        outbox_total_bytes_max: u64 = 256 << 20,
        /// Bytes of unfinished frames of all connections together; above it reads pause.
        #[serde(with = "units::size")]
        input_total_bytes_max: u64 = 128 << 20,
        /// Commands that a device which acknowledges has not acknowledged.
        inflight_max: usize = 1_000,
        /// Replays of one principal that read the log at a time; further ones take turns.
        replays_per_principal_max: usize = 4,
        /// Devices of a tenant.
        devices_per_tenant_max: usize = 100_000,
        /// Devices that a source may bring.
        devices_per_source_max: usize = 10_000,
        /// Resources in one frame, and of one device.
        resources_per_device_max: usize = 1_000,
        /// Retained messages of a tenant.
        retained_per_tenant_max: usize = 100_000,
        /// Bytes of retained messages of a tenant.
        #[serde(with = "units::size")]
        retained_bytes_per_tenant_max: u64 = 256 << 20,
    }
}

impl Limits {
    /// Looks whether a topic or filter is within the bounds.
    pub(crate) fn check_topic(&self, topic: &str) -> Result<(), Fault> {
        let level_count = 1 + topic.bytes().filter(|byte| *byte == b'/').count();
        let text = if topic.len() > self.topic_bytes_max {
            format!("{} bytes exceed limits.topic_bytes_max", topic.len())
        } else if level_count > self.topic_levels_max {
            format!("{level_count} levels exceed limits.topic_levels_max")
        } else {
            return Ok(());
        };
        Err(Fault::new(Code::BadTopic, text))
    }

    /// Which values cannot hold, and why.
    pub(super) fn wrong(&self) -> Vec<(&'static str, &'static str)> {
        [
            (self.message_bytes_max > MESSAGE_BYTES_MAX)
                .then_some(("limits.message_bytes_max", "must not exceed 524288")),
            (self.topic_bytes_max > TOPIC_BYTES_MAX)
                .then_some(("limits.topic_bytes_max", "must not exceed 512")),
            (self.topic_levels_max > TOPIC_LEVELS_MAX)
                .then_some(("limits.topic_levels_max", "must not exceed 32")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
