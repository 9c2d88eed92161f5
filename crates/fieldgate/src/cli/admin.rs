//! Administration: of a gateway elsewhere with an API key; of one here through its `admin.sock`, else
//! on the folder itself.
//!
//! HTTP over the socket, one request per connection. Whoever can write the data folder is its
//! administrator. Invariant: a request goes to the gateway that holds the folder's lock.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use fieldgate_client::{Builder, Client};
use fieldgate_core::id::TenantId;
use serde_json::Value;

use super::{
    block_on,
    session::{token, trusting},
};
use crate::{
    args::{Place, folder, url_variable},
    failure::{Exit, Failure},
    wire,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Somebody who administers a tenant of one gateway.
#[derive(Debug)]
pub(crate) struct Admin {
    way: Way,
    tenant: String,
}

/// A way to administer one gateway.
#[derive(Debug)]
enum Way {
    /// The gateway that runs on this folder.
    Socket(PathBuf),
    /// The folder itself: no gateway runs on it.
    Folder(PathBuf),
    /// A gateway elsewhere, with an API key.
    Url(Box<Builder>),
}

impl Admin {
    /// Finds the gateway: elsewhere, or the one that runs on the folder, or opens the folder itself.
    pub(crate) fn open(place: &Place) -> Result<Self, Failure> {
        let folder = match Whereabouts::of(place) {
            Whereabouts::Url(url) => return Self::elsewhere(&url, place),
            Whereabouts::Folder(folder) => folder,
        };
        Self::of(
            if runs_on(&folder) { Way::Socket(folder) } else { Way::Folder(folder) },
            &place.tenant,
        )
    }

    fn of(way: Way, tenant: &str) -> Result<Self, Failure> {
        let tenant: TenantId = tenant.parse().map_err(|why| Failure::usage(format!("{why}")))?;
        Ok(Self { way, tenant: tenant.as_str().to_owned() })
    }

    /// Finds the gateway, elsewhere or on this machine; it must run.
    pub(crate) fn watch(place: &Place) -> Result<Self, Failure> {
        match Whereabouts::of(place) {
            Whereabouts::Url(url) => Self::elsewhere(&url, place),
            Whereabouts::Folder(folder) => Self::running(&folder, &place.tenant),
        }
    }

    /// Finds the running gateway of the folder.
    pub(crate) fn running(folder: &Path, tenant: &str) -> Result<Self, Failure> {
        wire::check_socket(folder)?;
        match UnixStream::connect(socket(folder)) {
            Ok(_) => Self::of(Way::Socket(folder.to_owned()), tenant),
            Err(error) => Err(Failure::new(
                Exit::Unreachable,
                "unreachable",
                format!("no gateway runs on {}: {error}", folder.display()),
            )),
        }
    }

    fn elsewhere(url: &str, place: &Place) -> Result<Self, Failure> {
        let builder = Client::builder(url).token(token()?).connect_timeout(TIMEOUT);
        Self::of(Way::Url(Box::new(trusting(builder, place.ca.as_deref())?)), &place.tenant)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request("GET", path, None)
    }

    /// Every item of a list, page after page.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}?limit=1000{cursor}"))?;
            let taken = page.get_mut("items").and_then(Value::as_array_mut);
            items.append(taken.unwrap_or(&mut Vec::new()));
            let Some(next) = page.get("next").and_then(Value::as_str) else { return Ok(items) };
            cursor = format!("&cursor={}", segment(next));
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request("POST", path, Some(body))
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request("PUT", path, Some(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.request("DELETE", path, None)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let path = in_tenant(&format!("/v1{path}"), &self.tenant);
        let (status, body) = match &self.way {
            Way::Folder(folder) => offline(folder, method, &path, body)?,
            Way::Url(builder) => fetch(builder, method, &path, body)?,
            Way::Socket(folder) => {
                let answer = exchange(&socket(folder), method, &path, body).map_err(|error| {
                    let text = format!("the gateway's admin.sock failed: {error}");
                    Failure::new(Exit::Unreachable, "unreachable", text)
                })?;
                parse(&answer).ok_or_else(|| {
                    Failure::new(Exit::Failed, "protocol", "the gateway's answer is unreadable")
                })?
            }
        };
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(refusal(status, &body))
    }
}

/// One request on a folder that no gateway has open.
fn offline(
    folder: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), Failure> {
    // Only what makes something may make the folder: a mistyped one must not come to be.
    if method != "POST" && !folder.join("LOCK").exists() {
        let text = format!("{}: there is no data folder", folder.display());
        return Err(Failure::new(Exit::Store, "storage", text)
            .hint("--data names the folder that `fieldgate serve` was given"));
    }
    let body = body.map(ToString::to_string).unwrap_or_default();
    wire::offline(folder, method, path, body.into_bytes())
}

/// One request to a gateway elsewhere.
fn fetch(
    builder: &Builder,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value), Failure> {
    let body = body.map(ToString::to_string);
    let answer =
        block_on(async { Ok(builder.clone().request(method, path, body.as_deref()).await?) })?;
    match (answer.status, serde_json::from_slice(&answer.body)) {
        (status, Ok(body)) => Ok((status, body)),
        (200..300, Err(_)) => {
            Err(Failure::new(Exit::Failed, "protocol", "what answers there is no Fieldgate"))
        }
        (status, Err(_)) => Ok((status, Value::Null)),
    }
}

/// Where a command looks for its gateway.
enum Whereabouts {
    Folder(PathBuf),
    Url(String),
}

impl Whereabouts {
    /// A flag beats the environment; an address there beats a folder there.
    fn of(place: &Place) -> Self {
        match (&place.url, &place.data) {
            (Some(url), _) => Self::Url(url.clone()),
            (None, Some(folder)) => Self::Folder(folder.clone()),
            (None, None) => url_variable().map_or_else(|| Self::Folder(folder()), Self::Url),
        }
    }
}

/// An address that names its tenant; a gateway refuses one that the credential is not of.
pub(crate) fn in_tenant(address: &str, tenant: &str) -> String {
    if tenant == "default" {
        return address.to_owned();
    }
    let sign = if address.contains('?') { '&' } else { '?' };
    format!("{address}{sign}tenant={tenant}")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

/// Whether a gateway runs on this folder.
pub(super) fn runs_on(folder: &Path) -> bool {
    UnixStream::connect(socket(folder)).is_ok()
}

fn exchange(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    // In one piece: a gateway that answers without looking at the body must not find it unread when
    // it closes, which would reset the connection.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Who answers without having read the body resets the stream behind the answer.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => (),
        read => drop(read?),
    }
    Ok(answer)
}

/// Splits an answer into status and JSON body; a body that is no JSON is text.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let raw = answer.get(end + 4..)?;
    let chunked = head
        .lines()
        .any(|l| l.to_ascii_lowercase().replace(' ', "") == "transfer-encoding:chunked");
    let body = if chunked { unchunk(raw)? } else { raw.to_vec() };
    let text = String::from_utf8(body).ok()?;
    if text.trim().is_empty() {
        return Some((status, Value::Null));
    }
    Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

fn unchunk(mut raw: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = raw.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(raw.get(..line)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = line + 2;
        body.extend_from_slice(raw.get(start..start.checked_add(size)?)?);
        raw = raw.get(start + size + 2..)?;
    }
}

fn refusal(status: u16, body: &Value) -> Failure {
    let inner = body.get("error").filter(|e| e.is_object()).unwrap_or(body);
    let text = |name: &str| inner.get(name).and_then(Value::as_str);
    // The gateway's word for it is that of a missing right, which another key would not mend.
    let is_unknown = status == 401;
    let code = if is_unknown { "not_authenticated" } else { text("code").unwrap_or("refused") };
    let message = text("message").or_else(|| text("detail")).or_else(|| text("title"));
    let message = message.map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    let exit = match status {
        401 | 403 => Exit::Refused,
        400 | 422 => Exit::Usage,
        _ => Exit::Failed,
    };
    let hint = text("hint").filter(|_| !is_unknown).unwrap_or_default();
    Failure::new(exit, code, message).hint(hint)
}

/// Writes a name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_with_and_without_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}";
        assert_eq!(parse(plain), Some((200, serde_json::json!({"a": 1}))));
        let chunked =
            b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5\r\n\": 1}\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), Some((409, serde_json::json!({"a": 1}))));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, Value::Null)));
        assert_eq!(parse(b"nonsense"), None);
    }

    #[test]
    fn an_answer_counts_though_the_request_was_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 10]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap();
        });
        let answer = exchange(&path, "POST", "/x", Some(&serde_json::json!({})));
        assert_eq!(parse(&answer.unwrap()), Some((200, serde_json::json!({}))));
        server.join().unwrap();
    }

    #[test]
    fn a_tenant_is_named_in_the_address_unless_it_is_the_default() {
        assert_eq!(in_tenant("/v1/keys?limit=1", "default"), "/v1/keys?limit=1");
        assert_eq!(in_tenant("/v1/keys?limit=1", "acme"), "/v1/keys?limit=1&tenant=acme");
        assert_eq!(in_tenant("https://gate.example", "acme"), "https://gate.example?tenant=acme");
    }

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(segment("a/b c:d~"), "a%2Fb%20c%3Ad~");
    }
}
