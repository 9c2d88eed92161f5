//! Form-encoded bodies with nested names (`values[0][key]=LED`), as JSON: jQuery sends them so.
//!
//! Pure. Every value is a text. Bounded in pairs and nesting; what does not fit together is refused.

use std::collections::BTreeMap;

use fieldgate_core::fault::{Code, Fault};

use crate::json::write_string;

/// Most parts of a name.
const PARTS_MAX: usize = 8;

/// A value, or more of them by name.
#[derive(Debug)]
enum Node {
    Text(String),
    Inner(BTreeMap<String, Self>),
}

fn bad(text: &'static str) -> Fault {
    Fault::new(Code::BadValue, text)
}

/// Writes a form as a JSON object; names that are all numbers make a list, in their order.
///
/// # Errors
///
/// More pairs than `pairs_max`, a name that is none, or two that contradict each other.
pub fn form_to_json(body: &str, pairs_max: usize) -> Result<String, Fault> {
    let mut root = BTreeMap::new();
    for (nth, pair) in body.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if nth >= pairs_max {
            return Err(Fault::new(
                Code::TooLarge,
                format!("the form has more than {pairs_max} fields"),
            ));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        put(&mut root, &parts(&name)?, value)?;
    }
    let mut out = Vec::with_capacity(body.len() + 16);
    write_object(&mut out, &root);
    String::from_utf8(out).map_err(|_| bad("the form is not UTF-8"))
}

/// The parts of `a[b][c]`.
fn parts(name: &str) -> Result<Vec<&str>, Fault> {
    let wrong = || bad("a field of a form is named like values[0][key]");
    let (first, rest) = match name.find('[') {
        Some(at) => name.split_at_checked(at).ok_or_else(wrong)?,
        None => (name, ""),
    };
    let mut parts = vec![first];
    let mut rest = rest;
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (part, behind) = inner.ok_or_else(wrong)?;
        if parts.len() >= PARTS_MAX {
            return Err(bad("a field of a form nests too deep"));
        }
        parts.push(part);
        rest = behind;
    }
    Ok(parts)
}

/// Puts a value where its name says.
fn put(into: &mut BTreeMap<String, Node>, parts: &[&str], value: String) -> Result<(), Fault> {
    let Some((first, rest)) = parts.split_first() else { return Ok(()) };
    // `a[]=1&a[]=2` is a list.
    let name = if first.is_empty() { into.len().to_string() } else { (*first).to_owned() };
    if rest.is_empty() {
        return match into.insert(name, Node::Text(value)) {
            None => Ok(()),
            Some(_) => Err(bad("a field of the form occurs twice")),
        };
    }
    match into.entry(name).or_insert_with(|| Node::Inner(BTreeMap::new())) {
        Node::Inner(inner) => put(inner, rest, value),
        Node::Text(_) => Err(bad("a field of the form is a value, and has parts")),
    }
}

fn write_object(out: &mut Vec<u8>, inner: &BTreeMap<String, Node>) {
    out.push(b'{');
    for (nth, (name, node)) in inner.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_node(out, node);
    }
    out.push(b'}');
}

fn write_node(out: &mut Vec<u8>, node: &Node) {
    let inner = match node {
        Node::Text(text) => return write_string(out, text),
        Node::Inner(inner) => inner,
    };
    let numbered = inner.iter().map(|(name, node)| Some((name.parse::<u32>().ok()?, node)));
    let Some(mut list) = numbered.collect::<Option<Vec<_>>>() else {
        return write_object(out, inner);
    };
    list.sort_by_key(|(number, _)| *number);
    out.push(b'[');
    for (nth, (_, node)) in list.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        write_node(out, node);
    }
    out.push(b']');
}

/// A part of a form without its percent signs; a plus is a space.
fn decoded(text: &str) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || u8::try_from(char::from(rest.next()?).to_digit(16)?).ok();
                let pair = digit().and_then(|high| Some(high << 4 | digit()?));
                pair.ok_or_else(|| bad("the form holds a % that is no escape"))?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad("the form is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(form: &str) -> Result<String, Code> {
        form_to_json(form, 8).map_err(|fault| fault.code)
    }

    fn is(form: &str, expected: &str) {
        assert_eq!(json(form).as_deref(), Ok(expected), "{form}");
    }

    #[test]
    fn nested_names_are_objects_and_numbers_lists() {
        is("values[0][key]=LED&values[0][value]=ON", r#"{"values":[{"key":"LED","value":"ON"}]}"#);
        is(
            "values%5B10%5D%5Bkey%5D=b&values%5B9%5D%5Bkey%5D=a",
            r#"{"values":[{"key":"a"},{"key":"b"}]}"#,
        );
        is("email=a%40b.c&password=x+y%2B&app=", r#"{"app":"","email":"a@b.c","password":"x y+"}"#);
        is("a[]=1&a[]=2", r#"{"a":["1","2"]}"#);
        is("a[b][0]=\u{e9}", "{\"a\":{\"b\":[\"\u{e9}\"]}}");
        is("", "{}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for form in ["a=1&a[b]=2", "a[b]=1&a=2", "a=1&a=2", "a[b=1", "a[b]c=1", "a=%4", "a=%ff"] {
            assert_eq!(json(form), Err(Code::BadValue), "{form}");
        }
        assert_eq!(json(&format!("a{}=1", "[b]".repeat(8))), Err(Code::BadValue));
        assert_eq!(json(&"a[]=1&".repeat(9)), Err(Code::TooLarge));
        assert!(json(&"a[]=1&".repeat(8)).is_ok());
    }

    proptest! {
        #[test]
        fn no_form_panics_and_all_that_comes_is_json(form in "([ab0-2]|\\[|\\]|=|&|%[0-9a-f]|\\+){0,40}") {
            if let Ok(text) = json(&form) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }
    }
}
