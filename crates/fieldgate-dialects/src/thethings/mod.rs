//! The thethings.iO dialect: values by key, as its REST interface, its Socket.IO server and its
//! streams say them (`wire.md` 1).
//!
//! Pure. Out: [`write_items`]. Times: [`date`].

pub mod date;
mod items;

pub use items::write_items;
