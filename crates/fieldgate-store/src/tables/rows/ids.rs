//! Rows of known ids: those of a second, many of each sender.
//!
//! The first version has each id with all that is known of it. The second names a sender once for those
//! of its ids that stand together, and numbers and times as what they are more than the least of the
//! row; a row that spans too much for that is written as the first. Both are read.

use fieldgate_core::id::{Seq, UnixMs};

use super::{BadRow, V1, V2};
use crate::state::window::KnownId;

/// Bytes of an id in a row of the first version.
const WHOLE_BYTES: usize = 40;
/// Bytes of an id behind its sender.
const SHORT_BYTES: usize = 24;
/// Bytes before the ids of a sender: who it is, and how many follow.
const SENDER_BYTES: usize = 12;

/// Known ids as one row.
pub(crate) fn encode_ids(ids: &[KnownId]) -> Vec<u8> {
    encode_short(ids).unwrap_or_else(|| encode_whole(ids))
}

/// Reads a row of known ids back.
pub(crate) fn decode_ids(bytes: &[u8]) -> Result<Vec<KnownId>, BadRow> {
    match bytes.split_first() {
        Some((&V1, rest)) => decode_whole(rest),
        Some((&V2, rest)) => decode_short(rest),
        Some(_) | None => Err(BadRow),
    }
}

fn encode_whole(ids: &[KnownId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + ids.len() * WHOLE_BYTES);
    out.push(V1);
    for known in ids {
        out.extend_from_slice(&known.sender.to_le_bytes());
        out.extend_from_slice(&known.id.to_le_bytes());
        out.extend_from_slice(&known.seq.0.to_le_bytes());
        out.extend_from_slice(&known.arrived.0.to_le_bytes());
    }
    out
}

/// Nothing where numbers or times lie too far apart.
fn encode_short(ids: &[KnownId]) -> Option<Vec<u8>> {
    let seq = ids.iter().map(|known| known.seq.0).min().unwrap_or(0);
    let arrived = ids.iter().map(|known| known.arrived.0).min().unwrap_or(0);
    let mut out = Vec::with_capacity(17 + SENDER_BYTES + ids.len() * SHORT_BYTES);
    out.push(V2);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&arrived.to_le_bytes());
    for together in ids.chunk_by(|one, next| one.sender == next.sender) {
        let sender = together.first()?.sender;
        out.extend_from_slice(&sender.to_le_bytes());
        out.extend_from_slice(&u32::try_from(together.len()).ok()?.to_le_bytes());
        for known in together {
            out.extend_from_slice(&known.id.to_le_bytes());
            out.extend_from_slice(&u32::try_from(known.seq.0 - seq).ok()?.to_le_bytes());
            out.extend_from_slice(&u32::try_from(known.arrived.0 - arrived).ok()?.to_le_bytes());
        }
    }
    Some(out)
}

/// Takes the next bytes as they are.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadRow> {
    let (taken, behind) = rest.split_first_chunk().ok_or(BadRow)?;
    *rest = behind;
    Ok(*taken)
}

fn decode_whole(mut rest: &[u8]) -> Result<Vec<KnownId>, BadRow> {
    let mut ids = Vec::with_capacity(rest.len() / WHOLE_BYTES);
    while !rest.is_empty() {
        ids.push(KnownId {
            sender: u64::from_le_bytes(take(&mut rest)?),
            id: u128::from_le_bytes(take(&mut rest)?),
            seq: Seq(u64::from_le_bytes(take(&mut rest)?)),
            arrived: UnixMs(u64::from_le_bytes(take(&mut rest)?)),
        });
    }
    Ok(ids)
}

fn decode_short(mut rest: &[u8]) -> Result<Vec<KnownId>, BadRow> {
    let seq = u64::from_le_bytes(take(&mut rest)?);
    let arrived = u64::from_le_bytes(take(&mut rest)?);
    let mut ids = Vec::with_capacity(rest.len() / SHORT_BYTES);
    while !rest.is_empty() {
        let sender = u64::from_le_bytes(take(&mut rest)?);
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let id = u128::from_le_bytes(take(&mut rest)?);
            let mut above = |least: u64| {
                let more = u32::from_le_bytes(take(&mut rest)?);
                least.checked_add(more.into()).ok_or(BadRow)
            };
            let (seq, arrived) = (Seq(above(seq)?), UnixMs(above(arrived)?));
            ids.push(KnownId { sender, id, seq, arrived });
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(&(sender, id, seq, at): &(u64, u128, u64, u64)) -> KnownId {
        KnownId { sender, id, seq: Seq(seq), arrived: UnixMs(at) }
    }

    proptest! {
        #[test]
        fn ids_survive_the_round_trip(
            far in proptest::collection::vec(any::<(u64, u128, u64, u64)>(), 0..20),
            near in proptest::collection::vec((0..3_u64, any::<u128>(), 0..9_u64, any::<u32>()), 0..20),
            base: u32,
        ) {
            let base = u64::from(base) << 20;
            let above = |&(sender, id, seq, at): &(u64, u128, u64, u32)| {
                known(&(sender, id, base + seq, base + u64::from(at)))
            };
            let near: Vec<KnownId> = near.iter().map(above).collect();
            let row = encode_ids(&near);
            prop_assert_eq!(row[0], V2);
            prop_assert_eq!(decode_ids(&row), Ok(near));
            let far: Vec<KnownId> = far.iter().map(known).collect();
            prop_assert_eq!(decode_ids(&encode_ids(&far)), Ok(far.clone()));
            prop_assert_eq!(decode_ids(&encode_whole(&far)), Ok(far));
        }

        #[test]
        fn a_part_is_no_row(
            ids in proptest::collection::vec((0..3_u64, any::<u128>(), 0..9_u64, 0..9_u64), 1..9),
            cut in 1..16_usize,
        ) {
            let ids: Vec<KnownId> = ids.iter().map(known).collect();
            for row in [encode_whole(&ids), encode_short(&ids).unwrap()] {
                prop_assert_eq!(decode_ids(&row[..row.len() - cut]), Err(BadRow));
            }
        }

        /// A count of ids costs no room before they are there.
        #[test]
        fn no_bytes_panic(mut row in proptest::collection::vec(any::<u8>(), 1..200), first in 1..3_u8) {
            row[0] = first;
            let _ = decode_ids(&row);
        }
    }
}
