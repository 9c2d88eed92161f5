//! The deCONZ dialect: devices as lights and sensors, as its REST interface and its push socket say
//! them (`wire.md` 2, `resources.md` 2).
//!
//! Pure. In: messages of a device ([`Device`]), and bodies that apps send ([`put`], [`clip`],
//! [`gateway`]). Out: resources, what changed of them, frames of the push socket ([`event`]), and
//! answers. A part is one light or one sensor that apps see of a device: a [`Part`] and an instance.

mod body;
pub mod clip;
pub mod device;
mod error;
pub mod event;
pub mod gateway;
mod part;
pub mod put;

pub use clip::Clip;
pub use device::{Change, Device, Facts, Id, Light, tag_of};
pub use error::{Answer, Error, status, write_answers};
pub use part::Part;
pub use put::{Action, Asked};

/// Attributes by name.
pub type Map = serde_json::Map<String, serde_json::Value>;
