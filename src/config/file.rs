//! JSON with places: every value and key knows where in the text it stands.
//!
//! What the values mean is not known here. Members whose key starts with `//` are comments and left out.

use core::fmt;
use core::marker::PhantomData;
use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Objects and lists within each other. The configuration needs six.
const DEPTH_MAX: usize = 10;

/// A value and the offset of its first byte.
#[derive(Debug)]
pub struct Value<'a> {
    pub at: usize,
    pub kind: Kind<'a>,
}

/// What JSON knows. Numbers stay as they are written.
#[derive(Debug)]
pub enum Kind<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Value<'a>>),
    Object(Vec<Entry<'a>>),
}

/// A member of an object; `at` is the place of its key.
#[derive(Debug)]
pub struct Entry<'a> {
    pub at: usize,
    pub key: Cow<'a, str>,
    pub value: Value<'a>,
}

/// Why the text is not JSON: line and column from 1, and a sentence for people.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: usize,
    pub column: usize,
    pub text: String,
}

impl Value<'_> {
    /// `a list`, for "must be …, not …".
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Object(_) => "an object",
        }
    }

    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads the whole text.
pub fn parse(text: &str) -> Result<Value<'_>, SyntaxError> {
    if text.trim_ascii().is_empty() {
        return Err(SyntaxError { line: 1, column: 1, text: "the file is empty".into() });
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| explain(text, &e))?;
    read(text, raw.get(), 0)
}

/// `part` is one value, a part of `text` without blanks round it.
fn read<'a>(text: &'a str, part: &'a str, depth: usize) -> Result<Value<'a>, SyntaxError> {
    let at = offset(text, part);
    if depth > DEPTH_MAX {
        return Err(error_at(text, at, "nested too deeply"));
    }
    // The syntax is known to be right, so what still fails is the content of a string.
    let bad = |_| error_at(text, at, "a string here is not valid (half of a surrogate pair?)");
    let kind = match part.as_bytes().first() {
        Some(b'{') => {
            let pairs: Pairs<'a> = serde_json::from_str(part).map_err(bad)?;
            let entries = pairs.0.into_iter().map(|(key, value)| entry(text, key, value, depth));
            Kind::Object(entries.filter_map(Result::transpose).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items: Vec<&'a RawValue> = serde_json::from_str(part).map_err(bad)?;
            Kind::List(items.into_iter().map(|v| read(text, v.get(), depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Kind::Text(string(part).map_err(bad)?),
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'n') => Kind::Null,
        _ => Kind::Number(part),
    };
    Ok(Value { at, kind })
}

fn entry<'a>(
    text: &'a str,
    key: &'a RawValue,
    value: &'a RawValue,
    depth: usize,
) -> Result<Option<Entry<'a>>, SyntaxError> {
    let at = offset(text, key.get());
    let key = string(key.get()).map_err(|_| error_at(text, at, "this key is not a valid string"))?;
    if key.starts_with("//") {
        return Ok(None);
    }
    Ok(Some(Entry { at, key, value: read(text, value.get(), depth + 1)? }))
}

fn string(part: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    if part.contains('\\') {
        return serde_json::from_str::<String>(part).map(Cow::Owned);
    }
    serde_json::from_str::<&str>(part).map(Cow::Borrowed)
}

/// Where `part`, a part of `text`, begins in it.
fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// Line and column, from 1, of an offset; columns count characters.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or("").chars().count() + 1)
}

fn error_at(text: &str, at: usize, what: &str) -> SyntaxError {
    let (line, column) = place(text, at);
    SyntaxError { line, column, text: what.into() }
}

/// serde_json's words, said so that a person knows what to do.
fn explain(text: &str, error: &serde_json::Error) -> SyntaxError {
    let said = error.to_string();
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or("");
    let comment = ["//", "#", "/*"].into_iter().any(|mark| line.trim_start().starts_with(mark));
    let lines_before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len);
    let (before, rest) = text
        .split_at_checked(lines_before.sum::<usize>() + error.column().saturating_sub(1))
        .unwrap_or((text, ""));
    let comma = rest.starts_with(['}', ']']) && before.trim_end().ends_with(',');
    let sentence = if comment {
        "JSON has no comments; write a member whose key starts with //, such as \"// note\": \"…\""
    } else if text.starts_with('\u{feff}') {
        "the file starts with a byte order mark; save it as plain UTF-8"
    } else if said.starts_with("EOF while parsing a string") {
        "the file ends inside a string: a \" is missing"
    } else if said.starts_with("EOF") {
        "the file ends here, but a { or [ is still open"
    } else if comma {
        "a comma with nothing behind it; remove it"
    } else if said.starts_with("expected `,` or") {
        "expected a comma or the closing bracket; is a comma missing before this?"
    } else if said.starts_with("key must be a string") {
        "expected a key in double quotes"
    } else if said.starts_with("expected `:`") {
        "expected a colon between the key and its value"
    } else if said.starts_with("control character") {
        "a string must end on the line where it begins: a \" is missing"
    } else if said.starts_with("trailing characters") {
        "something follows the end of the configuration"
    } else if said.starts_with("expected value") || said.starts_with("expected ident") {
        "expected a value: a string in double quotes, a number, true, false, a list or an object"
    } else {
        said.split(" at line ").next().unwrap_or("not JSON")
    };
    SyntaxError { line: error.line().max(1), column: error.column().max(1), text: sentence.into() }
}

/// An object's members in their order, doubled keys too.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for PairsVisitor<'a> {
    type Value = Pairs<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'a>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_places_and_comments_are_left_out() {
        let text = "{\n  \"ä\": [1, \"x\"],\n  \"// no\": {\"b\": 1}, \"b\\u0063\": true\n}";
        let Kind::Object(entries) = parse(text).unwrap().kind else { panic!() };
        let keys = entries.iter().map(|e| (e.key.as_ref(), place(text, e.at), place(text, e.value.at)));
        assert_eq!(keys.collect::<Vec<_>>(), [("ä", (2, 3), (2, 8)), ("bc", (3, 22), (3, 33))]);
        let Kind::List(items) = &entries[0].value.kind else { panic!() };
        assert_eq!(place(text, items[1].at), (2, 12));
    }

    #[test]
    fn a_syntax_error_has_a_place_and_a_sentence() {
        let table = [
            ("", 1, 1, "the file is empty"),
            ("{\"a\": 1,}", 1, 9, "a comma with nothing behind it; remove it"),
            (
                "{\"a\": 1\n\"b\": 2}",
                2,
                1,
                "expected a comma or the closing bracket; is a comma missing before this?",
            ),
            ("{\"a\" 1}", 1, 6, "expected a colon between the key and its value"),
            ("{a: 1}", 1, 2, "expected a key in double quotes"),
            ("{\"a\": 1", 1, 7, "the file ends here, but a { or [ is still open"),
            ("{\"a\": \"x", 1, 8, "the file ends inside a string: a \" is missing"),
            ("{\"a\": [1,\n\n]}", 3, 1, "a comma with nothing behind it; remove it"),
            (
                "{\"a\": }",
                1,
                7,
                "expected a value: a string in double quotes, a number, true, false, a list or an object",
            ),
            ("{\"a\" }", 1, 6, "expected a colon between the key and its value"),
            ("{\"a\": [1}", 1, 9, "expected a comma or the closing bracket; is a comma missing before this?"),
            ("{} x", 1, 4, "something follows the end of the configuration"),
            ("{\"a\": \"\\ud800\"}", 1, 7, "a string here is not valid (half of a surrogate pair?)"),
        ];
        for (text, line, column, sentence) in table {
            let want = SyntaxError { line, column, text: sentence.into() };
            assert_eq!(parse(text).unwrap_err(), want, "{text}");
        }
        let comment = parse("{\n  // hello\n  \"a\": 1}").unwrap_err();
        assert_eq!((comment.line, &comment.text[..19]), (2, "JSON has no comment"));
    }

    #[test]
    fn deep_nesting_is_refused_unless_it_is_a_comment() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(parse(&deep).unwrap_err().text, "nested too deeply");
        assert!(parse(&format!("{{\"//\": {deep}}}")).is_ok());
    }
}
