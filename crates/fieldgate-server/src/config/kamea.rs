//! `kamea.*`: which tenants Kamea clients may name, what they are sent, and who decides what they see.

use std::collections::{BTreeMap, BTreeSet};

use fieldgate_core::id::TenantId;
use fieldgate_dialects::{
    Naming,
    kamea::{Body, QuestionBody, QuestionPath, TELEMETRIES, is_uuid},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{About, AboutField, things::naming};
use crate::deliver::address::read_url;

/// Most tenants.
const TENANTS_MAX: usize = 10_000;
/// Longest name of an event, in bytes.
const EVENT_BYTES_MAX: usize = 128;
/// What Socket.IO says itself, and what the namespace says otherwise.
const RESERVED: [&str; 8] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "access_denied",
    "internal_server_error",
];

section! {
    /// Kamea clients, in the Socket.IO namespace /devices.
    Kamea {
        /// Which tenant each `tenantId` means: a table of UUIDs and names, such as
        /// {"12b80a37-d30e-49f1-af3b-356ecc1ad96c" = "default"}.
        tenants: BTreeMap<String, String> = BTreeMap::new(),
        /// The name of the event that brings telemetries.
        event: String = TELEMETRIES.to_owned(),
        /// Its body: JSON whose texts may hold {deviceId}, {tenantId}, {timestamp} (ISO 8601),
        /// {timestampMs} and {telemetries} (an object of names and values).
        body: Body = Body::default(),
        /// Under which names values are told: `"own"`, as their devices sent them, or `"canonical"`,
        /// converted to the canonical units.
        names: String = "own".to_owned(),
        /// Who decides what a client may see.
        authorization: Authorization = Authorization::default(),
    }
}

section! {
    /// Who decides what a Kamea client may see.
    Authorization {
        /// `"builtin"`: the rights that its token has here; or `"http"`: a service is asked, which is
        /// handed the token as it came.
        mode: String = "builtin".to_owned(),
        /// Where that service is.
        url: String = String::new(),
        /// How it is asked: `"POST"`, `"PUT"` or `"GET"`, which takes no body.
        method: String = "POST".to_owned(),
        /// The address below `url`; it may hold {deviceId}, {tenantId} and {permission}.
        path: QuestionPath = QuestionPath::default(),
        /// What it is asked: JSON whose texts may hold {deviceId}, {tenantId} and {permission}.
        body: QuestionBody = QuestionBody::default(),
        /// The right that it is asked for.
        permission: String = "read.telemetry".to_owned(),
        /// Where in its answer true or false must stand: a member, or a JSON Pointer. Empty: a good
        /// status is a yes, unless the body is false or has "authorized" as false.
        answer: String = String::new(),
        /// How long an answer may take, in ms: at most 60000.
        timeout_ms: u64 = 3_000,
        /// After how many seconds at the latest it is asked again about what is open: 1 to 86400.
        recheck_s: u64 = 60,
    }
}

/// What the template shows of tenants.
pub(super) const EXAMPLE: &str = r#"{ "12b80a37-d30e-49f1-af3b-356ecc1ad96c" = "default" }"#;

impl Kamea {
    /// Under which names values are told.
    pub(crate) fn naming(&self) -> Naming {
        naming(&self.names)
    }

    /// The tenant that a `tenantId` means, in whatever case it is written.
    pub(crate) fn tenant_of(&self, tenant_id: &str) -> Option<TenantId> {
        let found = self.tenants.get(tenant_id).or_else(|| {
            let mut all = self.tenants.iter();
            all.find(|(id, _)| id.eq_ignore_ascii_case(tenant_id)).map(|(_, tenant)| tenant)
        });
        found?.parse().ok()
    }

    /// The `tenantId` of a tenant; of several the first one.
    #[allow(dead_code, reason = "the events of the namespace name it")]
    pub(crate) fn tenant_id_of(&self, tenant: &TenantId) -> Option<&str> {
        let mut all = self.tenants.iter();
        all.find(|(_, name)| *name == tenant.as_str()).map(|(id, _)| id.as_str())
    }

    /// What is wrong: the key, and why.
    pub(super) fn wrong(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.tenants.len() > TENANTS_MAX {
            wrong.push(("kamea.tenants", format!("has more than {TENANTS_MAX} tenants")));
        }
        let mut seen = BTreeSet::new();
        for (id, tenant) in &self.tenants {
            let why = if !is_uuid(id) {
                Some("it is no UUID".to_owned())
            } else if !seen.insert(id.to_ascii_lowercase()) {
                Some("it is there in another case".to_owned())
            } else {
                tenant.parse::<TenantId>().err().map(|error| error.to_string())
            };
            wrong.extend(why.map(|why| ("kamea.tenants", format!("cannot have {id:?}: {why}"))));
        }
        let is_long = self.event.is_empty() || self.event.len() > EVENT_BYTES_MAX;
        if is_long || self.event.chars().any(char::is_control) {
            let why = "is 1 to 128 bytes without control characters";
            wrong.push(("kamea.event", why.to_owned()));
        } else if RESERVED.contains(&self.event.as_str()) {
            let why = format!("cannot be {:?}: it has a meaning of its own", self.event);
            wrong.push(("kamea.event", why));
        }
        wrong.extend(self.authorization.wrong());
        wrong
    }
}

impl Authorization {
    /// Whether a service is asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.mode == "http"
    }

    /// The address of the service; an administrator says it, so that it may be a private one.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub(crate) fn base(&self) -> Result<Url, String> {
        let url =
            read_url(&self.url, ["http", "https"], true).map_err(|error| error.to_string())?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a query belongs into `kamea.authorization.path`".to_owned());
        }
        Ok(url)
    }

    fn wrong(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.url.is_empty() {
            if self.is_asked() {
                let why = "must be set: `kamea.authorization.mode` is \"http\"".to_owned();
                wrong.push(("kamea.authorization.url", why));
            }
        } else if let Err(why) = self.base() {
            wrong.push(("kamea.authorization.url", format!("cannot be {:?}: {why}", self.url)));
        }
        if self.permission.len() > 256 || self.answer.len() > 256 {
            let key = "kamea.authorization.permission";
            wrong.push((key, "and `answer` have at most 256 bytes".to_owned()));
        }
        if !(1..=60_000).contains(&self.timeout_ms) {
            wrong.push(("kamea.authorization.timeout_ms", "is 1 to 60000".to_owned()));
        }
        if !(1..=86_400).contains(&self.recheck_s) {
            wrong.push(("kamea.authorization.recheck_s", "is 1 to 86400".to_owned()));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12B80A37-D30E-49F1-AF3B-356ECC1AD96C";

    fn kamea(set: impl FnOnce(&mut Kamea)) -> Kamea {
        let mut kamea = Kamea::default();
        set(&mut kamea);
        kamea
    }

    #[test]
    fn a_tenant_is_found_in_either_case_and_back() {
        let kamea = kamea(|kamea| {
            kamea.tenants.insert(ID.to_owned(), "plant".to_owned());
        });
        let plant: TenantId = "plant".parse().unwrap();
        for id in [ID.to_owned(), ID.to_lowercase()] {
            assert_eq!(kamea.tenant_of(&id), Some(plant.clone()), "{id}");
        }
        assert_eq!(kamea.tenant_of(&ID.replace('1', "2")), None);
        assert_eq!(kamea.tenant_id_of(&plant), Some(ID));
        assert_eq!(kamea.tenant_id_of(&TenantId::default_tenant()), None);
        assert!(kamea.wrong().is_empty());
    }

    #[test]
    fn what_cannot_hold_is_told_with_its_key() {
        assert!(Kamea::default().wrong().is_empty());
        let tenants = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
            kamea(|kamea| kamea.tenants = pairs.collect())
        };
        let asked = |change: fn(&mut Authorization)| {
            kamea(|kamea| {
                kamea.authorization.mode = "http".to_owned();
                kamea.authorization.url = "http://10.0.0.1:80/api/".to_owned();
                change(&mut kamea.authorization);
            })
        };
        assert!(asked(|_| ()).wrong().is_empty());
        for (kamea, key, expected) in [
            (tenants(&[("default", "default")]), "kamea.tenants", "it is no UUID"),
            (tenants(&[(ID, "a b")]), "kamea.tenants", "a tenant name is"),
            (tenants(&[(ID, "a"), (&ID.to_lowercase(), "a")]), "kamea.tenants", "another case"),
            (kamea(|kamea| kamea.event = String::new()), "kamea.event", "1 to 128"),
            (kamea(|kamea| kamea.event = "disconnect".to_owned()), "kamea.event", "its own"),
            (asked(|of| of.url = String::new()), "kamea.authorization.url", "must be set"),
            (asked(|of| of.url = "ftp://a".to_owned()), "kamea.authorization.url", "scheme"),
            (
                asked(|of| of.url = "http://169.254.169.254".to_owned()),
                "kamea.authorization.url",
                "never",
            ),
            (asked(|of| of.url = "http://u:p@a".to_owned()), "kamea.authorization.url", "password"),
            (asked(|of| of.url = "http://a/?b".to_owned()), "kamea.authorization.url", "query"),
            (asked(|of| of.timeout_ms = 0), "kamea.authorization.timeout_ms", "1 to 60000"),
            (asked(|of| of.recheck_s = 0), "kamea.authorization.recheck_s", "1 to 86400"),
            (asked(|of| of.answer = "x".repeat(257)), "kamea.authorization.permission", "256"),
        ] {
            let wrong = kamea.wrong();
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].0 == key && wrong[0].1.contains(expected), "{wrong:?}");
        }
    }
}
