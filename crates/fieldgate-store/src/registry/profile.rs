//! Profiles as bytes: the domain knows no serde, so what serde reads and writes of it is told here.
//!
//! Words stand for kinds and types, so that their order in the code means nothing. Invariant: what is
//! read has finite numbers alone, and is what was written.

use std::{borrow::Cow, sync::Arc};

use fieldgate_core::{
    profile::{Kind, Profile, Resource},
    resource::Type,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Profile")]
struct ProfileForm {
    #[serde(serialize_with = "write_kind", deserialize_with = "read_kind")]
    kind: Kind,
    name: String,
    manufacturer: String,
    model: String,
    version: String,
    unique_id: Option<String>,
    is_assumed: bool,
    #[serde(serialize_with = "write_resources", deserialize_with = "read_resources")]
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resource")]
struct ResourceForm {
    name: String,
    alias_of: Option<String>,
    unit: Option<String>,
    #[serde(serialize_with = "write_type", deserialize_with = "read_type")]
    value: Type,
    writable: bool,
    #[serde(deserialize_with = "finite")]
    min: Option<f64>,
    #[serde(deserialize_with = "finite")]
    max: Option<f64>,
    #[serde(deserialize_with = "finite")]
    step: Option<f64>,
    options: Vec<String>,
}

pub(super) fn serialize<S: Serializer>(profile: &Arc<Profile>, to: S) -> Result<S::Ok, S::Error> {
    ProfileForm::serialize(profile, to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Profile>, D::Error> {
    ProfileForm::deserialize(from).map(Arc::new)
}

fn write_resources<S: Serializer>(resources: &[Resource], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct One<'a>(#[serde(with = "ResourceForm")] &'a Resource);
    to.collect_seq(resources.iter().map(One))
}

fn read_resources<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Resource>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(with = "ResourceForm")] Resource);
    let resources: Vec<One> = Vec::deserialize(from)?;
    Ok(resources.into_iter().map(|One(resource)| resource).collect())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn write_kind<S: Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.as_str())
}

fn read_kind<'de, D: Deserializer<'de>>(from: D) -> Result<Kind, D::Error> {
    let word = Cow::<'de, str>::deserialize(from)?;
    Kind::parse(&word).ok_or_else(|| D::Error::custom("no kind of device"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn write_type<S: Serializer>(value: &Type, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.as_str())
}

fn read_type<'de, D: Deserializer<'de>>(from: D) -> Result<Type, D::Error> {
    let word = Cow::<'de, str>::deserialize(from)?;
    Type::parse(&word).ok_or_else(|| D::Error::custom("no type of a resource"))
}

fn finite<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let number = Option::<f64>::deserialize(from)?;
    if number.is_some_and(|number| !number.is_finite()) {
        return Err(D::Error::custom("a number is not finite"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Described;

    fn described() -> Described {
        let resource = Resource {
            name: "bri".to_owned(),
            alias_of: Some("brightness".to_owned()),
            unit: Some("1/255".to_owned()),
            value: Type::Integer,
            writable: true,
            min: Some(0.0),
            max: Some(255.0),
            step: Some(0.5),
            options: vec!["a".to_owned()],
        };
        let profile = Profile {
            kind: Kind::Light,
            name: "Hall".to_owned(),
            manufacturer: "m".to_owned(),
            model: "o".to_owned(),
            version: "1".to_owned(),
            unique_id: Some("0a:20:15:96:f3:d2:04:29".to_owned()),
            is_assumed: true,
            resources: vec![resource, Resource::default()],
        };
        Described { revision: 7, profile: Arc::new(profile) }
    }

    #[test]
    fn a_profile_survives_the_round_trip() {
        let bytes = postcard::to_stdvec(&described()).unwrap();
        assert_eq!(postcard::from_bytes::<Described>(&bytes), Ok(described()));
    }

    #[test]
    fn numbers_that_are_none_and_unknown_words_are_refused() {
        let bytes = postcard::to_stdvec(&described()).unwrap();
        let refused = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            let mut broken = bytes.clone();
            broken.splice(at..at + from.len(), to.iter().copied());
            postcard::from_bytes::<Described>(&broken).is_err()
        };
        assert!(refused(&255_f64.to_le_bytes(), &f64::NAN.to_le_bytes()));
        assert!(refused(&0.5_f64.to_le_bytes(), &f64::INFINITY.to_le_bytes()));
        assert!(refused(b"light", b"toast"));
        assert!(refused(b"integer", b"another"));
        assert!(!refused(b"light", b"cover"));
    }
}
