//! The description of everything below `/api`, in OpenAPI, of a table (`describe/addresses.rs`).
//!
//! Bodies are examples that the codecs take, answers are what they write to those, and what a refusal is
//! made of is read off one of each. Invariant: it says nothing about this gateway.

mod addresses;
mod examples;
mod schemas;

use std::sync::LazyLock;

use fieldgate_dialects::deconz::Error;
use serde_json::Value;
use utoipa::{
    OpenApi as _,
    openapi::{
        Components, Content, ContentBuilder, OpenApi, PathItem, Ref, RefOr, Required,
        ResponseBuilder, Schema,
        header::HeaderBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::{ArrayBuilder, ObjectBuilder, Type},
    },
};

use crate::http::ProblemBody;
use addresses::{Address, Told};
pub(crate) use examples::{Examples, scene_called};

const JSON: &str = "application/json";

static DESCRIBED: LazyLock<OpenApi> = LazyLock::new(describe);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Fieldgate: deCONZ",
        description = "What apps for a deCONZ gateway use, served as they know it, on `listen.deconz`. \
                       Every refusal is a list of `{\"error\":{\"type\",\"address\",\"description\"}}`, \
                       the address behind the key. What is pushed is in asyncapi.json.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((
        url = "http://{address}",
        description = "An address of `listen.deconz`; https where it has a certificate.",
        variables(("address" = (default = "192.168.1.10", description = "Host and port."))),
    )),
    tags(
        (name = "gateway", description = "The gateway as deCONZ apps see it, and their keys."),
        (name = "lights", description = "Lamps, plugs, covers and locks, for deCONZ apps."),
        (name = "sensors", description = "What devices measure, for deCONZ apps, and what those bring."),
        (name = "groups", description = "Lights that deCONZ apps ask together."),
        (name = "scenes", description = "What the lights of a group are to be in, for deCONZ apps."),
    ),
    // The key is in the path, which no scheme can say.
    security(()),
    components(schemas(ProblemBody<'_>)),
)]
struct Head;

/// The description of everything below `/api`.
pub(crate) fn openapi() -> &'static OpenApi {
    &DESCRIBED
}

fn describe() -> OpenApi {
    let mut openapi = Head::openapi();
    let examples = Examples::new();
    for address in addresses::all() {
        let operation = operation(&address, examples.as_ref());
        let item = openapi.paths.paths.entry(address.path.to_owned()).or_default();
        item.merge_operations(PathItem::new(address.method, operation));
    }
    let components = openapi.components.get_or_insert_with(Default::default);
    describe_parts(components);
    openapi
}

/// What several addresses refer to.
fn describe_parts(components: &mut Components) {
    let mut put = |name: &str, schema| components.schemas.insert(name.to_owned(), schema);
    for (name, schema) in schemas::tables() {
        put(name, schema);
    }
    put("BasicConfig", schemas::like(&examples::basic()));
    put("Config", schemas::like(&Value::Object(examples::config())));
    put("Answers", schemas::answers());
    let one = written(Error::Locked);
    put("Failure", schemas::failure(&one, &numbers(), &types(|_| true)));
    put("Refused", ArrayBuilder::new().items(Ref::from_schema_name("Failure")).into());
    for (status, text) in REFUSALS {
        let first = errors().into_iter().find(|error| error.status() == status);
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Refused")))
            .example(first.map(written))
            .build();
        let told = format!("{text} Types: {}.", types(|error| error.status() == status));
        let response = ResponseBuilder::new().description(told).content(JSON, content).build();
        components.responses.insert(format!("Refused{status}"), response.into());
    }
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new()
        .description("The body is above 64 KiB, or broke off.")
        .content("application/problem+json", content)
        .build();
    components.responses.insert("Refused413".to_owned(), response.into());
}

/// Statuses of answers that are nothing but refusals, and what they mean.
const REFUSALS: [(u16, &str); 4] = [
    (400, "Nothing of it can be done as it is said."),
    (403, "Nobody who may."),
    (404, "There is no such thing."),
    (503, "Not now."),
];

/// One of each, in the order of their types.
fn errors() -> [Error; 15] {
    let path = || "/lights/1/state".to_owned();
    let name = || "bri".to_owned();
    [
        Error::Unauthorized(path()),
        Error::InvalidJson(path()),
        Error::NotAvailable("/lights/1".to_owned()),
        Error::Method { path: path(), method: "POST".to_owned() },
        Error::MissingParameters(path()),
        Error::UnknownParameter { path: path(), name: "ontime".to_owned() },
        Error::InvalidValue { path: path(), name: name(), value: "256".to_owned() },
        Error::ReadOnly { path: path(), name: "reachable".to_owned() },
        Error::TooMany(path()),
        Error::Duplicate {
            path: "/sensors".to_owned(),
            name: "uniqueid".to_owned(),
            value: "x".to_owned(),
        },
        Error::Locked,
        Error::Unreachable(path()),
        Error::QueueFull(path()),
        Error::NotConnected("/config".to_owned()),
        Error::Busy(path()),
    ]
}

/// When it is told.
const fn about(error: &Error) -> &'static str {
    match error {
        Error::Unauthorized(_) => "no such key",
        Error::InvalidJson(_) => "the body is no JSON object",
        Error::NotAvailable(_) => "no such resource",
        Error::Method { .. } => "no such address, or not this method",
        Error::MissingParameters(_) => "the body lacks what it needs",
        Error::UnknownParameter { .. } => "no such parameter",
        Error::InvalidValue { .. } => "the parameter does not take this value",
        Error::ReadOnly { .. } => "the parameter is only to be read",
        Error::TooMany(_) => "more than there may be",
        Error::Duplicate { .. } => "another one has this already",
        Error::Locked => "keys are not given out now",
        Error::Unreachable(_) => "the light cannot be reached",
        Error::QueueFull(_) => "no room for one more now",
        Error::NotConnected(_) => "starting, draining, or without storage",
        Error::Busy(_) => "over a rate, or too much waits",
    }
}

fn written(error: Error) -> Value {
    examples::refused(error).unwrap_or_default()
}

fn number(error: Error) -> Option<Value> {
    written(error).pointer("/0/error/type").cloned()
}

fn numbers() -> Vec<Value> {
    errors().into_iter().filter_map(number).collect()
}

/// The types of some errors, and what they mean.
fn types(counts: impl Fn(&Error) -> bool) -> String {
    let some = errors().into_iter().filter(|error| counts(error));
    let told = some.filter_map(|error| {
        let about = about(&error);
        Some(format!("{}: {about}", number(error)?))
    });
    told.collect::<Vec<_>>().join("; ")
}

fn operation(address: &Address, examples: Option<&Examples>) -> Operation {
    let mut operation = OperationBuilder::new()
        .tag(address.tag)
        .summary(Some(address.summary))
        .operation_id(Some(address.id))
        .parameters(Some(parameters(address)).filter(|all| !all.is_empty()))
        .request_body(address.body.map(|(schema, example)| body(schema, example)));
    let (_, text) = address.body.unwrap_or_default();
    let example = examples.and_then(|told| (address.answer)(told, &address.filled(), text));
    let (about, kind) = match &address.told {
        Told::Tagged(kind) | Told::Plain(kind) => ("As it is now.".to_owned(), *kind),
        Told::Done => {
            let beside = types(|error| error.status() == 200);
            let about = "What was done, and then what was not; or nothing but one of these.";
            (format!("{about} {beside}."), "ref Answers")
        }
    };
    operation = operation.response("200", answer(&about, kind, example, &address.told));
    if let Told::Tagged(_) = address.told {
        let same = ResponseBuilder::new().description("It is as `If-None-Match` says.");
        operation = operation.response("304", same);
    }
    for status in address.refused {
        let reference = Ref::from_response_name(format!("Refused{status}"));
        operation = operation.response(status.to_string(), RefOr::from(reference));
    }
    operation.build()
}

fn answer(about: &str, kind: &str, example: Option<Value>, told: &Told) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schemas::schema_of(kind, None)));
    let content = content.example(example).build();
    let response = ResponseBuilder::new().description(about).content(JSON, content);
    let tag = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some("The same as long as the answer is."))
        .build();
    match told {
        Told::Tagged(_) => response.header("ETag", tag),
        Told::Plain(_) | Told::Done => response,
    }
}

fn body(schema: &str, example: &str) -> RequestBody {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .example(serde_json::from_str(example).ok())
        .build();
    // Who calls a scene may say nothing at all.
    let required = if schema == "Nothing" { Required::False } else { Required::True };
    RequestBodyBuilder::new().content(JSON, content).required(Some(required)).build()
}

/// What stands in the path, and the tag that is known.
fn parameters(address: &Address) -> Vec<Parameter> {
    let named = |name: &str, place, required, about: &str, example: Option<&str>| {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        let schema: RefOr<Schema> = schema.examples(example).into();
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(about))
            .schema(Some(schema))
            .build()
    };
    let in_path = [
        ("key", "The key of the app.", "KEY"),
        ("id", "The number of the resource; of a key its id.", "1"),
        ("group", "The number of the group; 0 is that of scenes without one.", "1"),
        ("scene", "The number of the scene.", "1"),
    ];
    let in_path = in_path
        .into_iter()
        .filter(|(name, _, _)| address.path.split('/').any(|part| part == format!("{{{name}}}")));
    let mut all: Vec<_> = in_path
        .map(|(name, about, example)| {
            named(name, ParameterIn::Path, Required::True, about, Some(example))
        })
        .collect();
    if let Told::Tagged(_) = address.told {
        let about = "An `ETag`: unless it is another one by now, 304 is answered.";
        all.push(named("If-None-Match", ParameterIn::Header, Required::False, about, None));
    }
    all
}

#[cfg(test)]
mod tests;
