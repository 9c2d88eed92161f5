//! The data folder: lock, master key, log, and the state that the log means.
//!
//! Invariant: one process has a folder open at a time.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use fieldgate_core::id::Seq;
use rustix::fs::{FlockOperation, flock};

use crate::{
    log::{self, LocalLog, LogOptions, Recovery},
    port::{Followed, Log, ReadFilter},
    record::Record,
    secret::MasterKey,
    state::{State, StateLimits},
};

/// Why a data folder did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// Another process has it.
    #[error("the data folder is in use by another process")]
    InUse,
    /// The folder cannot be read or written.
    #[error("the data folder cannot be used")]
    Io(#[from] io::Error),
    /// The log does not open.
    #[error("the log does not open")]
    Log(#[from] log::OpenError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] crate::port::ReadError),
}

/// How a store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOptions {
    /// The log's sizes and times.
    pub log: LogOptions,
    /// The tenants' bounds.
    pub state: StateLimits,
}

/// An open data folder.
#[derive(Debug)]
pub struct Store {
    /// The log.
    pub log: Arc<LocalLog>,
    /// What it means up to `applied`.
    pub state: Arc<State>,
    /// The number up to which `state` was built: follow from here.
    pub applied: Seq,
    /// What opening found.
    pub recovery: Recovery,
    /// The folder.
    pub folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens `folder`, or makes it (mode 0700), and reads the state from the log.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`].
    pub fn open(folder: &Path, options: StoreOptions) -> Result<Self, OpenStoreError> {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        let mut lock = OpenOptions::new();
        let lock = lock.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(folder.join("LOCK"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let in_use = error == rustix::io::Errno::WOULDBLOCK;
            if in_use { OpenStoreError::InUse } else { io::Error::from(error).into() }
        })?;
        let key = MasterKey::open(&folder.join("master.key"))?;
        let (log, recovery) = LocalLog::open(&folder.join("log"), options.log)?;
        let state = Arc::new(State::new(key, options.state));
        let applied = replay(&log, &state)?;
        Ok(Self { log, state, applied, recovery, folder: folder.to_owned(), _lock: lock })
    }
}

/// Applies the whole log to an empty state.
fn replay(log: &LocalLog, state: &State) -> Result<Seq, OpenStoreError> {
    let end = log.frontier().ordered;
    let mut next = log.oldest();
    while next <= end {
        let chunk = log.read(next, &ReadFilter::default(), 1 << 20)?;
        for step in &chunk.items {
            learn(state, step);
            state.apply(step);
        }
        if chunk.next <= next {
            break;
        }
        next = chunk.next;
    }
    Ok(end)
}

fn learn(state: &State, step: &Followed) {
    if let Followed::Entry(entry) = step
        && let Record::Message(message) = &entry.record
        && let Some(msgid) = &message.reference
    {
        state.window().learn(&message.tenant, &message.from, msgid, entry.arrived, entry.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            log: LogOptions { free_bytes_min: 0, segment_bytes: 1 << 20, ..LogOptions::default() },
            ..StoreOptions::default()
        };
        let store = Store::open(folder.path(), options).unwrap();
        assert!(matches!(Store::open(folder.path(), options), Err(OpenStoreError::InUse)));
        let mode =
            std::fs::metadata(folder.path().join("master.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(store);
        assert!(Store::open(folder.path(), options).is_ok());
    }
}
