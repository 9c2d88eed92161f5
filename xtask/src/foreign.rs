//! Clients and suites that nobody here wrote, installed by name from their registries.
//!
//! npm and PyPI packages go into `target/foreign`; nothing is installed into the system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::steps::{root, run, run_in};

/// How a foreign suite ended.
pub(crate) enum Suite {
    /// All of this many cases passed.
    Passed(usize),
    /// It could not run here.
    Skipped(String),
}

fn folder() -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = target.join("foreign");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// What the lesson's samples ask for, beside what the examples have, a reader of streams, what drives
/// a browser, what forwards Thingsee arrays, Socket.IO clients of each generation, and what judges
/// descriptions of events.
const SAMPLE_MODULES: &[&str] = &[
    "ws@8.18.3",
    "protobufjs@7.5.4",
    "eventsource@3.0.7",
    "playwright-core@1.64.1",
    "axios@1.21.1",
    "socket.io-client-1@npm:socket.io-client@1.7.4",
    "socket.io-client-2@npm:socket.io-client@2.5.0",
    "socket.io-client-3@npm:socket.io-client@3.1.3",
    "socket.io-client-4@npm:socket.io-client@4.8.1",
    "@asyncapi/parser@3.6.3",
];

/// A Socket.IO client of another language.
const PYTHON_SOCKETIO: &str = "python-socketio[client]==5.18.1";

/// The library by which Home Assistant speaks to a deCONZ gateway: the newest for Python 3.11.
const PYDECONZ: &str = "pydeconz==115";

/// The browser that shows our pages, as Debian packages it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// A tester that reads the description of `/v1`.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

const REDOCLY: &str = "@redocly/cli@2.77.0";

/// Where the clients are.
pub(crate) struct Clients {
    /// The Python that has the requirements of the examples.
    pub(crate) python: String,
    /// The folder `node_modules`.
    pub(crate) node_modules: String,
}

/// Installs the clients of the examples and of the lesson's samples.
pub(crate) fn install_clients() -> anyhow::Result<Clients> {
    let node = folder()?.join("node");
    let modules = node.join("node_modules");
    let missing = |name: &&str| !modules.join(name).is_dir();
    // An alias stands before its package, a package before its version, and a scope before both.
    let folder_of = |module: &&'static str| {
        let end = module.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1);
        module.get(..end.unwrap_or(module.len()))
    };
    if SAMPLE_MODULES.iter().filter_map(folder_of).collect::<Vec<_>>().iter().any(missing) {
        fs::create_dir_all(&node)?;
        let mut arguments = vec!["install", "--no-audit", "--no-fund", "--no-package-lock"];
        arguments.extend(SAMPLE_MODULES);
        run_in(&node, "npm", &arguments, &[])?;
    }
    let environment = folder()?.join("python");
    let python = environment.join("bin/python").display().to_string();
    if !environment.is_dir() {
        run("python3", &["-m", "venv", &environment.display().to_string()])?;
    }
    let requirements = root().join("examples/python/requirements.txt");
    let requirements = requirements.display().to_string();
    let packages = [SCHEMATHESIS, PYTHON_SOCKETIO, PYDECONZ];
    let install = ["-m", "pip", "install", "--quiet", "-r", &requirements];
    run(&python, &[&install[..], &packages[..]].concat())?;
    Ok(Clients { python, node_modules: modules.display().to_string() })
}

/// Installs the browser, if it is not there; its path.
pub(crate) fn install_browser() -> anyhow::Result<&'static str> {
    if !Path::new(CHROMIUM).exists() {
        run("apt-get", &["update", "-qq"])?;
        let arguments = ["install", "-y", "-qq", "--no-install-recommends", "chromium"];
        run("apt-get", &arguments).context("chromium is needed: install it as root")?;
    }
    Ok(CHROMIUM)
}

/// Checks the committed descriptions of `/v1`, `/v2` and `/api` with the linter that its readers use; a warning fails.
pub(crate) fn lint_description() -> anyhow::Result<()> {
    let folder = folder()?.join("redocly");
    let linter = folder.join("node_modules/.bin/redocly");
    if !linter.exists() {
        fs::create_dir_all(&folder)?;
        let arguments = ["install", "--no-audit", "--no-fund", "--no-package-lock", REDOCLY];
        run_in(&folder, "npm", &arguments, &[])?;
    }
    let descriptions =
        ["docs/protocol/openapi.yaml", "docs/protocol/thethings.yaml", "docs/protocol/deconz.yaml"];
    let arguments = [&["lint", "--extends=recommended-strict"][..], &descriptions[..]].concat();
    let quiet = [("REDOCLY_TELEMETRY", "off"), ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")];
    run_in(&root(), &linter.display().to_string(), &arguments, &quiet)
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a test server did not end: {error}");
        }
    }
}

/// Runs the core cases of the Autobahn suite against an echo server on our WebSocket code. The gateway
/// itself is held to the same classes by `conformance.rs`.
pub(crate) fn autobahn() -> anyhow::Result<Suite> {
    let Some(python) = python2() else {
        return Ok(Suite::Skipped("no python2.7 on the path or under pyenv".to_owned()));
    };
    let folder = folder()?.join("autobahn");
    let wstest = folder.join("env/bin/wstest");
    if !wstest.is_file() {
        fs::create_dir_all(&folder)?;
        let env = folder.join("env").display().to_string();
        run(&python, &["-m", "pip", "install", "--quiet", "--user", "virtualenv==20.15.1"])?;
        run(&python, &["-m", "virtualenv", "--quiet", &env])?;
        let pip = folder.join("env/bin/pip").display().to_string();
        run(&pip, &["install", "--quiet", "autobahntestsuite==25.10.1"])?;
    }
    run(
        "cargo",
        &["build", "--release", "--locked", "-p", "fieldgate-dialects", "--example", "echo"],
    )?;
    let target = folder.parent().and_then(Path::parent).unwrap_or(&folder);
    let port_file = folder.join("port");
    if port_file.exists() {
        fs::remove_file(&port_file)?;
    }
    let echo = Command::new(target.join("release/examples/echo")).arg(&port_file).spawn();
    let _echo = Running(echo.context("the echo server did not start")?);
    let port = wait_for(&port_file)?;
    let specification = format!(
        r#"{{"outdir":"{0}/reports","servers":[{{"url":"ws://127.0.0.1:{port}"}}],"cases":["1.*","2.*","3.*","4.*","5.*","6.*","7.*","9.*","10.*"],"exclude-cases":[],"exclude-agent-cases":{{}}}}"#,
        folder.display()
    );
    let file = folder.join("spec.json");
    fs::write(&file, specification)?;
    let file = file.display().to_string();
    run(&wstest.display().to_string(), &["-m", "fuzzingclient", "-s", &file])?;
    judge(&folder.join("reports/index.json"))
}

/// The suite's Python: under pyenv, else on the path. What stands there may be a shim that leads nowhere.
fn python2() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("python2.7"));
    let runs = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", ""]).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let mut found = under_pyenv().into_iter().chain(on_path).filter(runs);
    found.next().map(|python| python.display().to_string())
}

fn under_pyenv() -> Option<PathBuf> {
    let versions = std::env::var_os("PYENV_ROOT").map(PathBuf::from)?.join("versions");
    let mut found = fs::read_dir(versions).ok()?.flatten().map(|entry| entry.path());
    let two =
        found.find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("2.7")))?;
    Some(two.join("bin/python2.7"))
}

fn wait_for(file: &Path) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Ok(text) = fs::read_to_string(file)
            && !text.is_empty()
        {
            return Ok(text);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{} did not appear", file.display())
}

/// How many cases of the classes that are asked for are graded; three more only inform.
const GRADED: usize = 298;

/// Every graded case must be there and OK: a suite that ended early says nothing of the rest.
fn judge(report: &Path) -> anyhow::Result<Suite> {
    let text = fs::read_to_string(report).context("the suite left no report")?;
    let behaviours = text.lines().filter_map(|line| line.trim().strip_prefix("\"behavior\": "));
    let behaviours: Vec<&str> = behaviours.map(|b| b.trim_matches([',', '"'])).collect();
    let passed = behaviours.iter().filter(|b| **b == "OK").count();
    let graded = behaviours.iter().filter(|b| **b != "INFORMATIONAL").count();
    if graded != GRADED || passed != graded {
        let report = report.display();
        bail!("Autobahn: of {GRADED} cases {graded} were graded, {passed} are OK; see {report}");
    }
    Ok(Suite::Passed(passed))
}
