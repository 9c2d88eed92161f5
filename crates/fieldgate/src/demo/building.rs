//! The simulated building: devices, each with its own way to talk, and somebody who uses them.
//!
//! Values are smooth functions of time, so that a watcher sees them move and never jump.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use fieldgate_client::{Client, IoTData, Sample, SensorReading};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    actuators::{self, Commands},
    thingsee,
};
use crate::{cli::now_ms, failure::Failure};

/// Id, kind and name of each device.
pub(super) const DEVICES: [(&str, &str, &str); 8] = [
    ("climate-1", "sensor", "Hall, climate (JSON)"),
    ("climate-2", "sensor", "Roof, climate (JSON, acknowledged)"),
    ("meter-1", "sensor", "Cellar, power meter (Protobuf)"),
    ("air-1", "sensor", "Office, air (batches)"),
    ("door-1", "sensor", "Front door (events)"),
    ("lamp-1", "light", "Hall, lamp (obeys commands)"),
    ("thermostat-1", "thermostat", "Office, thermostat (obeys)"),
    ("cover-1", "cover", "Office, blind (obeys, slowly)"),
];

/// The devices, each a client of its own and a task. Dropping it stops them.
pub(super) struct Building {
    clients: Vec<Client>,
    tasks: JoinSet<()>,
    commands: Arc<Commands>,
}

impl Building {
    /// Connects every device, and lets them talk.
    pub(super) async fn open(
        url: &str,
        tokens: &[(&'static str, String)],
    ) -> Result<Self, Failure> {
        let mut building =
            Self { clients: Vec::new(), tasks: JoinSet::new(), commands: Arc::default() };
        for (id, token) in tokens {
            let client = Client::builder(url).device(*id).token(token).connect().await?;
            building.clients.push(client.clone());
            match *id {
                "climate-1" => building.tasks.spawn(climate(client, 0.0, false)),
                "climate-2" => building.tasks.spawn(climate(client, 2.0, true)),
                "meter-1" => building.tasks.spawn(meter(client)),
                "air-1" => building.tasks.spawn(air(client)),
                "door-1" => building.tasks.spawn(door(client)),
                "thermostat-1" => building.tasks.spawn(actuators::thermostat(client)),
                "cover-1" => building.tasks.spawn(actuators::cover(client)),
                _ => building.tasks.spawn(actuators::lamp(client)),
            };
        }
        Ok(building)
    }

    /// Puts somebody into the building who uses what is there.
    pub(super) fn control(&mut self, app: Client) {
        self.tasks.spawn(actuators::somebody(app, Arc::clone(&self.commands)));
    }

    /// Lets the Thingsee cloud bring its sensors, and the target take arrays; counts what it took.
    pub(super) fn thingsee(
        &mut self,
        address: &str,
        token: &str,
        target: TcpListener,
    ) -> Arc<AtomicU64> {
        let taken = Arc::new(AtomicU64::new(0));
        self.tasks.spawn(thingsee::target(target, Arc::clone(&taken)));
        self.tasks.spawn(thingsee::cloud(address.to_owned(), token.to_owned()));
        taken
    }

    /// Stops everything; what was sent is acknowledged before.
    pub(super) async fn close(mut self) -> Arc<Commands> {
        self.tasks.shutdown().await;
        for client in self.clients {
            client.close().await;
        }
        self.commands
    }
}

/// A wave around `middle`, one period in `period_s` seconds, with two decimals.
pub(super) fn wave(middle: f64, amplitude: f64, period_s: f64, phase: f64) -> f64 {
    // Exact for the next 280,000 years.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds stay far below 2^53")]
    let seconds = now_ms() as f64 / 1_000.0;
    let value = middle + amplitude * (seconds * std::f64::consts::TAU / period_s + phase).sin();
    (value * 100.0).round() / 100.0
}

// The devices below ignore a full buffer: the next reading replaces the one that found no room.

async fn climate(client: Client, phase: f64, acknowledged: bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000));
    loop {
        ticks.tick().await;
        let data = json!({
            "temperature": wave(21.0, 2.5, 40.0, phase),
            "humidity": wave(46.0, 6.0, 60.0, phase),
        });
        let status = client.status(&data).timestamp(now_ms());
        if acknowledged {
            let _ = status.qos1().send().await;
        } else {
            let _ = status.enqueue();
        }
    }
}

async fn meter(client: Client) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        #[expect(clippy::cast_possible_truncation, reason = "Protobuf readings are floats")]
        let reading = |sensor_id: &str, value: f64, unit: &str| SensorReading {
            sensor_id: sensor_id.to_owned(),
            value: value as f32,
            unit: unit.to_owned(),
        };
        let data = IoTData {
            timestamp: i64::try_from(now_ms()).unwrap_or(0),
            readings: vec![
                reading("power", wave(1_450.0, 600.0, 25.0, 0.0), "W"),
                reading("voltage", wave(230.0, 1.5, 15.0, 1.0), "V"),
            ],
            ..IoTData::default()
        };
        let _ = client.iot_data(data).enqueue();
    }
}

async fn air(client: Client) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let mut samples = Vec::new();
    let mut wanted = 1;
    loop {
        ticks.tick().await;
        samples.push(Sample {
            device_id: None,
            timestamp: Some(now_ms()),
            data: json!({"co2": wave(620.0, 180.0, 50.0, 0.0).round()}),
        });
        // The first one goes alone, so that a watcher need not wait for it.
        if samples.len() >= wanted {
            wanted = 4;
            let _ = client.batch(std::mem::take(&mut samples)).qos1().send().await;
        }
    }
}

async fn door(client: Client) {
    for count in 0_u64.. {
        let event = if count.is_multiple_of(2) { "opened" } else { "closed" };
        let _ = client.event(event, &json!({"count": count / 2 + 1})).qos1().send().await;
        let pause = if count.is_multiple_of(2) { 1_200 } else { 3_700 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
