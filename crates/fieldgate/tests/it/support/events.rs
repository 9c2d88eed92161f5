//! A reader of server-sent events on nothing but a socket: what came is what the test sees.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{Gateway, LIMIT};

/// One event; a comment has neither a name nor data.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) retry: Option<u64>,
    pub(crate) comment: bool,
}

/// An open stream.
pub(crate) struct Events {
    pub(crate) head: String,
    body: BufReader<TcpStream>,
    unread: Vec<u8>,
    /// So many bytes of it were looked at.
    taken: usize,
    ended: bool,
    /// As the standard has it: the last that an event named.
    pub(crate) last_id: Option<String>,
}

/// What was read, unless the connection is cut: a gateway that is killed takes the rest with it.
fn cut<T>(read: io::Result<T>) -> Option<T> {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof};
    match read {
        Ok(read) => Some(read),
        Err(error) if matches!(error.kind(), ConnectionReset | UnexpectedEof) => None,
        Err(error) => panic!("nothing came: {error}"),
    }
}

impl Events {
    /// Opens `/v1/stream?query` with a key, and where it was.
    pub(crate) fn open(gateway: &Gateway, query: &str, key: &str, at: Option<&str>) -> Self {
        let events = Self::try_open(&gateway.address, query, key, at);
        assert!(events.head.starts_with("HTTP/1.1 200"), "{}", events.head);
        events
    }

    /// The same, whatever the answer.
    pub(crate) fn try_open(address: &str, query: &str, key: &str, at: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let id = at.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let bearer = format!("Authorization: Bearer {key}\r\n");
        // Without a key the address says who asks.
        let bearer = if key.is_empty() { "" } else { &bearer };
        let request =
            format!("GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\n{bearer}{id}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut body = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(body.read_line(&mut head).unwrap() > 0, "no whole head: {head}");
        }
        let last_id = at.map(str::to_owned);
        Self { head, body, unread: Vec::new(), taken: 0, ended: false, last_id }
    }

    /// Reads one chunk of the body; false at its end.
    fn read_chunk(&mut self) -> bool {
        let mut line = String::new();
        if self.ended || cut(self.body.read_line(&mut line)).unwrap_or(0) == 0 {
            return false;
        }
        let mut chunk = vec![0; usize::from_str_radix(line.trim(), 16).unwrap() + 2];
        let whole = cut(self.body.read_exact(&mut chunk)).is_some();
        self.ended = !whole || chunk.len() == 2;
        if whole {
            self.unread.drain(..std::mem::take(&mut self.taken));
            self.unread.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
        !self.ended
    }

    fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.unread[self.taken..];
            if let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..len].to_vec()).unwrap();
                self.taken += len + 1;
                return Some(line);
            }
            if !self.read_chunk() {
                return None;
            }
        }
    }

    /// The next event or comment; nothing at the end of the stream.
    pub(crate) fn see(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut data = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            match line.split_once(": ") {
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", part)) => data += part,
                Some(("retry", ms)) => event.retry = Some(ms.parse().unwrap()),
                _ if line == ":" => event.comment = true,
                _ => panic!("{line:?} is no line of an event"),
            }
        }
        if !data.is_empty() {
            event.data = serde_json::from_str(&data).unwrap();
        }
        self.last_id = event.id.clone().or_else(|| self.last_id.take());
        Some(event)
    }

    /// The next event that has a name.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Event {
        loop {
            let event = self.see().expect("the stream ended");
            if !event.name.is_empty() {
                return event;
            }
        }
    }

    /// The next event of this name; others are passed over.
    #[track_caller]
    pub(crate) fn next_of(&mut self, name: &str) -> Event {
        loop {
            let event = self.next();
            if event.name == name {
                return event;
            }
        }
    }
}
