//! A foreign client as a process: what it says on stdout comes line by line.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
};

use super::LIMIT;

/// Where `cargo xtask test` puts the clients, by an environment variable of their kind.
///
/// Required under `cargo xtask test`; elsewhere the tests run where the clients are there, and say
/// so where they are not.
pub(crate) fn installed(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    let required = std::env::var("FIELDGATE_TEST_FOREIGN").is_ok_and(|v| v == "required");
    assert!(path.is_some() || !required, "{variable} names nothing that is installed");
    if path.is_none() {
        eprintln!("skipped: {variable} names nothing that is installed; run cargo xtask test");
    }
    path
}

/// The Python that has `websockets`.
pub(crate) fn python() -> Option<PathBuf> {
    installed("FIELDGATE_TEST_PYTHON")
}

/// The browser.
pub(crate) fn chromium() -> Option<PathBuf> {
    installed("FIELDGATE_TEST_CHROMIUM")
}

/// The folder `node_modules` with `ws` and `protobufjs`.
pub(crate) fn node_modules() -> Option<PathBuf> {
    installed("FIELDGATE_TEST_NODE_MODULES")
}

/// A running script; it ends with its value.
pub(crate) struct Script {
    child: Child,
    lines: Receiver<String>,
}

impl Script {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that it prints.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the script said nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the script ended"),
        }
    }

    /// Writes a line to its stdin, which the command must have asked for.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its stdin is a pipe");
        writeln!(stdin, "{line}").expect("the script reads");
    }

    /// The next line that begins so; others are passed over.
    #[track_caller]
    pub(crate) fn line_of(&self, start: &str) -> String {
        loop {
            let line = self.line();
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A CommonJS script in a folder of its own, with the foreign modules beside it.
pub(crate) struct NodeScript {
    folder: tempfile::TempDir,
}

impl NodeScript {
    pub(crate) fn new(modules: &Path, text: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
        std::fs::write(folder.path().join("script.cjs"), text).unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command that runs it. What it writes for a while is in its folder, and goes with it: a
    /// browser's profile, too.
    pub(crate) fn command(&self) -> Command {
        let folder = self.folder.path();
        let mut node = Command::new("node");
        node.arg("script.cjs").current_dir(folder).env("TMPDIR", folder);
        node
    }

    pub(crate) fn start(&self) -> Script {
        Script::start(&mut self.command())
    }
}
