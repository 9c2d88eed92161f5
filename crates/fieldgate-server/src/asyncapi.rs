//! The description of everything that is no request: WebSockets and Socket.IO, in AsyncAPI 3.1.
//!
//! Out: one document, written from the client's point of view: what it sends is PUB, what it receives
//! is SUB. Words, limits and examples of what is received come from the codecs and catalogues that serve
//! them, names and bodies of Kamea events from the configuration in force. Invariant: each example of
//! what is sent is taken by its decoder (`tests`).

mod deconz;
mod native;
mod socketio;
mod thingsee;

use serde_json::{Map, Value, json};

use crate::config::Kamea;

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The client.
    Pub,
    /// The gateway.
    Sub,
}

impl Way {
    const fn label(self) -> &'static str {
        match self {
            Self::Pub => "PUB",
            Self::Sub => "SUB",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Pub => "send",
            Self::Sub => "receive",
        }
    }
}

/// A member of an object: its name, what it is, and what it means. What it is: a JSON type, `any`,
/// `const WORD`, `enum WORD WORD`, `ref SCHEMA`, or `list` and one of those; behind `?` it may be absent.
struct Field(&'static str, &'static str, &'static str);

/// One message.
struct Message {
    /// Unique in its interface and way.
    key: &'static str,
    way: Way,
    /// What it is called on the wire: the `type` of a frame, or an event.
    name: String,
    about: &'static str,
    payload: Value,
    examples: Vec<Value>,
    content_type: &'static str,
}

impl Message {
    fn new(key: &'static str, way: Way, about: &'static str, payload: Value) -> Self {
        let (name, content_type) = (key.to_owned(), "application/json");
        Self { key, way, name, about, payload, examples: Vec::new(), content_type }
    }

    fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    fn like(mut self, examples: impl IntoIterator<Item = Value>) -> Self {
        self.examples.extend(examples);
        self
    }

    fn id(&self) -> String {
        format!("{}.{}", self.key, self.way.label().to_lowercase())
    }

    fn describe(&self, interface: &Interface) -> Value {
        let mut described = json!({
            "name": self.name,
            "title": format!("{}: {}", interface.title, self.name),
            "summary": self.about,
            "contentType": self.content_type,
            "payload": self.payload,
        });
        if !self.examples.is_empty() {
            let examples = self.examples.iter().map(|example| json!({"payload": example}));
            put(&mut described, "examples", examples.collect());
        }
        described
    }
}

/// One interface: a channel of its own.
struct Interface {
    key: &'static str,
    address: &'static str,
    title: &'static str,
    about: String,
    server: &'static str,
    /// What the request that opens it may name.
    query: &'static [Field],
    parameters: Value,
    messages: Vec<Message>,
}

impl Interface {
    fn channel(&self) -> Value {
        let messages = self.messages.iter().map(|message| {
            let id = message.id();
            let reference = format!("#/components/messages/{}.{id}", self.key);
            (id, json!({"$ref": reference}))
        });
        let mut channel = json!({
            "address": self.address,
            "title": self.title,
            "description": self.about,
            "servers": [{"$ref": format!("#/servers/{}", self.server)}],
            "messages": messages.collect::<Map<_, _>>(),
            "bindings": {"ws": {"method": "GET", "query": object(self.query), "bindingVersion": "0.1.0"}},
        });
        if !self.parameters.is_null() {
            put(&mut channel, "parameters", self.parameters.clone());
        }
        channel
    }

    fn operation(&self, message: &Message) -> Value {
        json!({
            "action": message.way.action(),
            "title": format!("{} {}", message.way.label(), message.name),
            "summary": message.about,
            "channel": {"$ref": format!("#/channels/{}", self.key)},
            "messages": [{"$ref": format!("#/channels/{}/messages/{}", self.key, message.id())}],
            "tags": [{"name": message.way.label()}],
        })
    }
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// The schema of an object with these members.
fn object(fields: &[Field]) -> Value {
    let property = |Field(name, kind, about): &Field| {
        let mut schema = schema_of(kind.trim_end_matches('?'));
        put(&mut schema, "description", json!(about));
        ((*name).to_owned(), schema)
    };
    let required = fields.iter().filter(|Field(_, kind, _)| !kind.ends_with('?'));
    let required: Vec<_> = required.map(|Field(name, _, _)| *name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": fields.iter().map(property).collect::<Map<_, _>>(),
    });
    if !required.is_empty() {
        put(&mut schema, "required", json!(required));
    }
    schema
}

fn schema_of(kind: &str) -> Value {
    let (word, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    match word {
        "any" => json!({}),
        "const" => json!({"const": rest}),
        "enum" => json!({"enum": rest.split(' ').collect::<Vec<_>>()}),
        // Beside a reference nothing else counts.
        "ref" => json!({"allOf": [{"$ref": format!("#/components/schemas/{rest}")}]}),
        "list" => json!({"type": "array", "items": schema_of(rest)}),
        other => json!({"type": other}),
    }
}

fn schema_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schema that fits both values: of two objects the members that both have must be there.
fn schema_like(one: &Value, other: &Value) -> Value {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let both = one.iter().filter_map(|(name, value)| Some((name, value, other.get(name)?)));
            let properties = both.map(|(name, one, other)| (name.clone(), schema_like(one, other)));
            let properties: Map<_, _> = properties.collect();
            let mut schema = json!({"type": "object"});
            if !properties.is_empty() {
                let names: Vec<_> = properties.keys().cloned().collect();
                put(&mut schema, "required", json!(names));
                put(&mut schema, "properties", properties.into());
            }
            schema
        }
        (Value::Array(_), Value::Array(_)) => json!({"type": "array"}),
        (Value::String(_), Value::String(_)) => json!({"type": "string"}),
        (Value::Number(_), Value::Number(_)) => json!({"type": "number"}),
        (Value::Bool(_), Value::Bool(_)) => json!({"type": "boolean"}),
        _ => json!({}),
    }
}

/// The whole description; `kamea` is what is configured of its events.
pub(crate) fn asyncapi(kamea: &Kamea) -> Value {
    let interfaces = [
        native::interface(),
        thingsee::out(),
        thingsee::source(),
        socketio::thethings(),
        socketio::kamea(kamea),
        deconz::push(),
    ];
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for interface in &interfaces {
        channels.insert(interface.key.to_owned(), interface.channel());
        for message in &interface.messages {
            let id = format!("{}.{}", interface.key, message.id());
            operations.insert(id.clone(), interface.operation(message));
            messages.insert(id, message.describe(interface));
        }
    }
    json!({
        "asyncapi": "3.1.0",
        "id": "urn:fieldgate:gateway",
        "info": info(),
        "defaultContentType": "application/json",
        "servers": servers(),
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer",
                    "description": "Authorization: Bearer, with an API key, the token of a device or of a person."},
                "token": {"type": "httpApiKey", "in": "query", "name": "token",
                    "description": "The same in the address, where a client cannot set headers."},
                "apikey": {"type": "httpApiKey", "in": "query", "name": "apikey",
                    "description": "The key of a deCONZ app, where it has no header. Many apps show none: see deconz.push."},
                "ticket": {"type": "httpApiKey", "in": "query", "name": "ticket",
                    "description": "A ticket of POST /v1/tickets, good for one connection."},
            },
        },
    })
}

fn info() -> Value {
    json!({
        "title": "Fieldgate: events",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "What the gateway sends and takes over WebSocket and Socket.IO, from the client's \
                        point of view: PUB is what a client sends, SUB what it receives. Times are Unix \
                        milliseconds unless said otherwise. What is asked over HTTP is in openapi.json.",
        "contact": {"name": "Whoever runs this gateway"},
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        "tags": [
            {"name": "PUB", "description": "The client sends."},
            {"name": "SUB", "description": "The client receives."},
        ],
    })
}

fn servers() -> Value {
    let security = |names: &[&str]| -> Value {
        let reference = |name| json!({"$ref": format!("#/components/securitySchemes/{name}")});
        names.iter().map(reference).collect()
    };
    let host = json!({"address": {"default": "localhost:8080", "description": "Its listen.http."}});
    json!({
        "websocket": {
            "host": "{address}",
            "protocol": "ws",
            "description": "This gateway; wss where it has a certificate.",
            "variables": host,
            "security": security(&["bearer", "token", "ticket"]),
        },
        "deconz": {
            "host": "{address}",
            "protocol": "ws",
            "description": "An address of listen.deconz, or of deconz.ws_port; wss where it has a certificate.",
            "variables": {"address": {"default": "localhost", "description": "Host and port."}},
            "security": security(&["bearer", "apikey"]),
        },
        "socketio": {
            "host": "{address}",
            "pathname": "/socket.io/",
            "protocol": "socket.io",
            "description": "This gateway, for clients of Socket.IO 1 to 4 (Engine.IO 3 and 4), by polling \
                            and WebSocket. The address of a channel is its namespace; a message's name is \
                            its event, and its payload the event's first argument.",
            "variables": host,
        },
    })
}

fn schemas() -> Value {
    let mut all = native::schemas();
    all.extend(thingsee::schemas());
    all.extend(socketio::schemas());
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests;
