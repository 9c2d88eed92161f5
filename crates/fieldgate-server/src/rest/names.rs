//! What the names in addresses are, told once for all addresses that have them.

use serde_json::json;
use utoipa::openapi::{
    OpenApi, RefOr, Schema,
    path::{Operation, Parameter, ParameterIn, PathItem},
};

/// A name in an address.
struct Name {
    /// The addresses that have it begin with this.
    below: &'static str,
    name: &'static str,
    what: &'static str,
    pattern: &'static str,
    example: &'static str,
}

const NAMED: &str = "^[A-Za-z0-9._:~-]{1,128}$";

/// What people call things: no control characters.
const CALLED: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$";

const NAMES: [Name; 14] = [
    Name {
        below: "/v1/devices/",
        name: "id",
        what: "The device.",
        pattern: NAMED,
        example: "lamp-1",
    },
    Name {
        below: "/v1/devices/",
        name: "credential",
        what: "The id of the secret, as the list of them has it.",
        pattern: NAMED,
        example: "token-Zx81kQ_p",
    },
    Name { below: "/v1/keys/", name: "id", what: "The key.", pattern: NAMED, example: "app" },
    Name { below: "/v1/users/", name: "name", what: "The person.", pattern: NAMED, example: "ann" },
    Name { below: "/v1/groups/", name: "id", what: "The group.", pattern: CALLED, example: "hall" },
    Name {
        below: "/v1/groups/",
        name: "device",
        what: "The device.",
        pattern: NAMED,
        example: "lamp-1",
    },
    Name {
        below: "/v1/scenes/",
        name: "id",
        what: "The scene.",
        pattern: CALLED,
        example: "evening",
    },
    Name {
        below: "/v1/activation-codes/",
        name: "id",
        what: "The id of the code, as the list of them has it.",
        pattern: NAMED,
        example: "Zx81kQ_p",
    },
    Name {
        below: "/v1/deconz/keys/",
        name: "id",
        what: "The id of the key, as the list of them has it.",
        pattern: NAMED,
        example: "k3Xd92ab",
    },
    Name {
        below: "/v1/tenants/",
        name: "id",
        what: "The tenant.",
        pattern: "^[a-z0-9-]{1,64}$",
        example: "acme",
    },
    Name {
        below: "/v1/clients/",
        name: "id",
        what: "The connection, as the list of them has it.",
        pattern: "^[0-9]{1,10}-[0-9]{1,10}$",
        example: "0-17",
    },
    Name {
        below: "/v1/commands/",
        name: "position",
        what: "The position of the command: its `msgid`.",
        pattern: "^[a-z0-9]{1,16}:[0-9]{1,18}$",
        example: "k3f9:4711",
    },
    Name {
        below: "/v1/integrations/",
        name: "name",
        what: "The integration.",
        pattern: NAMED,
        example: "warehouse",
    },
    Name {
        below: "/v1/integrations/",
        name: "position",
        what: "The position of the message.",
        pattern: "^[a-z0-9]{1,16}:[0-9]{1,18}$",
        example: "k3f9:4711",
    },
];

/// Says of each name in an address what it is, how it is written, and gives one.
pub(super) fn describe(openapi: &mut OpenApi) {
    for (path, item) in &mut openapi.paths.paths {
        for operation in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    tell(path, parameter);
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn tell(path: &str, parameter: &mut Parameter) {
    if parameter.parameter_in != ParameterIn::Path {
        return;
    }
    let known = NAMES.iter().find(|n| path.starts_with(n.below) && n.name == parameter.name);
    let Some(known) = known else { return };
    parameter.description.get_or_insert_with(|| known.what.to_owned());
    if let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema {
        schema.pattern = Some(known.pattern.to_owned());
        schema.examples = vec![json!(known.example)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_an_address_is_told() {
        let mut openapi = crate::rest::openapi().clone();
        for (path, item) in &mut openapi.paths.paths {
            for operation in operations(item) {
                for parameter in operation.parameters.iter().flatten() {
                    let RefOr::T(parameter) = parameter else { continue };
                    let told = parameter.description.is_some()
                        && matches!(&parameter.schema, Some(RefOr::T(Schema::Object(schema)))
                            if !schema.examples.is_empty());
                    let is_path = parameter.parameter_in == ParameterIn::Path;
                    assert!(told || !is_path, "{path}: add {} to NAMES", parameter.name);
                }
            }
        }
    }
}
