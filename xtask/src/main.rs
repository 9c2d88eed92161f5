//! What a developer and CI run: `cargo xtask test` installs what the tests need and runs them all,
//! `cargo xtask ci` checks form alone.
//!
//! In: nothing but the checkout and the package registries. Every step is said before it runs; the
//! first that fails ends the run.

mod foreign;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let result = match task.as_deref() {
        Some("test") => steps::check_form().and_then(|()| steps::test_all()),
        Some("ci") => steps::check_form(),
        Some("autobahn") => foreign::autobahn().map(|_| ()),
        _ => {
            eprintln!("usage: cargo xtask test | ci | autobahn");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
