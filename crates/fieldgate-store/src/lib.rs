//! The durable log and the tables derived from it.
//!
//! [`Log`] is the port that the server writes to and reads from; `log::LocalLog` is the engine on
//! one machine, `memory::SimLog` the twin of the tests. Nothing here knows a wire format.

pub mod audit;
pub mod codec;
mod control;
pub mod disk;
mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod log;
pub mod memory;
pub mod port;
pub mod record;
pub mod registry;
pub mod secret;
pub mod state;
pub mod store;
mod tables;
#[cfg(any(test, fuzzing))]
mod testing;

#[cfg(test)]
mod suite;

pub use port::{AppendError, Chunk, Follow, Followed, Frontier, Log, ReadError, ReadFilter};
pub use record::{Entry, Record};
pub use store::{OpenStoreError, Store, StoreOptions};
pub use tables::TablesStatus;
