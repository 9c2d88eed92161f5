//! `kill -9` in the middle of deliveries over a WebSocket, to a server of the vendor's and to one of
//! ours.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{SEED_SERVER, add, again};
use crate::{
    support::{Gateway, NodeScript, Proxy, Seen, node_modules, wait_for},
    thingsee_in,
};

const ROUNDS: u64 = 20;
const ROUND_LEN: u64 = 45;
const RATES: [&str; 2] = ["limits.messages_per_second=1000000", "limits.message_burst=1000000"];

/// Sends numbers in rounds, each of which a kill ends; those that were acknowledged. `middle` is done
/// before a kill, so that not all of them come before the first delivery of their round.
fn send_and_kill(gateway: &mut Gateway, token: &str, mut middle: impl FnMut(u64)) -> BTreeSet<u64> {
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut device = gateway.as_device("d", token);
        let first = round * ROUND_LEN;
        for n in first..first + ROUND_LEN {
            let data = json!({"temperature": n});
            device.send(&json!({"type": "status", "msgid": n.to_string(), "data": data}));
        }
        let number =
            |ack: &Value| ack["msgid"].as_str().unwrap_or_default().parse::<u64>().unwrap();
        for _ in 0..=(round * 7) % 40 {
            acknowledged.insert(number(&device.next_of("ack")));
        }
        middle(round);
        gateway.kill();
        while let Seen::Frame(ack) = device.see() {
            acknowledged.insert(number(&ack));
        }
        gateway.up();
    }
    acknowledged
}

/// How often what came goes back to what came before; everything else follows in its order.
fn seams(came: &[u64]) -> u64 {
    let all: BTreeSet<u64> = came.iter().copied().collect();
    let mut count = 0;
    for pair in came.windows(2) {
        let (before, number) = (pair[0], pair[1]);
        let follows = all.range(before + 1..).next() == Some(&number);
        assert!(follows || number <= before, "{number} after {before}: one was left out");
        count += u64::from(!follows);
    }
    count
}

#[test]
fn what_repeats_and_what_is_left_out_is_told_apart() {
    assert_eq!(seams(&[1, 2, 5, 6]), 0);
    assert_eq!(seams(&[1, 2, 5, 2, 5, 6, 6]), 2);
    assert!(std::panic::catch_unwind(|| seams(&[1, 5, 2, 5])).is_err());
}

#[test]
fn the_vendors_server_gets_everything_through_every_kill_in_order() {
    let Some(modules) = node_modules() else { return };
    let script = NodeScript::new(&modules, SEED_SERVER, &[]);
    let server = script.start();
    let port = server.line().split_off("port ".len());
    let mut gateway = Gateway::with(&RATES);
    add(&gateway, &["--kind", "websocket", "--url", &format!("ws://127.0.0.1:{port}/socket")]);
    let token = gateway.device("d");
    let mut came: Vec<u64> = Vec::new();
    let number = |line: String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let acknowledged = send_and_kill(&mut gateway, &token, |round| {
        if round % 2 == 0 {
            came.push(number(server.line_of("received ")));
        }
    });
    let last = *acknowledged.last().unwrap();
    while came.last().is_none_or(|newest| *newest < last) {
        came.push(number(server.line_of("received ")));
    }
    let all: BTreeSet<u64> = came.iter().copied().collect();
    let lost: Vec<_> = acknowledged.difference(&all).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let seams = seams(&came);
    assert!(seams <= ROUNDS, "{seams} repeats in {ROUNDS} kills");
    eprintln!("{} messages, {} with repeats, {seams} seams", all.len(), came.len());
}

#[test]
fn a_gateway_that_is_killed_while_another_delivers_to_it_has_everything_once_and_in_order() {
    let mut ours = thingsee_in::gateway(&RATES);
    let key = ours.key("operator");
    let gateway = Gateway::with(&RATES);
    let place = Proxy::to(&ours.address);
    let url = format!("ws://{}/ingest/thingsee/cloud#{}", place.address, thingsee_in::TOKEN);
    add(&gateway, &["--kind", "websocket", "--url", &url, "--token-in", "hash:query:token"]);
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let told = |ours: &Gateway| -> Vec<u64> {
        if ours.get("/v1/devices/d", Some(&key)).0 != 200 {
            return Vec::new();
        }
        let all = thingsee_in::history(ours, "d", &key);
        all.iter().map(|item| item["payload"]["temp"].as_u64().unwrap()).collect()
    };
    let delivered = || {
        let shown = gateway.admin(&["integration", "show", "out"]);
        shown["progress"]["delivered"].as_u64().unwrap()
    };
    for round in 0..ROUNDS {
        let first = round * ROUND_LEN;
        for n in first..first + ROUND_LEN {
            device.send(&json!({"type": "status", "data": {"temperature": n}}));
        }
        if round % 2 == 0 {
            // What it said that it has, it has.
            wait_for("what was taken", || (delivered() > first).then_some(()));
        }
        ours.kill();
        ours.up();
        place.retarget(&ours.address);
        again(&gateway);
    }
    let came = wait_for("the last one", || {
        let came = told(&ours);
        (came.last() == Some(&(ROUNDS * ROUND_LEN - 1))).then_some(came)
    });
    assert!(came.into_iter().eq(0..ROUNDS * ROUND_LEN));
}

#[test]
fn a_gateway_that_a_killed_one_delivers_to_has_everything_once_and_in_order() {
    let ours = thingsee_in::gateway(&RATES);
    let key = ours.key("operator");
    let mut gateway = Gateway::with(&RATES);
    let url = format!("ws://{}/ingest/thingsee/cloud#{}", ours.address, thingsee_in::TOKEN);
    add(&gateway, &["--kind", "websocket", "--url", &url, "--token-in", "hash:query:token"]);
    let token = gateway.device("d");
    let told = |device: &str| -> Vec<u64> {
        if ours.get(&format!("/v1/devices/{device}"), Some(&key)).0 != 200 {
            return Vec::new();
        }
        let all = thingsee_in::history(&ours, device, &key);
        all.iter().map(|item| item["payload"]["temp"].as_u64().unwrap()).collect()
    };
    let mut before = 0;
    let acknowledged = send_and_kill(&mut gateway, &token, |round| {
        if round % 2 == 0 {
            before = wait_for("a delivery", || Some(told("d").len()).filter(|len| *len > before));
        }
    });
    let came = wait_for("the last one", || {
        let came = told("d");
        (came.last() >= acknowledged.last()).then_some(came)
    });
    let missing: Vec<_> = acknowledged.iter().filter(|n| !came.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(came.is_sorted_by(|one, next| one < next), "{came:?}");
}
