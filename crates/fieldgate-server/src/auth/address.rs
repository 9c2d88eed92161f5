//! The form of an address that a person signs in with. Whether it is theirs, nobody asks.

use fieldgate_core::fault::{Code, Fault};

/// Longest address, in bytes.
const EMAIL_BYTES_MAX: usize = 254;

/// Tells whether this may be somebody's address.
///
/// # Errors
///
/// `bad_value`.
pub(crate) fn check_email(email: &str) -> Result<(), Fault> {
    let parts = email.split_once('@');
    let is_email = parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    let is_plain = !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if is_email && is_plain && email.len() <= EMAIL_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::new(Code::BadValue, "email is an address such as ada@example.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_and_a_host() {
        assert!(check_email("ada@example.com").is_ok() && check_email("é+x@host").is_ok());
        let long = format!("{}@b", "a".repeat(EMAIL_BYTES_MAX));
        for wrong in ["", "ada", "@b", "a@", "a b@c", "a\n@c", &long] {
            assert!(check_email(wrong).is_err(), "{wrong:?}");
        }
    }
}
