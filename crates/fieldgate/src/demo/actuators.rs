//! What can be told to do something: a lamp, a thermostat and a cover, each with the profile of its
//! kind, and somebody who tells them.
//!
//! The gateway has checked a command against the profile before one of these hears of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fieldgate_client::{Client, Command};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How far a cover moves in one step, and how often it takes one.
const STEP: f64 = 0.05;
const STEP_EVERY: Duration = Duration::from_millis(150);

/// What somebody tells them, in turn.
fn wishes() -> [(&'static str, Value); 6] {
    [
        ("lamp-1", json!({"on": true, "brightness": 0.8})),
        ("thermostat-1", json!({"target_temperature": 22.5})),
        ("cover-1", json!({"position": 0.3})),
        ("lamp-1", json!({"on": false})),
        ("thermostat-1", json!({"target_temperature": 19})),
        ("cover-1", json!({"position": 1})),
    ]
}

/// How the commands went.
#[derive(Debug, Default)]
pub(super) struct Commands {
    pub(super) sent: AtomicU64,
    pub(super) completed: AtomicU64,
    /// The last round trip, in microseconds.
    pub(super) last_us: AtomicU64,
}

/// Tells them in turn what to do, and waits how it ends.
pub(super) async fn somebody(app: Client, commands: Arc<Commands>) {
    for (device, set) in wishes().into_iter().cycle() {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let asked = Instant::now();
        commands.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = app.command(device, json!({"set": set})).wait(Duration::from_secs(10)).await;
        if outcome.is_ok_and(|outcome| outcome.state == "completed") {
            commands.completed.fetch_add(1, Ordering::Relaxed);
            let us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            commands.last_us.store(us, Ordering::Relaxed);
        }
    }
}

/// What a command sets a resource to.
fn wanted(command: &Command, resource: &str) -> Option<Value> {
    command.json::<Value>().ok()?.get("set")?.get(resource).cloned()
}

// Those below ignore a full buffer: the next reading replaces the one that found no room.

pub(super) async fn lamp(client: Client) {
    let mut commands = client.commands();
    let (mut on, mut brightness) = (false, json!(1));
    let mut ticks = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            _ = ticks.tick() => (),
            command = commands.next() => {
                let Some(command) = command else { return };
                let (switched, dimmed) = (wanted(&command, "on"), wanted(&command, "brightness"));
                let known = switched.is_some() || dimmed.is_some();
                on = switched.and_then(|value| value.as_bool()).unwrap_or(on);
                brightness = dimmed.unwrap_or(brightness);
                let _ = if known {
                    command.done(json!({"on": on, "brightness": brightness}))
                } else {
                    command.failed("a lamp knows {\"set\": {\"on\": …, \"brightness\": …}}")
                };
            }
        }
        let _ = client.status(&json!({"on": on, "brightness": brightness})).enqueue();
    }
}

/// A room that follows its thermostat slowly.
pub(super) async fn thermostat(client: Client) {
    let mut commands = client.commands();
    let (mut target, mut room) = (21.0, 20.0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => room += (target - room) * 0.1,
            command = commands.next() => {
                let Some(command) = command else { return };
                let _ = match wanted(&command, "target_temperature").and_then(|v| v.as_f64()) {
                    Some(wanted) => {
                        target = wanted;
                        command.done(json!({"target_temperature": target}))
                    }
                    None => command.failed("it knows {\"set\": {\"target_temperature\": …}}"),
                };
            }
        }
        let room = (room * 100.0_f64).round() / 100.0;
        let data = json!({"temperature": room, "target_temperature": target});
        let _ = client.status(&data).enqueue();
    }
}

/// A blind that takes its time: the command ends when it has arrived.
pub(super) async fn cover(client: Client) {
    let mut commands = client.commands();
    let (mut position, mut target): (f64, f64) = (1.0, 1.0);
    let mut moving: Option<Command> = None;
    let mut ticks = tokio::time::interval(STEP_EVERY);
    let _ = client.status(&json!({"position": position})).enqueue();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let Some(command) = moving.take() else { continue };
                position = (position + (target - position).clamp(-STEP, STEP)) * 1_000.0;
                position = position.round() / 1_000.0;
                let _ = client.status(&json!({"position": position})).enqueue();
                if (position - target).abs() < STEP / 10.0 {
                    let _ = command.done(json!({"position": position}));
                } else {
                    moving = Some(command);
                }
            }
            command = commands.next() => {
                let Some(command) = command else { return };
                match wanted(&command, "position").and_then(|value| value.as_f64()) {
                    Some(wanted) => {
                        target = wanted;
                        if let Some(before) = moving.replace(command) {
                            let _ = before.failed("another command came");
                        }
                    }
                    None => drop(command.failed("it knows {\"set\": {\"position\": …}}")),
                }
            }
        }
    }
}
