//! When an element says that a key was pressed.
//!
//! Pure. Source: `resources.md` 2, the row `button`: `tsmEv` 8 where no field of the element is another
//! canonical resource. The vendor sends 8 for reactive events, too: what a measurement is the reason of
//! is no press. Absent: which of several keys it was, which no element tells.

use fieldgate_core::{profile::read_value, resource::bind};

/// `tsmEv` of a key, or of a reactive event.
const KEY: i32 = 8;
/// The event that a press is: the first button, short release.
pub(super) const PRESS: &[u8] = br#"{"event":"button","data":{"button":1002}}"#;
/// Stands behind the key of an element in that of its event: the two are two messages.
pub(super) const MARK: &[u8] = b":button";

/// Whether an element of this `tsmEv` is a press; `fields`: their names and values.
pub(super) fn is_press<'a>(
    event: Option<i32>,
    mut fields: impl Iterator<Item = (&'a str, &'a str)>,
) -> bool {
    let has_row = |(name, text)| read_value(text, |value| bind(name, None, value).is_some());
    event == Some(KEY) && !fields.any(has_row)
}
