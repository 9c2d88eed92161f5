//! The applier: one thread that writes what the state changed into the tables, a moment behind.
//!
//! Only what is durable in the log is written, in one synced batch with the number that it goes up
//! to; then retention may go that far. A table store that fails costs no message: it is thrown away
//! and written anew from the state in RAM, and until that succeeds retention stands still.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fieldgate_core::id::{Seq, UnixMs};

use super::{
    Table, Tables, TablesError, Write,
    load::IdChunk,
    rows::{APPLIED_KEY, Applied, encode_ids, encode_key, encode_row},
};
use crate::{
    control::EAGER_WINDOW,
    export::Exports,
    log::LocalLog,
    port::Log as _,
    state::{
        State,
        changes::{Changes, Row, RowKey, Snapshot},
        window::{self, IDS_MAX, KnownId},
    },
};

const PERIOD: Duration = Duration::from_secs(1);
/// How long the number alone may wait, and how far it may go, when no row changed.
const QUIET_PERIOD: Duration = Duration::from_secs(10);
const QUIET_RECORDS_MAX: u64 = 100_000;
const RETRY: Duration = Duration::from_secs(10);
const EXPORT_PERIOD: Duration = Duration::from_secs(24 * 3_600);
const SWEEP_PERIOD: Duration = Duration::from_secs(10);
/// Bytes of rows in one batch while everything is written anew.
const REBUILD_BATCH_BYTES: usize = 4 << 20;

/// How the tables do, for those who ask.
#[derive(Debug, Default)]
pub struct TablesStatus {
    applied: AtomicU64,
    exported: AtomicU64,
    failing: AtomicBool,
}

impl TablesStatus {
    /// Everything up to this number is in the tables.
    pub fn applied(&self) -> Seq {
        Seq(self.applied.load(Ordering::Relaxed))
    }

    /// Everything up to this number is in an export.
    pub fn exported(&self) -> Seq {
        Seq(self.exported.load(Ordering::Relaxed))
    }

    /// Whether the table store fails. Messages are taken all the same; retention stands still.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Applier {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    pub(crate) fn start(mut work: Work) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = std::thread::Builder::new().name("tables".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !wait(&stop, work.pause()) {
                    work.step(false);
                }
                work.step(true);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Waits; tells whether it is time to stop.
fn wait((stop, changed): &(Mutex<bool>, Condvar), pause: Duration) -> bool {
    let stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(stopped, pause, |stopped| !*stopped);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Applier {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the tables panicked");
        }
    }
}

/// What the thread does, a step at a time.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) log: Arc<LocalLog>,
    pub(crate) state: Arc<State>,
    pub(crate) status: Arc<TablesStatus>,
    tables: Box<dyn Tables>,
    exports: Exports,
    chunks: VecDeque<IdChunk>,
    trusted: bool,
    written: Seq,
    written_at: Instant,
    /// Nothing where no age is known.
    exported_at: Option<Instant>,
    swept_at: Instant,
}

impl Work {
    /// `loaded`: how far the tables go and their rows of ids, if they can be trusted.
    pub(crate) fn new(
        log: Arc<LocalLog>,
        state: Arc<State>,
        tables: Box<dyn Tables>,
        exports: Exports,
        loaded: Option<(Seq, Vec<IdChunk>)>,
    ) -> Self {
        let trusted = loaded.is_some();
        let (written, chunks) = loaded.unwrap_or_default();
        let now = Instant::now();
        let mut work = Self {
            log,
            state,
            status: Arc::default(),
            tables,
            exports,
            chunks: chunks.into(),
            trusted,
            written,
            written_at: now,
            exported_at: None,
            swept_at: now,
        };
        work.state.changes().paused = !trusted;
        work.find_export();
        work.say();
        work
    }

    fn find_export(&mut self) {
        match self.exports.newest(self.log.epoch(), self.log.frontier().durable) {
            Ok(Some((seq, at))) => {
                self.status.exported.store(seq.0, Ordering::Relaxed);
                // A file from the future tells that a clock was set back, and nothing of its age.
                let age = at.elapsed().ok();
                self.exported_at = age.and_then(|age| Instant::now().checked_sub(age));
            }
            Ok(None) => (),
            Err(error) => tracing::error!(%error, "the folder of exports cannot be read"),
        }
    }

    fn pause(&self) -> Duration {
        let failing = self.status.is_failing();
        if failing { RETRY } else { PERIOD }
    }

    /// Writes what there is to write.
    pub(crate) fn step(&mut self, last: bool) {
        let done = if self.trusted { self.follow(last) } else { self.rebuild(last) };
        self.status.failing.store(done.is_err(), Ordering::Relaxed);
        if let Err(error) = done {
            let error = crate::tables::chain(&error);
            tracing::error!(error, "the tables fail and will be written anew");
            self.trusted = false;
            let mut changes = self.state.changes();
            changes.paused = true;
            changes.take();
            return;
        }
        self.export_if_due(last);
        self.say();
        if self.swept_at.elapsed() >= SWEEP_PERIOD {
            self.swept_at = Instant::now();
            self.state.window().sweep(now());
        }
    }

    fn say(&self) {
        self.status.applied.store(self.written.0, Ordering::Relaxed);
        self.log.set_applied(self.written);
        self.log.set_removable(self.written.min(self.status.exported()));
    }

    fn follow(&mut self, last: bool) -> Result<(), TablesError> {
        let mut changes = {
            let mut changes = self.state.changes();
            let ahead = changes.applied.0.saturating_sub(self.written.0);
            let quiet = changes.rows.is_empty()
                && changes.slots.is_empty()
                && !self.state.window().has_unwritten();
            let early =
                !last && self.written_at.elapsed() < QUIET_PERIOD && ahead < QUIET_RECORDS_MAX;
            if ahead == 0 || quiet && early {
                return Ok(());
            }
            changes.take()
        };
        if !self.wait_durable(changes.applied, last) {
            return Ok(());
        }
        let left = changes.settle(&*self.log);
        self.state.changes().keep(left);
        let Changes { applied, rows, .. } = changes;
        let mut ids = self.state.window().unwritten(self.written, applied);
        // What was refused is known to this process alone: the next would take it for stored.
        ids.retain(|known| !self.log.is_refused(known.seq));
        if EAGER_WINDOW.is_on() {
            ids = self.state.window().all();
        }
        let mut writes: Vec<Write> = rows.iter().map(|(k, row)| write(k, row.as_ref())).collect();
        let mut chunks = self.chunks.clone();
        keep_ids(&mut chunks, applied, &ids, &mut writes);
        writes.push(self.applied_row(applied));
        self.tables.commit(writes)?;
        self.chunks = chunks;
        self.state.window().set_written(applied);
        self.written = applied;
        self.written_at = Instant::now();
        Ok(())
    }

    /// Writes the whole state into empty tables. What comes meanwhile is gathered.
    fn rebuild(&mut self, last: bool) -> Result<(), TablesError> {
        let mut snapshot = self.snapshot();
        let ids = self.state.window().all();
        if !self.wait_durable(snapshot.applied, last) {
            return Ok(());
        }
        let left = snapshot.settle(&*self.log);
        self.state.changes().keep(left);
        self.tables.reset()?;
        // What was refused is known to this process alone: the next would take it for stored.
        let stored =
            |known: &KnownId| known.seq <= snapshot.applied && !self.log.is_refused(known.seq);
        let ids: Vec<KnownId> = ids.into_iter().filter(stored).collect();
        let (mut writes, mut byte_len) = (Vec::new(), 0);
        for (key, row) in &snapshot.rows {
            let write = write(key, Some(row));
            byte_len += write.key.len() + write.value.as_ref().map_or(0, Vec::len);
            writes.push(write);
            if byte_len >= REBUILD_BATCH_BYTES {
                byte_len = 0;
                self.tables.commit(std::mem::take(&mut writes))?;
            }
        }
        let mut chunks = VecDeque::new();
        for part in ids.chunks(REBUILD_BATCH_BYTES / 40) {
            let at = part.last().map_or(snapshot.applied, |known| known.seq);
            keep_ids(&mut chunks, at, part, &mut writes);
            self.tables.commit(std::mem::take(&mut writes))?;
        }
        writes.push(self.applied_row(snapshot.applied));
        self.tables.commit(writes)?;
        tracing::info!(rows = snapshot.rows.len(), "the tables were written anew");
        self.chunks = chunks;
        self.written = snapshot.applied;
        self.trusted = true;
        Ok(())
    }

    /// The state as it is; from here on its changes are gathered.
    fn snapshot(&self) -> Snapshot {
        let mut changes = self.state.changes();
        changes.take();
        changes.paused = false;
        self.state.snapshot(&changes)
    }

    fn export_if_due(&mut self, last: bool) {
        let due = self.exported_at.is_none_or(|at| at.elapsed() >= EXPORT_PERIOD) && !last;
        if !(due || self.log.wants_removable()) || self.written <= self.status.exported() {
            return;
        }
        let mut snapshot = {
            let changes = self.state.changes();
            self.state.snapshot(&changes)
        };
        if !self.wait_durable(snapshot.applied, last) {
            return;
        }
        // What is left is in the changes, and behind this number in the log.
        snapshot.settle(&*self.log);
        match self.exports.write(self.log.epoch(), &snapshot) {
            Ok(()) => {
                self.status.exported.store(snapshot.applied.0, Ordering::Relaxed);
                self.exported_at = Some(Instant::now());
            }
            Err(error) => tracing::error!(%error, "the state could not be exported"),
        }
    }

    fn applied_row(&self, seq: Seq) -> Write {
        let applied = Applied { epoch: self.log.epoch(), seq };
        Write { table: Table::Meta, key: APPLIED_KEY.to_vec(), value: Some(applied.encode()) }
    }

    /// Waits until the log has everything up to `seq`; false if it ends without. Messages of QoS 0
    /// are applied before they are durable, for 100 ms at most. While the disk fails, what it refused
    /// may yet come back: the tables must not say that they are past it.
    fn wait_durable(&self, seq: Seq, last: bool) -> bool {
        loop {
            let reached = self.log.frontier().durable >= seq;
            let stopped = self.log.is_stopped();
            if reached && !stopped {
                return true;
            }
            if self.log.is_closed() || last && stopped {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write(key: &RowKey, row: Option<&Row>) -> Write {
    let (table, key) = encode_key(key);
    Write { table, key, value: row.map(encode_row) }
}

/// Adds a row of ids, and removes those that no window reaches back to.
fn keep_ids(
    chunks: &mut VecDeque<IdChunk>,
    applied: Seq,
    ids: &[KnownId],
    writes: &mut Vec<Write>,
) {
    if !ids.is_empty() {
        let key = applied.0.to_be_bytes().to_vec();
        let newest = ids.iter().map(|known| known.arrived).max().unwrap_or_default();
        writes.push(Write { table: Table::MsgId, key: key.clone(), value: Some(encode_ids(ids)) });
        chunks.push_back(IdChunk { key, newest, len: ids.len() });
    }
    let now = now();
    let mut total: usize = chunks.iter().map(|chunk| chunk.len).sum();
    while let Some(front) = chunks.front()
        && chunks.len() > 1
        && (!window::is_current(front.newest, now) || total - front.len >= IDS_MAX)
    {
        total -= front.len;
        let front = chunks.pop_front();
        writes.extend(front.map(|chunk| Write {
            table: Table::MsgId,
            key: chunk.key,
            value: None,
        }));
    }
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
