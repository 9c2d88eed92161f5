//! The tables on disk, in one fjall database, every batch synced.
//!
//! One keyspace holds them all, a key begins with its table's number: each keyspace more would cost a
//! start some twenty disk flushes. No type of fjall leaves this file. The state is in RAM, so caches and buffers here are small.

use std::{fmt, path::PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Table, Tables, TablesError, Visit, Write};

/// Recovery reads the journal again: this much of it at most (`storage.md` 1.3).
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
const CACHE_BYTES: u64 = 4 << 20;
const BUFFER_BYTES: u64 = 8 << 20;

struct Open {
    db: Database,
    rows: Keyspace,
}

/// The engine.
pub(crate) struct FjallTables {
    folder: PathBuf,
    open: Option<Open>,
}

impl fmt::Debug for FjallTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallTables").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl From<fjall::Error> for TablesError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl FjallTables {
    /// The tables in `folder`. If they do not open, that is told, and `reset` is the way on.
    pub(crate) fn new(folder: PathBuf) -> (Self, Result<(), TablesError>) {
        let mut tables = Self { folder, open: None };
        let opened = tables.open();
        (tables, opened)
    }

    fn open(&mut self) -> Result<(), TablesError> {
        let db = Database::builder(&self.folder)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(BUFFER_BYTES);
        let rows = db.keyspace("rows", options)?;
        self.open = Some(Open { db, rows });
        Ok(())
    }
}

impl Tables for FjallTables {
    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Result<(), TablesError> {
        let open = self.open.as_ref().ok_or(TablesError::Closed)?;
        for row in open.rows.prefix([table as u8]) {
            let (key, value) = row.into_inner()?;
            visit(key.get(1..).unwrap_or_default(), &value)
                .map_err(|_| TablesError::Row(table.name()))?;
        }
        Ok(())
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), TablesError> {
        let open = self.open.as_ref().ok_or(TablesError::Closed)?;
        let mut batch = open.db.batch().durability(Some(PersistMode::SyncData));
        for write in writes {
            let key = [&[write.table as u8], write.key.as_slice()].concat();
            match write.value {
                Some(value) => batch.insert(&open.rows, key, value),
                None => batch.remove(&open.rows, key),
            }
        }
        Ok(batch.commit()?)
    }

    fn reset(&mut self) -> Result<(), TablesError> {
        self.open = None;
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Err(_) | Ok(()) => (),
        }
        self.open()
    }
}
