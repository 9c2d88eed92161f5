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
            for word in ["Instant::now", "SystemTime::now", "thread::spawn", "env::var", "tokio::"]
            {
                assert!(!text.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let allowed: &[(&str, &[&str])] = &[
        ("fieldgate-core", &[]),
        ("fieldgate-dialects", &["fieldgate-core"]),
        ("fieldgate-store", &["fieldgate-core"]),
        ("fieldgate-server", &["fieldgate-core", "fieldgate-dialects", "fieldgate-store"]),
        ("fieldgate-client", &["fieldgate-core", "fieldgate-dialects"]),
    ];
    for (name, allowed) in allowed {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let dependencies = text.split("[dependencies]").nth(1).unwrap();
        let dependencies = dependencies.split("[dev-dependencies]").next().unwrap();
        let ours = dependencies.lines().filter(|line| line.starts_with("fieldgate"));
        for line in ours {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_documents_are_there() {
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"] {
        assert!(root().join(name).is_file(), "{name}");
    }
}
