//! A Socket.IO room: one publisher, many WebSocket clients of the namespace of thethings.iO, CPU time of
//! the server for each event; and what a client at rest costs.
//!
//! The rivals are the bare loop with the very frame that the gateway sent, and Node's `socket.io`, whose
//! clients are in one room. Told as fan-out is.

use anyhow::{Context as _, Result};
use fieldgate_core::message::Qos;
use fieldgate_dialects::{
    native::client::encode_publish,
    ws::{Opcode, frame_masked},
};

use crate::{
    Plan,
    fanout::{BURST, Server, Stage, of_neighbours, row, serve},
    idle,
    load::{self, Crowd, Link},
    node,
    process::{CLIENT_CORE, Gateway, data_folder, on_core},
    report::{Budget, Report},
};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
const TOPIC: &str = "/me/resources/t";
/// What every event of the room begins with.
const EVENT: &str = r#"42/v2,["/me/resources/t""#;

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    on_core(CLIENT_CORE, || compare(plan, report))?;
    report.section(&format!("Idle memory of Socket.IO clients, {}", plan.connection_count));
    let open = |gateway: &Gateway, key: &str, _| client(gateway.address, Some(key));
    let figures = idle::measure(plan, false, ROOM_GRANTS, &open)?;
    report.row("each, in a room, plain WebSocket", figures.each_kib, "KiB", Budget::AtMost(4.5));
    report.row("the same, the first half counted too", figures.all_kib, "KiB", Budget::None);
    Ok(())
}

const ROOM_GRANTS: &[&str] =
    &["publish:devices/#", "impersonate:devices/#", "subscribe:devices/#", "read:devices/#"];

fn compare(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut ours = gateway(plan)?;
    let frame = ours.sample()?;
    let mut bare = Stage::bare(plan, &frame, false)?;
    let [mut single, mut burst, mut single_bare, mut burst_bare] = [const { Vec::new() }; 4];
    for _ in 0..plan.repetition_count {
        single_bare.push(bare.measure(plan, 1)?);
        single.push(ours.measure(plan, 1)?);
        burst_bare.push(bare.measure(plan, BURST)?);
        burst.push(ours.measure(plan, BURST)?);
    }
    drop((ours, bare));
    let (count, frame_len) = (plan.subscriber_count, frame.len());
    report.section(&format!(
        "Socket.IO room, 1 → {count}, events of {frame_len} bytes, CPU per delivery"
    ));
    row(report, "bare loop, one at a time", &single_bare);
    let ours_single = row(report, "gateway, one at a time", &single);
    let ratio = of_neighbours(&single, &single_bare);
    report.row("gateway / bare loop", ratio, "×", Budget::AtMost(1.20));
    row(report, "bare loop, bursts of 16, each written alone", &burst_bare);
    let ours_burst = row(report, "gateway, bursts of 16", &burst);
    let ratio = of_neighbours(&burst, &burst_bare);
    report.row("gateway / bare loop, each alone", ratio, "×", Budget::AtMost(0.13));
    match rival(plan) {
        Ok(mut stage) => {
            let single = row(report, "Node socket.io, one at a time", &[stage.measure(plan, 1)?]);
            report.row("gateway / Node socket.io", ours_single / single, "×", Budget::None);
            let burst = row(report, "Node socket.io, bursts of 16", &[stage.measure(plan, BURST)?]);
            report.row("gateway / Node socket.io", ours_burst / burst, "×", Budget::None);
        }
        Err(error) => report.note(&format!("Node socket.io: not measured: {error:#}")),
    }
    Ok(())
}

/// A client in the room, as the npm client does it; without a key, at the rival.
fn client(address: std::net::SocketAddr, key: Option<&str>) -> Result<Link> {
    let mut link = Link::open(address, false, PATH, "")?;
    link.wait_text("0{")?;
    link.send_text("40/v2,")?;
    link.wait_text("40/v2,{")?;
    if let Some(key) = key {
        link.send_text(&format!(r#"42/v2,["authenticate",{{"sessionToken":"{key}"}}]"#))?;
        link.wait_text("success")?;
    }
    link.send_text(&format!(r#"42/v2,["subscribe",{{"resource":"{TOPIC}"}}]"#))?;
    link.wait_text("success")?;
    Ok(link)
}

fn crowd(plan: &Plan, open: impl Fn() -> Result<Link>) -> Result<Crowd> {
    Crowd::new((0..plan.subscriber_count).map(|_| open()).collect::<Result<_>>()?)
}

fn gateway(plan: &Plan) -> Result<Stage> {
    let folder = data_folder()?;
    let data = folder.path().join("data");
    let gateway = serve(|| Gateway::start(&plan.binary, &data, false))?;
    let key = gateway.key("bench", ROOM_GRANTS)?;
    let crowd = crowd(plan, || client(gateway.address, Some(&key)))?;
    let publisher = load::native(gateway.address, false, None, &key)?;
    // So long that the event has 200 bytes, about.
    let payload = format!(r#"{{"t":"{}"}}"#, "x".repeat(104));
    let text = encode_publish("devices/bench/telemetry", &payload, Qos::AtMostOnce, false, None);
    let unit = frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
    Ok(Stage::of_room(Server::Gateway(gateway, folder), crowd, publisher, unit, EVENT))
}

fn rival(plan: &Plan) -> Result<Stage> {
    let folder = data_folder()?;
    let (process, address) = serve(|| node::start_room(&folder))?;
    let crowd = crowd(plan, || client(address, None)).context("its clients")?;
    let mut publisher = Link::open(address, false, PATH, "")?;
    publisher.send_text("40/v2,")?;
    publisher.wait_text("40/v2,{")?;
    let (value, time) = ("x".repeat(104), "2026-01-01T00:00:00.000Z");
    let items = format!(r#"[{{"key":"t","value":"{value}","datetime":"{time}"}}]"#);
    let event = format!(r#"42/v2,["publish","{TOPIC}",{items}]"#);
    let unit = frame_masked(Opcode::Text, event.as_bytes(), [1, 2, 3, 4]);
    Ok(Stage::of_room(Server::Node(process, folder), crowd, publisher, unit, EVENT))
}
