//! The port to the log: what the server may ask of any engine.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, TenantId, UnixMs},
    topic::Filter,
};

use crate::record::{Entry, Record};

/// How far the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// The newest number given.
    pub ordered: Seq,
    /// Everything up to here is on stable storage, or was refused (see [`Log::is_refused`]).
    pub durable: Seq,
}

/// Why records were not taken. Nothing of the group is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The intake is full: wait until the durable frontier moves, then try again.
    #[error("the log's intake is full")]
    Full,
    /// The group alone is over the bound of one batch.
    #[error("a group of {bytes} bytes exceeds the batch limit of {max}")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The disk is full, failing, or below its reserve.
    #[error("the log cannot store: {0}")]
    Unavailable(&'static str),
}

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The disk failed.
    #[error("the log could not be read")]
    Io(#[source] std::io::Error),
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// What a replay wants to see.
#[derive(Debug, Clone, Default)]
pub struct ReadFilter {
    /// Only messages of this tenant; absent: every record.
    pub tenant: Option<TenantId>,
    /// Only messages whose topic one of these selects; empty: all.
    pub filters: Vec<Filter>,
    /// Only entries that arrived at this time or later.
    pub arrived_from: Option<UnixMs>,
    /// Only entries that arrived at this time or before.
    pub arrived_until: Option<UnixMs>,
}

/// A stretch of the log.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// What was found, in seq order, gaps in their place.
    pub items: Vec<Followed>,
    /// Everything below this number has been looked at: continue here.
    pub next: Seq,
}

/// One step of a reader or follower.
#[derive(Debug, Clone)]
pub enum Followed {
    /// A record.
    Entry(Arc<Entry>),
    /// Numbers that will not come.
    Gap(RangeInclusive<u64>, GapReason),
}

/// The one follower of a log that routes. Blocking; belongs to one thread.
pub trait Follow: Send + fmt::Debug {
    /// Appends what may be routed now to `out`, in seq order: records that wait for their sync once
    /// durable, the others as soon as all before them went out. At most `max` items; waits at most
    /// `timeout` for the first. Refused numbers come as a `crash` gap. Returns false once the log
    /// is closed and everything was given out.
    fn next(&mut self, out: &mut Vec<Followed>, max: usize, timeout: Duration) -> bool;
}

/// A totally ordered, durable log. Every method but `read` and `close` returns at once.
pub trait Log: Send + Sync + fmt::Debug + 'static {
    /// The life of this log.
    fn epoch(&self) -> Epoch;

    /// Gives each record its number and its place in the intake, as one step and as one group that
    /// no crash splits. The numbers are contiguous. A group of which nothing waits for its sync is
    /// shown to the follower with the next [`Log::announce`], or when the durable frontier moves.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; then no number was given.
    fn append(
        &self,
        group: Vec<Record>,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError>;

    /// As [`Log::append`], for one record.
    ///
    /// # Errors
    ///
    /// As there.
    fn append_one(
        &self,
        record: Record,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        self.append(vec![record], arrived)
    }

    /// Shows the follower what was appended. Called once behind a run of appends, so that the run
    /// is routed together.
    fn announce(&self);

    /// How far the log has come.
    fn frontier(&self) -> Frontier;

    /// Tells whether a number at or below the durable frontier was given, then refused because its
    /// sync failed.
    fn is_refused(&self, seq: Seq) -> bool;

    /// Sets what is called, from the writer's thread, whenever the durable frontier moved. Short.
    fn on_durable(&self, wake: Arc<dyn Fn(Frontier) + Send + Sync>);

    /// The one follower, from `from` (exclusive) on. A second call is a defect.
    fn follow(&self, from: Seq) -> Box<dyn Follow>;

    /// Reads from `from` (inclusive) up to what is ordered, at most about `bytes_max` bytes of
    /// records and one scan of bounded length. Blocking: never call it on a worker.
    ///
    /// # Errors
    ///
    /// [`ReadError`]. Damage is no error: it is a gap in the chunk.
    fn read(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Result<Chunk, ReadError>;

    /// As [`Log::read`], of what is in memory alone: nothing where `from` is older than that. Returns
    /// at once.
    fn read_recent(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Option<Chunk>;

    /// The oldest number still held, or the next one to be given if the log is empty.
    fn oldest(&self) -> Seq;

    /// The first number that arrived at `time` or later, or the next to be given. Blocking.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn seek_time(&self, time: UnixMs) -> Result<Seq, ReadError>;

    /// Takes nothing more, writes and syncs the rest with an end mark, and returns when done.
    fn close(&self);
}

impl ReadFilter {
    pub(crate) fn is_in_time(&self, arrived: UnixMs) -> bool {
        self.arrived_from.is_none_or(|from| from <= arrived)
            && self.arrived_until.is_none_or(|until| arrived <= until)
    }

    /// Tells whether a reader with this filter sees `entry`.
    #[must_use]
    pub fn selects(&self, entry: &Entry) -> bool {
        if !self.is_in_time(entry.arrived) {
            return false;
        }
        let Record::Message(message) = &entry.record else {
            return self.tenant.is_none() && self.filters.is_empty();
        };
        self.tenant.as_ref().is_none_or(|tenant| *tenant == message.tenant)
            && (self.filters.is_empty() || self.filters.iter().any(|f| f.matches(&message.topic)))
    }
}
