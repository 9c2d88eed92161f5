//! The arguments of the commands about what flows in from other systems, and out to them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Named, NamedYes, Output, Place, Place2, registry::filter};

#[derive(Debug, Subcommand)]
pub(crate) enum IntegrationCommand {
    /// Make an integration; prints the secret that it is given, once.
    #[command(after_help = "Example: fieldgate integration add cloud --kind thingsee-in
          fieldgate integration add warehouse --kind rest --url https://api.example.com/in \\
            --token-in header:Authorization --secret-stdin < secret")]
    Add(Box<IntegrationAdd>),
    /// List the integrations and how they do.
    #[command(after_help = "Example: fieldgate integration list")]
    List(Place2),
    /// Show one integration.
    #[command(after_help = "Example: fieldgate integration show warehouse")]
    Show(Named),
    /// Try a target once, without a message; exit 1 if it would take none.
    #[command(after_help = "Example: fieldgate integration test warehouse")]
    Test(Named),
    /// Let an integration rest.
    #[command(after_help = "Example: fieldgate integration pause warehouse")]
    Pause(Named),
    /// Let it go on from where it came to.
    #[command(after_help = "Example: fieldgate integration resume warehouse")]
    Resume(Named),
    /// Replace the token of what comes in, or the secret that requests are signed with; prints it once.
    #[command(after_help = "Example: fieldgate integration rotate cloud --yes")]
    Rotate(NamedYes),
    /// Deliver again, from somewhere on.
    #[command(after_help = "Example: fieldgate integration replay warehouse --from -2h")]
    Replay {
        /// The integration.
        id: String,
        /// A position `epoch:seq`, an RFC 3339 time, `-10m`, `all`; or `now`: pass over what waits.
        #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
        from: String,
        /// Do not ask before messages that wait are passed over.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the messages that the target does not take.
    #[command(after_help = "Example: fieldgate integration set-aside warehouse")]
    SetAside(Named),
    /// Try a message that was set aside once more.
    #[command(after_help = "Example: fieldgate integration retry warehouse k3f9:4711")]
    Retry(Aside),
    /// Forget a message that was set aside.
    #[command(after_help = "Example: fieldgate integration drop warehouse k3f9:4711 --yes")]
    Drop {
        #[command(flatten)]
        aside: Aside,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Remove an integration.
    #[command(after_help = "Example: fieldgate integration remove warehouse --yes")]
    Remove(NamedYes),
}

/// A message that was set aside.
#[derive(Debug, Args)]
pub(crate) struct Aside {
    /// The integration.
    pub(crate) id: String,
    /// The message's position, as `set-aside` lists it.
    pub(crate) position: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct IntegrationAdd {
    /// Its name: 1 to 128 of A-Z a-z 0-9 . _ : ~ -
    pub(crate) name: String,
    /// What it does.
    #[arg(long, value_enum)]
    pub(crate) kind: KindName,
    /// Where to deliver to: ws: or wss:, http: or https:. A gateway elsewhere is named by
    /// FIELDGATE_URL.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Which topics to deliver; else `devices/+/telemetry`.
    #[arg(long, value_parser = filter)]
    pub(crate) filter: Option<String>,
    /// How messages are written; else `thingsee`.
    #[arg(long, value_enum)]
    pub(crate) format: Option<FormatName>,
    /// Where the secret stands: header:NAME or query:NAME; with hash: in front it is behind the # of
    /// the url.
    #[arg(long, value_name = "PLACE")]
    pub(crate) token_in: Option<String>,
    /// Take the secret that the target is shown from stdin.
    #[arg(long)]
    pub(crate) secret_stdin: bool,
    /// Sign each request; prints the secret for that, once.
    #[arg(long)]
    pub(crate) sign: bool,
    /// From where on: `now`, `all`, a position, an RFC 3339 time, or `-10m`.
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// The target may have a private address.
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// Most messages a second while it is far behind.
    #[arg(long, value_name = "N")]
    pub(crate) messages_per_second: Option<u64>,
    /// Most messages of a batch.
    #[arg(long, value_name = "N")]
    pub(crate) batch_max: Option<u64>,
    #[command(flatten)]
    pub(crate) place: Here,
}

/// [`Place`] without `--url`, which is the target's here.
#[derive(Debug, Args)]
pub(crate) struct Here {
    /// The data folder of a gateway on this machine; else FIELDGATE_DATA, else ./fieldgate-data.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// PEM file of certificates to trust in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The tenant.
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: String,
    #[command(flatten)]
    output: Output,
}

impl Here {
    pub(crate) fn place(&self) -> Place {
        let Self { data, ca, tenant, output } = self;
        Place {
            url: None,
            data: data.clone(),
            ca: ca.clone(),
            tenant: tenant.clone(),
            output: output.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// The Thingsee cloud connects to us.
    ThingseeIn,
    /// We connect to a WebSocket server.
    #[value(name = "websocket")]
    WebSocket,
    /// We post to an HTTP server.
    Rest,
}

impl KindName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ThingseeIn => "thingsee-in",
            Self::WebSocket => "websocket",
            Self::Rest => "rest",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// Arrays of Thingsee objects.
    Thingsee,
    /// Arrays of messages.
    Native,
    /// Messages, one a line.
    NativeLines,
}

impl FormatName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Thingsee => "thingsee",
            Self::Native => "native",
            Self::NativeLines => "native-lines",
        }
    }
}
