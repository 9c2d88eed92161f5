//! Idle connections: resident memory of the gateway for each, authenticated, with one subscription.
//!
//! The first half of the connections may live in memory that the gateway got for its start and gave
//! back to its allocator; only the second half is counted.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use crate::{
    Plan,
    load::{self, Link},
    process::{Gateway, data_folder},
    report::{Budget, Report},
};

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    report.section(&format!("Idle memory, {} connections", plan.connection_count));
    for (what, tls, max_kib) in [("plain", false, 4.0), ("TLS", true, 14.0)] {
        let open = |gateway: &Gateway, key: &str, number| {
            let mut link = load::native(gateway.address, tls, None, key)?;
            load::subscribe(&mut link, &format!("bench/idle/{number}"), 0)?;
            Ok(link)
        };
        match measure(plan, tls, &["subscribe:bench/#"], &open) {
            Ok(figures) => {
                let Figures { rest_mib, each_kib, all_kib, count } = figures;
                report.row(&format!("gateway at rest, {what}"), rest_mib, "MiB", Budget::None);
                let name = format!("each of {count} connections, {what}");
                report.row(&name, each_kib, "KiB", Budget::AtMost(max_kib));
                report.row("the same, the first half counted too", all_kib, "KiB", Budget::None);
            }
            Err(error) => report.note(&format!("{what}: not measured: {error:#}")),
        }
    }
    Ok(())
}

pub(crate) struct Figures {
    rest_mib: f64,
    pub(crate) each_kib: f64,
    pub(crate) all_kib: f64,
    count: usize,
}

/// Opens connections with a key that has these grants, and looks at what the second half of them costs.
pub(crate) fn measure(
    plan: &Plan,
    tls: bool,
    grants: &[&str],
    open: &dyn Fn(&Gateway, &str, usize) -> Result<Link>,
) -> Result<Figures> {
    let folder = data_folder()?;
    let gateway = Gateway::start(&plan.binary, &folder.path().join("data"), tls)?;
    let key = gateway.key("bench", grants)?;
    let at_rest = settled(&gateway)?;
    let open = |number| open(&gateway, &key, number);
    let connection_count = plan.connection_count.min(open_files_max()?);
    let half = connection_count / 2;
    let mut links = (0..half).map(open).collect::<Result<Vec<_>>>()?;
    let before = settled(&gateway)?;
    for number in half..connection_count {
        links.push(open(number)?);
    }
    let after = settled(&gateway)?;
    let each_kib = (after - before) / 1024.0 / (links.len() - half) as f64;
    let all_kib = (after - at_rest) / 1024.0 / links.len() as f64;
    Ok(Figures { rest_mib: at_rest / 1024.0 / 1024.0, each_kib, all_kib, count: links.len() })
}

/// How many connections the limit of open files leaves room for.
fn open_files_max() -> Result<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Ok(usize::try_from(limit.unwrap_or(u64::MAX))?.saturating_sub(1_000))
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
