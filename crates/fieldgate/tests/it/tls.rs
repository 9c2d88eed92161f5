//! TLS on a real gateway, with a client of its own.

use serde_json::Value;

use crate::support::{Gateway, fieldgate};

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
