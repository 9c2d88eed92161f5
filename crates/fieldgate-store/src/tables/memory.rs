//! The twin of the tables for tests: everything in memory, failing when the test says so.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Table, Tables, TablesError, Visit, Write};

/// All rows of all tables.
pub(crate) type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The engine. Clones are the same tables, as a disk is the same after a restart.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryTables {
    rows: Arc<Mutex<Rows>>,
    failing: Arc<AtomicBool>,
}

impl MemoryTables {
    /// Fails every call from now on, or works again.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    pub(crate) fn copy(&self) -> Rows {
        self.rows.lock().unwrap().clone()
    }

    /// Holds these rows and no others.
    pub(crate) fn put_back(&self, rows: Rows) {
        *self.rows.lock().unwrap() = rows;
    }

    fn check(&self) -> Result<(), TablesError> {
        if self.failing.load(Ordering::SeqCst) { Err(TablesError::Closed) } else { Ok(()) }
    }
}

impl Tables for MemoryTables {
    fn scan(&self, table: Table, visit: &mut Visit<'_>) -> Result<(), TablesError> {
        self.check()?;
        for ((_, key), value) in
            self.rows.lock().unwrap().iter().filter(|((of, _), _)| *of == table)
        {
            visit(key, value).map_err(|_| TablesError::Row(table.name()))?;
        }
        Ok(())
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), TablesError> {
        self.check()?;
        let mut rows = self.rows.lock().unwrap();
        for Write { table, key, value } in writes {
            match value {
                Some(value) => drop(rows.insert((table, key), value)),
                None => drop(rows.remove(&(table, key))),
            }
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TablesError> {
        self.check()?;
        self.rows.lock().unwrap().clear();
        Ok(())
    }
}
