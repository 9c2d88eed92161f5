//! Devices that sign: claims that are taken once, and frames that carry a code.

use std::process::Command;

use fieldgate_dialects::native::client::Signer;
use serde_json::{Value, json};

use crate::support::{Gateway, Proxy, Script, Seen, Wire, post, python, run, wait_for};

const SECRET: &str = "an hmac secret of one's own";

/// The clock, in ms.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// A device that signs; who signs for it.
fn signing(gateway: &Gateway, id: &str, more: &[&str]) -> Signer {
    let arguments = [&["device", "add", id, "--type", "hmac"], more].concat();
    let made = gateway.admin(&arguments);
    Signer::new("default", id, made["token"].as_str().unwrap())
}

/// What a first frame is answered with, the time aside.
fn answered(gateway: &Gateway, first: &str) -> (Value, Option<Wire>) {
    let mut wire = gateway.connect();
    wire.send_text(first);
    let mut answer = wire.next();
    answer["timestamp"] = json!(0);
    if answer["status"] == "success" {
        return (answer, Some(wire));
    }
    assert_eq!(wire.closed(), Some(4403));
    (answer, None)
}

fn is_taken(gateway: &Gateway, first: &str) -> bool {
    answered(gateway, first).1.is_some()
}

/// A connection of a device that signed its claim with this nonce.
fn open(gateway: &Gateway, signer: &Signer, nonce: &str) -> Wire {
    answered(gateway, &signer.auth(now(), nonce)).1.expect("the claim is good")
}

/// What a metric tells.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let made = gateway.admin(&["key", "add", &format!("m-{}", now()), "--grant", "metrics:#"]);
    let (_, text) = gateway.get("/metrics", made["key"].as_str());
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_signed_claim_lets_a_device_in_and_whatever_is_wrong_gets_the_same_words() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let lamp = signing(&gateway, "lamp", &[]);
    let token = gateway.device("other");
    let mut wire = open(&gateway, &lamp, "n-1");
    wire.send(&json!({"type": "status", "msgid": "m", "data": {"t": 1}}));
    assert_eq!(wire.next()["type"], "ack");
    let refused = answered(&gateway, &Signer::new("default", "lamp", "wrong").auth(now(), "n-2")).0;
    assert_eq!(refused["reason"], "Authentication failed");
    for (what, first) in [
        ("a nonce again", lamp.auth(now(), "n-1")),
        ("too old", lamp.auth(now() - 61_000, "n-3")),
        ("too early", lamp.auth(now() + 65_000, "n-4")),
        ("nobody", Signer::new("default", "nobody", SECRET).auth(now(), "n-5")),
        ("no such tenant", Signer::new("none", "lamp", SECRET).auth(now(), "n-6")),
        (
            "a device without such a secret",
            Signer::new("default", "other", &token).auth(now(), "n"),
        ),
        ("no code", lamp.auth(now(), "n-7").replace("\"mac\":\"", "\"mac\":\"!")),
    ] {
        assert_eq!(answered(&gateway, &first).0, refused, "{what}");
    }
    // A wrong one takes no nonce.
    assert!(is_taken(&gateway, &lamp.auth(now(), "n-2")));
    assert!(is_taken(&gateway, &lamp.auth(now() - 55_000, "n-8")));
    assert!(is_taken(&gateway, &lamp.auth(now() + 55_000, "n-9")));
}

#[test]
fn a_recorded_claim_is_worth_nothing_after_a_kill_a_restart_and_without_the_tables() {
    let mut gateway = Gateway::start();
    let lamp = signing(&gateway, "lamp", &[]);
    // A clock that is ahead makes a claim that outlives the restart by most.
    let recorded = lamp.auth(now() + 50_000, "n-1");
    assert!(is_taken(&gateway, &recorded));
    gateway.kill();
    gateway.up();
    assert!(!is_taken(&gateway, &recorded), "right after kill -9");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.up();
    assert!(!is_taken(&gateway, &recorded), "after a stop, from the tables");
    gateway.kill();
    std::fs::remove_dir_all(gateway.data().join("tables")).unwrap();
    gateway.up();
    assert!(!is_taken(&gateway, &recorded), "from the log alone");
    assert!(is_taken(&gateway, &lamp.auth(now(), "n-2")));
}

#[test]
fn of_many_connections_with_one_claim_one_is_let_in() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let lamp = signing(&gateway, "lamp", &[]);
    for round in 0..10 {
        let claim = lamp.auth(now(), &format!("n-{round}"));
        let mut wires: Vec<Wire> = (0..8).map(|_| gateway.connect()).collect();
        wires.iter_mut().for_each(|wire| wire.send_text(&claim));
        let taken = wires.iter_mut().map(|wire| match wire.see() {
            Seen::Frame(frame) => usize::from(frame["status"] == "success"),
            other => panic!("{other:?}"),
        });
        assert_eq!(taken.sum::<usize>(), 1);
    }
}

#[test]
fn what_follows_a_claim_at_once_waits_for_its_answer() {
    let gateway = Gateway::start();
    let lamp = signing(&gateway, "lamp", &[]);
    let mut wire = gateway.connect();
    wire.send_text(&lamp.auth(now(), "n-1"));
    for n in 0..5 {
        wire.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"n": n}}));
    }
    assert_eq!(wire.next()["status"], "success");
    (0..5).for_each(|n| assert_eq!(wire.next()["msgid"], n.to_string()));
}

#[test]
fn where_integrity_is_required_every_frame_is_signed_and_none_is_taken_twice() {
    let gateway = Gateway::start();
    let lamp = signing(&gateway, "lamp", &["--integrity", "required"]);
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "subscribe", "topic": "devices/lamp/+", "qos": 1}));
    app.next_of("subscribed");
    let mut wire = open(&gateway, &lamp, "n-0");
    let status = r#"{"type":"status","msgid":"m-1","data":{"t": 21.30}}"#;
    let sealed = lamp.envelope(status, now(), "n-1").unwrap();
    wire.send_text(&sealed);
    assert_eq!(wire.next()["type"], "ack");
    assert_eq!(app.next_of("mqtt")["payload"], json!({"t": 21.30}));
    let mut refused = |frame: &str, code: &str| {
        wire.send_text(frame);
        let error = wire.next();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{frame}");
        error
    };
    refused(&sealed, "replayed");
    assert_eq!(refused(status, "bad_mac")["ref"], "m-1");
    refused(r#"{"type":"ping"}"#, "bad_mac");
    refused(&sealed.replace("21.30", "99.30"), "bad_mac");
    let old = lamp.envelope(status, now() - 61_000, "n-2").unwrap();
    refused(&old, "bad_mac");
    refused(&lamp.envelope(status, now(), "n-1").unwrap(), "replayed");
    wire.send_binary(&[0x0a, 0x00]);
    assert_eq!(wire.next()["code"], "bad_mac");
    assert_eq!(metric(&gateway, "fieldgate_frames_forged_total"), 7);
    // What was recorded on this connection is nothing on the next, though it has no memory of it.
    let recorded_at = now();
    let unsent = lamp.envelope(status, recorded_at, "n-3").unwrap();
    wait_for("another millisecond", || (now() > recorded_at).then_some(()));
    let mut next = open(&gateway, &lamp, "n-4");
    for recorded in [&sealed, &unsent] {
        next.send_text(recorded);
        assert_eq!(next.next()["code"], "bad_mac");
    }
    next.send_text(&lamp.envelope(r#"{"type":"ping"}"#, now(), "n-5").unwrap());
    assert_eq!(next.next()["type"], "pong");
}

#[test]
fn a_device_that_must_sign_is_opened_by_nothing_else_and_answers_its_commands() {
    let gateway = Gateway::start();
    let lamp = signing(&gateway, "lamp", &["--integrity", "required"]);
    let made = gateway.admin(&["device", "credential", "add", "lamp"]);
    let token = made["token"].as_str().unwrap();
    let auth = json!({"type": "auth", "deviceId": "lamp", "token": token}).to_string();
    assert!(!is_taken(&gateway, &auth));
    let bearer = format!("Authorization: Bearer {token}");
    assert!(Wire::open(&gateway.address, "/ws", &[&bearer]).err().unwrap().contains("401"));
    let frame = r#"{"type":"status","data":{"t":1}}"#;
    assert_eq!(post(&gateway.address, "/v1/publish", token, frame).0, 401);
    let mut wire = open(&gateway, &lamp, "n-0");
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "command", "to": "lamp", "msgid": "c", "payload": {"x": 1}}));
    assert_eq!(app.next_of("ack")["devices"], 1);
    let command = wire.next_of("control");
    let reply =
        json!({"type": "reply", "msgid": command["msgid"], "status": "ok", "payload": {"y": 2}});
    wire.send_text(&lamp.envelope(&reply.to_string(), now(), "n-1").unwrap());
    loop {
        let moved = app.next_of("command_state");
        if moved["state"] == "completed" {
            assert_eq!(moved["payload"], json!({"y": 2}));
            return;
        }
    }
}

#[test]
fn integrity_is_switched_while_a_device_is_there() {
    let gateway = Gateway::start();
    let lamp = signing(&gateway, "lamp", &[]);
    let made = gateway.admin(&["device", "credential", "add", "lamp"]);
    let mut wire = open(&gateway, &lamp, "n-0");
    let shown = || gateway.admin(&["device", "show", "lamp"])["integrity"].clone();
    assert_eq!(shown(), "off");
    wire.send(&json!({"type": "ping"}));
    assert_eq!(wire.next()["type"], "pong");
    gateway.admin(&["device", "integrity", "lamp", "required"]);
    assert_eq!(shown(), "required");
    wait_for("the connection to hear of it", || {
        wire.send(&json!({"type": "ping"}));
        (wire.next()["code"] == "bad_mac").then_some(())
    });
    gateway.admin(&["device", "integrity", "lamp", "off"]);
    let token = made["token"].as_str().unwrap();
    let mut by_token = gateway.as_device("lamp", token);
    gateway.admin(&["device", "integrity", "lamp", "required"]);
    assert_eq!(by_token.closed(), Some(4403), "what a token opened ends");
    // A new secret for all is one to sign with.
    let made = gateway.admin(&["device", "rotate", "lamp", "--yes"]);
    assert!(!is_taken(&gateway, &lamp.auth(now(), "n-1")));
    let lamp = Signer::new("default", "lamp", made["token"].as_str().unwrap());
    assert!(is_taken(&gateway, &lamp.auth(now(), "n-2")));
}

#[test]
fn a_connection_ends_with_the_secret_that_opened_it() {
    let gateway = Gateway::start();
    let first = signing(&gateway, "lamp", &[]);
    let made = gateway.admin(&["device", "credential", "add", "lamp", "--type", "hmac"]);
    assert_eq!(made["type"], "hmac");
    let second = Signer::new("default", "lamp", made["token"].as_str().unwrap());
    drop(open(&gateway, &first, "n-1"));
    let mut wire = open(&gateway, &second, "n-2");
    let credential = made["credential"].as_str().unwrap();
    gateway.admin(&["device", "credential", "remove", "lamp", credential, "--yes"]);
    assert_eq!(wire.closed(), Some(4403));
    assert!(!is_taken(&gateway, &second.auth(now(), "n-3")));
    assert!(is_taken(&gateway, &first.auth(now(), "n-4")));
}

#[test]
fn a_code_on_a_connection_that_can_check_none_is_refused() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut wire = gateway.as_device("d", &token);
    let signer = Signer::new("default", "d", &token);
    wire.send_text(&signer.envelope(r#"{"type":"ping"}"#, now(), "n").unwrap());
    assert_eq!(wire.next()["code"], "bad_mac");
    let wrong = run(&["device", "add", "e", "--integrity", "required"], &gateway.data());
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("hmac"));
}

/// What an implementation of another hand makes of the page alone.
const INDEPENDENT: &str = r#"
import base64, hashlib, hmac, json, sys
page = open(sys.argv[1]).read().split("\n### Test vectors\n")[1].split("\n## ")[0]
secret = page.split("`")[1].encode()
def code(*lines):
    return base64.b64encode(hmac.new(secret, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
for line in page.splitlines():
    if not line.startswith("    {"):
        continue
    text = line.strip()
    frame = json.loads(text)
    if frame["type"] == "auth":
        made = code("fieldgate-auth-1", frame["tenant"], frame["deviceId"], str(frame["timestamp"]), frame["nonce"])
    else:
        digest = ""
        if "payload" in frame:
            start = text.index('"payload":') + len('"payload":')
            _, length = json.JSONDecoder().raw_decode(text[start:])
            digest = hashlib.sha256(text[start:start + length].encode()).hexdigest()
        names = ["ver", "msgid", "timestamp", "nonce", "from", "to", "type", "qos", "retain", "priority", "expires"]
        plain = lambda v: v if isinstance(v, str) else json.dumps(v)
        fields = [plain(frame[n]) if n in frame else "" for n in names]
        made = code("fieldgate-mac-1", "default", *fields, digest)
    print("fits" if made == frame["mac"] else "does not fit: " + text, flush=True)
"#;

#[test]
fn a_python_program_computes_the_codes_of_the_page() {
    let Some(python) = python() else { return };
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/native.md");
    let script = Script::start(Command::new(&python).args(["-c", INDEPENDENT, page]));
    (0..4).for_each(|_| assert_eq!(script.line(), "fits"));
}

/// A device that knows nothing but the page, and the standard library's `hmac`.
const DEVICE: &str = r#"
import base64, hashlib, hmac, json, os, sys, time
from websockets.sync.client import connect
address, secret = sys.argv[1], os.environ["SECRET"].encode()
now = lambda: int(time.time() * 1000)
def code(*lines):
    return base64.b64encode(hmac.new(secret, "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
with connect(address) as ws:
    at, nonce = now(), os.urandom(16).hex()
    ws.send(json.dumps({"type": "auth", "deviceId": "lamp", "timestamp": at, "nonce": nonce,
        "mac": code("fieldgate-auth-1", "default", "lamp", str(at), nonce)}))
    print(json.loads(ws.recv())["status"], flush=True)
    at, nonce, payload = now(), os.urandom(16).hex(), '{"temperature": 21.30}'
    mac = code("fieldgate-mac-1", "default", "1.0", "m-1", str(at), nonce, "lamp", "server", "status", "1", "false",
        "", "", hashlib.sha256(payload.encode()).hexdigest())
    ws.send('{"ver":"1.0","msgid":"m-1","timestamp":%d,"from":"lamp","to":"server","type":"status",'
        '"payload":%s,"qos":1,"retain":false,"nonce":"%s","mac":"%s"}' % (at, payload, nonce, mac))
    print(json.loads(ws.recv())["type"], flush=True)
"#;

#[test]
fn a_python_device_signs() {
    let Some(python) = python() else { return };
    let gateway = Gateway::start();
    let made =
        gateway.admin(&["device", "add", "lamp", "--type", "hmac", "--integrity", "required"]);
    let address = format!("ws://{}/ws", gateway.address);
    let script = Script::start(
        Command::new(&python)
            .args(["-c", DEVICE, &address])
            .env("SECRET", made["token"].as_str().unwrap()),
    );
    assert_eq!((script.line().as_str(), script.line().as_str()), ("success", "ack"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_signs_everything_it_sends_also_when_it_sends_it_again() {
    use fieldgate_client::{Client, SendError};
    let mut gateway = Gateway::start();
    let made =
        gateway.admin(&["device", "add", "lamp", "--type", "hmac", "--integrity", "required"]);
    let proxy = Proxy::to(&gateway.address);
    let url = format!("ws://{}", proxy.address);
    let secret = made["token"].as_str().unwrap();
    let client = Client::builder(&url).device("lamp").hmac(secret).connect().await.unwrap();
    let key = gateway.key("operator");
    let mut own = client.subscribe("devices/lamp/#").qos1().open().await.unwrap();
    let mut commands = client.commands();
    client.status(&json!({"t": 21.3})).qos1().send().await.unwrap();
    let earlier = client.status(&json!({"t": 20})).timestamp(now() - 3_600_000).qos1();
    earlier.send().await.unwrap();
    client.event("button", &json!({"n": 1})).qos1().send().await.unwrap();
    for topic in ["telemetry", "telemetry", "events"] {
        let Some(fieldgate_client::Event::Message(message)) = own.next().await else { panic!() };
        assert_eq!(&*message.topic, format!("devices/lamp/{topic}"));
    }
    let refused = client.iot_data(fieldgate_client::IoTData::default()).send().await;
    assert!(matches!(refused, Err(SendError::Payload(_))), "{refused:?}");
    gateway.kill();
    gateway.up();
    proxy.retarget(&gateway.address);
    client.status(&json!({"t": 22})).qos1().send().await.unwrap();
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "command", "to": "lamp", "msgid": "c", "payload": {"x": 1}}));
    let command = commands.next().await.unwrap();
    command.done(json!({"y": 2})).unwrap().await.unwrap();
    wait_for("the end of the command", || {
        (app.next_of("command_state")["state"] == "completed").then_some(())
    });
    for wrong in [
        Client::builder(&url).device("lamp").hmac("wrong"),
        Client::builder(&url).device("lamp").hmac(secret).tenant("other"),
        Client::builder(&url).hmac(secret),
        Client::builder(&url).device("lamp").hmac(secret).token("x"),
    ] {
        assert!(wrong.connect().await.is_err());
    }
}
