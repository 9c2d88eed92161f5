//! Packets with binary data: the text first, then as many binary messages as it says.
//!
//! Pure. Bounded in messages and in bytes, and both before they are kept: who says a thousand and
//! sends none costs nothing. Invariant: a packet comes out with as many as it said, and every place
//! that it keeps for one names one of them.

use serde_json::Value;

use super::{BadPacket, Packet};

/// Most binary messages of one packet.
const ATTACHMENTS_MAX: usize = 16;

/// A packet, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The text of the packet.
    pub text: String,
    /// How many binary messages belonged to it. They are not kept: no event of ours takes bytes.
    pub attachment_count: usize,
}

/// A packet that waits for its binary data.
#[derive(Debug)]
pub struct Attaching {
    attached: Attached,
    count: usize,
    byte_len: usize,
    bytes_max: usize,
}

impl Attaching {
    /// Begins with a packet whose head says that binary data follows; `text` is all of it.
    ///
    /// # Errors
    ///
    /// It says more than 16, or names one that will not come.
    pub fn begin(packet: &Packet<'_>, text: &str, bytes_max: usize) -> Result<Self, BadPacket> {
        let count = packet.head.attachment_count;
        if count > ATTACHMENTS_MAX || text.len() > bytes_max || !places_stand(packet.data, count) {
            return Err(BadPacket);
        }
        let attached = Attached { text: text.to_owned(), attachment_count: 0 };
        Ok(Self { attached, count, byte_len: text.len(), bytes_max })
    }

    /// How many binary messages are still to come.
    #[must_use]
    pub const fn missing_count(&self) -> usize {
        self.count - self.attached.attachment_count
    }

    /// Takes one binary message; gives the packet with its last one.
    ///
    /// # Errors
    ///
    /// The packet grows beyond its bound.
    pub fn push(mut self, data: &[u8]) -> Result<Result<Attached, Self>, BadPacket> {
        self.byte_len = self.byte_len.saturating_add(data.len());
        if self.byte_len > self.bytes_max {
            return Err(BadPacket);
        }
        self.attached.attachment_count += 1;
        let is_whole = self.attached.attachment_count == self.count;
        Ok(if is_whole { Ok(self.attached) } else { Err(self) })
    }
}

/// Whether the places in a packet name what will come, each of them.
fn places_stand(data: &str, count: usize) -> bool {
    let Ok(data) = serde_json::from_str::<Value>(data) else { return false };
    let mut named = vec![false; count];
    let mut rest = vec![&data];
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(elements) => rest.extend(elements),
            Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
                let place = members.get("num").and_then(Value::as_u64);
                let place = place.and_then(|place| usize::try_from(place).ok());
                match place.and_then(|place| named.get_mut(place)) {
                    Some(named) => *named = true,
                    None => return false,
                }
            }
            Value::Object(members) => rest.extend(members.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
    named.into_iter().all(|named| named)
}

#[cfg(test)]
mod tests {
    use super::{super::read, *};

    fn begin(text: &str) -> Result<Attaching, BadPacket> {
        Attaching::begin(&read(text, 16).unwrap(), text, 200)
    }

    const TWO: &str = r#"52-["m",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

    #[test]
    fn a_packet_is_whole_with_its_last_message() {
        let attaching = begin(TWO).unwrap();
        assert_eq!(attaching.missing_count(), 2);
        let attaching = attaching.push(&[1, 2]).unwrap().unwrap_err();
        assert_eq!(attaching.missing_count(), 1);
        let attached = attaching.push(&[3]).unwrap().unwrap();
        assert_eq!(attached, Attached { text: TWO.to_owned(), attachment_count: 2 });
    }

    #[test]
    fn places_and_messages_have_to_fit() {
        for text in [
            r#"51-["m"]"#,
            r#"51-["m",{"_placeholder":true,"num":1}]"#,
            r#"51-["m",{"_placeholder":true,"num":-1}]"#,
            r#"51-["m",{"_placeholder":true}]"#,
            r#"52-["m",{"_placeholder":true,"num":0}]"#,
            r#"599-["m",{"_placeholder":true,"num":0}]"#,
            r#"51-["m",{"_placeholder":true,"num":"0"}]"#,
        ] {
            assert!(begin(text).is_err(), "{text}");
        }
        assert!(begin(r#"51-["m",{"num": 0, "_placeholder": true}]"#).is_ok(), "another order");
        assert!(begin(TWO).unwrap().push(&[0; 150]).is_err(), "beyond the bound");
    }
}
