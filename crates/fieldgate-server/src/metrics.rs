//! Every metric: its name, its kind, and where its value is read at each scrape.
//!
//! The counters stand where they are counted; nothing is counted twice. Names are stable, with their
//! unit at the end, and the page `docs/operate/metrics.md` lists them all. Labels never hold what a
//! client chose.

use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fieldgate_core::close::CloseReason;
use fieldgate_store::{
    Frontier, Log,
    log::{Distribution, LogStatus},
};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{fabric::Shared, worker::Inbox};

/// What the text is, for the header of the answer.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "fieldgate";
/// µs in a second.
const MICRO: f64 = 1e-6;

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident $(($unit:ident))?, $help:literal;)*) => {
        /// A family of figures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Metric {
            $($name,)*
        }

        impl Metric {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// Without prefix, unit and the suffix of its kind.
            const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn kind(self) -> MetricType {
                match self { $(Self::$name => MetricType::$kind,)* }
            }

            fn unit(self) -> Option<Unit> {
                match self { $(Self::$name => metrics!(@unit $($unit)?),)* }
            }

            const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
    (@unit $unit:ident) => { Some(Unit::$unit) };
    (@unit) => { None };
}

metrics! {
    Build = "build", Info, "The version that runs.";
    Uptime = "uptime", Gauge(Seconds), "Time since the start.";
    Connections = "connections", Gauge, "Authenticated connections.";
    Unauthenticated = "connections_unauthenticated", Gauge,
        "Connections that are nobody's yet, or serve one HTTP request.";
    Closed = "closed", Counter, "Connections ended, by reason.";
    AuthFailures = "auth_failures", Counter, "Wrong credentials.";
    FramesReceived = "frames_received", Counter, "Frames of authenticated clients.";
    FramesRefused = "frames_refused", Counter, "Frames answered by an error.";
    FramesForged = "frames_forged", Counter,
        "Frames answered by bad_mac or replayed; they are among the refused.";
    MessagesAccepted = "messages_accepted", Counter, "Messages that came in and were routed.";
    MessagesDelivered = "messages_delivered", Counter, "Messages given to receivers.";
    Drops = "drops", Counter, "Messages not delivered, by reason; the ledger has the entries.";
    OutboxBytes = "outbox", Gauge(Bytes),
        "Bytes that wait for slow receivers, by worker; looked at twice a second.";
    LinksBehind = "links_behind", Gauge,
        "Connections that read from the log because they do not keep up, by worker.";
    InboxMessages = "inbox_messages", Gauge, "Routed messages that wait for a worker, by worker.";
    InboxOverflows = "inbox_overflows", Counter,
        "Times that a worker did not keep up and its connections went to the log, by worker.";
    LogSeq = "log_seq", Gauge, "The newest number given.";
    LogDurableSeq = "log_durable_seq", Gauge, "The newest durable number.";
    LogOldestSeq = "log_oldest_seq", Gauge, "The oldest number still held.";
    LogCommits = "log_commits", Counter, "Batches made durable.";
    LogCommitRecords = "log_commit_records", Histogram, "Records in a batch.";
    LogSync = "log_sync", Histogram(Seconds), "Time that the disk took for one sync.";
    LogWritten = "log_written", Counter(Bytes), "Bytes written in batches.";
    LogFailures = "log_failures", Counter, "Failed writes and syncs of the log.";
    LogRefusing = "log_refusing", Gauge,
        "1 while the log takes no messages: the disk fails or is almost full.";
    LogWaitingRecords = "log_waiting_records", Gauge, "Records that wait for the disk.";
    LogWaiting = "log_waiting", Gauge(Bytes), "Bytes that wait for the disk.";
    LogSegments = "log_segments", Gauge, "Segment files.";
    LogSize = "log_size", Gauge(Bytes), "Bytes of the segment files.";
    LogHeldBack = "log_retention_held_back", Gauge,
        "1 while retention waits until an export holds what it would remove.";
    LogDamagedRanges = "log_damaged_ranges", Gauge,
        "Ranges of numbers found unreadable since the start.";
    TablesAppliedSeq = "tables_applied_seq", Gauge, "Everything up to here is in the tables.";
    TablesExportedSeq = "tables_exported_seq", Gauge, "Everything up to here is in an export.";
    TablesFailing = "tables_failing", Gauge, "1 while the tables cannot be written.";
}

/// What all threads count; the rest is read where it stands.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) received: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) forged: AtomicU64,
    pub(crate) auth_failures: AtomicU64,
    closed: std::sync::Mutex<std::collections::HashMap<CloseReason, u64>>,
}

impl Stats {
    pub(crate) fn count_close(&self, reason: CloseReason) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        *closed.entry(reason).or_default() += 1;
    }

    fn closed(&self, reason: CloseReason) -> u64 {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get(&reason).copied().unwrap_or_default()
    }
}

/// All metrics as text.
///
/// # Errors
///
/// Never in fact: writing to a string does not fail.
pub(crate) fn text(shared: &Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Figures(Arc::clone(shared))));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Figures(Arc<Shared>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let scrape =
            Scrape { shared: &self.0, frontier: self.0.log.frontier(), log: self.0.log.status() };
        for metric in Metric::ALL {
            let unit = metric.unit();
            let (name, help) = (metric.name(), metric.help());
            let mut at = encoder.encode_descriptor(name, help, unit.as_ref(), metric.kind())?;
            scrape.write(*metric, &mut at)?;
        }
        Ok(())
    }
}

/// What was read once for one answer.
struct Scrape<'a> {
    shared: &'a Shared,
    frontier: Frontier,
    log: LogStatus,
}

fn counter(at: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> fmt::Result {
    at.encode_counter::<NoLabelSet, _, u64>(value, None)
}

fn count(at: &mut MetricEncoder<'_>, value: &AtomicU64) -> fmt::Result {
    counter(at, &value.load(Ordering::Relaxed))
}

fn gauge<V: EncodeGaugeValue + Copy>(at: &mut MetricEncoder<'_>, value: V) -> fmt::Result {
    at.encode_gauge(&value)
}

fn yes(at: &mut MetricEncoder<'_>, holds: bool) -> fmt::Result {
    gauge(at, u32::from(holds))
}

/// `scale`: what one of the counted units is of the unit told.
fn histogram(at: &mut MetricEncoder<'_>, of: &Distribution, scale: f64) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53, and a figure to look at")]
    let scaled = |value: u64| value as f64 * scale;
    let buckets: Vec<(f64, u64)> = of
        .buckets
        .iter()
        .map(|(bound, count)| (bound.map_or(f64::INFINITY, scaled), *count))
        .collect();
    at.encode_histogram::<NoLabelSet>(scaled(of.sum), of.count(), &buckets, None)
}

impl Scrape<'_> {
    fn write(&self, metric: Metric, at: &mut MetricEncoder<'_>) -> fmt::Result {
        let Self { shared, frontier, log } = self;
        let stats = &shared.stats;
        match metric {
            Metric::Build => at.encode_info(&[("version", env!("CARGO_PKG_VERSION"))]),
            Metric::Uptime => gauge(at, shared.started.elapsed().as_secs_f64()),
            Metric::Connections => gauge(at, shared.throttle.authenticated_count()),
            Metric::Unauthenticated => gauge(at, shared.throttle.unauthenticated_count()),
            Metric::Closed => CloseReason::ALL.iter().try_for_each(|reason| {
                let of = [("reason", reason.label())];
                counter(&mut at.encode_family(&of)?, &stats.closed(*reason))
            }),
            Metric::AuthFailures => count(at, &stats.auth_failures),
            Metric::FramesReceived => count(at, &stats.received),
            Metric::FramesRefused => count(at, &stats.refused),
            Metric::FramesForged => count(at, &stats.forged),
            Metric::MessagesAccepted => count(at, &stats.accepted),
            Metric::MessagesDelivered => count(at, &stats.delivered),
            Metric::Drops => shared.ledger.totals().iter().try_for_each(|(reason, total)| {
                counter(&mut at.encode_family(&[("reason", reason.as_str())])?, total)
            }),
            Metric::OutboxBytes => self.each(at, |at, inbox| gauge(at, inbox.told().outbox_bytes)),
            Metric::LinksBehind => self.each(at, |at, inbox| gauge(at, inbox.told().behind_count)),
            Metric::InboxMessages => self.each(at, |at, inbox| gauge(at, inbox.waiting_count())),
            Metric::InboxOverflows => {
                self.each(at, |at, inbox| counter(at, &inbox.overflow_count()))
            }
            Metric::LogSeq => gauge(at, frontier.ordered.0),
            Metric::LogDurableSeq => gauge(at, frontier.durable.0),
            Metric::LogOldestSeq => gauge(at, shared.log.oldest().0),
            Metric::LogCommits => counter(at, &log.commit_records.count()),
            Metric::LogCommitRecords => histogram(at, &log.commit_records, 1.0),
            Metric::LogSync => histogram(at, &log.sync_us, MICRO),
            Metric::LogWritten => counter(at, &log.written_bytes),
            Metric::LogFailures => counter(at, &log.failure_count),
            Metric::LogRefusing => yes(at, log.refuses.is_some()),
            Metric::LogWaitingRecords => gauge(at, log.waiting_records),
            Metric::LogWaiting => gauge(at, log.waiting_bytes),
            Metric::LogSegments => gauge(at, log.segment_count),
            Metric::LogSize => gauge(at, log.byte_len),
            Metric::LogHeldBack => yes(at, log.is_held_back),
            Metric::LogDamagedRanges => gauge(at, log.damaged.len()),
            Metric::TablesAppliedSeq => gauge(at, shared.tables.applied().0),
            Metric::TablesExportedSeq => gauge(at, shared.tables.exported().0),
            Metric::TablesFailing => yes(at, shared.tables.is_failing()),
        }
    }

    /// One figure for each worker.
    fn each(
        &self,
        at: &mut MetricEncoder<'_>,
        write: impl Fn(&mut MetricEncoder<'_>, &Inbox) -> fmt::Result,
    ) -> fmt::Result {
        self.shared.inboxes.iter().enumerate().try_for_each(|(worker, inbox)| {
            write(&mut at.encode_family(&[("worker", worker)])?, inbox)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gateway;

    /// The name of a family's samples, as a query has it.
    fn full_name(metric: Metric) -> String {
        let unit = metric.unit().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let suffix = match metric.kind() {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            MetricType::Gauge | MetricType::Histogram | MetricType::Unknown => "",
        };
        format!("{PREFIX}_{}{unit}{suffix}", metric.name())
    }

    #[test]
    fn the_page_lists_every_metric_as_it_is() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/metrics.md");
        let page = std::fs::read_to_string(page).unwrap();
        let listed: Vec<&str> =
            page.lines().filter(|line| line.matches(" | ").count() == 2).skip(1).collect();
        let rows: Vec<String> = Metric::ALL
            .iter()
            .map(|metric| {
                let (name, kind) = (full_name(*metric), metric.kind());
                format!("| `{name}` | {} | {} |", kind.as_str(), metric.help())
            })
            .collect();
        assert_eq!(listed, rows, "write these rows:\n{}", rows.join("\n"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_scrape_tells_every_metric_and_ends_as_the_format_says() {
        let gateway = Gateway::start(&[], 2).await;
        gateway.device("d").await;
        let text = text(gateway.shared()).unwrap();
        for metric in Metric::ALL {
            let name = full_name(*metric);
            assert!(text.lines().any(|line| line.starts_with(&name)), "{name} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let value = |sample: &str| -> f64 {
            let line = text.lines().find(|line| line.split(' ').next() == Some(sample));
            line.unwrap_or_else(|| panic!("{sample} in {text}"))
                .split(' ')
                .next_back()
                .unwrap()
                .parse()
                .unwrap()
        };
        let commits = value("fieldgate_log_commits_total");
        assert!(commits >= 1.0 && value("fieldgate_log_commit_records_count") == commits);
        assert!(value("fieldgate_log_sync_seconds_sum") > 0.0);
        assert!(value("fieldgate_log_sync_seconds_bucket{le=\"+Inf\"}") >= commits);
        assert_eq!(value("fieldgate_closed_total{reason=\"taken_over\"}"), 0.0);
        assert_eq!(value("fieldgate_drops_total{reason=\"conflated\"}"), 0.0);
        assert_eq!(value("fieldgate_inbox_messages{worker=\"1\"}"), 0.0);
        assert_eq!(value("fieldgate_log_seq"), value("fieldgate_log_durable_seq"));
        gateway.running.drain().await;
    }
}
