//! Records as bytes on disk, versioned: encode into a batch, decode from one.
//!
//! Invariant: decoding never panics on any bytes; what it accepts is what was encoded.

use std::sync::Arc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{CommandState, GapReason},
    id::{MsgId, Seq, TenantId, UnixMs},
    message::{Content, Message, Priority, Qos},
    topic::Topic,
};

use crate::{
    record::{CommandChange, Record, SEQ_BOUND},
    registry::{RegistryChange, old},
};

const MESSAGE_V1: u8 = 1;
const COMMAND_V1: u8 = 2;
const REGISTRY_V1: u8 = 3;
const GAP_V1: u8 = 4;
/// Devices with profiles, and credentials that may set them.
const REGISTRY_V2: u8 = 5;
/// With who asked for the change.
const REGISTRY_V3: u8 = 6;
const NOTE_V1: u8 = 7;
/// With an original behind the payload, whose length stands before it; a message without one is still
/// written as the first version.
const MESSAGE_V2: u8 = 8;
/// What stands between a message's version and its tenant: promise, lane, three times.
const MESSAGE_FIXED_BYTES: usize = 2 + 3 * 8;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no record of a version known here")]
pub struct BadRecord;

/// Appends the bytes of `record`.
pub(crate) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Message(message) => encode_message(message, out),
        Record::Command(change) => encode_command(change, out),
        Record::Registry(change) => {
            out.push(REGISTRY_V3);
            out.extend_from_slice(&postcard::to_stdvec(change).unwrap_or_default());
        }
        Record::Note(note) => {
            out.push(NOTE_V1);
            out.extend_from_slice(&postcard::to_stdvec(note).unwrap_or_default());
        }
        Record::Gap { from, to, reason } => {
            out.push(GAP_V1);
            out.extend_from_slice(&from.0.to_le_bytes());
            out.extend_from_slice(&to.0.to_le_bytes());
            out.push(*reason as u8);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes().get(..usize::from(len)).unwrap_or_default());
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let optional = |time: Option<UnixMs>| time.map_or(u64::MAX, |t| t.0).to_le_bytes();
    out.push(if message.original.is_some() { MESSAGE_V2 } else { MESSAGE_V1 });
    let flags = u8::from(message.retain) << 2 | u8::from(message.is_time_given) << 3;
    out.push(message.qos as u8 | flags);
    out.push(message.priority as u8 | (message.content as u8) << 4);
    out.extend_from_slice(&message.timestamp.0.to_le_bytes());
    out.extend_from_slice(&optional(message.device_timestamp));
    out.extend_from_slice(&optional(message.expires));
    put_text(out, message.tenant.as_str());
    put_text(out, message.topic.as_str());
    put_text(out, &message.from);
    put_text(out, message.reference.as_ref().map_or("", MsgId::as_str));
    if let Some(original) = &message.original {
        out.extend_from_slice(&(message.payload.len() as u64).to_le_bytes());
        out.extend_from_slice(&message.payload);
        out.extend_from_slice(original);
    } else {
        out.extend_from_slice(&message.payload);
    }
}

fn encode_command(change: &CommandChange, out: &mut Vec<u8>) {
    out.push(COMMAND_V1);
    out.push(change.state as u8);
    out.extend_from_slice(&change.command.0.to_le_bytes());
    put_text(out, change.tenant.as_str());
    put_text(out, change.device.as_str());
    put_text(out, &change.by);
    out.push(u8::from(change.payload.is_some()));
    out.extend_from_slice(change.payload.as_deref().unwrap_or_default());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadRecord> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(BadRecord)?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, BadRecord> {
        self.take(1)?.first().copied().ok_or(BadRecord)
    }

    fn number(&mut self) -> Result<u64, BadRecord> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| BadRecord)?))
    }

    fn time(&mut self) -> Result<Option<UnixMs>, BadRecord> {
        Ok(Some(self.number()?).filter(|ms| *ms != u64::MAX).map(UnixMs))
    }

    /// Bytes behind their length.
    fn short(&mut self) -> Result<&'a [u8], BadRecord> {
        let len = u16::from_le_bytes(self.take(2)?.try_into().map_err(|_| BadRecord)?);
        self.take(len.into())
    }

    fn text(&mut self) -> Result<&'a str, BadRecord> {
        std::str::from_utf8(self.short()?).map_err(|_| BadRecord)
    }

    fn rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.0))
    }

    /// A payload that is all there is, or one behind its length with its original behind it.
    fn content(&mut self, has_original: bool) -> Result<(Bytes, Option<Bytes>), BadRecord> {
        if !has_original {
            return Ok((self.rest(), None));
        }
        let len = usize::try_from(self.number()?).map_err(|_| BadRecord)?;
        if len > self.0.len() {
            return Err(BadRecord);
        }
        let mut both = self.rest();
        let payload = both.split_to(len);
        Ok((payload, Some(both)))
    }
}

/// The names in the last message that was decoded: messages that are read one after another mostly
/// have the same, and share them then.
#[derive(Debug, Default)]
pub(crate) struct Names {
    tenant: Option<TenantId>,
    topic: Option<Topic>,
    from: Option<Arc<str>>,
}

impl Names {
    fn tenant(&mut self, bytes: &[u8]) -> Result<TenantId, BadRecord> {
        shared(&mut self.tenant, bytes, TenantId::as_str, |text| text.parse().ok())
    }

    fn topic(&mut self, bytes: &[u8]) -> Result<Topic, BadRecord> {
        shared(&mut self.topic, bytes, Topic::as_str, |text| text.parse().ok())
    }

    fn from(&mut self, bytes: &[u8]) -> Result<Arc<str>, BadRecord> {
        shared(&mut self.from, bytes, |name| name, |text| Some(Arc::from(text)))
    }
}

/// What these bytes name: what is there already if it is that, else made anew and kept.
fn shared<T: Clone>(
    last: &mut Option<T>,
    bytes: &[u8],
    text_of: impl Fn(&T) -> &str,
    make: impl Fn(&str) -> Option<T>,
) -> Result<T, BadRecord> {
    if let Some(last) = last
        && text_of(last).as_bytes() == bytes
    {
        return Ok(last.clone());
    }
    let made = std::str::from_utf8(bytes).ok().and_then(make).ok_or(BadRecord)?;
    *last = Some(made.clone());
    Ok(made)
}

/// Decodes the bytes of one record.
///
/// # Errors
///
/// [`BadRecord`].
pub fn decode(bytes: &[u8]) -> Result<Record, BadRecord> {
    decode_next(bytes, &mut Names::default())
}

/// The same for who reads many, one after another.
pub(crate) fn decode_next(bytes: &[u8], names: &mut Names) -> Result<Record, BadRecord> {
    let mut reader = Reader(bytes);
    match reader.byte()? {
        MESSAGE_V1 => decode_message(&mut reader, names, false).map(Record::Message),
        MESSAGE_V2 => decode_message(&mut reader, names, true).map(Record::Message),
        COMMAND_V1 => decode_command(&mut reader).map(Record::Command),
        REGISTRY_V1 => registry(old::change(reader.0)),
        REGISTRY_V2 => registry(old::change_v2(reader.0)),
        REGISTRY_V3 => registry(postcard::from_bytes(reader.0)),
        NOTE_V1 => {
            let note = postcard::from_bytes(reader.0).map_err(|_| BadRecord)?;
            Ok(Record::Note(Box::new(note)))
        }
        GAP_V1 => {
            let (from, to) = (Seq(reader.number()?), Seq(reader.number()?));
            if from.max(to) >= SEQ_BOUND {
                return Err(BadRecord);
            }
            let reason = match reader.byte()? {
                0 => GapReason::Retention,
                1 => GapReason::Overflow,
                2 => GapReason::Crash,
                3 => GapReason::Damaged,
                4 => GapReason::Epoch,
                _ => return Err(BadRecord),
            };
            Ok(Record::Gap { from, to, reason })
        }
        _ => Err(BadRecord),
    }
}

fn registry(change: Result<RegistryChange, postcard::Error>) -> Result<Record, BadRecord> {
    change.map(|change| Record::Registry(Box::new(change))).map_err(|_| BadRecord)
}

/// What a record is about, as far as an index wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About<'a> {
    Message { tenant: &'a str, topic: &'a str },
    Gap,
    Other,
}

/// Tells what the bytes of one record are about, without making the record of them.
///
/// # Errors
///
/// [`BadRecord`].
pub(crate) fn about(bytes: &[u8]) -> Result<About<'_>, BadRecord> {
    let mut reader = Reader(bytes);
    match reader.byte()? {
        MESSAGE_V1 | MESSAGE_V2 => {
            reader.take(MESSAGE_FIXED_BYTES)?;
            Ok(About::Message { tenant: reader.text()?, topic: reader.text()? })
        }
        GAP_V1 => Ok(About::Gap),
        COMMAND_V1 | REGISTRY_V1 | REGISTRY_V2 | REGISTRY_V3 | NOTE_V1 => Ok(About::Other),
        _ => Err(BadRecord),
    }
}

/// The tenant and the topic of a message, as they stand in its bytes; nothing for another record, and
/// for one that is broken.
pub(crate) fn names(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(bytes);
    if !matches!(reader.byte().ok()?, MESSAGE_V1 | MESSAGE_V2) {
        return None;
    }
    reader.take(MESSAGE_FIXED_BYTES).ok()?;
    Some((reader.short().ok()?, reader.short().ok()?))
}

fn decode_message(
    reader: &mut Reader<'_>,
    names: &mut Names,
    has_original: bool,
) -> Result<Message, BadRecord> {
    let (promise, lane) = (reader.byte()?, reader.byte()?);
    let qos = match promise & 3 {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        2 => Qos::ExactlyOnce,
        _ => return Err(BadRecord),
    };
    let priority = match lane & 0xF {
        0 => Priority::Critical,
        1 => Priority::Normal,
        2 => Priority::Bulk,
        _ => return Err(BadRecord),
    };
    let content = match lane >> 4 {
        0 => Content::Json,
        1 => Content::Text,
        2 => Content::Bytes,
        _ => return Err(BadRecord),
    };
    let timestamp = UnixMs(reader.number()?);
    let (device_timestamp, expires) = (reader.time()?, reader.time()?);
    let tenant = names.tenant(reader.short()?)?;
    let topic = names.topic(reader.short()?)?;
    let from = names.from(reader.short()?)?;
    let reference = match reader.text()? {
        "" => None,
        id => Some(id.parse().map_err(|_| BadRecord)?),
    };
    let (payload, original) = reader.content(has_original)?;
    Ok(Message {
        tenant,
        kind: topic.kind(),
        topic,
        from,
        timestamp,
        is_time_given: promise & 8 != 0,
        device_timestamp,
        reference,
        qos,
        retain: promise & 4 != 0,
        priority,
        expires,
        content,
        payload,
        original,
    })
}

fn decode_command(reader: &mut Reader<'_>) -> Result<CommandChange, BadRecord> {
    let state = match reader.byte()? {
        0 => CommandState::Queued,
        1 => CommandState::Sent,
        2 => CommandState::Acknowledged,
        3 => CommandState::Completed,
        4 => CommandState::Failed,
        5 => CommandState::Expired,
        6 => CommandState::Cancelled,
        _ => return Err(BadRecord),
    };
    let command = Seq(reader.number()?);
    let tenant = reader.text()?.parse().map_err(|_| BadRecord)?;
    let device = reader.text()?.parse().map_err(|_| BadRecord)?;
    let by = Arc::from(reader.text()?);
    let payload = if reader.byte()? == 0 { None } else { Some(reader.rest()) };
    Ok(CommandChange { tenant, device, command, state, payload, by })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_the_round_trip(
            topic in "[a-z]{1,8}(/[a-z]{0,8}){0,3}", from in "[a-z]{0,20}", id in "[a-z0-9]{0,10}",
            payload in proptest::collection::vec(any::<u8>(), 0..100), retain: bool, time: u32,
            is_time_given: bool,
            original in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
        ) {
            let topic: Topic = topic.parse().unwrap();
            let record = Record::Message(Message {
                tenant: TenantId::default_tenant(), kind: topic.kind(), topic, from: Arc::from(from),
                timestamp: UnixMs(time.into()), is_time_given, device_timestamp: None,
                reference: id.parse().ok(), qos: Qos::AtLeastOnce, retain,
                priority: Priority::Bulk, expires: Some(UnixMs(9)), content: Content::Bytes,
                payload: payload.into(), original: original.map(Bytes::from),
            });
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            if let Record::Message(message) = &record {
                let (tenant, topic) = (message.tenant.as_str(), message.topic.as_str());
                prop_assert_eq!(about(&bytes), Ok(About::Message { tenant, topic }));
                prop_assert_eq!(names(&bytes), Some((tenant.as_bytes(), topic.as_bytes())));
            }
            prop_assert_eq!(decode(&bytes), Ok(record));
        }

        /// A payload cannot be longer than what follows, whatever its length says.
        #[test]
        fn a_part_is_no_longer_than_the_record(len: u64, rest in 0..40_usize) {
            let mut message = fieldgate_core::testing::message("t", Qos::AtLeastOnce, "");
            message.original = Some(Bytes::from(vec![b'x'; rest]));
            let mut bytes = Vec::new();
            encode_message(&message, &mut bytes);
            let at = bytes.len() - rest - 8;
            bytes[at..at + 8].copy_from_slice(&len.to_le_bytes());
            let whole = decode(&bytes).map(|record| {
                let Record::Message(read) = record else { panic!("{record:?}") };
                (read.payload.len() as u64, read.content_bytes())
            });
            let expected = if len <= rest as u64 { Ok((len, rest)) } else { Err(BadRecord) };
            prop_assert_eq!(whole, expected);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = about(&bytes);
        }
    }

    /// What an older release wrote and reads.
    #[test]
    fn a_message_without_an_original_is_written_as_ever() {
        let mut bytes = Vec::new();
        let mut message = fieldgate_core::testing::message("a/b", Qos::AtMostOnce, "x");
        let mut expected = vec![MESSAGE_V1, 0, 0x11];
        expected.extend_from_slice(&1_u64.to_le_bytes());
        expected.extend_from_slice(&[0xFF; 16]);
        expected.extend_from_slice(b"\x07\0default\x03\0a/b\x01\0a\0\0x");
        encode_message(&message, &mut bytes);
        assert_eq!(bytes, expected);
        assert_eq!(decode(&expected), Ok(Record::Message(message.clone())));
        message.original = Some(Bytes::new());
        encode_message(&message, &mut bytes);
        assert_eq!(bytes[expected.len()], MESSAGE_V2);
    }
}
