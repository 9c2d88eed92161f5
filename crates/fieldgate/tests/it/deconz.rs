//! The deCONZ interface over real sockets: who may listen, what is answered, what is pushed, and what
//! clients of other hands make of it.

mod access;
mod behind;
mod client;
mod commands;
mod follow;
mod frames;
mod push;
mod rest;
mod restart;
mod tls;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Wire, exchange, exchange_from, wait_for};

/// A gateway for deCONZ apps, and the key of one.
pub(crate) struct Bridge {
    pub(crate) gateway: Gateway,
    pub(crate) key: String,
}

impl Bridge {
    /// With a key, from no address that is known yet.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let settings = [&["listen.deconz=127.0.0.1:0"], settings].concat();
        let gateway = Gateway::with(&settings);
        gateway.admin(&["deconz", "unlock"]);
        let mut bridge = Self { gateway, key: String::new() };
        let (status, told) = bridge.ask("POST", "/api", r#"{"devicetype":"a test"}"#);
        assert_eq!(status, 200, "{told}");
        bridge.key = told[0]["success"]["username"].as_str().unwrap().to_owned();
        bridge
    }

    /// From this machine's address, which is known.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let bridge = Self::with(settings);
        bridge.ready();
        bridge
    }

    /// Waits until it answers: it may still be looking at what there is.
    pub(crate) fn ready(&self) {
        wait_for("an answer", || (self.get("").0 == 200).then_some(()));
    }

    pub(crate) fn address(&self) -> String {
        self.gateway.listener("deconz").unwrap()
    }

    /// Any request; status and the JSON that answers.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.ask_with(method, path, "", body)
    }

    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, Value) {
        let answer = exchange(&self.address(), method, path, headers, body);
        (answer.status, json_of(&answer))
    }

    /// A request below the key.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.ask(method, &format!("/api/{}{path}", self.key), body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "")
    }

    pub(crate) fn get_from(&self, source: IpAddr, path: &str) -> (u16, Value) {
        let path = format!("/api/{}{path}", self.key);
        let answer = exchange_from(source, &self.address(), ("GET", &path), "", "");
        (answer.status, json_of(&answer))
    }

    /// The push socket, from this machine's address.
    pub(crate) fn listen(&self) -> Wire {
        Wire::open(&self.address(), "/", &[]).unwrap()
    }

    /// Waits until a list has this many entries; the list.
    pub(crate) fn listed(&self, list: &str, count: usize) -> Value {
        wait_for("lights or sensors", || {
            let (_, all) = self.get(&format!("/{list}"));
            (all.as_object()?.len() >= count).then_some(all)
        })
    }

    /// Makes a device with a profile; its connection.
    pub(crate) fn device(&self, id: &str, profile: &Value) -> Wire {
        let kind = profile["kind"].as_str().unwrap();
        let flags = ["device", "add", id, "--kind", kind, "--allow-profile"];
        let made = self.gateway.admin(&flags);
        let mut device = self.gateway.as_device(id, made["token"].as_str().unwrap());
        if profile.get("resources").is_some() {
            send(&mut device, json!({"type": "profile", "profile": profile}));
        }
        device
    }
}

/// The body of an answer, which is JSON whatever happened, and says so.
#[track_caller]
fn json_of(answer: &Answer) -> Value {
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{kind}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The only error of an answer, with its status.
#[track_caller]
fn error_of((status, answer): (u16, Value)) -> (u16, u64, String, String) {
    let error = &answer[0]["error"];
    assert!(error.is_object() && answer[1].is_null(), "{answer}");
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (status, error["type"].as_u64().unwrap(), text("address"), text("description"))
}

/// As `error_of` tells one.
fn error(status: u16, number: u64, address: &str, said: &str) -> (u16, u64, String, String) {
    (status, number, address.to_owned(), said.to_owned())
}

/// Tells values of a device, and waits until they are taken.
fn tell(device: &mut Wire, data: &Value) {
    send(device, json!({"type": "status", "data": data}));
}

/// Sends a frame of a device, which is not a repeat of any other, and waits until it is taken.
fn send(device: &mut Wire, mut frame: Value) {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let id = SENT.fetch_add(1, Ordering::Relaxed).to_string();
    frame["msgid"] = json!(id);
    device.send(&frame);
    // Replies are acknowledged, too.
    while device.next_of("ack")["msgid"] != id {}
}

/// What a lamp of all colours is.
fn lamp() -> Value {
    json!({"kind": "light", "name": "Lamp", "manufacturer": "Acme", "model": "L1", "resources": [
        {"name": "on", "type": "bool", "writable": true},
        {"name": "brightness", "type": "number", "writable": true, "min": 0, "max": 1},
        {"name": "color_temperature", "type": "number", "writable": true, "min": 2000, "max": 6500},
        {"name": "color_xy", "type": "json", "writable": true},
        {"name": "hue", "type": "number", "writable": true, "min": 0, "max": 360},
        {"name": "saturation", "type": "number", "writable": true, "min": 0, "max": 1},
    ]})
}
