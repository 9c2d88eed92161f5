//! The rules of the house that a machine can check.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | "node_modules" | ".git" | "corpus")
        {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask", "bench"] {
        sources(&root().join(folder), &mut found);
    }
    found
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no header", path.display());
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

#[test]
fn pure_crates_know_no_clock_thread_or_file() {
    for name in ["fieldgate-core", "fieldgate-dialects"] {
        let mut found = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut found);
        for path in found {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests read their examples from files, and compare with other people's code.
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            for word in IMPURE {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
            let is_core = name == "fieldgate-core";
            assert!(!is_core || !code.contains("serde"), "{} uses serde", path.display());
        }
        let known: Vec<String> = dependencies(name).collect();
        let allowed = PURE.iter().find(|(of, _)| *of == name).unwrap().1;
        let new: Vec<_> = known.iter().filter(|one| !allowed.contains(&one.as_str())).collect();
        assert!(!known.is_empty() && new.is_empty(), "is {new:?} as pure as {name}?");
    }
}

/// What a pure crate does not say: each means the time, a thread, the disk, or the network.
const IMPURE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "std::thread",
    "std::env",
    "std::process",
    "std::fs",
    "fs::File",
    "TcpStream",
    "UdpSocket",
    "tokio",
];

/// The pure crates, and what they may depend on: nothing of it has a clock, a thread or a file.
const PURE: [(&str, &[&str]); 2] = [
    ("fieldgate-core", &["bytes", "thiserror"]),
    (
        "fieldgate-dialects",
        &[
            "aws-lc-rs",
            "base64",
            "bytes",
            "fieldgate-core",
            "flate2",
            "jiff",
            "minicbor",
            "prost",
            "serde",
            "serde_json",
            "siphasher",
            "thiserror",
        ],
    ),
];

/// What the manifest of a crate names as its dependencies, those of its tests left out.
fn dependencies(name: &str) -> impl Iterator<Item = String> {
    let manifest = root().join("crates").join(name).join("Cargo.toml");
    let text = std::fs::read_to_string(manifest).unwrap();
    let section = text.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<_> =
        names.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).collect();
    names.into_iter()
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let allowed: &[(&str, &[&str])] = &[
        ("fieldgate-core", &[]),
        ("fieldgate-dialects", &["fieldgate-core"]),
        ("fieldgate-store", &["fieldgate-core"]),
        (
            "fieldgate-server",
            &["fieldgate-core", "fieldgate-dialects", "fieldgate-store", "fieldgate-uring"],
        ),
        ("fieldgate-uring", &[]),
        ("fieldgate-client", &["fieldgate-core", "fieldgate-dialects"]),
    ];
    for (name, allowed) in allowed {
        for dependency in dependencies(name).filter(|one| one.starts_with("fieldgate")) {
            let allowed = allowed.contains(&dependency.as_str());
            assert!(allowed, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn one_crate_alone_may_be_unsafe() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let manifest = root().join("crates").join(&name).join("Cargo.toml");
        let inherits =
            std::fs::read_to_string(manifest).unwrap().contains("[lints]\nworkspace = true");
        assert_eq!(inherits, name != "fieldgate-uring", "{name}: the workspace forbids `unsafe`");
    }
}

#[test]
fn the_documents_are_there() {
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"] {
        assert!(root().join(name).is_file(), "{name}");
    }
}

/// What stands in the test of this name in a file below `crates`, if there is one.
pub(crate) fn body_of_test(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(root().join("crates").join(file)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let start = |line: &str| line.contains(&format!("fn {name}("));
    let is_test = |at: usize| {
        let above = lines[..at].iter().rev().map(|line| line.trim_start());
        above.take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
    };
    let at = (0..lines.len()).find(|at| start(lines[*at]) && is_test(*at))?;
    let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
    let end = format!("{indent}}}");
    let body = lines[at..].iter().take_while(|line| **line != end);
    Some(body.copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_promise_names_tests_that_there_are() {
    let read = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let (promises, proof) = (read("guarantees.md"), read("proof.md"));
    let mut wanted: Vec<String> = (1..).map(|number| number.to_string()).take(99).collect();
    wanted.retain(|number| promises.contains(&format!("\n{number}. ")));
    wanted.extend(promises.lines().filter_map(|line| Some(line.strip_prefix("## ")?.to_owned())));
    assert!(wanted.len() > 8, "{wanted:?}");
    let mut proved = Vec::new();
    for row in proof.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (promise, test) = (cells[1], cells[2].trim_matches('`'));
        assert!(wanted.iter().any(|one| one == promise), "{promise} is no promise");
        if test == "none" {
            continue;
        }
        let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test} is no test"));
        assert!(body_of_test(file, name).is_some(), "there is no {test}");
        proved.push(promise);
    }
    for promise in wanted {
        assert!(proved.contains(&promise.as_str()), "nothing proves {promise}");
    }
}

#[test]
fn every_case_of_the_suites_of_socket_io_names_tests_that_there_are() {
    let page = root().join("docs/protocol/socketio-cases.md");
    let page = std::fs::read_to_string(page).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.contains("| test |");
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    assert!(rows.len() > 45, "{}", rows.len());
    for row in rows {
        let named = row.split('`').filter_map(|word| word.split_once(".rs::"));
        let mut test_count = 0;
        for (file, name) in named {
            // Those without a folder are beside this one.
            let folder = if file.contains('/') { "" } else { "fieldgate/tests/it/" };
            let is_there = body_of_test(&format!("{folder}{file}.rs"), name).is_some();
            assert!(is_there, "there is no {file}.rs::{name}");
            test_count += 1;
        }
        assert!(test_count > 0 || row.contains("| none: "), "no test: {row}");
    }
}
