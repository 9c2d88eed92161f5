//! A service that decides about Kamea's clients and is slow, down, or changes its mind: how long what it
//! allowed stays open, and that clients that do nothing about it see their devices again.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Gateway, NodeScript, Script, Wire, node_modules, post,
    sessions::{PATH, Polling, TENANT, next},
    wait_for,
};

/// What the service does about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    Broken,
    /// It never answers.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Mind {
    says: Says,
    /// What is said of one device instead.
    of: Option<(&'static str, Says)>,
    /// How long an answer takes.
    takes: Duration,
}

struct Service {
    address: String,
    mind: Arc<Mutex<Mind>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self {
            address: listener.local_addr().unwrap().to_string(),
            mind: Arc::new(Mutex::new(Mind { says: Says::Yes, of: None, takes: Duration::ZERO })),
            asked: Arc::default(),
        };
        let (mind, asked) = (Arc::clone(&service.mind), Arc::clone(&service.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mind, asked) = (Arc::clone(&mind), Arc::clone(&asked));
                std::thread::spawn(move || serve(stream, &mind, &asked));
            }
        });
        service
    }

    fn says(&self, says: Says) {
        self.mind.lock().unwrap().says = says;
    }

    fn asked_count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn gateway(&self, settings: &[&str]) -> (Gateway, String) {
        let tenants = format!(r#"kamea.tenants={{"{TENANT}"="default"}}"#);
        let url = format!("kamea.authorization.url=http://{}", self.address);
        let all = [&["kamea.authorization.mode=http", &*url, &*tenants], settings].concat();
        let gateway = Gateway::with(&all);
        let key = gateway.key("admin");
        (gateway, key)
    }
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, mind: &Mutex<Mind>, asked: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    while let Some(device) = question(&mut stream) {
        let Mind { says, of, takes } = *mind.lock().unwrap();
        let says = of.filter(|(of, _)| *of == device).map_or(says, |(_, says)| says);
        asked.lock().unwrap().push(device);
        // The time that it takes is what the tests are about.
        std::thread::sleep(takes);
        let status = match says {
            Says::Yes => "200 OK",
            Says::No => "403 Forbidden",
            Says::Broken => "503 Service Unavailable",
            Says::Nothing => continue,
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The device that the next request is about.
fn question(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut byte_len = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let line = line.to_ascii_lowercase();
        if let Some(len) = line.strip_prefix("content-length:") {
            byte_len = len.trim().parse().unwrap();
        } else if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; byte_len];
    stream.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    Some(body["entityId"].as_str().unwrap().to_owned())
}

fn telemetries(device: &str) -> String {
    format!("42/devices,{}", json!(["telemetries", {"deviceId": device, "tenantId": TENANT}]))
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("d{nth:03}")).collect()
}

fn join(gateway: &Gateway, auth: &Value) -> Wire {
    let path = format!("{PATH}?EIO=4&transport=websocket");
    let mut wire = Wire::open(&gateway.address, &path, &[]).unwrap().into_text();
    wire.text();
    wire.send_text(&format!("40/devices,{auth}"));
    assert!(next(&mut wire).starts_with("40/devices,{"));
    wire
}

fn publish(gateway: &Gateway, key: &str, device: &str, value: u32) {
    let topic = format!("devices/{device}/telemetry");
    let body = json!({"topic": topic, "qos": 1, "payload": {"n": value}});
    assert_eq!(post(&gateway.address, "/v1/publish", key, &body.to_string()).0, 201);
}

/// Devices that have said something, and a client that follows all of them.
fn following(gateway: &Gateway, key: &str, devices: &[String]) -> Wire {
    let mut wire = join(gateway, &json!({"token": "t"}));
    for device in devices {
        publish(gateway, key, device, 1);
        wire.send_text(&telemetries(device));
    }
    seen_again(&mut wire, devices);
    wire
}

/// Waits for an event of each of these devices.
fn seen_again(wire: &mut Wire, devices: &[String]) {
    let mut missing: Vec<_> = devices.iter().collect();
    while !missing.is_empty() {
        let told = next(wire);
        assert!(told.starts_with("42/devices,[\"telemetries\""), "{told}");
        missing.retain(|device| !told.contains(&***device));
    }
}

#[test]
fn what_a_service_says_no_more_about_is_shut_in_time_and_opens_again_by_itself() {
    let service = Service::start();
    let settings = ["kamea.authorization.timeout_ms=1000", "kamea.authorization.recheck_s=1"];
    let (gateway, key) = service.gateway(&settings);
    let devices = names(12);
    let mut wire = following(&gateway, &key, &devices);
    service.says(Says::Nothing);
    let started = Instant::now();
    let mut shut_count = 0;
    while shut_count < devices.len() {
        let told = next(&mut wire);
        shut_count += usize::from(told.contains("internal_server_error"));
    }
    // One after the other would take as many seconds as there are devices. Each of them had its last
    // yes before it was asked for in vain.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    devices.iter().for_each(|device| publish(&gateway, &key, device, 2));
    wire.send_text("42/devices,9[\"nonsense\"]");
    assert!(next(&mut wire).starts_with("43/devices,9["), "no value of what is shut");
    service.says(Says::Yes);
    seen_again(&mut wire, &devices);
    publish(&gateway, &key, "d011", 3);
    while !next(&mut wire).contains("\"n\":3") {}
}

#[test]
fn a_right_that_a_service_withdraws_ends_a_client_with_many_rooms_as_soon() {
    let service = Service::start();
    let (gateway, key) = service.gateway(&["kamea.authorization.recheck_s=1"]);
    let mut wire = following(&gateway, &key, &names(20));
    {
        let mut mind = service.mind.lock().unwrap();
        (mind.takes, mind.of) = (Duration::from_millis(600), Some(("d019", Says::No)));
    }
    let started = Instant::now();
    while next(&mut wire) != "42/devices,[\"access_denied\"]" {}
    // One after the other would take 12 s.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn one_bad_moment_of_a_service_costs_clients_that_moment() {
    let service = Service::start();
    let (gateway, key) = service.gateway(&["kamea.authorization.recheck_s=1"]);
    let devices = names(2);
    let mut wire = following(&gateway, &key, &devices);
    service.mind.lock().unwrap().of = Some(("d000", Says::Broken));
    while !next(&mut wire).contains("internal_server_error") {}
    publish(&gateway, &key, "d000", 5);
    publish(&gateway, &key, "d001", 5);
    let told = next(&mut wire);
    assert!(told.contains("d001") && told.contains("\"n\":5"), "the others go on: {told}");
    service.mind.lock().unwrap().of = None;
    let told = next(&mut wire);
    assert!(told.contains("d000") && told.contains("\"n\":5"), "the last value: {told}");
    // Who wants it no more is not let in again.
    service.mind.lock().unwrap().of = Some(("d000", Says::Broken));
    while !next(&mut wire).contains("internal_server_error") {}
    let unsubscribe = telemetries("d000").replace("telemetries", "telemetries:unsubscribe");
    wire.send_text(&unsubscribe.replacen(',', ",7", 1));
    while !next(&mut wire).starts_with("43/devices,7[") {}
    service.mind.lock().unwrap().of = None;
    let before = service.asked_count();
    wait_for("later questions", || {
        let asked = service.asked.lock().unwrap();
        let later = asked[before..].iter().filter(|device| *device == "d001").count();
        // A question may have been on its way.
        let early = asked[before..].iter().filter(|device| *device == "d000").count();
        assert!(early <= 1);
        (later >= 5).then_some(())
    });
    publish(&gateway, &key, "d000", 6);
    publish(&gateway, &key, "d001", 6);
    assert!(next(&mut wire).contains("d001"));
}

#[test]
fn a_service_that_is_down_is_not_stormed_and_sends_nobody_away() {
    let service = Service::start();
    service.says(Says::Broken);
    // Whoever finds no turn so soon is told, and asked for again.
    let (gateway, key) = service.gateway(&["kamea.authorization.timeout_ms=50"]);
    let devices = names(100);
    let mut wire = join(&gateway, &json!({"token": "t"}));
    let started = Instant::now();
    for device in &devices {
        publish(&gateway, &key, device, 1);
        wire.send_text(&telemetries(device));
    }
    for _ in &devices {
        let told = next(&mut wire);
        assert!(told.starts_with("42/devices,[\"internal_server_error\""), "{told}");
    }
    let asked = service.asked_count();
    let turns = usize::try_from(started.elapsed().as_millis() / 250).unwrap();
    assert!((1..=6 + turns).contains(&asked), "{asked} in {:?}", started.elapsed());
    service.says(Says::Yes);
    seen_again(&mut wire, &devices);
}

#[test]
fn who_polls_asks_for_many_devices_before_the_first_answer() {
    let service = Service::start();
    let (gateway, _) = service.gateway(&[]);
    let devices = names(200);
    let all: Vec<_> = devices.iter().map(|device| telemetries(device)).collect();
    let all = all.join("\u{1e}");
    assert!((16_385..65_536).contains(&all.len()), "{}", all.len());
    for (auth, is_taken) in [(json!({"token": "t"}), true), (json!({}), false)] {
        service.says(Says::Nothing);
        let (session, _) = Polling::open(&gateway, 4);
        assert_eq!(session.post(&format!("40/devices,{auth}")).1, "ok");
        assert!(session.next().starts_with("40/devices,"));
        if !is_taken {
            assert_eq!(session.post(&all).0, 413);
            continue;
        }
        let before = service.asked_count();
        assert_eq!(session.post(&telemetries("first")).1, "ok");
        wait_for("the first question", || (service.asked_count() > before).then_some(()));
        let (status, told) = session.post(&all);
        assert_eq!((status, &*told), (200, "ok"));
        service.says(Says::Yes);
        // One after the other; all of them take their time.
        wait_for("the next questions", || {
            let asked = service.asked.lock().unwrap();
            devices[..20].iter().all(|device| asked.contains(device)).then_some(())
        });
    }
}

/// One of the vendor's: it asks once, whatever it is told.
const CLIENT: &str = r"
const [url, generation, tenantId] = process.argv.slice(2);
const lib = require('socket.io-client-' + generation);
const options = { extraHeaders: { Authorization: 'Bearer t' } };
if (generation < 3) options.transportOptions = { polling: { extraHeaders: options.extraHeaders } };
const socket = (lib.io || lib)(url + '/devices', options);
socket.on('connect', () => socket.emit('telemetries', { deviceId: 'd000', tenantId }));
socket.on('telemetries', body => console.log('told', body.telemetries.n));
socket.on('internal_server_error', () => console.log('error'));
socket.on('disconnect', reason => console.log('disconnect', reason));
";

#[test]
fn clients_that_ask_once_see_their_devices_when_the_service_is_back() {
    let Some(modules) = node_modules() else { return };
    let script = NodeScript::new(&modules, CLIENT, &[]);
    for generation in ["2", "3", "4"] {
        let service = Service::start();
        service.says(Says::Broken);
        let (gateway, key) = service.gateway(&["kamea.authorization.recheck_s=1"]);
        publish(&gateway, &key, "d000", 1);
        let url = format!("http://{}", gateway.address);
        let client = Script::start(script.command().args([&url, generation, TENANT]));
        // From the beginning, and where it was open.
        for value in 2..4 {
            assert_eq!(client.line(), "error");
            publish(&gateway, &key, "d000", value);
            service.says(Says::Yes);
            assert_eq!(client.line(), format!("told {value}"));
            service.says(Says::Broken);
        }
    }
}
