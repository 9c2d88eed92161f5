//! The Rust SDK of Fieldgate: publish with acknowledgement, subscribe with resume, commands.
//!
//! A [`Client`] is one connection that keeps itself alive: it reconnects with a jittered backoff,
//! repeats what was not acknowledged under the same `msgid`, and continues every subscription
//! behind the last position it handed out. What it cannot send yet waits in a bounded buffer.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fieldgate_client::{Client, Event, Since};
//!
//! let client = Client::builder("ws://127.0.0.1:8080").token("fg_key_…").connect().await?;
//! client.publish("plant/line-1/note", "started").qos1().send().await?;
//! let mut readings = client.subscribe("devices/+/telemetry").since(Since::All).open().await?;
//! while let Some(Event::Message(message)) = readings.next().await {
//!     println!("{} {}", message.topic, message.payload);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Absent: the server and its store; nothing here reads a clock of the gateway.

mod buffer;
mod client;
mod command;
mod endpoint;
mod error;
mod http;
mod link;
mod payload;
mod publish;
mod state;
mod subscribe;
mod upgrade;

pub use crate::http::Answer;
pub use buffer::BufferLimits;
pub use client::{Builder, Client, Link};
pub use command::{Command, CommandLife, CommandRequest, CommandUpdate, Commands, Outcome};
pub use error::{ConnectError, End, SendError, SubscribeError};
pub use fieldgate_core::{
    backoff::Backoff,
    dialect::{Since, SlowMode},
    id::{Position, UnixMs},
    message::Qos,
};
pub use fieldgate_dialects::native::protobuf::{IoTData, SensorReading};
pub use payload::Payload;
pub use publish::{Accepted, Publish, Receipt, Sample};
pub use subscribe::{Event, Gap, Message, SubscribeRequest, Subscription};
