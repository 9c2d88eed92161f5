//! What a device is wished to be in as the bytes of one row.
//!
//! In and out: the number of the last change, then each wish: number, name, value. Invariant: as of
//! [`super::reported`].

use fieldgate_core::{
    id::Seq,
    state::{Desired, Wish},
};

use super::reported::{put_text, take_number, take_text};

/// Appends the bytes.
pub(super) fn put(desired: &Desired, out: &mut Vec<u8>) {
    out.extend_from_slice(&desired.taken().0.to_le_bytes());
    for (name, wish) in desired.all() {
        out.extend_from_slice(&wish.seq.0.to_le_bytes());
        put_text(name, out);
        put_text(&wish.value, out);
    }
}

/// Reads them back; nothing if they are none.
pub(super) fn take(bytes: &[u8]) -> Option<Desired> {
    let mut rest = bytes;
    let taken = Seq(take_number(&mut rest)?);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let seq = Seq(take_number(&mut rest)?);
        let (name, value) = (take_text(&mut rest)?, take_text(&mut rest)?);
        parts.push((name, Wish { value, seq }));
    }
    Desired::of_parts(taken, parts)
}
