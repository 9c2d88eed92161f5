//! The data folder: lock, master key, log, tables, and the state that they mean.
//!
//! Invariant: one process has a folder open at a time.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use fieldgate_core::id::{Seq, UnixMs};
use rustix::fs::{FlockOperation, flock};

use crate::{
    disk,
    export::Exports,
    log::{self, LocalLog, LogOptions, Recovery},
    port::{Followed, Log, ReadFilter},
    secret::MasterKey,
    state::{State, StateLimits, window::WINDOW_MS},
    tables::{
        Tables, TablesError, TablesStatus,
        apply::{Applier, Work},
        chain,
        fjall::FjallTables,
        load::{IdChunk, LogFacts, Unusable, load},
    },
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
    /// The key under which every credential is hashed is gone. Another would end all of them.
    #[error(
        "master.key is missing beside a log: restore it from a copy; 32 random bytes in its place \
         open the folder, too, but then no credential in it is of use any more"
    )]
    KeyLost,
    /// Devices, keys and retained messages cannot be known: the tables are gone, no export is
    /// whole, and the log no longer reaches back to its beginning.
    #[error(
        "tables/ is lost or damaged, exports/ has nothing whole, and the log lacks {from} to {to}: \
         restore the folder tables or exports from a copy"
    )]
    StateLost {
        /// First number that nothing knows of.
        from: Seq,
        /// Last one.
        to: Seq,
    },
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
    /// How the tables do.
    pub tables: Arc<TablesStatus>,
    /// The folder.
    pub folder: PathBuf,
    // Dropped in this order: the last changes are written while the folder is still ours.
    _applier: Applier,
    _lock: File,
}

impl Store {
    /// Opens `folder`, or makes it (mode 0700), and builds the state: from the tables and the log
    /// behind them, or from an export and the log behind that.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`].
    pub fn open(folder: &Path, options: StoreOptions) -> Result<Self, OpenStoreError> {
        make_folder(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        let lock = take_lock(folder)?;
        let key = open_key(folder)?;
        let (opened_log, (tables, opened)) = std::thread::scope(|scope| {
            let log = scope.spawn(|| LocalLog::open(&folder.join("log"), options.log));
            let tables = FjallTables::new(folder.join("tables"));
            (log.join(), tables)
        });
        let Ok(opened_log) = opened_log else {
            return Err(io::Error::other("the opening of the log panicked").into());
        };
        let (log, recovery) = opened_log?;
        // The log syncs the names in its folder; that of the folder stands in this one.
        disk::sync_folder_of(&folder.join("log"))?;
        let state = Arc::new(State::new(key, options.state));
        let exports = Exports::new(folder.join("exports"));
        let built = build(&log, &recovery, &state, &tables, opened, &exports)?;
        let tables = Box::new(tables);
        let work = Work::new(Arc::clone(&log), Arc::clone(&state), tables, exports, built.trusted);
        let status = Arc::clone(&work.status);
        Ok(Self {
            log,
            state,
            applied: built.applied,
            recovery,
            tables: status,
            folder: folder.to_owned(),
            _applier: Applier::start(work)?,
            _lock: lock,
        })
    }
}

/// Makes a folder and those around it; their names are on stable storage when this returns.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::create_dir_all(folder)?;
    missing
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
        .try_for_each(disk::sync_folder_of)
}

/// Opens the key, or makes one in a folder without a log.
fn open_key(folder: &Path) -> Result<MasterKey, OpenStoreError> {
    let path = folder.join("master.key");
    if !path.try_exists()? && holds_segments(&folder.join("log"))? {
        return Err(OpenStoreError::KeyLost);
    }
    Ok(MasterKey::open(&path)?)
}

fn holds_segments(folder: &Path) -> io::Result<bool> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for file in files {
        if file?.path().extension().is_some_and(|end| end == "seg") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take_lock(folder: &Path) -> Result<File, OpenStoreError> {
    let mut lock = OpenOptions::new();
    let lock = lock.create(true).truncate(false).write(true).mode(0o600);
    let lock = lock.open(folder.join("LOCK"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        let in_use = error == rustix::io::Errno::WOULDBLOCK;
        if in_use { OpenStoreError::InUse } else { io::Error::from(error).into() }
    })?;
    Ok(lock)
}

struct Built {
    applied: Seq,
    /// How far the tables go and their rows of ids, if they can be trusted.
    trusted: Option<(Seq, Vec<IdChunk>)>,
}

fn build(
    log: &LocalLog,
    recovery: &Recovery,
    state: &State,
    tables: &dyn Tables,
    opened: Result<(), TablesError>,
    exports: &Exports,
) -> Result<Built, OpenStoreError> {
    let end = log.frontier().ordered;
    let facts = LogFacts { epoch: log.epoch(), applied: recovery.applied, end };
    let mut learn = |known| state.window().learn(known);
    let loaded = opened.map_err(Unusable::from).and_then(|()| load(tables, facts, &mut learn));
    let (applied, trusted) = match loaded {
        Ok(loaded) => {
            loaded.rows.into_iter().for_each(|(key, row)| state.restore(key, row));
            (loaded.applied, Some((loaded.applied, loaded.chunks)))
        }
        Err(why) => {
            // Nothing that doubtful tables told stays: no id is young enough for the end of time.
            state.window().sweep(UnixMs(u64::MAX));
            if !recovery.created {
                let why = chain(&why);
                tracing::warn!(why, "the tables are rebuilt from an export and the log");
            }
            (restore_export(log, state, exports, end)?, None)
        }
    };
    let mut changes = state.changes();
    changes.applied = applied;
    changes.paused = trusted.is_none();
    state.adopt_groups(&mut changes);
    drop(changes);
    replay(log, state, applied.next(), end)?;
    Ok(Built { applied: end, trusted })
}

/// Starts from the newest export, or from nothing if the log still holds everything.
fn restore_export(
    log: &LocalLog,
    state: &State,
    exports: &Exports,
    end: Seq,
) -> Result<Seq, OpenStoreError> {
    let export = exports.read(log.epoch(), end)?;
    let (applied, rows) = export.map(|e| (e.applied.seq, e.rows)).unwrap_or_default();
    let oldest = log.oldest();
    if oldest > applied.next() {
        return Err(OpenStoreError::StateLost { from: applied.next(), to: oldest.prev() });
    }
    rows.into_iter().for_each(|(key, row)| state.restore(key, row));
    if applied > Seq(0) {
        // An export does not hold `msgid`s; those that count are in the log still.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let found = log.seek_time(UnixMs(now.saturating_sub(WINDOW_MS)));
        let from = found.unwrap_or_else(|error| {
            tracing::error!(%error, "times in the log are unreadable: all of it is read");
            log.oldest()
        });
        read_all(log, from, applied, |step| learn(state, step))?;
    }
    Ok(applied)
}

fn replay(log: &LocalLog, state: &State, from: Seq, end: Seq) -> Result<(), OpenStoreError> {
    read_all(log, from, end, |step| {
        learn(state, step);
        state.apply(step);
        state.settle(log);
    })
}

fn read_all(
    log: &LocalLog,
    from: Seq,
    end: Seq,
    mut visit: impl FnMut(&Followed),
) -> Result<(), OpenStoreError> {
    let mut next = from;
    while next <= end {
        let chunk = log.read(next, &ReadFilter::default(), 1 << 20)?;
        let until = |step: &&Followed| match step {
            Followed::Entry(entry) => entry.seq <= end,
            Followed::Gap(range, _) => range.start() <= &end.0,
        };
        chunk.items.iter().take_while(until).for_each(&mut visit);
        if chunk.next <= next {
            break;
        }
        next = chunk.next;
    }
    Ok(())
}

fn learn(state: &State, step: &Followed) {
    if let Followed::Entry(entry) = step
        && let Some((message, msgid)) = entry.record.repeatable()
    {
        let (window, tenant) = (state.window(), &message.tenant);
        window.learn(window.name(tenant, &message.from, msgid, entry.seq, entry.arrived));
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
