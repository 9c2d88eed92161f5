//! The arguments of `fieldgate deconz`.

use std::time::Duration;

use clap::Subcommand;

use super::{Place, Place2, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum DeconzCommand {
    /// Let apps make keys for themselves for a while.
    #[command(after_help = "Example: fieldgate deconz unlock --for 60s")]
    Unlock {
        /// For how long: whole seconds, 10m at most.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds, default_value = "60s")]
        time: Duration,
        #[command(flatten)]
        place: Place,
    },
    /// The keys that apps made.
    #[command(subcommand)]
    Keys(DeconzKeyCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeconzKeyCommand {
    /// List the keys by their ids.
    #[command(after_help = "Example: fieldgate deconz keys list")]
    List(Place2),
    /// End a key, and what it opened.
    #[command(after_help = "Example: fieldgate deconz keys revoke k3Xd92ab --yes")]
    Revoke {
        /// Its id, as `list` shows it; it may begin with a hyphen.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Reads a time of whole seconds that the gateway takes.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let is_whole = time.subsec_millis() == 0 && (1..=600).contains(&time.as_secs());
    is_whole.then_some(time).ok_or_else(|| "write whole seconds, 1s to 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn an_id_of_a_key_may_look_like_a_flag() {
        for order in [["--yes", "-k3Xd_2b"], ["-k3Xd_2b", "--yes"]] {
            let line = ["fieldgate", "deconz", "keys", "revoke"].into_iter().chain(order);
            let cli = Cli::try_parse_from(line.chain(["--json"])).unwrap();
            let Command::Deconz(DeconzCommand::Keys(command)) = cli.command else {
                panic!("another command")
            };
            let DeconzKeyCommand::Revoke { id, yes, place } = command else { panic!("no revoke") };
            assert!(id == "-k3Xd_2b" && yes && place.output.json);
        }
    }

    #[test]
    fn apps_have_whole_seconds_and_ten_minutes_at_most() {
        assert_eq!(seconds("1000ms"), Ok(Duration::from_secs(1)));
        assert_eq!(seconds("10m"), Ok(Duration::from_secs(600)));
        for text in ["0s", "1500ms", "11m", "60", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
