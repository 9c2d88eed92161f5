//! One HTTP request with the client's credential: its status and its body.
//!
//! HTTP/1.0 on the wire, so that the body ends with the connection. Bounded in time and bytes.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{endpoint::Endpoint, error::ConnectError, upgrade::is_tls_alert};

const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Endpoint {
    /// Sends one request, with a body of JSON if there is one.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<Answer, ConnectError> {
        let is_token = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_token(method) || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(ConnectError::Address(format!("{method} {path:?} is no request")));
        }
        let deadline = Instant::now() + self.timeout;
        let answer = timeout_at(deadline, self.exchange(method, path, body)).await;
        answer.unwrap_or_else(|_| Err(ConnectError::TimedOut { address: self.address() }))
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<Answer, ConnectError> {
        let failed = |cause| ConnectError::Unreachable {
            address: self.address(),
            cause: std::sync::Arc::new(cause),
        };
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.authority());
        if let Some(token) = &self.token {
            if token.chars().any(char::is_control) {
                let text = "the token holds control characters";
                return Err(ConnectError::Address(text.to_owned()));
            }
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        } else {
            request.push_str("\r\n");
        }
        let mut stream = self.stream().await?;
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let mut answer = Vec::new();
        // A server that ends TLS without saying so has said all the same what it had to say.
        match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await {
            Err(error) if answer.is_empty() => return Err(failed(error)),
            Ok(_) | Err(_) => (),
        }
        if is_tls_alert(&answer) {
            return Err(ConnectError::OnlyTls { address: self.address() });
        }
        parse(&answer).ok_or_else(|| ConnectError::Protocol("its answer is no HTTP".to_owned()))
    }
}

/// Splits an answer; nothing if it is none, or shorter than it says.
pub(crate) fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = answer.get(end + 4..)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = match length {
        Some(length) => body.get(..length)?,
        None => body,
    };
    Some(Answer { status, body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let read = |text: &str| parse(text.as_bytes());
        let answer = |status, body: &[u8]| Some(Answer { status, body: body.to_vec() });
        assert_eq!(read("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"), answer(200, b"{}"));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), answer(204, b""));
        for broken in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}"]
        {
            assert_eq!(read(broken), None, "{broken:?}");
        }
        assert_eq!(read("SSH-2.0-x\r\n\r\n"), None);
    }
}
