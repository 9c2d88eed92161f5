//! A frame read once: it is checked as JSON while its objects are taken apart.
//!
//! Pure, without recursion: what nests inside a value is left to `serde_json`, which has none there
//! either; how deep it nests was looked at before. Invariant: what is read to its end without
//! [`NotJson`] is JSON, and every value stands as it was written.

use std::borrow::Cow;

use fieldgate_core::json::{plain_len, string};
use serde_json::value::RawValue;

use crate::json::numbers_are_finite;

/// Here the text is no JSON. What is wrong with it, `serde_json` says better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Its name; nothing where its escapes are no text (half of a surrogate pair).
    pub(crate) name: Option<Cow<'a, str>>,
    /// Its name as written, in quotes.
    pub(crate) written_name: &'a str,
    /// Its value as written.
    pub(crate) value: &'a str,
    /// Whether every number of its value fits a finite f64.
    pub(crate) is_finite: bool,
}

/// The name of a member, as written, in quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) written: &'a str,
    is_plain: bool,
}

impl<'a> Name<'a> {
    /// What it says, if it is written without escapes.
    pub(crate) fn plain(self) -> Option<&'a str> {
        let inner = self.written.get(1..self.written.len() - 1);
        inner.filter(|_| self.is_plain)
    }
}

/// A place in a text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What was read since this place.
    fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// The next byte that is no space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Steps over this byte, if it is the next.
    pub(crate) fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Steps over this byte.
    pub(crate) fn expect(&mut self, wanted: u8) -> Result<(), NotJson> {
        if self.take(wanted) { Ok(()) } else { Err(NotJson) }
    }

    /// Steps over the object that begins here and shows its members, in order; the object as written.
    pub(crate) fn object(&mut self, mut visit: impl FnMut(Member<'a>)) -> Result<&'a str, NotJson> {
        self.members(|scanner, name| {
            let (value, is_finite) = scanner.value()?;
            let said = name.plain().map(Cow::Borrowed).or_else(|| string(name.written));
            visit(Member { name: said, written_name: name.written, value, is_finite });
            Ok(())
        })
    }

    /// The same for a visitor that steps over each value.
    pub(crate) fn members(
        &mut self,
        mut visit: impl FnMut(&mut Self, Name<'a>) -> Result<(), NotJson>,
    ) -> Result<&'a str, NotJson> {
        self.peek();
        let start = self.at;
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(self.since(start));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(NotJson);
            }
            let from = self.at;
            let is_plain = self.string()?;
            let written = self.since(from);
            self.expect(b':')?;
            visit(self, Name { written, is_plain })?;
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b'}')?;
        Ok(self.since(start))
    }

    /// Steps over the value that begins here; as it was written, and whether all its numbers are
    /// finite.
    pub(crate) fn value(&mut self) -> Result<(&'a str, bool), NotJson> {
        let first = self.peek().ok_or(NotJson)?;
        let from = self.at;
        let is_finite = match first {
            b'"' => self.string().map(|_| true)?,
            b'-' | b'0'..=b'9' => self.number()?,
            b'{' | b'[' => self.nested()?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => return Err(NotJson),
        };
        Ok((self.since(from), is_finite))
    }

    fn word(&mut self, word: &str) -> Result<bool, NotJson> {
        self.at += word.len();
        self.text
            .get(self.at - word.len()..self.at)
            .filter(|found| *found == word)
            .ok_or(NotJson)?;
        Ok(true)
    }

    /// Tells whether it holds no escape.
    fn string(&mut self) -> Result<bool, NotJson> {
        self.at += 1;
        let mut is_plain = true;
        loop {
            let rest = self.rest();
            let plain = plain_len(rest).ok_or(NotJson)?;
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => return Ok(is_plain),
                Some(b'\\') => self.escape()?,
                _ => return Err(NotJson),
            }
            is_plain = false;
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let len = match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') => {
                let digits = self.rest().get(1..5).ok_or(NotJson)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(5).ok_or(NotJson)?
            }
            _ => return Err(NotJson),
        };
        self.at += len;
        Ok(())
    }

    fn number(&mut self) -> Result<bool, NotJson> {
        let from = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.byte(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // Without an exponent it takes 309 digits to leave the range.
        let is_suspect = has_exponent || self.at - from > 300;
        Ok(!is_suspect || numbers_are_finite(self.since(from)))
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(NotJson) }
    }

    fn nested(&mut self) -> Result<bool, NotJson> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let value = values.next().and_then(Result::ok).ok_or(NotJson)?.get();
        self.at += value.len();
        Ok(numbers_are_finite(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn members(text: &str) -> Result<Vec<Member<'_>>, NotJson> {
        let (mut scanner, mut members) = (Scanner::new(text), Vec::new());
        scanner.object(|member| members.push(member))?;
        if scanner.peek().is_some() { Err(NotJson) } else { Ok(members) }
    }

    fn is_value(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.peek().is_none()
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn members_are_as_they_were_written() {
        let text = " {\"a\" : 1.50 ,\"b\\u00e9\":{\"x\":[\"}\",-1E400]}, \"\\ud800\":null}\n";
        let found = members(text).unwrap();
        let found: Vec<_> =
            found.iter().map(|m| (m.name.as_deref(), m.value, m.is_finite)).collect();
        let nested = "{\"x\":[\"}\",-1E400]}";
        assert_eq!(
            found,
            [(Some("a"), "1.50", true), (Some("bé"), nested, false), (None, "null", true)]
        );
        assert_eq!(members("{ }"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_json_is_none_here() {
        for text in [
            "",
            "-",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "truE",
            "nul",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u00g0\"",
            "\"\\u00\"",
            "\"\n\"",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "[1,]",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{\"a\":1}x",
            "NaN",
            "1 2",
            "[1}",
            "é",
            "\u{a0}1",
        ] {
            assert!(!is_json(text) && !is_value(text) && members(text).is_err(), "{text}");
        }
        for text in ["0", "-0", "-0.0e-0", "1E+5", " \"\\/\\ud800\" ", "[]", "{\"a\":[{}]}", "true"]
        {
            assert!(is_json(text) && is_value(text), "{text}");
        }
    }

    #[test]
    fn a_string_ends_where_it_ends_whatever_its_length() {
        for len in 0..100 {
            let plain = "x".repeat(len);
            for text in [format!("\"{plain}\""), format!("\"{plain}\\\"{plain}\"")] {
                assert!(is_value(&text), "{text}");
            }
            for text in [format!("\"{plain}"), format!("\"{plain}\u{1f}{plain}\"")] {
                assert!(!is_value(&text), "{text}");
            }
        }
    }

    proptest! {
        /// The same is JSON here and for `serde_json`, and an object has the same members.
        #[test]
        fn what_is_json_is_json_here(
            text in "[{}\\[\\]\",:\\\\u0d8 ntrue\\-1eE.+é]{0,12}|\
                     \\{(\"[a\\\\n]{0,3}\":([0-9.eE+-]{1,4}|true|\"[b\\\\n]?\"|\\[1?\\]|\\{\\}),?){0,3}\\}",
        ) {
            prop_assert_eq!(is_value(&text), is_json(&text));
            let read = serde_json::from_str::<crate::json::Members<'_>>(&text);
            let found = members(&text);
            if let (Ok(read), Ok(found)) = (&read, &found) {
                let read = read.0.iter().map(|(name, value)| (Some(&**name), value.get()));
                let found = found.iter().map(|m| (m.name.as_deref(), m.value));
                prop_assert!(read.eq(found), "{}", text);
            }
            // A name of half a pair is no text for the one, and none for the other.
            prop_assert_eq!(found.is_ok(), is_json(&text) && text.trim_start().starts_with('{'));
            for member in found.unwrap_or_default() {
                prop_assert_eq!(member.is_finite, numbers_are_finite(member.value));
            }
        }
    }
}
