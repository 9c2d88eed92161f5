//! The steps of a run: form first, then tests. Each is one command, said before it starts.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::foreign;

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs one command in the checkout; fails with its line.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    run_in(&root(), program, arguments, &[])
}

/// Runs one command in `folder` with more environment; fails with its line.
pub(crate) fn run_in(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    eprintln!("==> {line}");
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .status()
        .with_context(|| format!("{line} could not be started"))?;
    if !status.success() {
        bail!("{line} failed: {status}");
    }
    Ok(())
}

/// Formatting and lints; warnings are errors here and nowhere else.
pub(crate) fn check_form() -> anyhow::Result<()> {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    run_in(
        &root(),
        "cargo",
        &["doc", "--workspace", "--no-deps", "--locked"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )
}

/// Every test, with the foreign clients and suites they need.
pub(crate) fn test_all() -> anyhow::Result<()> {
    let clients = foreign::install_clients()?;
    let environment = [
        ("FIELDGATE_TEST_PYTHON", clients.python.as_str()),
        ("FIELDGATE_TEST_NODE_MODULES", clients.node_modules.as_str()),
        ("FIELDGATE_TEST_CHROMIUM", foreign::install_browser()?),
        ("FIELDGATE_TEST_FOREIGN", "required"),
    ];
    run_in(&root(), "cargo", &["test", "--workspace", "--locked"], &environment)?;
    foreign::lint_description()?;
    match foreign::autobahn()? {
        foreign::Suite::Passed(count) => eprintln!("Autobahn core: {count} cases passed"),
        foreign::Suite::Skipped(why) => {
            eprintln!("\n!!! AUTOBAHN WAS SKIPPED: {why}\n!!! Our own port of its classes ran.\n");
        }
    }
    Ok(())
}
