//! Socket.IO packets: `<type>[<attachments>-][<namespace>,][<id>][data]`.
//!
//! Pure. Texts alone: what is binary follows in messages of its own ([`super::Attaching`]). Data is not
//! read here beyond its outer form, and never written again: arguments are slices of what came.

use fieldgate_core::json::{each_element, string};
use serde_json::value::RawValue;

use super::{BadPacket, Engine};
use crate::json::{check_depth, write_number, write_string};

/// The namespace of a packet that names none.
pub const ROOT: &str = "/";

/// Names of events that a client keeps for itself.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
/// Longest name of a namespace, in bytes.
const NAMESPACE_BYTES_MAX: usize = 256;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `0`: to join a namespace.
    Connect,
    /// `1`: to leave it.
    Disconnect,
    /// `2` and `5`: an event.
    Event,
    /// `3` and `6`: the answer to one that asked for it.
    Ack,
}

/// What stands before the data of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// What it is.
    pub kind: Kind,
    /// How many binary messages belong to it, and follow.
    pub attachment_count: usize,
    /// Where; without its query.
    pub namespace: &'a str,
    /// That query: the oldest clients say there what others say in the data of a connect.
    pub query: &'a str,
    /// What its answer is to name.
    pub id: Option<u64>,
}

/// A packet whose form is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What stands before its data.
    pub head: Head<'a>,
    /// Of a connect, an object or nothing; of an event or an answer, an array.
    pub data: &'a str,
}

/// Reads a packet.
///
/// # Errors
///
/// It is none, or its data has not the form that its kind needs: an event is an array that begins with
/// a name of its own.
pub fn read(text: &str, depth_max: usize) -> Result<Packet<'_>, BadPacket> {
    let (head, data) = head(text)?;
    let packet = Packet { head, data };
    check(&packet, depth_max)?;
    Ok(packet)
}

/// Reads what stands before the data of a packet, and gives that as it is.
///
/// # Errors
///
/// It is none.
pub fn head(text: &str) -> Result<(Head<'_>, &str), BadPacket> {
    let (kind, rest) = text.split_at_checked(1).ok_or(BadPacket)?;
    let (kind, is_binary) = match kind {
        "0" => (Kind::Connect, false),
        "1" => (Kind::Disconnect, false),
        "2" => (Kind::Event, false),
        "3" => (Kind::Ack, false),
        "5" => (Kind::Event, true),
        "6" => (Kind::Ack, true),
        _ => return Err(BadPacket),
    };
    let (attachment_count, rest) = if is_binary { attachments(rest)? } else { (0, rest) };
    let (namespace, query, rest) = namespace(rest);
    if namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(BadPacket);
    }
    let digits_len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, data) = rest.split_at_checked(digits_len).ok_or(BadPacket)?;
    let id = if digits.is_empty() { None } else { Some(digits.parse().map_err(|_| BadPacket)?) };
    Ok((Head { kind, attachment_count, namespace, query, id }, data))
}

/// `2-`, behind the type of a packet with binary data.
fn attachments(text: &str) -> Result<(usize, &str), BadPacket> {
    let (digits, rest) = text.split_once('-').ok_or(BadPacket)?;
    let is_count =
        (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let count = digits.parse().ok().filter(|count| is_count && *count > 0);
    Ok((count.ok_or(BadPacket)?, rest))
}

/// `/v2,`; the oldest clients leave the comma out where nothing follows, and put a query behind the
/// name.
fn namespace(text: &str) -> (&str, &str, &str) {
    if !text.starts_with('/') {
        return (ROOT, "", text);
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    let (name, query) = name.split_once('?').unwrap_or((name, ""));
    (name, query, rest)
}

fn check(packet: &Packet<'_>, depth_max: usize) -> Result<(), BadPacket> {
    let Packet { head, data } = *packet;
    check_depth(data, depth_max).map_err(|_| BadPacket)?;
    if data.is_empty() {
        let needs_none = matches!(head.kind, Kind::Connect | Kind::Disconnect);
        return if needs_none && head.id.is_none() { Ok(()) } else { Err(BadPacket) };
    }
    let raw: &RawValue = serde_json::from_str(data).map_err(|_| BadPacket)?;
    let stands = match head.kind {
        Kind::Connect => raw.get().starts_with('{'),
        Kind::Disconnect => false,
        Kind::Ack => head.id.is_some() && raw.get().starts_with('['),
        Kind::Event => name_of(raw.get()).is_some_and(|name| !RESERVED.contains(&name.as_str())),
    };
    if stands { Ok(()) } else { Err(BadPacket) }
}

fn name_of(data: &str) -> Option<String> {
    let mut first = None;
    // It tells of the whole list, of which the first element is enough.
    let _stopped = each_element(data, |element| {
        first = Some(element);
        false
    });
    string(first?).map(std::borrow::Cow::into_owned)
}

/// The name of an event and its arguments, as they were written.
#[must_use]
pub fn arguments(data: &str) -> Option<(String, Vec<&str>)> {
    let mut all = Vec::new();
    each_element(data, |element| {
        all.push(element);
        true
    })?;
    let name = string(all.first()?)?.into_owned();
    all.remove(0);
    Some((name, all))
}

fn write_start(out: &mut Vec<u8>, kind: u8, attachment_count: usize, namespace: &str) {
    out.extend_from_slice(&[b'4', kind]);
    if attachment_count > 0 {
        write_number(out, attachment_count as u64);
        out.push(b'-');
    }
    if namespace != ROOT {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}

/// Appends the packet that says that a namespace is joined. In version 4 it names the connection, and
/// `pid` where its client may go on with what it missed.
pub fn write_connect(
    out: &mut Vec<u8>,
    engine: Engine,
    namespace: &str,
    sid: &str,
    pid: Option<&str>,
) {
    write_start(out, b'0', 0, namespace);
    if engine == Engine::V3 {
        return;
    }
    out.extend_from_slice(b"{\"sid\":");
    write_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        write_string(out, pid);
    }
    out.push(b'}');
}

/// Appends the packet that says why a namespace is not joined.
pub fn write_connect_error(out: &mut Vec<u8>, namespace: &str, message: &str) {
    write_start(out, b'4', 0, namespace);
    out.extend_from_slice(b"{\"message\":");
    write_string(out, message);
    out.push(b'}');
}

/// Appends the packet that ends a namespace.
pub fn write_disconnect(out: &mut Vec<u8>, namespace: &str) {
    write_start(out, b'1', 0, namespace);
}

/// Appends an event up to its name; arguments follow, a comma before each. `id` is what its answer is to
/// name, if one is wanted.
pub fn write_event_start(out: &mut Vec<u8>, namespace: &str, id: Option<u64>, name: &str) {
    write_start(out, b'2', 0, namespace);
    if let Some(id) = id {
        write_number(out, id);
    }
    out.push(b'[');
    write_string(out, name);
}

/// Ends an event.
pub fn write_event_end(out: &mut Vec<u8>) {
    out.push(b']');
}

/// Appends the answer to an event: `arguments` is what stands between the brackets.
pub fn write_ack(
    out: &mut Vec<u8>,
    namespace: &str,
    id: u64,
    attachment_count: usize,
    arguments: &[u8],
) {
    let kind = if attachment_count > 0 { b'6' } else { b'3' };
    write_start(out, kind, attachment_count, namespace);
    write_number(out, id);
    out.push(b'[');
    out.extend_from_slice(arguments);
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> (Kind, usize, &str, Option<u64>, &str) {
        let Packet { head, data } = read(text, 16).unwrap();
        (head.kind, head.attachment_count, head.namespace, head.id, data)
    }

    #[test]
    fn packets_are_those_of_the_protocol() {
        assert_eq!(head("0"), (Kind::Connect, 0, "/", None, ""));
        assert_eq!(head("0/v2"), (Kind::Connect, 0, "/v2", None, ""));
        assert_eq!(head("0/v2,"), (Kind::Connect, 0, "/v2", None, ""));
        assert_eq!(head("0/v2?token=a,"), (Kind::Connect, 0, "/v2", None, ""));
        assert_eq!(head("0/v2,{\"a\":1}"), (Kind::Connect, 0, "/v2", None, "{\"a\":1}"));
        assert_eq!(head("1/v2,"), (Kind::Disconnect, 0, "/v2", None, ""));
        assert_eq!(head("2[\"a\"]"), (Kind::Event, 0, "/", None, "[\"a\"]"));
        assert_eq!(head("2/v2,12[\"a\",1]"), (Kind::Event, 0, "/v2", Some(12), "[\"a\",1]"));
        assert_eq!(head("212[\"/a,b\"]"), (Kind::Event, 0, "/", Some(12), "[\"/a,b\"]"));
        assert_eq!(head("3/v2,0[]"), (Kind::Ack, 0, "/v2", Some(0), "[]"));
        assert_eq!(head("52-/v2,7[\"a\"]"), (Kind::Event, 2, "/v2", Some(7), "[\"a\"]"));
        assert_eq!(head("61-7[]"), (Kind::Ack, 1, "/", Some(7), "[]"));
        assert_eq!(read("0/v2?ack=true&b=%2C,", 16).unwrap().head.query, "ack=true&b=%2C");
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in [
            "",
            "abc",
            "4",
            "7[]",
            "2",
            "2{}",
            "2[]",
            "2[1]",
            "2[\"connect\"]",
            "2[\"a\"",
            "2[\"a\"]x",
            "2abc[\"a\"]",
            "299999999999999999999[\"a\"]",
            "3[]",
            "3/v2,[]",
            "1[]",
            "01",
            "0[]",
            "0\"a\"",
            "5[\"a\"]",
            "50-[\"a\"]",
            "5-[\"a\"]",
            "599999-[\"a\"]",
            "5+1-[\"a\"]",
            "\u{e9}",
        ] {
            assert_eq!(read(text, 16), Err(BadPacket), "{text}");
        }
        let deep = format!("2[\"a\",{}{}]", "[".repeat(20), "]".repeat(20));
        assert_eq!(read(&deep, 16), Err(BadPacket));
        let long = format!("0/{}", "n".repeat(NAMESPACE_BYTES_MAX));
        assert_eq!(read(&long, 16), Err(BadPacket));
    }

    #[test]
    fn arguments_are_what_was_written() {
        let (name, all) = arguments(r#"["\u0061", 1.0 ,{"b": [2]}]"#).unwrap();
        assert_eq!(name, "a");
        let all: Vec<&str> = all.into_iter().map(str::trim).collect();
        assert_eq!(all, ["1.0", "{\"b\": [2]}"]);
    }

    #[test]
    fn what_is_written_is_what_clients_expect() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let connect = |engine, pid| written(&|out| write_connect(out, engine, "/v2", "s", pid));
        assert_eq!(connect(Engine::V3, None), "40/v2,");
        assert_eq!(connect(Engine::V4, None), r#"40/v2,{"sid":"s"}"#);
        assert_eq!(connect(Engine::V4, Some("p")), r#"40/v2,{"sid":"s","pid":"p"}"#);
        assert_eq!(written(&|out| write_connect(out, Engine::V3, ROOT, "s", None)), "40");
        let error = written(&|out| write_connect_error(out, "/nope", "Invalid namespace"));
        assert_eq!(error, r#"44/nope,{"message":"Invalid namespace"}"#);
        assert_eq!(written(&|out| write_disconnect(out, "/devices")), "41/devices,");
        let event = written(&|out| {
            write_event_start(out, "/devices", None, "access_denied");
            write_event_end(out);
        });
        assert_eq!(event, r#"42/devices,["access_denied"]"#);
        let asks = written(&|out| write_event_start(out, "/v2", Some(17), "a"));
        assert_eq!(asks, r#"42/v2,17["a""#);
        assert_eq!(written(&|out| write_ack(out, ROOT, 456, 0, b"1,\"2\"")), "43456[1,\"2\"]");
        assert_eq!(written(&|out| write_ack(out, ROOT, 789, 2, b"1")), "462-789[1]");
    }
}
