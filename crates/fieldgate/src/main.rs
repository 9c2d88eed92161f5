//! The binary: one command line in, one exit code out.
//!
//! Everything that it does is in the crates; here they are put together. Data goes to stdout, logs
//! and everything for people to stderr.

mod args;
mod cli;
mod demo;
mod failure;
mod output;
mod serve;
mod wire;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use failure::Failure;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() && has_json_flag() {
                return Failure::from(error).report(true);
            }
            // Help and version are no failures; clap knows which stream each goes to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let json = wants_json(&cli.command);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.code == "io" && failure.message.contains("Broken pipe") => {
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(json),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Device(command) => cli::device::run(command),
        Command::Activation(command) => cli::device::activation(command),
        Command::User(command) => cli::user::run(command),
        Command::LoginLink(args) => cli::user::login_link(&args),
        Command::Key(command) => cli::key::run(command),
        Command::Integration(command) => cli::integration::run(command),
        Command::Tenant(command) => cli::tenant::run(command),
        Command::Deconz(command) => cli::deconz::run(command),
        Command::Publish(args) => cli::publish::run(args),
        Command::Subscribe(args) => cli::subscribe::run(args),
        Command::Send(args) => cli::command::run(args),
        Command::Status(args) => cli::status::run(&args),
        Command::Log(command) => cli::log::run(command),
        Command::Config(command) => cli::config::run(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fieldgate", &mut script);
            Ok(output::line(&String::from_utf8_lossy(&script))?)
        }
        Command::Version { output } => {
            let version = env!("CARGO_PKG_VERSION");
            let text = serde_json::json!({"name": "fieldgate", "version": version}).to_string();
            Ok(output::line(&if output.json { text } else { format!("fieldgate {version}") })?)
        }
    }
}

/// Errors of a command with `--json` are JSON too.
fn wants_json(command: &Command) -> bool {
    // Every command has the flag under the same name; asking the arguments again is simpler than
    // asking each of them.
    !matches!(command, Command::Serve(_) | Command::Demo(_) | Command::Completions { .. })
        && has_json_flag()
}

fn has_json_flag() -> bool {
    std::env::args_os().take_while(|a| a != "--").any(|a| a == "--json")
}
