//! What a repeat of an element is known by.
//!
//! Pure. In: an element's header and fields. Out: the id of its message, the same in every process.

use std::hash::Hasher as _;

use aws_lc_rs::digest::{SHA256, digest};
use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, InvalidId, MSG_ID_BYTES_MAX, MsgId, UnixMs},
};
use siphasher::sip::SipHasher13;

use super::decode::bad;
use crate::json::{base64_encode, write_number};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a repeat of an element is known by: the vendor's key `tsmTuid:tsmId:tsmTs:tsmEv`, and a mark of
/// the fields. One device says several things of one id and time (its neighbours, parts of something
/// long), which the key alone would take for one.
///
/// The mark is the same in every process, so that a repeat is known over a restart, and is no secret:
/// who can choose fields could make two sets of one mark. They would have to be of one device, id,
/// time and event, which stand in the key as they are, and the second would be taken for the first:
/// who can write them can as well not send the second.
pub(super) fn write_key(
    key: &mut Vec<u8>,
    (device, id, time, event): (&DeviceId, u32, UnixMs, Option<i32>),
    payload: &[u8],
) {
    key.clear();
    key.extend_from_slice(device.as_str().as_bytes());
    key.push(b':');
    write_number(key, id.into());
    key.push(b':');
    write_number(key, time.0);
    key.push(b':');
    if let Some(event) = event {
        if event < 0 {
            key.push(b'-');
        }
        write_number(key, event.unsigned_abs().into());
    }
    key.push(b':');
    let mut hasher = SipHasher13::new();
    hasher.write(payload);
    let mark = hasher.finish();
    let digit = |nth: u32| HEX.get(usize::try_from(mark >> (4 * nth) & 0xF).ok()?);
    key.extend((0..8).rev().filter_map(digit));
}

/// The key as an id: one that is too long for it is hashed.
pub(super) fn reference(key: &[u8]) -> Result<MsgId, Fault> {
    let hashed;
    let text = if key.len() > MSG_ID_BYTES_MAX {
        hashed = base64_encode(digest(&SHA256, key).as_ref());
        &hashed
    } else {
        std::str::from_utf8(key).unwrap_or_default()
    };
    text.parse().map_err(|error: InvalidId| bad(error.to_string()))
}
