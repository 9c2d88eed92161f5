//! Frames for all who listen, one behind the other, headers included.

use bytes::Bytes;
use fieldgate_dialects::ws::{Opcode, write_header};

/// Frames of one turn.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    count: u64,
    /// Whether nobody is there to read them.
    is_idle: bool,
    /// Whether a change is told with everything else of its kind.
    wants_all: bool,
}

impl Frames {
    /// Whether a change is told with everything else of its kind, from now on.
    pub(super) const fn set_wants_all(&mut self, wants_all: bool) {
        self.wants_all = wants_all;
    }

    pub(super) const fn wants_all(&self) -> bool {
        self.wants_all
    }

    /// Frames are kept only while somebody listens.
    pub(super) fn set_idle(&mut self, is_idle: bool) {
        self.is_idle = is_idle;
    }

    pub(super) fn push(&mut self, text: &str) {
        if self.is_idle {
            return;
        }
        write_header(&mut self.bytes, Opcode::Text, text.len());
        self.bytes.extend_from_slice(text.as_bytes());
        self.count += 1;
    }

    /// What was pushed since the last time, if anything was.
    pub(super) fn take(&mut self) -> Option<(Bytes, u64)> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then(|| (Bytes::from(std::mem::take(&mut self.bytes)), count))
    }
}
