//! Idle connections: resident memory of the gateway for each, authenticated, with one subscription.
//!
//! The first half of the connections may live in memory that the gateway got for its start and gave
//! back to its allocator; only the second half is counted.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use crate::{
    Plan, load,
    process::{Gateway, data_folder},
    report::{Budget, Report},
};

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    report.section(&format!("Idle memory, {} connections", plan.connection_count));
    for (what, tls, max_kib) in [("plain", false, 4.0), ("TLS", true, 14.0)] {
        match measure(plan, tls) {
            Ok((rest_mib, kib)) => {
                report.row(&format!("gateway at rest, {what}"), rest_mib, "MiB", Budget::None);
                let what = format!("each connection, {what}");
                report.row(&what, kib, "KiB", Budget::AtMost(max_kib));
            }
            Err(error) => report.note(&format!("{what}: not measured: {error:#}")),
        }
    }
    Ok(())
}

fn measure(plan: &Plan, tls: bool) -> Result<(f64, f64)> {
    let folder = data_folder()?;
    let gateway = Gateway::start(&plan.binary, &folder.path().join("data"), tls)?;
    let key = gateway.key("bench", &["subscribe:bench/#"])?;
    let at_rest = settled(&gateway)?;
    let mut before = at_rest;
    let mut links = Vec::with_capacity(plan.connection_count);
    for number in 0..plan.connection_count {
        if number == plan.connection_count / 2 {
            before = settled(&gateway)?;
        }
        let mut link = load::native(gateway.address, tls, None, &key)?;
        load::subscribe(&mut link, &format!("bench/idle/{number}"), 0)?;
        links.push(link);
    }
    let after = settled(&gateway)?;
    let counted = (links.len() - links.len() / 2) as f64;
    Ok((at_rest / 1024.0 / 1024.0, (after - before) / 1024.0 / counted))
}

/// Resident memory once it stands still for two seconds, or after half a minute.
fn settled(gateway: &Gateway) -> Result<f64> {
    let mut last = gateway.process.resident_bytes()?;
    let mut quiet_count = 0;
    for _ in 0..60 {
        sleep(Duration::from_millis(500));
        let now = gateway.process.resident_bytes()?;
        quiet_count = if (now - last).abs() < 100_000.0 { quiet_count + 1 } else { 0 };
        last = now;
        if quiet_count == 4 {
            break;
        }
    }
    Ok(last)
}
