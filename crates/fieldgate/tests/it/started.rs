//! What a start tells to whom: the supervisor, its log, and whoever looks at the folder beside it.

use std::{os::unix::net::UnixDatagram, process::Command};

use serde_json::Value;

use crate::support::{Gateway, LIMIT, Script, fieldgate, run, wait_for};

/// A `serve` on a folder of its own.
fn serve(folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = fieldgate();
    command.args(["serve", "--listen", "127.0.0.1:0", "--set", "store.free_bytes_min=0", "--data"]);
    command.arg(folder.join("data")).args(arguments);
    command
}

#[test]
fn the_supervisor_is_told_when_it_is_ready_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let ready = folder.path().join("ready");
    let mut command = serve(folder.path(), &["--ready-file", ready.to_str().unwrap()]);
    let _running = Script::start(command.env("NOTIFY_SOCKET", folder.path().join("notify")));
    let mut told = [0; 256];
    let len = socket.recv(&mut told).unwrap();
    assert_eq!(std::str::from_utf8(&told[..len]).unwrap().trim_end(), "READY=1");
    // It listens by then.
    let ready: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let address = ready["listeners"]["http"][0].as_str().unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
}

#[test]
fn the_line_of_a_start_names_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, "[limits]\nauth_ms = 4000\n").unwrap();
    let file = file.to_str().unwrap();
    for (settings, name) in [(vec![format!("--config={file}")], file), (vec![], "defaults")] {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let gateway = Gateway::with(&settings);
        let told = wait_for("the line", || {
            let output = gateway.output();
            output.lines().find(|line| line.contains(" ready ")).map(str::to_owned)
        });
        assert!(told.contains(&format!("configuration=\"{name}\"")), "{told}");
        assert!(told.contains("version=") && told.contains("data="), "{told}");
    }
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = serve(folder.path(), &["--ready-file", "/nowhere/ready"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("--ready-file /nowhere/ready cannot be written"), "{told}");
    assert!(told.contains("name a file in a folder that is there"), "{told}");
}

#[test]
fn looking_at_the_log_of_a_running_gateway_tells_that_it_runs() {
    let mut gateway = Gateway::start();
    let text = |gateway: &Gateway| {
        let looked = fieldgate().args(["log", "verify", "--data"]).arg(gateway.data()).output();
        String::from_utf8(looked.unwrap().stdout).unwrap()
    };
    let json = |gateway: &Gateway| -> Value {
        serde_json::from_slice(&run(&["log", "verify"], &gateway.data()).stdout).unwrap()
    };
    assert!(text(&gateway).contains("; its gateway runs"), "{}", text(&gateway));
    assert_eq!(json(&gateway)["running"], true);
    gateway.kill();
    assert!(text(&gateway).contains("; not stopped cleanly"), "{}", text(&gateway));
    gateway.up();
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    assert!(text(&gateway).contains("; stopped cleanly"), "{}", text(&gateway));
    assert_eq!(json(&gateway)["running"], false);
}

#[test]
fn the_data_of_the_demo_moves_within_three_seconds() {
    // Other work on the machine may slow a start down, but hardly each of three.
    let took = || {
        let mut demo = Command::new("sh");
        demo.args(["-c", "exec \"$0\" demo --listen 127.0.0.1:0 2>&1"]);
        let line = Script::start(demo.arg(env!("CARGO_BIN_EXE_fieldgate"))).line_of("data moves ");
        line.split(' ').nth(2).unwrap().parse::<f64>().unwrap()
    };
    let told: Vec<f64> = (0..3).map(|_| took()).collect();
    assert!(told.iter().any(|seconds| *seconds < 3.0), "{told:?}");
}
