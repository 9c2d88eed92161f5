//! The arguments of the commands that make and end devices, people, keys and tenants.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fieldgate_core::topic::{Filter, InvalidTopic};

use super::{Named, NamedYes, Place, Place2, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device; prints its secret once.
    #[command(after_help = "Example: fieldgate device add sensor-001 --group cellar")]
    Add(DeviceAdd),
    /// List the devices.
    #[command(after_help = "Example: fieldgate device list --json")]
    List(Place2),
    /// Show one device.
    #[command(after_help = "Example: fieldgate device show sensor-001")]
    Show(Named),
    /// Remove a device; its token ends.
    #[command(after_help = "Example: fieldgate device remove sensor-001 --yes")]
    Remove(NamedYes),
    /// Replace all of a device's secrets by a new one; prints it once.
    #[command(after_help = "Example: fieldgate device rotate sensor-001 --yes")]
    Rotate(NamedYes),
    /// Say whether each frame of a device must be signed.
    #[command(after_help = "Example: fieldgate device integrity sensor-001 required")]
    Integrity {
        /// The device.
        id: String,
        /// What holds from now on.
        #[arg(value_enum)]
        integrity: IntegrityName,
        #[command(flatten)]
        place: Place,
    },
    /// A device's secrets beside its first.
    #[command(subcommand)]
    Credential(CredentialCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ActivationCommand {
    /// Make a code; prints it once.
    #[command(after_help = "Example: fieldgate activation add --kind sensor --group cellar")]
    Add {
        /// The id of the device to be; without it, a random one.
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// What the device is to be: light, plug, cover, lock, thermostat, switch, sensor, gateway,
        /// machine or other.
        #[arg(long)]
        kind: Option<String>,
        /// A group that it is to be in; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// When the code ends by itself; 30 days from now unless named.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        place: Place,
    },
    /// List the codes that are not spent, by their ids.
    #[command(after_help = "Example: fieldgate activation list")]
    List(Place2),
    /// Take a code back.
    #[command(after_help = "Example: fieldgate activation remove code-k3Xd92ab --yes")]
    Remove(NamedYes),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialCommand {
    /// Give a device one more secret; prints it once.
    #[command(after_help = "Example: fieldgate device credential add sensor-001")]
    Add {
        /// The device.
        id: String,
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        place: Place,
    },
    /// List a device's secrets by their ids.
    #[command(after_help = "Example: fieldgate device credential list sensor-001")]
    List(Named),
    /// End one secret of a device, and the connection that it opened.
    #[command(
        after_help = "Example: fieldgate device credential remove sensor-001 token-Xk3vQ1aB --yes"
    )]
    Remove {
        /// The device.
        id: String,
        /// The secret's id, as `list` shows it.
        credential: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Which secret a device gets.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// What it is for: `thing` serves the thethings.iO dialect alone, `hmac` is never sent but signs.
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value = "token")]
    pub(crate) credential: CredentialType,
    /// Take the token from stdin (16 bytes or more; of a thing exactly 43 base64url characters).
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// Who connects with it may replace the device's profile, and those of devices it speaks for.
    #[arg(long)]
    pub(crate) allow_profile: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceAdd {
    /// Its id: 1 to 128 of A-Z a-z 0-9 . _ : ~ -
    pub(crate) id: String,
    /// What it is: light, plug, cover, lock, thermostat, switch, sensor, gateway, machine or other;
    /// it gets the profile of that kind.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// A group that it is in; may be given several times.
    #[arg(long = "group", value_name = "G")]
    pub(crate) groups: Vec<String>,
    /// A name for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// The device ids that it may speak for.
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) gateway_for: Option<String>,
    /// Whether each of its frames must be signed; then the secret is of the type `hmac`.
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) integrity: IntegrityName,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IntegrityName {
    Off,
    Required,
}

impl IntegrityName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
        }
    }
}

/// Reads a filter.
pub(super) fn filter(text: &str) -> Result<String, InvalidTopic> {
    text.parse::<Filter>().map(|filter| filter.as_str().to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CredentialType {
    Token,
    Thing,
    Hmac,
}

impl CredentialType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Thing => "thing",
            Self::Hmac => "hmac",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user.
    #[command(
        after_help = "Example: fieldgate user add ada --role operator --password-stdin < secret"
    )]
    Add {
        /// The name.
        name: String,
        /// What they may do.
        #[arg(long, value_enum)]
        role: RoleName,
        /// An address to sign in with beside the name, in apps of thethings.iO.
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// Take the password (8 characters or more) from stdin; else the terminal asks for it.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Replace a user's password.
    #[command(after_help = "Example: fieldgate user password ada --password-stdin < secret")]
    Password {
        /// The name.
        name: String,
        /// Take the password (8 characters or more) from stdin; else the terminal asks for it.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the users.
    #[command(after_help = "Example: fieldgate user list")]
    List(Place2),
    /// Remove a user.
    #[command(after_help = "Example: fieldgate user remove ada --yes")]
    Remove(NamedYes),
}

#[derive(Debug, Args)]
pub(crate) struct LoginLinkArgs {
    /// Who; without it, the one admin there is.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Admin,
    Operator,
    Viewer,
    Member,
}

impl RoleName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Member => "member",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key; prints it once.
    #[command(
        after_help = "Example: fieldgate key add dashboard --grant 'subscribe:devices/+/telemetry'"
    )]
    Add {
        /// Its name.
        name: String,
        /// What it may do; without a role the grants are all it has.
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// VERB:FILTER, `!` in front denies; may be given several times.
        #[arg(long = "grant", value_name = "VERB:FILTER")]
        grants: Vec<String>,
        /// When it ends by itself.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        place: Place,
    },
    /// List the keys.
    #[command(after_help = "Example: fieldgate key list")]
    List(Place2),
    /// End a key.
    #[command(after_help = "Example: fieldgate key revoke dashboard --yes")]
    Revoke(NamedYes),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant; make its first key or person with `--tenant` then.
    #[command(after_help = "Example: fieldgate tenant add acme --devices 500")]
    Add {
        /// Its name: 1 to 64 of a-z 0-9 -
        name: String,
        /// Most connections.
        #[arg(long, value_name = "N")]
        connections: Option<u64>,
        /// Most devices, where that is less than the configuration gives each tenant.
        #[arg(long, value_name = "N")]
        devices: Option<u64>,
        /// Most retained messages, where that is less than the configuration gives each tenant.
        #[arg(long, value_name = "N")]
        retained: Option<u64>,
        /// Messages a second of all that is in it.
        #[arg(long, value_name = "N")]
        messages_per_second: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// List the tenants and what they have.
    #[command(after_help = "Example: fieldgate tenant list")]
    List(Place2),
    /// Remove a tenant with everything in it; its name is not given again.
    #[command(after_help = "Example: fieldgate tenant remove acme --yes")]
    Remove(NamedYes),
}
