//! What a log is filled with: telemetry of a thousand sensors, in groups.

use std::time::Instant;

use anyhow::{Result, ensure};
use fieldgate_core::{
    id::{TenantId, UnixMs},
    message::Message,
    topic::Topic,
};
use fieldgate_store::{AppendError, Log, Record};

const GROUP_LEN: usize = 200;

/// The topics of a thousand sensors.
///
/// # Errors
///
/// None of them is a topic.
pub(crate) fn topics() -> Result<Vec<Topic>> {
    let topic = |number| format!("devices/sensor-{number}/telemetry").parse();
    Ok((0..1_000).map(topic).collect::<Result<_, _>>()?)
}

/// Appends a message on each of these topics; the last one's number.
///
/// # Errors
///
/// What the log says, if it is not that it is full.
pub(crate) fn fill<'a>(log: &dyn Log, topics: impl Iterator<Item = &'a Topic>) -> Result<u64> {
    let started = Instant::now();
    let mut records = topics.enumerate().map(|(number, topic)| message(topic, number));
    let mut last = 0;
    loop {
        let group: Vec<Record> = records.by_ref().take(GROUP_LEN).collect();
        if group.is_empty() {
            return Ok(last);
        }
        let arrived = UnixMs(u64::try_from(started.elapsed().as_millis())? + 1);
        last = loop {
            match log.append(group.clone(), arrived) {
                Ok(range) => break *range.end(),
                Err(error) => ensure!(error == AppendError::Full, "{error}"),
            }
            std::thread::yield_now();
        };
    }
}

fn message(topic: &Topic, number: usize) -> Record {
    let payload = format!(r#"{{"temperature":{}.5,"humidity":40}}"#, number % 40);
    let (tenant, time) = (TenantId::default_tenant(), UnixMs(number as u64));
    let message = Message::json(tenant, topic.clone(), "sensor".into(), time, payload);
    Record::Message(Message { is_time_given: true, ..message })
}
