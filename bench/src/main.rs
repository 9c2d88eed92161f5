//! `fieldgate-bench`: the budgets of `architecture.md`, measured against the real binary.
//!
//! Real sockets, real disk, one machine, one run; ratios, so that the machine's mood cancels out.
//! Prints Markdown. See `docs/performance.md`.

mod api;
mod bare;
mod deconz;
mod deliver;
mod fanout;
mod history;
mod idle;
mod index;
mod ingest;
mod load;
mod node;
mod process;
mod report;
mod room;
mod sample;
mod start;
mod thingsee;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit};

use crate::report::Report;

/// The gateway's own: what is measured in this process, such as reading the log, has it there, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: fieldgate-bench \
                     all|api|deconz|deliver|fanout|history|idle|ingest|index|room|start|thingsee… [--quick] \
                     [--binary PATH] [--subscribers N] [--connections N] [--records N] [--out FILE]";

/// What to do, and how long.
#[derive(Debug)]
struct Plan {
    binary: PathBuf,
    out: Option<PathBuf>,
    parts: Vec<String>,
    /// Length of one measurement.
    seconds: f64,
    repetition_count: usize,
    subscriber_count: usize,
    connection_count: usize,
    record_count: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("bare-fanout", rest)) = args.split_first().map(|(head, rest)| (&**head, rest)) {
        return bare::run_fanout(rest);
    }
    if let Some(("bare-axum", rest)) = args.split_first().map(|(head, rest)| (&**head, rest)) {
        return api::run_bare(rest);
    }
    let plan = Plan::read(&args)?;
    // Without the right to raise it the limit stays.
    let files = Rlimit { current: Some(100_000), maximum: Some(100_000) };
    let _kept_on_error = rustix::process::setrlimit(Resource::Nofile, files);
    let started = Instant::now();
    let mut report = Report::default();
    report.note(&machine());
    for (part, measure) in [
        ("index", (|_, report| index::run(report)) as fn(&Plan, &mut Report) -> Result<()>),
        ("fanout", fanout::run),
        ("idle", idle::run),
        ("room", room::run),
        ("ingest", ingest::run),
        ("start", start::run),
        ("history", history::run),
        ("api", api::run),
        ("thingsee", thingsee::run),
        ("deliver", deliver::run),
        ("deconz", deconz::run),
    ] {
        let wanted = |name: &str| plan.parts.iter().any(|wanted| wanted == name);
        if !wanted(part) && !wanted("all") {
            continue;
        }
        if let Err(error) = measure(&plan, &mut report) {
            report.note(&format!("**{part} failed: {error:#}**"));
        }
    }
    report.note(&format!(
        "Whole run: {:.0} s; load then: {}.",
        started.elapsed().as_secs_f64(),
        load()
    ));
    let text = report.finish();
    if let Some(out) = &plan.out {
        fs::write(out, text)?;
    }
    Ok(())
}

impl Plan {
    fn read(args: &[String]) -> Result<Self> {
        let mut plan = Self {
            binary: PathBuf::from("target/dist/fieldgate"),
            out: None,
            parts: Vec::new(),
            seconds: 4.0,
            repetition_count: 7,
            subscriber_count: 1_000,
            connection_count: 10_000,
            record_count: 10_000_000,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().context(USAGE);
            match arg.as_str() {
                "all" | "api" | "deconz" | "deliver" | "fanout" | "history" | "idle" | "ingest"
                | "index" | "room" | "start" | "thingsee" => {
                    plan.parts.push(arg.clone());
                }
                "--quick" => {
                    (plan.seconds, plan.repetition_count, plan.record_count) = (1.5, 1, 1_000_000);
                    plan.connection_count = 4_000;
                }
                "--binary" => plan.binary = value()?.into(),
                "--out" => plan.out = Some(value()?.into()),
                "--subscribers" => plan.subscriber_count = value()?.parse()?,
                "--connections" => plan.connection_count = value()?.parse()?,
                "--records" => plan.record_count = value()?.parse()?,
                _ => bail!(USAGE),
            }
        }
        if plan.parts.is_empty() {
            bail!(USAGE);
        }
        if !plan.binary.exists() {
            bail!(
                "{} is not there: cargo build --profile dist -p fieldgate",
                plan.binary.display()
            );
        }
        Ok(plan)
    }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = cpu.lines().filter(|line| line.starts_with("model name")).collect();
    let name = names.first().and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} × {name}; Linux {}; load {}.", names.len(), kernel.trim(), load())
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
