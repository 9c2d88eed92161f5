//! Merge patches (RFC 7396): what is absent stays, what is null goes.

use serde::{Deserialize, Deserializer};

/// Reads a member that may be null and may be absent: `None` is absent. Goes with `#[serde(default)]`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Patch {
        #[serde(default, deserialize_with = "given")]
        name: Option<Option<String>>,
    }

    #[test]
    fn absent_and_null_are_two_things() {
        let read = |text: &str| serde_json::from_str::<Patch>(text).ok().map(|patch| patch.name);
        assert_eq!(read("{}"), Some(None));
        assert_eq!(read(r#"{"name":null}"#), Some(Some(None)));
        assert_eq!(read(r#"{"name":"x"}"#), Some(Some(Some("x".to_owned()))));
        assert_eq!(read(r#"{"name":1}"#), None);
    }
}
