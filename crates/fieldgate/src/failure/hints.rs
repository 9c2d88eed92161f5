//! What to do about a failure, by its code; used where the failure itself knows nothing better.
//!
//! Those of the gateway's catalogue have theirs from there.

use fieldgate_core::fault::Code;

/// What to do, for those codes that anything can be done about.
pub(super) fn hint_of(code: &str) -> Option<&'static str> {
    if let Some(refusal) = Code::ALL.iter().find(|known| known.as_str() == code) {
        return Some(refusal.remedy());
    }
    Some(match code {
        "usage" => "--help tells what the command takes",
        "configuration" => "fieldgate config template prints every key",
        "refused" => "is it a gateway, and does the address name its root?",
        "not_authenticated" => "is FIELDGATE_TOKEN a key or token of this gateway?",
        "untrusted" => "--ca FILE trusts the certificates of a PEM file",
        "unreachable" => "is the gateway running? --url names its address, --data its folder",
        "protocol" => "is it a gateway, and of this version? see fieldgate version",
        "closed" => "the gateway's log says why; try again once it runs",
        "not_acknowledged" => "it may be stored or not: fieldgate status tells how the gateway is",
        "not_sent" => "wait until the gateway has taken what was sent before, then send it again",
        "storage" => {
            "--data names the folder; is it one of a gateway, and yours to read and write?"
        }
        "start" => "the message names what could not be had",
        "failed" => "the device refused it: its answer says why",
        "cancelled" => "nothing was done; --yes answers a question beforehand",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_catalogue_has_a_hint() {
        for code in Code::ALL {
            assert!(hint_of(code.as_str()).is_some_and(|hint| !hint.is_empty()), "{code}");
        }
        assert_eq!(hint_of("a code of a later release"), None);
    }
}
