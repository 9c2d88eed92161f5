//! What tests of every crate begin with: a message that is nothing special.
//!
//! Behind the feature `testing`; no gateway has it.

use bytes::Bytes;

use crate::{
    id::{TenantId, UnixMs},
    message::{Content, Message, Qos},
    topic::Topic,
};

/// A text of the default tenant; what else a test wants of it, it sets.
///
/// # Panics
///
/// Where the topic is none.
#[must_use]
#[allow(clippy::expect_used, reason = "a test fails by panicking")]
pub fn message(topic: &str, qos: Qos, payload: impl AsRef<[u8]>) -> Message {
    let topic: Topic = topic.parse().expect("a topic");
    let payload = Bytes::copy_from_slice(payload.as_ref());
    let tenant = TenantId::default_tenant();
    let message = Message::json(tenant, topic, "a".into(), UnixMs(1), payload);
    Message { qos, content: Content::Text, ..message }
}
