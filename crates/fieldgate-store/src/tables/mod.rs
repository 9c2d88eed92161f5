//! The tables: the state written down row by row, a moment behind the log.
//!
//! Derived from the log (`storage.md` 1.4): [`apply`] writes what changed about once a second, in one
//! synced batch that also says up to which number it goes. What opens behind that, or damaged, is
//! rebuilt. Engines: [`fjall`] on disk, [`memory`] in tests, one suite for both.

pub(crate) mod apply;
mod desired;
pub(crate) mod fjall;
pub(crate) mod load;
#[cfg(test)]
pub(crate) mod memory;
mod reported;
pub(crate) mod rows;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

use std::{fmt, io};

pub use apply::TablesStatus;
pub(crate) use rows::BadRow;

/// One table. Keys are ordered as bytes. Its number stands on disk and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Table {
    /// What the rest stands for: one row, written with every batch.
    Meta = 0,
    /// Devices, groups, scenes, API keys and people.
    Registry = 1,
    /// Retained messages, whole.
    Retained = 2,
    /// Commands that have not ended.
    Command = 3,
    /// Known `msgid`s, a row for each batch.
    MsgId = 4,
    /// What devices reported, a row each.
    Reported = 5,
    /// Entries of the audit, a row each.
    Audit = 6,
    /// What devices are wished to be in, a row each.
    Desired = 7,
}

impl Table {
    pub(crate) const ALL: [Self; 8] = [
        Self::Meta,
        Self::Registry,
        Self::Retained,
        Self::Command,
        Self::MsgId,
        Self::Reported,
        Self::Audit,
        Self::Desired,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Registry => "registry",
            Self::Retained => "retained",
            Self::Command => "command",
            Self::MsgId => "msgid",
            Self::Reported => "reported",
            Self::Audit => "audit",
            Self::Desired => "desired",
        }
    }
}

/// One row set, or removed if `value` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// Why a table could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TablesError {
    #[error("the table store failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the tables' folder could not be used")]
    Io(#[from] io::Error),
    #[error("a row of the table {0} is damaged")]
    Row(&'static str),
    #[error("the table store is not open")]
    Closed,
}

/// What a visitor of rows is called with: key, value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), BadRow> + 'a;

/// An engine. Belongs to one thread.
pub(crate) trait Tables: Send + fmt::Debug {
    /// Visits every row of a table, by key.
    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Result<(), TablesError>;

    /// Writes all of `writes` or nothing; on stable storage when it returns. A key stands in them
    /// once.
    fn commit(&mut self, writes: Vec<Write>) -> Result<(), TablesError>;

    /// Throws everything away and starts empty.
    fn reset(&mut self) -> Result<(), TablesError>;
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
