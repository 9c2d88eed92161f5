//! A gateway in a process of its own, and a plain WebSocket to talk to it.
//!
//! Every gateway has its own folder and a free port, and ends with its value. Reads have a limit.

mod events;
mod issuer;
mod proxy;
mod script;
pub(crate) mod sessions;
mod wire;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use events::Events;
pub(crate) use issuer::{Issuer, Signer, now_s};
pub(crate) use proxy::Proxy;
pub(crate) use script::{NodeScript, Script, chromium, node_modules, python};
pub(crate) use wire::{
    Answer, Seen, Wire, exchange, exchange_bytes, exchange_from, exchange_tls, post, post_open,
    request,
};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `ready` gives a value.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A command of the binary under test.
pub(crate) fn fieldgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    command
        .env_remove("FIELDGATE_TOKEN")
        .env_remove("FIELDGATE_URL")
        .env_remove("FIELDGATE_CONFIG");
    command
}

/// A running gateway.
pub(crate) struct Gateway {
    child: Option<Child>,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    trusted: Option<PathBuf>,
    listeners: Value,
    pub(crate) address: String,
}

impl Gateway {
    /// Starts on an empty folder.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts with settings (`KEY=VALUE`) or flags (`--…`).
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::without_a_level(&[&["log.level=debug"], settings].concat())
    }

    /// The same, with the log's level as the configuration says.
    pub(crate) fn without_a_level(settings: &[&str]) -> Self {
        let mut gateway = Self {
            child: None,
            folder: tempfile::tempdir().unwrap(),
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
            trusted: None,
            listeners: Value::Null,
            address: String::new(),
        };
        gateway.up();
        gateway
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Adds a setting or flag, for the next start.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Has it trust these certificates in place of the system's, from the next start on.
    pub(crate) fn trust(&mut self, certificates: &Path) {
        self.trusted = Some(certificates.to_owned());
    }

    /// Everything that the gateway wrote to stdout and stderr.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Starts the process and waits for its ready file.
    pub(crate) fn up(&mut self) {
        let ready = self.folder.path().join("ready");
        if ready.exists() {
            std::fs::remove_file(&ready).unwrap();
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("stderr"))
            .unwrap();
        let mut command = fieldgate();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--set", "store.free_bytes_min=0"])
            .arg("--data")
            .arg(self.data())
            .arg("--ready-file")
            .arg(&ready);
        for setting in &self.settings {
            if setting.starts_with("--") {
                command.arg(setting);
            } else {
                command.args(["--set", setting]);
            }
        }
        command.envs(self.trusted.iter().map(|file| ("SSL_CERT_FILE", file)));
        let out = log.try_clone().unwrap();
        self.child = Some(command.stdout(out).stderr(log).spawn().unwrap());
        let text = wait_for("the ready file", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended: {}", self.output());
            std::fs::read_to_string(&ready).ok()
        });
        let mut ready: Value = serde_json::from_str(&text).unwrap();
        self.listeners = ready["listeners"].take();
        self.address = self.listener("http").unwrap();
    }

    /// The first address of a listener, if there is such a listener.
    pub(crate) fn listener(&self, name: &str) -> Option<String> {
        self.listeners[name][0].as_str().map(str::to_owned)
    }

    /// Whether a process was started and not yet awaited.
    pub(crate) const fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Flips a bit of what stands in the log on disk. The gateway must have ended.
    pub(crate) fn damage(&self, what: &[u8]) {
        for file in std::fs::read_dir(self.data().join("log")).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
                bytes[at] ^= 1;
                return std::fs::write(&path, bytes).unwrap();
            }
        }
        panic!("it is not in the log");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for the process to end; its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = self.child.as_mut().unwrap();
        let status = wait_for("the end of the gateway", || child.try_wait().unwrap());
        self.child = None;
        status.code()
    }

    /// Runs an administrative command on this gateway's folder; its JSON.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Value {
        let output = run(arguments, &self.data());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Makes a device; its token.
    pub(crate) fn device(&self, id: &str) -> String {
        self.admin(&["device", "add", id])["token"].as_str().unwrap().to_owned()
    }

    /// Makes an API key with a role; the key.
    pub(crate) fn key(&self, role: &str) -> String {
        let name = format!("{role}-key");
        self.admin(&["key", "add", &name, "--role", role])["key"].as_str().unwrap().to_owned()
    }

    /// A connection without a credential.
    pub(crate) fn connect(&self) -> Wire {
        Wire::open(&self.address, "/ws", &[]).unwrap()
    }

    /// A connection of a device in the lesson's form, authenticated.
    pub(crate) fn as_device(&self, id: &str, token: &str) -> Wire {
        let mut wire = self.connect();
        wire.send(&serde_json::json!({"type": "auth", "deviceId": id, "token": token}));
        assert_eq!(wire.next()["status"], "success");
        wire
    }

    /// A connection of a program, in the first form of JSON, authenticated.
    pub(crate) fn as_app(&self, key: &str) -> Wire {
        let bearer = format!("Authorization: Bearer {key}");
        let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
        let mut wire = Wire::open(&self.address, "/", &headers).unwrap();
        assert_eq!(wire.next()["status"], "success");
        wire
    }

    /// The same over TLS, on a gateway with `--self-signed`.
    pub(crate) fn as_app_over_tls(&self, key: &str) -> Wire {
        let bearer = format!("Authorization: Bearer {key}");
        let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
        let certificate = self.data().join("certs/self-signed.crt");
        let mut wire = Wire::open_tls(&self.address, &certificate, "/", &headers).unwrap();
        assert_eq!(wire.next()["status"], "success");
        wire
    }

    /// How many files the process holds open.
    pub(crate) fn open_files(&self) -> usize {
        let id = self.child.as_ref().unwrap().id();
        std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
    }

    /// Resident memory of the process.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let id = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    }

    /// A plain GET; status and body.
    pub(crate) fn get(&self, path: &str, key: Option<&str>) -> (u16, String) {
        let bearer = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        wire::get(&self.address, path, &bearer)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed already says so; the process must end all the same.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command of the binary with `--data` and `--json`.
pub(crate) fn run(arguments: &[&str], data: &Path) -> Output {
    fieldgate().args(arguments).arg("--json").arg("--data").arg(data).output().unwrap()
}
