//! The log on one machine: one folder of segments, one writer, one order.
//!
//! Source: `storage.md` 1.5. `append` gives numbers and places in one step; the writer thread puts
//! what waits on stable storage in one batch; the follower and the readers see one sequence.

mod ahead;
mod format;
mod index;
mod inspect;
mod intake;
mod reader;
mod recover;
mod repair;
mod scrub;
mod segment;
mod segments;
mod selection;
mod stats;
mod writer;

use std::{
    io,
    ops::RangeInclusive,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, UnixMs},
};

pub use inspect::{DumpedEntry, VerifyReport, dump, verify};
pub use recover::Recovery;
pub use repair::{RepairReport, repair};
pub use stats::{Distribution, LogStatus};

use crate::{
    disk::{Disk, RealDisk},
    port::{AppendError, Chunk, Follow, Followed, Frontier, Log, ReadError, ReadFilter},
    record::Record,
};
use intake::Intake;
#[cfg(any(test, fuzzing))]
pub(crate) use manual::ManualLog;
use segments::Segments;

/// Sizes and times of a log.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Most records that wait for the writer or the follower.
    pub intake_len_max: usize,
    /// Most bytes that wait.
    pub intake_bytes_max: usize,
    /// Bytes of recent records kept in memory for readers.
    pub tail_bytes_max: usize,
    /// Below this much free disk messages are refused.
    pub free_bytes_min: u64,
    /// Oldest age of a segment that is kept, in running time.
    pub retention_age: Duration,
    /// Most bytes of segments that are kept.
    pub retention_bytes: u64,
    /// Whether a commit waits for the disk; `false` is `store.durability = "os"`.
    pub sync: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            intake_len_max: 32_768,
            intake_bytes_max: 64 << 20,
            tail_bytes_max: 8 << 20,
            free_bytes_min: 1 << 30,
            retention_age: Duration::from_secs(7 * 24 * 3600),
            retention_bytes: 10 << 30,
            sync: true,
        }
    }
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk failed.
    #[error("the log's folder could not be read or written")]
    Io(#[from] io::Error),
    /// A file is named as a segment, and no number that a log gives.
    #[error("the file {0} in the log's folder is no segment: move it away")]
    NoSegment(String),
}

/// The engine.
#[derive(Debug)]
pub struct LocalLog {
    epoch: Epoch,
    intake: Arc<Intake>,
    segments: Arc<Segments>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
}

impl LocalLog {
    /// Opens the log in `folder`, or makes one there; recovers what a crash left.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(folder: &Path, options: LogOptions) -> Result<(Arc<Self>, Recovery), OpenError> {
        Self::open_on(Arc::new(RealDisk::new(folder.to_owned())?), options)
    }

    /// Opens the log on any disk.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: LogOptions,
    ) -> Result<(Arc<Self>, Recovery), OpenError> {
        let (segments, mut writer, recovery) = recover::recover(disk, options)?;
        let segments = Arc::new(segments);
        let intake = Arc::new(Intake::new(&recovery, options));
        writer.keep_house(&intake, &segments);
        let ahead = Arc::clone(&writer.ahead);
        let builder = || std::thread::Builder::new();
        let helper = builder().name("log-ahead".to_owned()).spawn({
            let (intake, segments) = (Arc::clone(&intake), Arc::clone(&segments));
            move || ahead.run(&segments, options.segment_bytes, &|| intake.stored())
        })?;
        let writer = builder().name("log-writer".to_owned()).spawn({
            let (intake, segments) = (Arc::clone(&intake), Arc::clone(&segments));
            move || writer.run(&intake, &segments)
        })?;
        let threads = Mutex::new(vec![writer, helper]);
        let (epoch, closed) = (recovery.epoch, AtomicBool::new(false));
        Ok((Arc::new(Self { epoch, intake, segments, threads, closed }), recovery))
    }

    /// Tells how far the tables have come: the next batches say so.
    pub fn set_applied(&self, seq: Seq) {
        self.segments.set_applied(seq);
    }

    /// Tells up to which number what the log means stands elsewhere too; retention stays below it.
    pub fn set_removable(&self, seq: Seq) {
        self.segments.set_removable(seq);
    }

    /// Whether retention would remove more if it were told that it may.
    pub fn wants_removable(&self) -> bool {
        self.segments.is_held_back()
    }

    /// The durable frontier alone, read without a lock: as [`Log::frontier`] tells it.
    pub fn durable(&self) -> Seq {
        self.intake.durable()
    }

    /// How the log does.
    pub fn status(&self) -> LogStatus {
        let mut status = self.segments.status();
        self.intake.tell_status(&mut status);
        status
    }

    /// Whether a write or sync failed and the log could not go on yet. What it refused meanwhile
    /// may come back at the next start.
    pub(crate) fn is_stopped(&self) -> bool {
        self.intake.is_stopped()
    }

    /// Whether everything taken is written and nothing more will be.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Log for LocalLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn append(
        &self,
        group: Vec<Record>,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        self.intake.append(group, arrived)
    }

    fn append_one(
        &self,
        record: Record,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        self.intake.append_one(record, arrived)
    }

    fn announce(&self) {
        self.intake.announce();
    }

    fn frontier(&self) -> Frontier {
        self.intake.frontier()
    }

    fn is_refused(&self, seq: Seq) -> bool {
        self.intake.is_refused(seq)
    }

    fn on_durable(&self, wake: Arc<dyn Fn(Frontier) + Send + Sync>) {
        self.intake.set_wake(wake);
    }

    fn follow(&self, from: Seq) -> Box<dyn Follow> {
        let (intake, segments) = (Arc::clone(&self.intake), Arc::clone(&self.segments));
        intake.join(from);
        Box::new(Follower { intake, segments, next: from.next() })
    }

    fn read(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Result<Chunk, ReadError> {
        if let Some(chunk) = self.read_recent(from, filter, bytes_max) {
            return Ok(chunk);
        }
        self.segments.read(from, self.intake.stored(), filter, bytes_max)
    }

    fn read_recent(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Option<Chunk> {
        self.intake.read_tail(from, filter, bytes_max)
    }

    fn oldest(&self) -> Seq {
        self.segments.oldest()
    }

    fn seek_time(&self, time: UnixMs) -> Result<Seq, ReadError> {
        let Frontier { ordered, durable } = self.intake.frontier();
        let found = self.segments.seek_time(time, durable).map_err(ReadError::Io)?;
        Ok(found.unwrap_or_else(|| ordered.next()))
    }

    fn close(&self) {
        self.intake.close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct Follower {
    intake: Arc<Intake>,
    segments: Arc<Segments>,
    next: Seq,
}

impl Follow for Follower {
    fn next(&mut self, out: &mut Vec<Followed>, max: usize, timeout: Duration) -> bool {
        if self.next < self.intake.tail_start() {
            return self.catch_up(out);
        }
        self.intake.follow(&mut self.next, out, max, timeout)
    }
}

impl Follower {
    /// What is older than the tail in memory comes from the disk. What cannot be read is tried
    /// again, then given up a number at a time, so that a bad place costs no more than itself.
    fn catch_up(&mut self, out: &mut Vec<Followed>) -> bool {
        let end = self.intake.tail_start().prev();
        let read = || self.segments.read(self.next, end, &ReadFilter::default(), 1 << 20);
        match read().or_else(|_| read()).or_else(|_| read()) {
            Ok(chunk) => {
                out.extend(chunk.items);
                self.next = chunk.next;
            }
            Err(error) => {
                tracing::error!(%error, seq = self.next.0, "log unreadable");
                let gap = Followed::Gap(self.next.0..=self.next.0, GapReason::Damaged);
                self.segments.stats.note_damage(std::slice::from_ref(&gap));
                out.push(gap);
                self.next = self.next.next();
            }
        }
        true
    }
}

#[cfg(test)]
mod faults;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(any(test, fuzzing))]
mod manual;
#[cfg(test)]
mod tests;
