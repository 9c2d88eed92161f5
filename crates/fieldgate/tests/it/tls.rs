//! TLS on a real gateway, with a client of its own.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use fieldgate_dialects::ws;
use serde_json::{Value, json};

use crate::support::{Gateway, LIMIT, Seen, Wire, fieldgate, wait_for};

#[test]
fn a_self_signed_gateway_serves_whoever_trusts_it() {
    let gateway = Gateway::with(&["--self-signed"]);
    let key = gateway.key("operator");
    let url = format!("https://{}", gateway.address);
    let certificate = gateway.data().join("certs/self-signed.crt");
    let publish = |trusting: bool| {
        let mut command = fieldgate();
        command.args(["publish", "a", "1", "--url", &url, "--json"]).env("FIELDGATE_TOKEN", &key);
        if trusting {
            command.arg("--ca").arg(&certificate);
        }
        command.output().unwrap()
    };
    let done = publish(true);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(serde_json::from_slice::<Value>(&done.stdout).unwrap()["seq"].is_u64());
    assert_eq!(publish(false).status.code(), Some(3));
}

#[test]
fn plain_text_beyond_loopback_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = fieldgate()
        .args(["serve", "--listen", "0.0.0.0:0", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen.plaintext"));
}

#[test]
fn a_connection_outlives_the_change_of_the_certificate() {
    let gateway = Gateway::with(&["--self-signed"]);
    let other = Gateway::with(&["--self-signed"]);
    let key = gateway.key("operator");
    let mut app = gateway.as_app_over_tls(&key);
    app.send(&json!({"type": "subscribe", "topic": "a", "qos": 1}));
    assert_eq!(app.next()["type"], "subscribed");

    let old = gateway.data().join("certs/before.crt");
    let file = |gateway: &Gateway, name: &str| gateway.data().join("certs").join(name);
    std::fs::copy(file(&gateway, "self-signed.crt"), &old).unwrap();
    for name in ["self-signed.crt", "self-signed.key"] {
        std::fs::copy(file(&other, name), file(&gateway, name)).unwrap();
    }
    gateway.signal("HUP");
    let bearer = format!("Authorization: Bearer {key}");
    let opened =
        |certificate: &Path| Wire::open_tls(&gateway.address, certificate, "/", &[&bearer]).is_ok();
    wait_for("the new certificate", || opened(&file(&gateway, "self-signed.crt")).then_some(()));
    assert!(!opened(&old), "the old certificate is still shown");

    let mut another = gateway.as_app_over_tls(&key);
    another.send(&json!({"type": "publish", "topic": "a", "payload": 1, "qos": 1, "msgid": "m"}));
    assert_eq!(another.next()["type"], "ack");
    assert_eq!(app.next()["payload"], 1);
}

#[test]
fn large_messages_pass_a_slow_reader_whole_and_in_order() {
    const COUNT: usize = 60;
    let gateway = Gateway::with(&["--self-signed", "limits.bytes_per_second=1000000000"]);
    let key = gateway.key("operator");
    let mut slow = gateway.as_app_over_tls(&key);
    slow.send(&json!({"type": "subscribe", "topic": "big", "qos": 1}));
    assert_eq!(slow.next()["type"], "subscribed");
    let mut sender = gateway.as_app_over_tls(&key);
    let filler = "x".repeat(200_000);
    for number in 0..COUNT {
        let payload = json!({"number": number, "filler": filler});
        let msgid = number.to_string();
        sender.send(&json!({"type": "publish", "topic": "big", "payload": payload, "qos": 1, "msgid": msgid}));
        assert_eq!(sender.next()["type"], "ack");
    }
    // 12 MB are stored before the first of them is read here.
    for number in 0..COUNT {
        let frame = slow.next_of("mqtt");
        assert_eq!(frame["payload"]["number"], number);
        assert_eq!(frame["payload"]["filler"], filler);
    }
}

#[test]
fn a_connection_takes_one_file_and_a_close_is_answered() {
    let gateway = Gateway::with(&["--self-signed"]);
    let key = gateway.key("operator");
    let first = gateway.as_app_over_tls(&key);
    let before = gateway.open_files();
    let mut apps: Vec<_> = (0..8).map(|_| gateway.as_app_over_tls(&key)).collect();
    assert_eq!(gateway.open_files(), before + apps.len());
    for app in &mut apps {
        app.raw(&ws::close_frame_masked(1000, "", [1, 2, 3, 4])).unwrap();
    }
    for app in &mut apps {
        assert!(matches!(app.see(), Seen::Close(_)));
        assert_eq!(app.see(), Seen::End);
    }
    wait_for("the end of their files", || (gateway.open_files() == before).then_some(()));
    drop(first);
}

/// What a server answers to the hello of a client that knows no more than `version`: the kind of its
/// first record, and of an alert its description.
fn answer_to(address: &str, version: u8) -> (u8, Option<u8>) {
    let ciphers = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    let mut hello = vec![3, version];
    hello.extend_from_slice(&[7; 32]);
    hello.push(0);
    hello.extend_from_slice(&[0, ciphers.len() as u8]);
    hello.extend_from_slice(&ciphers);
    hello.extend_from_slice(&[1, 0]);
    // Supported groups, point formats and signatures, as a client of 1.2 sends them.
    let extensions =
        [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 4, 1];
    hello.extend_from_slice(&[0, extensions.len() as u8]);
    hello.extend_from_slice(&extensions);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend_from_slice(&hello);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&record).unwrap();
    let mut head = [0; 7];
    stream.read_exact(&mut head).unwrap();
    (head[0], (head[0] == ALERT).then_some(head[6]))
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const PROTOCOL_VERSION: u8 = 70;

#[test]
fn tls_before_1_2_is_refused_and_1_2_is_served() {
    let gateway = Gateway::with(&["--self-signed"]);
    for old in [1, 2] {
        assert_eq!(answer_to(&gateway.address, old), (ALERT, Some(PROTOCOL_VERSION)), "3.{old}");
    }
    assert_eq!(answer_to(&gateway.address, 3), (HANDSHAKE, None));
}
