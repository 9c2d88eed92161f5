//! `thethings.*`: the apps of the thethings.iO dialect, and how long their people stay signed in.

use std::collections::BTreeMap;

use fieldgate_core::id::TenantId;
use fieldgate_dialects::Naming;
use serde::{Deserialize, Serialize};

use super::{About, AboutField};

/// Most apps.
const APPS_MAX: usize = 100;
/// Longest id of an app, in bytes.
const APP_BYTES_MAX: usize = 128;
/// Longest session, in days.
const DAYS_MAX: u64 = 365;

section! {
    /// The thethings.iO dialect.
    Thethings {
        /// The apps whose people sign in: a table of their ids, such as
        /// {"my-app" = { tenant = "default", register = false }}. With register = true people enter
        /// themselves.
        apps: BTreeMap<String, App> = BTreeMap::new(),
        /// What its people sign in with holds for so many days.
        session_days: u64 = 30,
        /// Under which names values are told: `"own"`, as their devices sent them, or `"canonical"`,
        /// converted to the canonical units.
        names: String = "own".to_owned(),
    }
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The tenant of its people and things.
    pub tenant: String,
    /// Whether people may enter themselves.
    #[serde(default)]
    pub register: bool,
}

/// What the template shows of the apps.
pub(super) const EXAMPLE: &str = r#"{ "my-app" = { tenant = "default", register = false } }"#;

/// The JSON Schema of the apps.
pub(super) fn schema() -> serde_json::Value {
    serde_json::json!({"type": "object", "additionalProperties": {
        "type": "object",
        "required": ["tenant"],
        "additionalProperties": false,
        "properties": {
            "tenant": {"type": "string"},
            "register": {"type": "boolean", "default": false},
        },
    }})
}

impl Thethings {
    /// Under which names values are told.
    pub(crate) fn naming(&self) -> Naming {
        naming(&self.names)
    }

    /// What is wrong with the apps.
    pub(super) fn wrong_apps(&self) -> Vec<String> {
        let too_many =
            (self.apps.len() > APPS_MAX).then(|| format!("has more than {APPS_MAX} apps"));
        let wrong = self.apps.iter().filter_map(|(id, app)| {
            let name =
                id.is_empty() || id.len() > APP_BYTES_MAX || id.chars().any(char::is_control);
            let name = name.then(|| format!("cannot have {id:?}: an id is 1 to 128 bytes"));
            let tenant = app.tenant.parse::<TenantId>().err();
            name.or_else(|| tenant.map(|error| format!("of {id:?}: {error}")))
        });
        too_many.into_iter().chain(wrong).collect()
    }

    /// Whether a session is too short or too long.
    pub(super) fn has_wrong_days(&self) -> bool {
        !(1..=DAYS_MAX).contains(&self.session_days)
    }
}

/// What a key `names` says.
pub(super) fn naming(word: &str) -> Naming {
    if word == "canonical" { Naming::Canonical } else { Naming::Own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_an_id_and_a_tenant() {
        let wrong = |id: &str, tenant: &str| {
            let app = App { tenant: tenant.to_owned(), register: false };
            let apps = BTreeMap::from([(id.to_owned(), app)]);
            Thethings { apps, ..Thethings::default() }.wrong_apps()
        };
        assert!(wrong("my app", "default").is_empty());
        for (id, tenant) in [("", "default"), ("a\n", "default"), ("a", ""), ("a", "No Tenant")] {
            assert_eq!(wrong(id, tenant).len(), 1, "{id:?} {tenant:?}");
        }
        assert!(!Thethings::default().has_wrong_days());
        for session_days in [0, 366] {
            assert!(Thethings { session_days, ..Thethings::default() }.has_wrong_days());
        }
    }
}
