//! History: what it costs to find the records of one device in the log, against reading and
//! checksumming the same blocks alone.
//!
//! One record in ten is the device's, so every block holds some of them and none is passed over. The
//! log stands in the page cache for both. Processor time of the one thread that reads.

use std::{fs, hint::black_box, io::Read as _, path::Path};

use anyhow::{Result, ensure};
use fieldgate_core::{
    id::{Seq, TenantId},
    topic::Topic,
};
use fieldgate_store::{
    Followed, Log as _, ReadFilter,
    log::{LocalLog, LogOptions},
};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Plan,
    process::data_folder,
    report::{Budget, Report, median},
    sample,
};

const SHARE: usize = 10;
const CHUNK_BYTES: usize = 256 << 10;
const RUNS: usize = 5;

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let wanted_count = plan.record_count / SHARE;
    report.section(&format!(
        "History of one device: {wanted_count} of {} records, encoding apart",
        plan.record_count
    ));
    let folder = data_folder()?;
    let options = LogOptions { retention_bytes: u64::MAX, sync: false, ..LogOptions::default() };
    let (log, _) = LocalLog::open(folder.path(), options)?;
    fill(&log, plan.record_count)?;
    // The tail in memory would be no reading.
    log.close();
    drop(log);
    let options = LogOptions { free_bytes_min: 0, ..options };
    let (log, _) = LocalLog::open(folder.path(), options)?;
    let (mut alone, mut reader) = (Vec::new(), Vec::new());
    // The first round fills the cache and the skip indexes.
    for round in 0..=RUNS {
        let bare = timed(|| checksum(folder.path()))?;
        let found = timed(|| read(&log, wanted_count))?;
        if round > 0 {
            alone.push(bare);
            reader.push(found);
        }
    }
    let ratio = median(alone.iter().zip(&reader).map(|(alone, reader)| reader / alone).collect());
    report.row("reading and checksumming alone", median(alone) * 1e3, "ms", Budget::None);
    report.row("the reader", median(reader) * 1e3, "ms", Budget::None);
    report.row("reader / alone", ratio, "×", Budget::AtMost(3.0));
    Ok(())
}

/// Processor time of this thread.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = now();
    work()?;
    Ok(now() - before)
}

fn fill(log: &LocalLog, record_count: usize) -> Result<()> {
    let mine: Topic = "devices/the-one/telemetry".parse()?;
    let others = sample::topics()?;
    let mut others = others.iter().cycle();
    let topics = (0..record_count).map(|number| {
        let other = (number % SHARE != 0).then(|| others.next()).flatten();
        other.unwrap_or(&mine)
    });
    sample::fill(log, topics).map(drop)
}

/// Reads all segments, and checksums every byte.
fn checksum(folder: &Path) -> Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let mut file = fs::File::open(path)?;
        loop {
            let len = file.read(&mut bytes)?;
            if len == 0 {
                break;
            }
            black_box(crc32c::crc32c(bytes.get(..len).unwrap_or_default()));
        }
    }
    Ok(())
}

/// Reads what is the device's, as a history does.
fn read(log: &LocalLog, wanted_count: usize) -> Result<()> {
    let filter = ReadFilter {
        tenant: Some(TenantId::default_tenant()),
        filters: vec!["devices/the-one/#".parse()?],
        ..ReadFilter::default()
    };
    let (mut next, end, mut found) = (Seq(1), log.frontier().durable, 0);
    while next <= end {
        let chunk = log.read(next, &filter, CHUNK_BYTES)?;
        found += chunk.items.iter().filter(|item| matches!(item, Followed::Entry(_))).count();
        ensure!(chunk.next > next, "reading stands still at {next:?}");
        next = chunk.next;
        black_box(chunk);
    }
    ensure!(found == wanted_count, "{found} of {wanted_count} were found");
    Ok(())
}
