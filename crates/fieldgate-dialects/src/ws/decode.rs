//! Frames in: bytes as they come from a socket, in any chunks; whole messages out.
//!
//! Text is checked as UTF-8 byte by byte as it arrives, so that a bad one ends the connection before
//! the rest of its frame is read. A message that came whole in one chunk is handed out in place.

use std::{ops::ControlFlow, str};

use fieldgate_core::close::CloseReason;

/// Bounds of what a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one frame.
    pub frame_bytes_max: usize,
    /// Largest payload of one message, all fragments together.
    pub message_bytes_max: usize,
    /// Most fragments of one message.
    pub fragment_count_max: u32,
}

/// One thing that the peer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; its payload goes back.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes; no event follows.
    Close {
        /// Its code, one that may be sent.
        code: Option<u16>,
        /// Its words.
        reason: &'a str,
    },
}

/// Why a peer's bytes are no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WsError {
    /// A reserved bit or opcode, a wrong mask, a bad control frame, a continuation of nothing.
    #[error("the peer violated the WebSocket protocol")]
    Protocol,
    /// Text that is not UTF-8.
    #[error("the peer sent text that is not UTF-8")]
    Utf8,
    /// Above [`Limits`].
    #[error("the peer sent a frame or message above the limit")]
    TooLarge,
}

impl WsError {
    /// The close reason that tells the peer.
    #[must_use]
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::Protocol => CloseReason::WebSocketProtocol,
            Self::Utf8 => CloseReason::BadUtf8,
            Self::TooLarge => CloseReason::FrameTooLarge,
        }
    }
}

const HEADER_BYTES_MAX: usize = 14;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Text,
    Binary,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload_len: usize,
    taken_len: usize,
}

/// Turns the bytes of one peer into events.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    masked: bool,
    closed: bool,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    fragment_count: u32,
    frame: Option<Frame>,
    message_kind: Option<Data>,
    message: Vec<u8>,
    utf8_checked_len: usize,
    control: Vec<u8>,
}

impl Decoder {
    /// Decodes what clients send: every frame masked.
    #[must_use]
    pub const fn server(limits: Limits) -> Self {
        Self::new(limits, true)
    }

    /// Decodes what servers send: no frame masked.
    #[must_use]
    pub const fn client(limits: Limits) -> Self {
        Self::new(limits, false)
    }

    const fn new(limits: Limits, masked: bool) -> Self {
        Self {
            limits,
            masked,
            closed: false,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            fragment_count: 0,
            frame: None,
            message_kind: None,
            message: Vec::new(),
            utf8_checked_len: 0,
            control: Vec::new(),
        }
    }

    /// Changes the bounds, from the next frame on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes kept of an unfinished message.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Takes the next bytes and hands out every event in them, in order; unmasks `input` in place.
    /// Stops early, dropping the rest, when `on_event` breaks or the peer has closed.
    ///
    /// # Errors
    ///
    /// [`WsError`]; the connection cannot go on, and whatever else comes is dropped.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WsError> {
        self.feed_until_error(input, on_event).inspect_err(|_| {
            self.closed = true;
            self.message = Vec::new();
            self.control = Vec::new();
        })
    }

    fn feed_until_error(
        &mut self,
        mut input: &mut [u8],
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WsError> {
        while !self.closed {
            let Some(frame) = self.frame else {
                let Some(rest) = self.take_header(input)? else {
                    return Ok(ControlFlow::Continue(()));
                };
                input = rest;
                continue;
            };
            let wanted = frame.payload_len - frame.taken_len;
            let available = wanted.min(input.len());
            let (payload, rest) = input.split_at_mut(available);
            input = rest;
            if let Some(mask) = frame.mask {
                unmask(payload, mask, frame.taken_len);
            }
            let whole = available == wanted;
            self.frame =
                (!whole).then_some(Frame { taken_len: frame.taken_len + available, ..frame });
            if self.take_payload(frame, payload, whole, on_event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !whole {
                return Ok(ControlFlow::Continue(()));
            }
        }
        Ok(ControlFlow::Break(()))
    }

    /// Collects header bytes; returns the input behind a whole header, or nothing if more is needed.
    fn take_header<'a>(&mut self, input: &'a mut [u8]) -> Result<Option<&'a mut [u8]>, WsError> {
        let mut taken = 0;
        loop {
            let have = usize::from(self.header_len);
            let needed = self.header_needed();
            if have >= needed && have >= 2 {
                self.frame = Some(self.parse_header()?);
                self.header_len = 0;
                return Ok(input.get_mut(taken..));
            }
            let Some((byte, slot)) = input.get(taken).zip(self.header.get_mut(have)) else {
                return Ok(None);
            };
            *slot = *byte;
            self.header_len += 1;
            taken += 1;
            if self.header_len == 2 {
                self.check_start()?;
            }
        }
    }

    fn header_needed(&self) -> usize {
        if self.header_len < 2 {
            return 2;
        }
        let length_bytes = match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length_bytes + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    /// Checks what the first two bytes tell, before anything else of the frame is read.
    fn check_start(&self) -> Result<(), WsError> {
        let [first, second, ..] = self.header;
        let (fin, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
        let masked = second & 0x80 != 0;
        if reserved != 0 || masked != self.masked {
            return Err(WsError::Protocol);
        }
        match opcode {
            0x0 if self.message_kind.is_some() => Ok(()),
            0x1 | 0x2 if self.message_kind.is_none() => Ok(()),
            0x8..=0xA if fin && second & 0x7F <= 125 => Ok(()),
            _ => Err(WsError::Protocol),
        }
    }

    fn parse_header(&mut self) -> Result<Frame, WsError> {
        let [first, second, rest @ ..] = self.header;
        let (length, mask_at) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), 2),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = rest;
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8)
            }
            short => (u64::from(short), 0),
        };
        let opcode = first & 0x0F;
        let payload_len = usize::try_from(length).map_err(|_| WsError::TooLarge)?;
        if length >> 63 != 0 {
            return Err(WsError::Protocol);
        }
        if opcode < 0x8 {
            let total = self.message.len().saturating_add(payload_len);
            if payload_len > self.limits.frame_bytes_max || total > self.limits.message_bytes_max {
                return Err(WsError::TooLarge);
            }
            self.fragment_count += 1;
            if self.fragment_count > self.limits.fragment_count_max {
                return Err(WsError::TooLarge);
            }
        }
        match opcode {
            0x1 => self.message_kind = Some(Data::Text),
            0x2 => self.message_kind = Some(Data::Binary),
            _ => (),
        }
        let mask = self.masked.then(|| rest.get(mask_at..mask_at + 4)).flatten();
        let mask = mask.and_then(|mask| mask.try_into().ok());
        Ok(Frame { fin: first & 0x80 != 0, opcode, mask, payload_len, taken_len: 0 })
    }

    fn take_payload(
        &mut self,
        frame: Frame,
        payload: &[u8],
        whole: bool,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WsError> {
        if frame.opcode >= 0x8 {
            return self.take_control(frame, payload, whole, on_event);
        }
        let last = whole && frame.fin;
        if last && self.message.is_empty() {
            let kind = self.end_message();
            return data_event(kind, payload).map(on_event);
        }
        if self.message.is_empty() && frame.taken_len == 0 {
            self.message.reserve(payload.len());
        }
        self.message.extend_from_slice(payload);
        if self.message_kind == Some(Data::Text) {
            self.check_utf8()?;
        }
        if !last {
            return Ok(ControlFlow::Continue(()));
        }
        let kind = self.end_message();
        let message = std::mem::take(&mut self.message);
        data_event(kind, &message).map(on_event)
    }

    fn end_message(&mut self) -> Data {
        self.fragment_count = 0;
        self.utf8_checked_len = 0;
        self.message_kind.take().unwrap_or(Data::Binary)
    }

    /// Looks at what has not been looked at; an unfinished character at the end is not yet wrong.
    fn check_utf8(&mut self) -> Result<(), WsError> {
        let unchecked = self.message.get(self.utf8_checked_len..).unwrap_or_default();
        match str::from_utf8(unchecked) {
            Ok(_) => self.utf8_checked_len = self.message.len(),
            Err(error) if error.error_len().is_none() => {
                self.utf8_checked_len += error.valid_up_to();
            }
            Err(_) => return Err(WsError::Utf8),
        }
        Ok(())
    }

    fn take_control(
        &mut self,
        frame: Frame,
        payload: &[u8],
        whole: bool,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, WsError> {
        if whole && self.control.is_empty() {
            return self.end_control(frame, payload).map(on_event);
        }
        self.control.extend_from_slice(payload);
        if !whole {
            return Ok(ControlFlow::Continue(()));
        }
        let payload = std::mem::take(&mut self.control);
        self.end_control(frame, &payload).map(on_event)
    }

    fn end_control<'a>(&mut self, frame: Frame, payload: &'a [u8]) -> Result<Event<'a>, WsError> {
        match frame.opcode {
            0x9 => Ok(Event::Ping(payload)),
            0xA => Ok(Event::Pong(payload)),
            _ => {
                self.closed = true;
                check_close(payload)
            }
        }
    }
}

fn data_event(kind: Data, payload: &[u8]) -> Result<Event<'_>, WsError> {
    match kind {
        Data::Binary => Ok(Event::Binary(payload)),
        Data::Text => str::from_utf8(payload).map(Event::Text).map_err(|_| WsError::Utf8),
    }
}

/// Reads the payload of a close frame (RFC 6455 5.5.1, 7.4).
fn check_close(payload: &[u8]) -> Result<Event<'_>, WsError> {
    let (code, reason) = match payload {
        [] => return Ok(Event::Close { code: None, reason: "" }),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(WsError::Protocol),
    };
    // 1004 to 1006 and 1015 are never sent; 1016 to 2999 belong to the standard.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WsError::Protocol);
    }
    let reason = str::from_utf8(reason).map_err(|_| WsError::Utf8)?;
    Ok(Event::Close { code: Some(code), reason })
}

/// Applies `mask` to `bytes`, which begin `offset` bytes into their frame's payload.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut key = mask;
    key.rotate_left(offset % 4);
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut value = [0; 8];
        value.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(value) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
