//! Socket.IO sessions packet by packet, over both transports, and a gateway with the device that Kamea's
//! clients ask for.

use serde_json::{Value, json};

use super::{Gateway, Seen, Wire, exchange, post};

pub(crate) const PATH: &str = "/socket.io/";
pub(crate) const TENANT: &str = "12B80A37-D30E-49F1-AF3B-356ECC1AD96C";
pub(crate) const DEVICE: &str = "C5C80676-890C-4024-A16F-DF81AB0B5A22";

/// A gateway that knows this tenant and this device, and the key of an administrator.
pub(crate) fn kamea_gateway(settings: &[&str]) -> (Gateway, String) {
    let tenants = format!(r#"kamea.tenants={{"{TENANT}"="default"}}"#);
    let gateway = Gateway::with(&[&[&*tenants], settings].concat());
    gateway.device(DEVICE);
    let key = gateway.key("admin");
    (gateway, key)
}

/// Says values of that device.
pub(crate) fn publish(gateway: &Gateway, key: &str, values: &Value) {
    let topic = format!("devices/{DEVICE}/telemetry");
    let body = json!({"topic": topic, "qos": 1, "payload": values});
    let (status, told) = post(&gateway.address, "/v1/publish", key, &body.to_string());
    assert_eq!(status, 201, "{told}");
}

/// A session over polling requests.
pub(crate) struct Polling<'a> {
    gateway: &'a Gateway,
    engine: u8,
    sid: String,
}

/// The answer to a request of a session: its status, and its body.
pub(crate) fn ask(gateway: &Gateway, method: &str, query: &str, body: &str) -> (u16, String) {
    let answer = exchange(&gateway.address, method, &format!("{PATH}?{query}"), "", body);
    (answer.status, answer.body)
}

impl<'a> Polling<'a> {
    /// Opens a session; what its first answer holds.
    pub(crate) fn open(gateway: &'a Gateway, engine: u8) -> (Self, Value) {
        let (status, body) =
            ask(gateway, "GET", &format!("EIO={engine}&transport=polling&b64=1"), "");
        assert_eq!(status, 200, "{body}");
        let start = body.find('{').unwrap();
        let end = body.find('}').unwrap();
        let opening: Value = serde_json::from_str(&body[start..=end]).unwrap();
        let sid = opening["sid"].as_str().unwrap().to_owned();
        (Self { gateway, engine, sid }, opening)
    }

    /// The session of another id.
    pub(crate) fn called(&self, sid: &str) -> Self {
        Self { sid: sid.to_owned(), ..*self }
    }

    pub(crate) fn query(&self) -> String {
        format!("EIO={}&transport=polling&sid={}&b64=1", self.engine, self.sid)
    }

    pub(crate) fn poll(&self) -> (u16, String) {
        ask(self.gateway, "GET", &self.query(), "")
    }

    pub(crate) fn post(&self, body: &str) -> (u16, String) {
        ask(self.gateway, "POST", &self.query(), body)
    }

    /// Polls until there is something beside pings, which are answered.
    pub(crate) fn next(&self) -> String {
        loop {
            let (status, body) = self.poll();
            assert_eq!(status, 200, "{body}");
            if body != "2" {
                return body;
            }
            self.post("3");
        }
    }

    pub(crate) fn websocket(&self) -> Result<Wire, String> {
        let path = format!("{PATH}?EIO={}&transport=websocket&sid={}", self.engine, self.sid);
        Wire::open(&self.gateway.address, &path, &[]).map(Wire::into_text)
    }
}

/// A WebSocket of a session, which this query opens or goes over.
pub(crate) fn open(gateway: &Gateway, query: &str) -> Result<Wire, String> {
    Wire::open(&gateway.address, &format!("{PATH}?{query}"), &[]).map(Wire::into_text)
}

/// An open session over a WebSocket, its opening read.
pub(crate) fn session(gateway: &Gateway, engine: u8) -> Wire {
    let mut wire = open(gateway, &format!("EIO={engine}&transport=websocket")).unwrap();
    assert!(wire.text().starts_with("0{"));
    if engine == 3 {
        assert_eq!(wire.text(), "40");
    }
    wire
}

/// The next text that is no ping; pings are answered.
pub(crate) fn next(wire: &mut Wire) -> String {
    loop {
        let text = wire.text();
        if text != "2" {
            return text;
        }
        wire.send_text("3");
    }
}

/// Whether the gateway ends it, whatever else it says before.
pub(crate) fn ends(wire: &mut Wire) -> bool {
    loop {
        match wire.see() {
            Seen::Close(_) | Seen::End => return true,
            Seen::Frame(_) | Seen::Ping | Seen::Pong(_) => (),
        }
    }
}

/// What is said before the gateway ends it.
pub(crate) fn end(wire: &mut Wire) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match wire.see() {
            Seen::Frame(frame) => said.push(frame.as_str().unwrap().to_owned()),
            Seen::Close(_) | Seen::End => return said,
            Seen::Ping | Seen::Pong(_) => (),
        }
    }
}

/// A session in both namespaces, of these credentials.
pub(crate) fn join_both(gateway: &Gateway, things: &str, devices: &str) -> Wire {
    let mut wire = Wire::open(&gateway.address, &format!("{PATH}?EIO=4&transport=websocket"), &[])
        .unwrap()
        .into_text();
    wire.text();
    wire.send_text("40/v2,");
    assert!(next(&mut wire).starts_with("40/v2,{"));
    wire.send_text(&format!("40/devices,{}", json!({"token": devices})));
    assert!(next(&mut wire).starts_with("40/devices,{"));
    wire.send_text(&format!("42/v2,{}", json!(["authenticate", {"sessionToken": things}])));
    next(&mut wire);
    wire
}

/// Asks for the values of that device.
pub(crate) fn telemetries(tenant: &str) -> String {
    format!("42/devices,{}", json!(["telemetries", {"deviceId": DEVICE, "tenantId": tenant}]))
}

/// Asks for the same values in the other namespace.
pub(crate) const SUBSCRIBE: &str = "42/v2,[\"subscribe\",{\"resource\":\"/me/resources/temp\"}]";
