//! The parts of the state file, read by the names of their fields.
//!
//! One reader for all of them: one that serde derives for each is twice as much program as what it reads for. What is
//! of the wrong kind, or missing where it must not be, is damage; fields of other names are a later version's.

use core::str::FromStr;

use serde_json::Value;

/// The error is for people.
pub type Read<T> = Result<T, String>;

/// An object, or a list whose elements stand for fields.
#[derive(Clone, Copy)]
pub struct Part<'a>(pub &'a Value);

impl<'a> Part<'a> {
    /// Nothing, where it is missing or `null`.
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub fn text(self, key: &str) -> Read<&'a str> {
        needed(key, self.maybe_text(key)?)
    }

    pub fn maybe_text(self, key: &str) -> Read<Option<&'a str>> {
        self.get(key).map(|value| text_of(key, value)).transpose()
    }

    /// What is written as a text.
    pub fn parsed<T: FromStr>(self, key: &str) -> Read<T> {
        parsed(key, self.text(key)?)
    }

    pub fn number(self, key: &str) -> Read<u64> {
        needed(key, self.maybe_number(key)?)
    }

    pub fn maybe_number(self, key: &str) -> Read<Option<u64>> {
        self.get(key).map(|value| number_of(key, value, u64::MAX)).transpose()
    }

    /// Of 32 bits.
    pub fn count(self, key: &str) -> Read<u32> {
        needed(key, self.maybe_count(key)?)
    }

    pub fn maybe_count(self, key: &str) -> Read<Option<u32>> {
        let number = self.get(key).map(|value| number_of(key, value, u32::MAX.into())).transpose()?;
        Ok(number.map(|number| number as u32))
    }

    /// False where it is missing.
    pub fn flag(self, key: &str) -> Read<bool> {
        self.get(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| wrong(key, value)))
    }

    /// What is missing has no fields.
    pub fn part(self, key: &str) -> Read<Self> {
        static NOTHING: Value = Value::Null;
        Ok(self.maybe_part(key)?.unwrap_or(Self(&NOTHING)))
    }

    pub fn maybe_part(self, key: &str) -> Read<Option<Self>> {
        match self.get(key) {
            Some(value) if !value.is_object() => Err(wrong(key, value)),
            part => Ok(part.map(Self)),
        }
    }

    pub fn values(self, key: &str) -> Read<&'a [Value]> {
        needed(key, self.maybe_values(key)?)
    }

    pub fn maybe_values(self, key: &str) -> Read<Option<&'a [Value]>> {
        self.get(key).map(|value| values_of(key, value)).transpose()
    }

    /// Each read by `read`; none where the list is missing.
    pub fn list<T>(self, key: &str, read: impl Fn(Self) -> Read<T>) -> Read<Vec<T>> {
        let mut list = Vec::new();
        for value in self.maybe_values(key)?.unwrap_or_default() {
            list.push(read(Self(value)).map_err(|error| format!("{key}: {error}"))?);
        }
        Ok(list)
    }

    /// `None` where the list is missing.
    pub fn texts<T: From<&'a str>>(self, key: &str) -> Read<Option<Vec<T>>> {
        let Some(values) = self.maybe_values(key)? else { return Ok(None) };
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            texts.push(text_of(key, value)?.into());
        }
        Ok(Some(texts))
    }
}

/// As many values as are wanted, no more and no fewer.
pub fn tuple<'a, const N: usize>(key: &str, value: &'a Value) -> Read<&'a [Value; N]> {
    values_of(key, value)?.try_into().map_err(|_| wrong(key, value))
}

pub fn text_of<'a>(key: &str, value: &'a Value) -> Read<&'a str> {
    value.as_str().ok_or_else(|| wrong(key, value))
}

pub fn number_of(key: &str, value: &Value, max: u64) -> Read<u64> {
    value.as_u64().filter(|number| *number <= max).ok_or_else(|| wrong(key, value))
}

pub fn parsed<T: FromStr>(key: &str, text: &str) -> Read<T> {
    text.parse().map_err(|_| format!("{key}: cannot be {text:?}"))
}

fn values_of<'a>(key: &str, value: &'a Value) -> Read<&'a [Value]> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(key, value))
}

fn needed<T>(key: &str, value: Option<T>) -> Read<T> {
    value.ok_or_else(|| format!("missing field `{key}`"))
}

/// A long value is named by its kind.
#[cold]
fn wrong(key: &str, value: &Value) -> String {
    match value {
        Value::Array(_) => format!("{key}: cannot be this list"),
        Value::Object(_) => format!("{key}: cannot be an object"),
        value => format!("{key}: cannot be {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_nothing_and_what_is_of_another_kind_is_damage() {
        let value = json!({ "t": "x", "n": 7, "big": 4_294_967_296_u64, "minus": -1, "yes": true, "null": null,
            "texts": ["p", "q"], "mixed": ["p", 1], "in": { "t": "y" }, "ip": "192.0.2.1" });
        let part = Part(&value);
        assert_eq!(
            (part.text("t"), part.maybe_text("none"), part.maybe_text("null")),
            (Ok("x"), Ok(None), Ok(None))
        );
        assert_eq!(part.text("none"), Err("missing field `none`".into()));
        assert_eq!(part.text("n"), Err("n: cannot be 7".into()));
        assert_eq!((part.number("big"), part.count("n")), (Ok(4_294_967_296), Ok(7)));
        assert!(
            part.count("big").is_err() && part.number("minus").is_err() && part.maybe_number("t").is_err()
        );
        assert_eq!(
            (part.flag("yes"), part.flag("none"), part.flag("n").is_err()),
            (Ok(true), Ok(false), true)
        );
        assert_eq!(part.part("in").and_then(|part| part.text("t")), Ok("y"));
        assert!(part.part("none").unwrap().text("t").is_err() && part.part("t").is_err());
        assert_eq!(part.texts::<Box<str>>("texts"), Ok(Some(vec!["p".into(), "q".into()])));
        assert_eq!(
            (part.texts::<Box<str>>("none"), part.texts::<Box<str>>("mixed").is_err()),
            (Ok(None), true)
        );
        assert_eq!(part.parsed("ip"), Ok(core::net::Ipv4Addr::new(192, 0, 2, 1)));
        assert!(part.parsed::<core::net::IpAddr>("t").is_err());
        assert!(
            tuple::<2>("texts", &value["texts"]).is_ok() && tuple::<3>("texts", &value["texts"]).is_err()
        );
        let read = |part: Part<'_>| part.text("t").map(str::to_owned);
        assert_eq!((part.list("none", read), part.list("texts", read).is_err()), (Ok(vec![]), true));
    }
}
