//! The subscription index: time of one match among many subscriptions that do not match.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use fieldgate_core::{index::Index, topic::Topic};

use crate::report::{Budget, Report, median};

const MATCH_COUNT: u32 = 200_000;

/// Measures and reports.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    report.section("Matching one topic against the index (ten subscribers match)");
    let mut small = measure(1_000)?;
    let large = measure(1_000_000)?;
    small = small.min(measure(1_000)?);
    report.row("1 thousand other subscriptions", small, "ns", Budget::None);
    report.row("1 million other subscriptions", large, "ns", Budget::None);
    report.row("million / thousand", large / small, "×", Budget::AtMost(1.5));
    Ok(())
}

fn measure(other_count: u32) -> Result<f64> {
    let mut index = Index::default();
    for number in 0..other_count {
        index.insert(&format!("devices/sensor-{number}/telemetry").parse()?, number);
    }
    let topic: Topic = "devices/the-one/telemetry".parse()?;
    for (number, filter) in (other_count..).zip(
        ["devices/the-one/telemetry", "devices/+/telemetry", "devices/the-one/#", "#", "+/+/+"]
            .into_iter()
            .cycle()
            .take(10),
    ) {
        index.insert(&filter.parse()?, number);
    }
    let runs = (0..5).map(|_| {
        let started = Instant::now();
        let mut found = 0_u32;
        for _ in 0..MATCH_COUNT {
            index.matches(black_box(&topic), |_| found += 1);
        }
        assert!(found == MATCH_COUNT * 10, "the index lost a subscriber");
        started.elapsed().as_secs_f64() * 1e9 / f64::from(MATCH_COUNT)
    });
    Ok(median(runs.collect()))
}
