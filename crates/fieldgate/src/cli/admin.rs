//! Administration: through the `admin.sock` of a running gateway, else on the folder itself.
//!
//! HTTP/1.1 over the socket, one request per connection. Whoever can write the data folder is its
//! administrator. Invariant: a request goes to the gateway that holds the folder's lock.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::{
    args::Place,
    failure::{Exit, Failure},
    wire,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A way to administer one data folder.
#[derive(Debug)]
pub(crate) struct Admin<'a> {
    folder: &'a Path,
    /// Whether a gateway runs on it.
    running: bool,
}

impl<'a> Admin<'a> {
    /// Finds the running gateway of the folder, or opens the folder itself.
    pub(crate) fn open(place: &'a Place) -> Result<Self, Failure> {
        check_tenant(&place.tenant)?;
        if UnixStream::connect(socket(&place.data)).is_ok() {
            return Ok(Self { folder: &place.data, running: true });
        }
        Ok(Self { folder: &place.data, running: false })
    }

    /// Finds the running gateway of the folder.
    pub(crate) fn running(folder: &'a Path) -> Result<Self, Failure> {
        match UnixStream::connect(socket(folder)) {
            Ok(_) => Ok(Self { folder, running: true }),
            Err(error) => Err(Failure::new(
                Exit::Unreachable,
                "unreachable",
                format!("no gateway runs on {}: {error}", folder.display()),
            )),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request("POST", path, Some(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.request("DELETE", path, None)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        if !self.running {
            // Only what makes something may make the folder: a mistyped one must not come to be.
            if method != "POST" && !self.folder.join("LOCK").exists() {
                let text = format!("{}: there is no data folder", self.folder.display());
                return Err(Failure::new(Exit::Store, "storage", text)
                    .hint("--data names the folder that `fieldgate serve` was given"));
            }
            let body = body.map(ToString::to_string).unwrap_or_default();
            return wire::offline(self.folder, method, path, body.as_bytes());
        }
        let answer = exchange(&socket(self.folder), method, path, body).map_err(|error| {
            let text = format!("the gateway's admin.sock failed: {error}");
            Failure::new(Exit::Unreachable, "unreachable", text)
        })?;
        let (status, body) = parse(&answer).ok_or_else(|| {
            Failure::new(Exit::Failed, "protocol", "the gateway's answer is unreadable")
        })?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(refusal(status, &body))
    }
}

/// Only one tenant exists until the registry knows more.
pub(crate) fn check_tenant(tenant: &str) -> Result<(), Failure> {
    if tenant == "default" {
        return Ok(());
    }
    Err(Failure::usage(format!("there is no tenant {tenant}: this release has only \"default\"")))
}

fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("admin.sock")
}

fn exchange(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
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

pub(crate) fn refusal(status: u16, body: &Value) -> Failure {
    let inner = body.get("error").filter(|e| e.is_object()).unwrap_or(body);
    let text = |name: &str| inner.get(name).and_then(Value::as_str);
    let code = text("code").unwrap_or("refused");
    let message = text("message").or_else(|| text("detail")).or_else(|| text("title"));
    let message = message.map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    let exit = match status {
        401 | 403 => Exit::Refused,
        400 | 422 => Exit::Usage,
        _ => Exit::Failed,
    };
    let hint = text("hint").unwrap_or_default();
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
    fn names_stay_one_segment() {
        assert_eq!(segment("a/b c:d~"), "a%2Fb%20c%3Ad~");
    }
}
