//! What a device reported as the bytes of one row.
//!
//! In and out: the number of the last message taken, then each resource: name, what of it there is and
//! how good, time, number, value, unit. Lengths are 32 bits, little-endian. Invariant: decoding never
//! panics on any bytes; what it accepts is what was encoded.

use fieldgate_core::{
    id::{Seq, UnixMs},
    state::{Origin, Quality, Reported, Resource},
};

const HAS_VALUE: u8 = 1 << 2;
const HAS_UNIT: u8 = 1 << 3;
const IS_TIME_GIVEN: u8 = 1 << 4;
const QUALITIES: [Quality; 3] = [Quality::Good, Quality::Uncertain, Quality::Bad];

/// Appends the bytes.
pub(super) fn put(reported: &Reported, out: &mut Vec<u8>) {
    out.extend_from_slice(&reported.taken().0.to_le_bytes());
    for (name, resource) in reported.all() {
        let Resource { value, unit, quality, origin } = resource;
        let quality = QUALITIES.iter().position(|known| known == quality).unwrap_or_default();
        let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
        out.push(
            u8::try_from(quality).unwrap_or_default()
                | flag(value.is_some(), HAS_VALUE)
                | flag(unit.is_some(), HAS_UNIT)
                | flag(origin.is_given, IS_TIME_GIVEN),
        );
        out.extend_from_slice(&origin.time.0.to_le_bytes());
        out.extend_from_slice(&origin.seq.0.to_le_bytes());
        put_text(name, out);
        value.iter().chain(unit).for_each(|text| put_text(text, out));
    }
}

pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads them back; nothing if they are none.
pub(super) fn take(bytes: &[u8]) -> Option<Reported> {
    let mut rest = bytes;
    let taken = Seq(take_number(&mut rest)?);
    let mut parts = Vec::new();
    while let Some((flags, tail)) = rest.split_first() {
        rest = tail;
        let quality = *QUALITIES.get(usize::from(flags & 3))?;
        if flags >= &(IS_TIME_GIVEN << 1) {
            return None;
        }
        let (time, seq) = (take_number(&mut rest)?, take_number(&mut rest)?);
        let name = take_text(&mut rest)?;
        let mut optional = |flag| match flags & flag {
            0 => Some(None),
            _ => take_text(&mut rest).map(Some),
        };
        let (value, unit) = (optional(HAS_VALUE)?, optional(HAS_UNIT)?);
        let is_given = flags & IS_TIME_GIVEN != 0;
        let origin = Origin { time: UnixMs(time), is_given, seq: Seq(seq) };
        parts.push((name, Resource { value, unit, quality, origin }));
    }
    Reported::of_parts(taken, parts)
}

pub(super) fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*number))
}

pub(super) fn take_text(rest: &mut &[u8]) -> Option<Box<str>> {
    let (len, tail) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (text, tail) = tail.split_at_checked(len)?;
    *rest = tail;
    std::str::from_utf8(text).ok().map(Into::into)
}
