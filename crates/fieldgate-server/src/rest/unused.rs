//! Schemas to which nothing refers are left out of the description.
//!
//! The macros write what a generic type is made of in place (the items of a list), and collect its
//! schema under its own name all the same: without this, a reader would look for what uses it.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::openapi::OpenApi;

/// Where a reference to a schema points.
const BEFORE: &str = "#/components/schemas/";

/// Leaves out what nothing refers to, and then what only that referred to.
pub(crate) fn forget(openapi: &mut OpenApi) {
    // A description that cannot be written is served to nobody: who asks for it is told why.
    while let Ok(written) = serde_json::to_value(&*openapi) {
        let mut used = BTreeSet::new();
        note(&written, &mut used);
        let Some(components) = &mut openapi.components else { return };
        let count = components.schemas.len();
        components.schemas.retain(|name, _| used.contains(name.as_str()));
        if components.schemas.len() == count {
            return;
        }
    }
}

/// Notes the names of the schemas that are referred to.
fn note<'a>(value: &'a Value, used: &mut BTreeSet<&'a str>) {
    if let Value::Object(members) = value {
        let target = members.get("$ref").and_then(Value::as_str);
        used.extend(target.and_then(|target| target.strip_prefix(BEFORE)));
        members.values().for_each(|member| note(member, used));
    } else if let Value::Array(elements) = value {
        elements.iter().for_each(|element| note(element, used));
    }
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::{ComponentsBuilder, ObjectBuilder, OpenApiBuilder, Ref};

    use super::*;

    #[test]
    fn what_nothing_refers_to_goes_and_what_only_that_referred_to() {
        let to = |name: &str| ObjectBuilder::new().property("it", Ref::from_schema_name(name));
        let components = ComponentsBuilder::new()
            .schema("Unused", to("Below"))
            .schema("Below", ObjectBuilder::new())
            .schema("Used", to("Deep"))
            .schema("Deep", to("Used"))
            .build();
        let mut openapi = OpenApiBuilder::new().components(Some(components)).build();
        forget(&mut openapi);
        let schemas = &openapi.components.as_ref().unwrap().schemas;
        let left: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(left, BTreeSet::from(["Deep", "Used"]));
    }

    #[test]
    fn nothing_in_the_description_is_unused_and_nothing_is_missing() {
        let openapi = crate::rest::openapi();
        let written = serde_json::to_value(openapi).unwrap();
        let mut used = BTreeSet::new();
        note(&written, &mut used);
        let schemas = &openapi.components.as_ref().unwrap().schemas;
        let described: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(described, used);
    }
}
