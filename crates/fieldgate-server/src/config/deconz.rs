//! `deconz.*`: what apps for a deCONZ gateway see, and who may listen to its push socket.
//!
//! Keys alone: the listener is another's. Source: `cli.md`, "Configuration".

use std::num::NonZeroU16;

use fieldgate_core::id::TenantId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{About, AboutField};
use crate::forwarded::Networks;

/// Longest name of the gateway, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most addresses and networks that need no key to listen.
const PUSH_ALLOW_MAX: usize = 100;

section! {
    /// The deCONZ interface, on listen.deconz.
    Deconz {
        /// The tenant whose devices its apps see, and whose keys they get.
        tenant: String = "default".to_owned(),
        /// A further port of the push socket: a number; `"auto"`, which takes the first free one of
        /// 443, 8080, 8088 and 20877, else any; or `""`, none: it is on listen.deconz alone.
        ws_port: WsPort = WsPort::None,
        /// What apps are told that the gateway is called.
        name: String = "Fieldgate".to_owned(),
        /// Whether a change is pushed with everything else of its kind, not with what changed alone.
        notify_all: bool = false,
        /// Who may listen to the push socket without a key: `"known"`, addresses from which a key was
        /// used within a day; or `"open"`, everybody.
        push: String = "known".to_owned(),
        /// Addresses and networks that may listen to it besides.
        push_allow: Vec<String> = Vec::new(),
        /// Whether a wrong key at `/api/KEY/config` is answered with what everybody may know, as some
        /// apps expect; else it is refused.
        basic_config: bool = false,
    }
}

/// A further port of the push socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WsPort {
    /// There is none.
    #[default]
    None,
    /// The first that is free of those that apps know.
    Auto,
    /// This one. Zero is none: to some it means no port, to others any.
    Port(NonZeroU16),
}

impl Serialize for WsPort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str(""),
            Self::Auto => serializer.serialize_str("auto"),
            Self::Port(port) => serializer.serialize_u16(port.get()),
        }
    }
}

impl<'de> Deserialize<'de> for WsPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Port(NonZeroU16),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Port(port) => Ok(Self::Port(port)),
            Written::Word(word) if word.is_empty() => Ok(Self::None),
            Written::Word(word) if word == "auto" => Ok(Self::Auto),
            Written::Word(word) => Err(de::Error::custom(format!("{word:?} is no port"))),
        }
    }
}

impl Deconz {
    /// What is wrong: the key, and why. `is_served`: there is a listener for it.
    pub(super) fn wrong(&self, is_served: bool) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.ws_port != WsPort::None && !is_served {
            let why = "is beside listen.deconz, which is empty: name its address there".to_owned();
            wrong.push(("deconz.ws_port", why));
        }
        if let Err(error) = self.tenant.parse::<TenantId>() {
            wrong.push(("deconz.tenant", format!("cannot be {:?}: {error}", self.tenant)));
        }
        let is_long = self.name.is_empty() || self.name.len() > NAME_BYTES_MAX;
        if is_long || self.name.chars().any(char::is_control) {
            let why = format!("is 1 to {NAME_BYTES_MAX} bytes without control characters");
            wrong.push(("deconz.name", why));
        }
        if self.push_allow.len() > PUSH_ALLOW_MAX {
            let why = format!("has more than {PUSH_ALLOW_MAX} addresses and networks");
            wrong.push(("deconz.push_allow", why));
        } else if !self.push_allow.iter().all(|text| Networks::is_network(text)) {
            let why = "is a list of addresses and networks such as \"10.0.0.0/8\"";
            wrong.push(("deconz.push_allow", why.to_owned()));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_hold_is_told_with_its_key() {
        assert!(Deconz::default().wrong(false).is_empty());
        let good = Deconz {
            push_allow: vec!["::1".to_owned(), "10.0.0.0/8".to_owned()],
            ..Deconz::default()
        };
        assert!(good.wrong(true).is_empty());
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (wrong, key) in [
            (Deconz { tenant: "No Tenant".to_owned(), ..Deconz::default() }, "deconz.tenant"),
            (Deconz { tenant: String::new(), ..Deconz::default() }, "deconz.tenant"),
            (Deconz { name: String::new(), ..Deconz::default() }, "deconz.name"),
            (Deconz { name: long, ..Deconz::default() }, "deconz.name"),
            (Deconz { name: "a\n".to_owned(), ..Deconz::default() }, "deconz.name"),
            (
                Deconz { push_allow: vec!["10.0.0.0/33".to_owned()], ..Deconz::default() },
                "deconz.push_allow",
            ),
            (
                Deconz { push_allow: vec!["::1".to_owned(); 101], ..Deconz::default() },
                "deconz.push_allow",
            ),
        ] {
            let told = wrong.wrong(true);
            assert!(told.len() == 1 && told[0].0 == key, "{told:?}");
        }
        let beside = Deconz { ws_port: WsPort::Auto, ..Deconz::default() };
        assert!(beside.wrong(true).is_empty());
        assert!(matches!(&beside.wrong(false)[..], [("deconz.ws_port", _)]));
    }
}
