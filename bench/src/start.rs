//! Start: from `exec` to the ready file, on an empty folder and after `kill -9` with many records.

use std::time::Instant;

use anyhow::{Context as _, Result};
use fieldgate_dialects::ws::Event;

use crate::{
    Plan, load,
    process::{Gateway, data_folder},
    report::{Budget, Report, median},
};

const BATCH_LEN: usize = 1_000;
const WINDOW: usize = 8;

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    report.section("Start to ready");
    let mut empty = Vec::new();
    for _ in 0..5 {
        let folder = data_folder()?;
        let gateway = Gateway::start(&plan.binary, &folder.path().join("data"), false)?;
        empty.push(gateway.ready.as_secs_f64() * 1e3);
    }
    report.row("empty folder", median(empty), "ms", Budget::AtMost(500.0));

    let folder = data_folder()?;
    let data = folder.path().join("data");
    let mut gateway = Gateway::start(&plan.binary, &data, false)?;
    let rate = fill(&gateway, plan.record_count)?;
    gateway.process.kill();
    let gateway = Gateway::start(&plan.binary, &data, false)?;
    let what = format!("after kill -9 with {} records", plan.record_count);
    report.row(&what, gateway.ready.as_secs_f64() * 1e3, "ms", Budget::AtMost(2_000.0));
    let resident = gateway.process.resident_bytes()? / 1024.0 / 1024.0;
    report.row("resident memory then", resident, "MiB", Budget::None);
    report.row("filled in batches of 1,000 at", rate, "records/s", Budget::None);
    Ok(())
}

/// Stores `record_count` small readings of one device and returns the rate.
fn fill(gateway: &Gateway, record_count: usize) -> Result<f64> {
    let token = gateway.device("filler")?;
    let mut link = load::native(gateway.address, false, Some("filler"), &token)?;
    let element = r#"{"data":{"t":21.5}}"#;
    let elements = vec![element; BATCH_LEN].join(",");
    let mut scratch = vec![0; 64 * 1024];
    let batch_count = record_count.div_ceil(BATCH_LEN);
    let (mut sent, mut acknowledged) = (0, 0);
    let started = Instant::now();
    while acknowledged < batch_count {
        while sent < batch_count && sent < acknowledged + WINDOW {
            sent += 1;
            let batch = format!(r#"{{"type":"batch","msgid":"b{sent}","data":[{elements}]}}"#);
            link.send_text(&batch)?;
        }
        let mut refused = None;
        let open = link.read_events(&mut scratch, &mut |event| {
            if let Event::Text(text) = event {
                acknowledged += usize::from(text.contains(r#""type":"ack""#));
                refused = text.contains(r#""type":"error""#).then(|| text.to_owned());
            }
        })?;
        if let Some(refused) = refused {
            anyhow::bail!("{refused}");
        }
        open.then_some(()).context("closed while filling")?;
    }
    Ok((batch_count * BATCH_LEN) as f64 / started.elapsed().as_secs_f64())
}
