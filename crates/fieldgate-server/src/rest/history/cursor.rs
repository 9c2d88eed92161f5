//! Where the next page of a history begins: a position and an order, opaque to whoever carries it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fieldgate_core::id::Position;

const NEWEST_FIRST: &str = "-";

/// Behind this position, in this order.
pub(super) fn encode(position: Position, newest_first: bool) -> String {
    let order = if newest_first { NEWEST_FIRST } else { "" };
    URL_SAFE_NO_PAD.encode(format!("{order}{position}"))
}

/// Nothing, if it is none or of the other order.
pub(super) fn decode(cursor: &str, newest_first: bool) -> Option<Position> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let position = text.strip_prefix(NEWEST_FIRST);
    if position.is_some() != newest_first {
        return None;
    }
    position.unwrap_or(&text).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_of_one_order() {
        let position: Position = "k3f9:12".parse().unwrap();
        for newest_first in [false, true] {
            let cursor = encode(position, newest_first);
            assert_eq!(decode(&cursor, newest_first), Some(position));
            assert_eq!(decode(&cursor, !newest_first), None);
        }
        for wrong in ["", "k3f9:12", "%", "__"] {
            assert_eq!(decode(wrong, false), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_for_a_cursor_is_one(
            text in "[-0-9a-zA-Z_:=]{0,24}|-?[0-9a-z]{1,8}:[0-9]{1,20}",
            newest_first: bool,
        ) {
            for cursor in [text.clone(), URL_SAFE_NO_PAD.encode(&text)] {
                if let Some(position) = decode(&cursor, newest_first) {
                    let again = decode(&encode(position, newest_first), newest_first);
                    prop_assert_eq!(again, Some(position));
                }
            }
        }
    }
}
