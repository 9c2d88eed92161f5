//! `thingsee.paths`: addresses of our own that mean a source, for senders that cannot be told another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{About, AboutField};

/// Most aliases.
const PATHS_MAX: usize = 100;
/// Longest alias, in bytes.
const PATH_BYTES_MAX: usize = 128;
/// What we answer ourselves.
const OWN: [&str; 5] = ["/", "/ws", "/healthz", "/readyz", "/metrics"];
/// The same, with what is below it.
const OWN_BELOW: [&str; 7] =
    ["/v1", "/v2", "/doc", "/console", "/ingest", "/thingsee", "/socket.io"];

section! {
    /// Thingsee, coming in.
    Thingsee {
        /// Further addresses of sources: a table of paths and names, such as {"/socket" = "cloud"}.
        /// Each source is at /ingest/thingsee/NAME as well.
        paths: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// What the template shows of it.
pub(super) const EXAMPLE: &str = r#"{ "/socket" = "cloud" }"#;

impl Thingsee {
    /// What is wrong with the aliases.
    pub(super) fn wrong(&self) -> Vec<String> {
        let too_many =
            (self.paths.len() > PATHS_MAX).then(|| format!("has more than {PATHS_MAX} paths"));
        let wrong = self.paths.iter().filter_map(|(path, source)| {
            wrong_path(path)
                .or_else(|| source.is_empty().then_some("means no source"))
                .map(|why| format!("cannot have {path:?}: it {why}"))
        });
        too_many.into_iter().chain(wrong).collect()
    }
}

fn wrong_path(path: &str) -> Option<&'static str> {
    let is_below = |own: &str| {
        let rest = path.strip_prefix(own);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    };
    if !path.starts_with('/') {
        return Some("does not begin with /");
    }
    if OWN.contains(&path) || OWN_BELOW.into_iter().any(is_below) {
        return Some("is an address of the gateway's own");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("is longer than 128 bytes");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    (!path.bytes().all(plain)).then_some("holds more than letters, digits and / - . _ ~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_a_plain_path_that_is_not_ours() {
        for path in ["/socket", "/a/b.c~d_e-f", "/v1a", "/wsx", "/docs", "/in/"] {
            assert_eq!(wrong_path(path), None, "{path}");
        }
        let long = format!("/{}", "x".repeat(128));
        for path in [
            "",
            "socket",
            "/",
            "/ws",
            "/v1",
            "/v1/x",
            "/doc",
            "/doc/x",
            "/doc.json",
            "/ingest/thingsee/x",
            "/thingsee",
            "/a?b",
            "/a b",
            "/a%20",
            "/{a}",
            &long,
        ] {
            assert!(wrong_path(path).is_some(), "{path}");
        }
    }
}
