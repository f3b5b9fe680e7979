//! A line of JSON, read by the names of its fields.
//!
//! One reader for whatever is asked and answered: a type for each would be some hundred kilobytes of program. What is
//! missing, or is not of the kind that is asked for, is as if it were empty.

use serde_json::{Map, Value};

static NOTHING: Value = Value::Null;

/// The fields of an object.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    fn get(self, key: &str) -> &'a Value {
        self.0.get(key).unwrap_or(&NOTHING)
    }

    pub fn has(self, key: &str) -> bool {
        !self.get(key).is_null()
    }

    pub fn maybe(self, key: &str) -> Option<&'a str> {
        self.get(key).as_str()
    }

    pub fn text(self, key: &str) -> &'a str {
        self.maybe(key).unwrap_or_default()
    }

    /// `-` stands for nothing.
    pub fn or_dash(self, key: &str) -> &'a str {
        self.maybe(key).filter(|text| !text.is_empty()).unwrap_or("-")
    }

    pub fn count(self, key: &str) -> Option<u64> {
        self.get(key).as_u64()
    }

    pub fn number(self, key: &str) -> u64 {
        self.count(key).unwrap_or_default()
    }

    pub fn fraction(self, key: &str) -> Option<f64> {
        self.get(key).as_f64()
    }

    pub fn flag(self, key: &str) -> Option<bool> {
        self.get(key).as_bool()
    }

    pub fn is(self, key: &str) -> bool {
        self.get(key) == &Value::Bool(true)
    }

    /// The object of this name; without any field if there is none.
    pub fn object(self, key: &str) -> Self {
        Self(self.get(key))
    }

    pub fn list(self, key: &str) -> impl Iterator<Item = Self> + Clone {
        self.values(key).iter().map(Self)
    }

    pub fn values(self, key: &str) -> &'a [Value] {
        self.get(key).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    pub fn texts(self, key: &str) -> Vec<&'a str> {
        self.values(key).iter().filter_map(Value::as_str).collect()
    }

    /// Those of a list of pairs, as `["a","b"]`.
    pub fn pairs(self, key: &str) -> Vec<(&'a str, &'a str)> {
        let text = |pair: &'a Value, at: usize| pair.get(at).and_then(Value::as_str).unwrap_or_default();
        self.values(key).iter().map(|pair| (text(pair, 0), text(pair, 1))).collect()
    }

    /// Names and values, by name.
    pub fn map(self, key: &str) -> Option<&'a Map<String, Value>> {
        self.get(key).as_object()
    }
}

/// Reads a line, which must be an object. The error says what it is instead.
pub fn read(line: &str) -> Result<Value, String> {
    match serde_json::from_slice(line.as_bytes()) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("it is no object".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_or_of_another_kind_is_empty() {
        let value = json!({ "a": "x", "n": 7, "f": 0.5, "yes": true, "list": ["p", 1, "q"], "e": "",
            "pairs": [["k", "v"], ["alone"], 3], "in": { "b": "y" }, "null": null });
        let fields = Fields(&value);
        assert_eq!((fields.text("a"), fields.text("n"), fields.text("none")), ("x", "", ""));
        assert_eq!((fields.or_dash("a"), fields.or_dash("e"), fields.or_dash("none")), ("x", "-", "-"));
        assert_eq!((fields.number("n"), fields.number("a"), fields.count("f")), (7, 0, None));
        assert_eq!((fields.fraction("f"), fields.fraction("n")), (Some(0.5), Some(7.0)));
        assert_eq!(
            (fields.flag("yes"), fields.flag("n"), fields.is("yes"), fields.is("n")),
            (Some(true), None, true, false)
        );
        assert_eq!(fields.texts("list"), ["p", "q"]);
        assert_eq!(fields.pairs("pairs"), [("k", "v"), ("alone", ""), ("", "")]);
        assert_eq!((fields.object("in").text("b"), fields.object("none").text("b")), ("y", ""));
        assert_eq!((fields.has("e"), fields.has("null"), fields.has("none")), (true, false, false));
        assert_eq!((fields.list("list").count(), fields.list("a").count()), (3, 0));
        assert!(fields.map("in").is_some() && fields.map("a").is_none());
    }

    #[test]
    fn only_an_object_is_read() {
        assert!(read(r#"{"a":1}"#).is_ok());
        assert!(read("[1]").is_err_and(|error| error.contains("no object")));
        assert!(read("{").is_err_and(|error| error.contains("EOF")));
    }
}
