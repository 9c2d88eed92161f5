//! The parts of a JSON value, as they were written.
//!
//! Pure, without recursion, without copies but of names that hold escapes. Source: RFC 8259. Absent:
//! checking; a text that is no JSON gives no parts, or parts that are none, and never a panic.
//! Invariant: of a valid text the parts are exact.

use std::borrow::Cow;

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; nothing where its escapes are no text (half of a surrogate pair).
    pub name: Option<Cow<'a, str>>,
    /// Its name as written, in quotes.
    pub written_name: &'a str,
    /// Its value as written.
    pub value: &'a str,
}

/// The members of an object, in order, a repeated name each time; nothing if it is no object.
#[must_use]
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let mut members = Vec::new();
    each_member(text, |member| members.push(member))?;
    Some(members)
}

/// Visits the members of an object, in order; nothing if it is no object, which may show late.
pub fn each_member<'a>(text: &'a str, mut visit: impl FnMut(Member<'a>)) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    let mut is_first = true;
    cursor.open(b'{')?;
    while !cursor.take(b'}') {
        if !std::mem::take(&mut is_first) && !cursor.take(b',') {
            return None;
        }
        let written_name = cursor.value().filter(|name| name.starts_with('"'))?;
        if !cursor.take(b':') {
            return None;
        }
        let value = cursor.value()?;
        visit(Member { name: string(written_name), written_name, value });
    }
    cursor.is_done().then_some(())
}

/// Visits the elements of a list, in order, until the visitor says no; nothing if that is not all, or
/// if it is no list, which may show late.
pub fn each_element<'a>(text: &'a str, mut visit: impl FnMut(&'a str) -> bool) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    let mut is_first = true;
    cursor.open(b'[')?;
    while !cursor.take(b']') {
        if !std::mem::take(&mut is_first) && !cursor.take(b',') {
            return None;
        }
        visit(cursor.value()?).then_some(())?;
    }
    cursor.is_done().then_some(())
}

/// What a string says; nothing if it is none.
#[must_use]
pub fn string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => unicode(&mut chars)?,
            _ => return None,
        });
    }
    Some(Cow::Owned(out))
}

/// The character behind `\u`: one code unit, or two that are a pair.
fn unicode(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let first = code_unit(chars)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first);
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return None;
    }
    let second = code_unit(chars).filter(|unit| (0xDC00..0xE000).contains(unit))?;
    char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))
}

fn code_unit(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit * 16 + chars.next()?.to_digit(16)?))
}

/// A place in a text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let space = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += space;
        rest.get(space).copied()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn open(&mut self, wanted: u8) -> Option<()> {
        self.take(wanted).then_some(())
    }

    fn is_done(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Steps over the value that begins here.
    fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let from = self.at;
        match first {
            b'"' => self.step_over_string()?,
            b'{' | b'[' => self.step_over_nested()?,
            _ => {
                let rest = self.text.as_bytes().get(from..)?;
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[');
                let inside = |b: &&u8| !ends(b) && !b.is_ascii_whitespace();
                self.at += rest.iter().take_while(inside).count();
            }
        }
        self.text.get(from..self.at).filter(|value| !value.is_empty())
    }

    fn step_over_string(&mut self) -> Option<()> {
        let mut at = self.at + 1;
        loop {
            let rest = self.text.as_bytes().get(at..)?;
            let plain = plain_len(rest)?;
            at += plain + 1;
            if rest.get(plain) == Some(&b'"') {
                self.at = at;
                return Some(());
            }
            at += 1;
        }
    }

    fn step_over_nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.text.as_bytes().get(self.at)? {
                b'"' => {
                    self.step_over_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => (),
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// How many bytes stand before the first that is no plain part of a string: a quote, a backslash, or a
/// control character, which no string holds as it is; nothing if there is none.
///
/// Most strings are short, and end within the first words.
#[must_use]
pub fn plain_len(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (number, word) in words.iter().enumerate() {
        let ends = ends_in(u64::from_le_bytes(*word));
        if ends != 0 {
            return Some(number * size_of::<u64>() + ends.trailing_zeros() as usize / 8);
        }
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1F);
    rest.iter().position(ends).map(|at| words.len() * size_of::<u64>() + at)
}

/// A word in which the lowest bit that is set is in the first byte that is no plain part of a string. Bits
/// above it may be set for nothing: a difference borrows from the bytes behind.
const fn ends_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let is_quote = quote.wrapping_sub(ONES) & !quote;
    let is_backslash = backslash.wrapping_sub(ONES) & !backslash;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_quote | is_backslash | is_control) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn elements(text: &str) -> Option<Vec<&str>> {
        let mut elements = Vec::new();
        each_element(text, |element| {
            elements.push(element);
            true
        })?;
        Some(elements)
    }

    fn pair(member: Member<'_>) -> (String, &str) {
        (member.name.unwrap_or_default().into_owned(), member.value)
    }

    fn pairs(text: &str) -> Option<Vec<(String, &str)>> {
        Some(members(text)?.into_iter().map(pair).collect())
    }

    proptest! {
        /// Wherever in a word the end stands, and whatever stands behind it.
        #[test]
        fn the_plain_part_of_a_string_ends_where_it_does_byte_by_byte(
            bytes in proptest::collection::vec(
                prop_oneof![8 => b'!'..=b'~', 1 => any::<u8>(), 1 => 0x1D..0x24_u8], 0..60,
            ),
        ) {
            let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1F);
            prop_assert_eq!(plain_len(&bytes), bytes.iter().position(ends));
        }
    }

    #[test]
    fn members_are_as_they_were_written() {
        let text =
            " {\"a\" : 1.50 ,\"b\\u00e9\\ud83d\\ude00\":{\"x\":[\"}\",\"\\\"]\"]}, \"\":null}\n";
        let expected = [("a", "1.50"), ("bé😀", "{\"x\":[\"}\",\"\\\"]\"]}"), ("", "null")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(pairs(text), Some(expected.to_vec()));
        assert_eq!(elements("[1, [2] ,\"a,b\"]"), Some(vec!["1", "[2]", "\"a,b\""]));
        assert_eq!((members("{}"), elements(" [ ] ")), (Some(Vec::new()), Some(Vec::new())));
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in
            ["", "1", "[]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":1}x", "{,}", "{a:1}"]
        {
            assert_eq!(members(text), None, "{text}");
        }
        assert_eq!(members("{\"\\ud800\":1}").unwrap()[0].name, None);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "\\PC{0,6}|[\"\\\\\n{}\\[\\],:]{0,4}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,4}|[\"\\\\\n,:]{0,3}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_string_ends_where_it_ends_whatever_its_length() {
        for len in 0..100 {
            let plain = "x".repeat(len);
            for text in [format!("\"{plain}\""), format!("\"{plain}\\\"y\"")] {
                assert_eq!(elements(&format!("[{text},1]")), Some(vec![&*text, "1"]));
            }
            assert_eq!(elements(&format!("[\"{plain}")), None);
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_valid_text_are_exact(value in value(), pretty: bool) {
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            let text = write(&value).unwrap();
            let read = |part: &str| serde_json::from_str::<serde_json::Value>(part).unwrap();
            let found = members(&text).map(|members| {
                let pair = |m: Member<'_>| (m.name.unwrap().into_owned(), read(m.value));
                members.into_iter().map(pair).collect::<serde_json::Map<_, _>>()
            });
            prop_assert_eq!(found.as_ref(), value.as_object());
            let found = elements(&text).map(|list| list.into_iter().map(read).collect::<Vec<_>>());
            prop_assert_eq!(found.as_ref(), value.as_array());
            let said = string(&text);
            prop_assert_eq!(said.as_deref(), value.as_str());
        }

        #[test]
        fn no_text_panics(text in "[{}\\[\\]\",:\\\\u0d8 ntrue\\-1é]{0,40}") {
            let _ = (members(&text), elements(&text), string(&text));
        }
    }
}
