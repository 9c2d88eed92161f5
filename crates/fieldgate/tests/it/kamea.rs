//! Kamea clients of the namespace `/devices`: the seed's own, written as it writes them, and what a
//! service that decides about them may do.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::support::{
    Gateway, NodeScript, Script, Wire, node_modules,
    sessions::{DEVICE, TENANT, end, kamea_gateway as gateway, publish},
    wait_for,
};

/// As the page of the seed has it, for the generations that can send headers.
const CLIENT: &str = r"
const [url, token, generation] = process.argv.slice(2);
const lib = require('socket.io-client-' + generation);
const io = lib.io || lib;
const options = { extraHeaders: { Authorization: `Bearer ${token}` }, reconnection: false };
if (generation < 3) options.transportOptions = { polling: { extraHeaders: options.extraHeaders } };
const socket = io(url + '/devices', options);
socket.on('connect', () => {
  console.log('connected');
  socket.emit('telemetries', { deviceId: 'C5C80676-890C-4024-A16F-DF81AB0B5A22', tenantId: '12b80a37-d30e-49f1-af3b-356ecc1ad96c' });
});
socket.on('telemetries', body => console.log('telemetries', JSON.stringify(body)));
socket.on('access_denied', (...args) => console.log('denied', args.length));
socket.on('internal_server_error', error => console.log('error', error.message));
socket.on('connect_error', error => console.log('connect_error', error.message || error));
socket.on('disconnect', reason => console.log('disconnect', reason));
";

fn client(script: &NodeScript, gateway: &Gateway, token: &str, generation: u8) -> Script {
    let url = format!("http://{}", gateway.address);
    Script::start(script.command().args([&url, token, &generation.to_string()]))
}

#[test]
fn the_clients_of_the_seed_work_and_are_denied_as_there() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key) = gateway(&[]);
    publish(&gateway, &key, &json!({"temp": 20.0}));
    let script = NodeScript::new(&modules, CLIENT, &[]);
    for generation in 2..=4 {
        let client_of = client(&script, &gateway, &key, generation);
        assert_eq!(client_of.line(), "connected");
        let last = client_of.line();
        assert!(last.starts_with("telemetries "), "the last values first: {last}");
        publish(&gateway, &key, &json!({"temp": generation}));
        let told = client_of.line();
        let body: Value = serde_json::from_str(told.strip_prefix("telemetries ").unwrap()).unwrap();
        assert_eq!(body["deviceId"], DEVICE);
        assert_eq!(body["tenantId"], TENANT.to_lowercase());
        assert_eq!(body["telemetries"], json!({"temp": generation}));
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));

        let denied = client(&script, &gateway, "wrong", generation);
        assert_eq!(denied.line(), "connected");
        assert_eq!(denied.line(), "denied 0");
        assert_eq!(denied.line(), "disconnect io server disconnect");
    }
}

/// A service that says of everybody what it was told to, once asked.
struct Service {
    address: String,
    says: Arc<Mutex<&'static str>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let says = Arc::new(Mutex::new("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (saying, asking) = (Arc::clone(&says), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (saying, asking) = (Arc::clone(&saying), Arc::clone(&asking));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut buffer = [0; 8_192];
                    while let Ok(len @ 1..) = stream.read(&mut buffer) {
                        asking.lock().unwrap().push(String::from_utf8_lossy(&buffer[..len]).into());
                        let says = *saying.lock().unwrap();
                        if says.is_empty() {
                            // It never answers.
                            continue;
                        }
                        if stream.write_all(says.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, says, asked }
    }

    fn say(&self, says: &'static str) {
        *self.says.lock().unwrap() = says;
    }
}

const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

fn join(gateway: &Gateway, token: &str) -> Wire {
    let path = "/socket.io/?EIO=4&transport=websocket";
    let bearer = format!("Authorization: Bearer {token}");
    let mut wire = Wire::open(&gateway.address, path, &[&bearer]).unwrap().into_text();
    wire.text();
    wire.send_text("40/devices,");
    assert!(wire.text().starts_with("40/devices,{"));
    wire
}

fn ask(wire: &mut Wire, device: &str) {
    let event = json!(["telemetries", {"deviceId": device, "tenantId": TENANT}]);
    wire.send_text(&format!("42/devices,{event}"));
}

#[test]
fn what_is_no_request_is_told_and_the_connection_stays() {
    let (gateway, key) = gateway(&[]);
    let mut wire = join(&gateway, &key);
    for (arguments, told) in [
        ("", "deviceId, tenantId"),
        (",1", "deviceId, tenantId"),
        (",{\"deviceId\":\"a\"}", "tenantId is missing"),
        (",{\"deviceId\":\"a/b\",\"tenantId\":\"x\"}", "device"),
        (",{\"deviceId\":\"a\",\"tenantId\":\"x\"}", "UUID"),
    ] {
        wire.send_text(&format!("42/devices,[\"telemetries\"{arguments}]"));
        let said = wire.text();
        assert!(said.starts_with("42/devices,[\"internal_server_error\",{\"message\":"), "{said}");
        assert!(said.contains(told), "{arguments}: {said}");
    }
    // Asynchronous checks keep the order of what was asked.
    ask(&mut wire, DEVICE);
    wire.send_text("42/devices,[\"telemetries\"]");
    wire.send_text(&format!(
        "42/devices,5{}",
        json!(["telemetries:unsubscribe", {"deviceId": DEVICE, "tenantId": TENANT}])
    ));
    assert!(wire.text().contains("internal_server_error"));
    assert_eq!(wire.text(), "43/devices,5[{\"status\":\"success\"}]");
    publish(&gateway, &key, &json!({"temp": 1}));
    let elsewhere =
        json!(["telemetries", {"deviceId": DEVICE, "tenantId": TENANT.replace('1', "2")}]);
    wire.send_text(&format!("42/devices,{elsewhere}"));
    assert_eq!(end(&mut wire), ["42/devices,[\"access_denied\"]", "41/devices,"]);
}

#[test]
fn values_have_canonical_names_where_the_configuration_says_so() {
    let (gateway, key) = gateway(&["kamea.names=canonical", "thethings.names=canonical"]);
    publish(&gateway, &key, &json!({"temp": 20.5, "rest": [1]}));
    let mut wire = join(&gateway, &key);
    ask(&mut wire, DEVICE);
    let told = wire.text();
    assert!(told.contains(r#""telemetries":{"rest":[1],"temperature":20.5}"#), "{told}");
    publish(&gateway, &key, &json!({"humd": 7}));
    assert!(wire.text().contains(r#""telemetries":{"humidity":7}"#));
}

#[test]
fn who_comes_again_sees_nothing_as_somebody_else() {
    let (gateway, key) = gateway(&[]);
    publish(&gateway, &key, &json!({"temp": 1}));
    let other = gateway.key("viewer");
    let mut wire = join(&gateway, &key);
    ask(&mut wire, DEVICE);
    assert!(wire.text().contains("\"temp\":1"));
    wire.send_text("41/devices,");
    wire.send_text(&format!("40/devices,{}", json!({"token": other})));
    assert!(wire.text().starts_with("40/devices,{"));
    ask(&mut wire, DEVICE);
    let told = wire.text();
    assert!(told.contains("internal_server_error") && told.contains("somebody else's"), "{told}");
    wire.send_text("41/devices,");
    wire.send_text(&format!("40/devices,{}", json!({"token": key})));
    assert!(wire.text().starts_with("40/devices,{"));
    ask(&mut wire, DEVICE);
    assert!(wire.text().contains("\"temp\":1"), "the last values again");
}

#[test]
fn a_token_is_shown_as_clients_write_it() {
    let (gateway, key) = gateway(&[]);
    publish(&gateway, &key, &json!({"temp": 1}));
    let header = format!("Authorization: Bearer {key}");
    for (headers, auth) in [
        (&[][..], json!({"token": format!("Bearer {key}")})),
        (&[], json!({"token": format!(" bearer  {key} "), "ack": null})),
        (&[&*header], json!({"token": "", "ack": false})),
        (&[&*header], json!({"token": "Bearer "})),
        (&[&*header], json!({"token": null})),
    ] {
        let path = "/socket.io/?EIO=4&transport=websocket";
        let mut wire = Wire::open(&gateway.address, path, headers).unwrap().into_text();
        wire.text();
        wire.send_text(&format!("40/devices,{auth}"));
        let told = wire.text();
        assert!(told.starts_with("40/devices,{"), "{auth}: {told}");
        ask(&mut wire, DEVICE);
        let told = wire.text();
        assert!(told.contains("\"temp\":1"), "{auth}: {told}");
    }
}

#[test]
fn a_service_decides_and_is_asked_again() {
    let service = Service::start();
    let url = format!("kamea.authorization.url=http://{}", service.address);
    let settings = [
        "kamea.authorization.mode=http",
        &url,
        "kamea.authorization.timeout_ms=300",
        "kamea.authorization.recheck_s=1",
    ];
    let (gateway, key) = gateway(&settings);
    let mut wire = join(&gateway, "somebody-elses-token");
    // Down, slow or lying: nobody sees anything, and nobody is sent away.
    for says in [
        "",
        BROKEN,
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        service.say(says);
        ask(&mut wire, DEVICE);
        let said = wire.text();
        assert!(said.contains("internal_server_error"), "{says}: {said}");
    }
    service.say(YES);
    ask(&mut wire, DEVICE);
    wait_for("the question", || {
        let asked = service.asked.lock().unwrap();
        let last = asked.last()?.to_ascii_lowercase();
        let whole = last.contains("post /authorization/check-authorized ")
            && last.contains("authorization: bearer somebody-elses-token");
        whole.then_some(())
    });
    wait_for("an event", || {
        publish(&gateway, &key, &json!({"temp": 1}));
        let (_, clients) = gateway.get("/v1/clients", Some(&key));
        clients.contains("\"subscriptions\":3").then_some(())
    });
    publish(&gateway, &key, &json!({"temp": 2}));
    while !wire.text().contains("\"telemetries\":{\"temp\":2}") {}
    let before = service.asked.lock().unwrap().len();
    wait_for("to be asked again", || (service.asked.lock().unwrap().len() > before).then_some(()));
    service.say(BROKEN);
    while !wire.text().contains("internal_server_error") {}
    publish(&gateway, &key, &json!({"temp": 3}));
    service.say(YES);
    ask(&mut wire, DEVICE);
    // What was not to be seen is not told afterwards as an event of its own: the last value stands.
    let told = loop {
        let told = wire.text();
        // The log has a message before the state does: a room may begin with the value before it.
        if told.contains("[\"telemetries\",") && !told.contains("\"temp\":2") {
            break told;
        }
    };
    assert!(told.contains("\"temp\":3"), "{told}");
    service.say(NO);
    let said = end(&mut wire);
    assert_eq!(said[said.len() - 2..], ["42/devices,[\"access_denied\"]", "41/devices,"]);
}
