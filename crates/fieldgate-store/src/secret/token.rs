//! Tokens, made of the system's randomness; the prefix of each says what it is for.
//!
//! Absent: how they are hashed, which is the master key's. Invariant: a token has 256 random bits.

use std::io;

use super::random;

/// Length of a thing's token, in base64url characters.
pub const THING_TOKEN_LEN: usize = 43;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The letters and digits of [`ALPHABET`].
const PLAIN_LEN: u8 = 62;

/// Tells whether this is written as a thing's token is.
#[must_use]
pub fn is_thing_token(token: &str) -> bool {
    token.len() == THING_TOKEN_LEN && token.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// What a token is for; its prefix says so to people and scanners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A device's: `fg_d_…`.
    Device,
    /// An API key: `fg_k_…`.
    Key,
    /// One that a person who signed in shows: `fg_a_…`.
    Access,
    /// A code to sign in with once: `fg_l_…`.
    Link,
    /// A secret that a device signs with: `fg_h_…`.
    Signing,
    /// What opens one connection: `fg_t_…`.
    Ticket,
    /// One that a source shows: `fg_s_…`.
    Source,
    /// A code that makes a device: `fg_c_…`.
    Activation,
    /// A deCONZ app's: `fg_b_…` with letters and digits alone, as it stands in paths of that
    /// interface.
    Bridge,
    /// A thing's, for the thethings.iO dialect: 43 characters and no prefix, as things send it.
    Thing,
}

/// Makes a token of 256 random bits.
///
/// # Errors
///
/// If there is no randomness.
pub fn make_token(kind: TokenKind) -> io::Result<String> {
    let prefix = match kind {
        TokenKind::Device => "fg_d_",
        TokenKind::Key => "fg_k_",
        TokenKind::Access => "fg_a_",
        TokenKind::Link => "fg_l_",
        TokenKind::Signing => "fg_h_",
        TokenKind::Ticket => "fg_t_",
        TokenKind::Source => "fg_s_",
        TokenKind::Activation => "fg_c_",
        TokenKind::Bridge => return Ok(format!("fg_b_{}", plain_text(THING_TOKEN_LEN)?)),
        TokenKind::Thing => "",
    };
    Ok(format!("{prefix}{}", random_text(THING_TOKEN_LEN)?))
}

/// Makes random text of `len` characters, 6 bits each.
///
/// # Errors
///
/// If there is no randomness.
pub fn random_text(len: usize) -> io::Result<String> {
    let bytes = random::<64>()?;
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 63)).copied().map(char::from);
    Ok(bytes.iter().take(len).filter_map(letter).collect())
}

/// Makes random letters and digits, `len` of them: 5.95 bits each. A name that is made of them is none
/// that a command line takes for a flag.
///
/// # Errors
///
/// If there is no randomness.
pub fn plain_text(len: usize) -> io::Result<String> {
    let mut text = String::new();
    while text.len() < len {
        // The bytes above the last whole run of letters would make some of them likelier.
        let fair = random::<64>()?.into_iter().filter(|byte| *byte < PLAIN_LEN * 4);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % PLAIN_LEN)));
        text.extend(letters.take(len - text.len()).copied().map(char::from));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_app_stands_in_a_path_as_it_is() {
        let one = make_token(TokenKind::Bridge).unwrap();
        let secret = one.strip_prefix("fg_b_").unwrap();
        assert_eq!(secret.len(), 43);
        assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{one}");
        assert_ne!(one, make_token(TokenKind::Bridge).unwrap());
        let many = plain_text(10_000).unwrap();
        let seen = (0..62).filter(|at| many.contains(char::from(ALPHABET[*at]))).count();
        assert_eq!((many.len(), seen), (10_000, 62), "every letter comes");
    }
}
