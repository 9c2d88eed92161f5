//! The arguments of `fieldgate deconz`.

use std::time::Duration;

use clap::Subcommand;

use super::{NamedYes, Place, Place2, duration};

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
    #[command(after_help = "Example: fieldgate deconz keys revoke app-k3Xd92ab --yes")]
    Revoke(NamedYes),
}

/// Reads a time of whole seconds that the gateway takes.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let is_whole = time.subsec_millis() == 0 && (1..=600).contains(&time.as_secs());
    is_whole.then_some(time).ok_or_else(|| "write whole seconds, 1s to 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_have_whole_seconds_and_ten_minutes_at_most() {
        assert_eq!(seconds("1000ms"), Ok(Duration::from_secs(1)));
        assert_eq!(seconds("10m"), Ok(Duration::from_secs(600)));
        for text in ["0s", "1500ms", "11m", "60", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
