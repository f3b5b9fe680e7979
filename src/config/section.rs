//! One object of the file read by its table of keys.

use core::time::Duration;
use std::collections::BTreeSet;

use super::file::{Kind, Value};
use super::report::{Report, join, quoted};
use super::units;

/// One key that an object may have.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub of: Type,
    /// As it would be written in the file, without quotes; empty: none, or it depends (see the design).
    pub default: &'static str,
}

/// What a key's value must be.
#[derive(Debug)]
pub enum Type {
    Flag,
    /// A string of 1 to `max` bytes without control characters.
    Text {
        max: usize,
    },
    /// An absolute path.
    Path {
        max: usize,
    },
    /// From and to, in milliseconds.
    Duration(u64, u64),
    /// From and to.
    Whole(u64, u64),
    /// From and to, in bytes.
    Size(u64, u64),
    /// One of these.
    Word(&'static [&'static str]),
    List,
    Object,
    /// More than one form; read by code of its own.
    Other,
}

/// A value of the file with its path.
#[derive(Clone)]
pub struct Spot<'v> {
    pub path: String,
    pub value: &'v Value<'v>,
}

impl<'v> Spot<'v> {
    /// The elements of a list; `None`, and a problem, if it is none.
    pub fn list(&self, report: &mut Report) -> Option<Vec<Spot<'v>>> {
        let Kind::List(items) = &self.value.kind else {
            report.wrong_type(self, "a list");
            return None;
        };
        let spot = |(i, value)| Spot { path: format!("{}[{i}]", self.path), value };
        Some(items.iter().enumerate().map(spot).collect())
    }

    /// The members of an object whose keys are names that the operator chose.
    pub fn members(&self, report: &mut Report) -> Option<Vec<(&'v str, usize, Spot<'v>)>> {
        let Kind::Object(entries) = &self.value.kind else {
            report.wrong_type(self, "an object");
            return None;
        };
        let mut seen = BTreeSet::new();
        let mut members = Vec::new();
        for entry in entries {
            let path = join(&self.path, &entry.key);
            if !seen.insert(entry.key.as_ref()) {
                report.problem(entry.at, &path, "is there twice; remove one");
                continue;
            }
            members.push((entry.key.as_ref(), entry.at, Spot { path, value: &entry.value }));
        }
        Some(members)
    }

    /// A string; a problem if it is none, empty, longer than `max` bytes or holds control characters.
    pub fn text(&self, report: &mut Report, max: usize) -> Option<&'v str> {
        let Some(text) = self.value.text() else {
            report.wrong_type(self, "a string in double quotes");
            return None;
        };
        let wrong = if text.is_empty() {
            "must not be empty".into()
        } else if text.len() > max {
            format!("is {} bytes long; at most {max} are allowed", text.len())
        } else if text.chars().any(char::is_control) {
            "must not hold control characters".into()
        } else {
            return Some(text);
        };
        report.at(self, wrong);
        None
    }
}

/// An object whose keys are known.
pub struct Section<'v> {
    pub path: String,
    pub at: usize,
    values: Vec<(&'static str, &'v Value<'v>)>,
    keys: &'static [Key],
}

impl<'v> Section<'v> {
    /// Reports unknown and doubled keys. What is no object is an empty one.
    pub fn open(report: &mut Report, spot: &Spot<'v>, keys: &'static [Key]) -> Self {
        let mut section = Self::empty(&spot.path, spot.value.at, keys);
        for (name, at, value) in spot.members(report).unwrap_or_default() {
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                report.unknown(at, &value.path, "unknown key", name, keys.iter().map(|key| key.name));
                continue;
            };
            section.values.push((key.name, value.value));
        }
        section
    }

    /// A section that the file does not have: defaults only.
    pub fn empty(path: &str, at: usize, keys: &'static [Key]) -> Self {
        Self { path: path.into(), at, values: Vec::new(), keys }
    }

    pub fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// The value of a key that the file sets.
    pub fn spot(&self, name: &str) -> Option<Spot<'v>> {
        let (_, value) = self.values.iter().find(|(key, _)| *key == name)?;
        Some(Spot { path: self.path_of(name), value })
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.values.iter().any(|(key, _)| *key == name)
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.keys.iter().find(|key| key.name == name);
        debug_assert!(key.is_some(), "{name} is in no table");
        key
    }

    fn default(&self, name: &str) -> &'static str {
        self.key(name).map_or("", |key| key.default)
    }

    /// The duration that the file gives; `None` if it does not, or a wrong one (reported).
    pub fn set_duration(&self, report: &mut Report, name: &str) -> Option<Duration> {
        let (spot, key) = (self.spot(name)?, self.key(name)?);
        let Type::Duration(from, to) = key.of else { return None };
        duration(report, &spot, from, to)
    }

    pub fn duration(&self, report: &mut Report, name: &str) -> Duration {
        let set = self.set_duration(report, name);
        set.unwrap_or_else(|| self.default_duration(name))
    }

    pub fn default_duration(&self, name: &str) -> Duration {
        units::duration(self.default(name)).unwrap_or_default()
    }

    /// The whole number that the file gives; `None` if it does not, or a wrong one (reported).
    pub fn set_whole(&self, report: &mut Report, name: &str) -> Option<u64> {
        let (spot, key) = (self.spot(name)?, self.key(name)?);
        let Type::Whole(from, to) = key.of else { return None };
        let Kind::Number(digits) = spot.value.kind else {
            report.wrong_type(&spot, "a whole number");
            return None;
        };
        let number = units::whole(digits).filter(|n| (from..=to).contains(n));
        if number.is_none() {
            report.at(&spot, format!("must be a whole number from {from} to {to}, not {}", quoted(digits)));
        }
        number
    }

    pub fn whole(&self, report: &mut Report, name: &str) -> u64 {
        let set = self.set_whole(report, name);
        set.or_else(|| units::whole(self.default(name))).unwrap_or_default()
    }

    pub fn size(&self, report: &mut Report, name: &str) -> u64 {
        let default = units::size(self.default(name)).unwrap_or_default();
        let (Some(spot), Some(Type::Size(from, to))) = (self.spot(name), self.key(name).map(|key| &key.of))
        else {
            return default;
        };
        let size = match &spot.value.kind {
            Kind::Number(digits) => units::whole(digits),
            Kind::Text(text) => units::size(text),
            _ => None,
        };
        let size = size.filter(|n| (from..=to).contains(&n));
        if size.is_none() {
            let (from, to) = (units::show_size(*from), units::show_size(*to));
            report.at(
                &spot,
                format!("must be a size from {from} to {to}, such as \"1MiB\" or \"64KiB\", or bytes"),
            );
        }
        size.unwrap_or(default)
    }

    pub fn flag(&self, report: &mut Report, name: &str) -> bool {
        let Some(spot) = self.spot(name) else { return self.default(name) == "true" };
        let Kind::Bool(flag) = spot.value.kind else {
            report.wrong_type(&spot, "true or false");
            return false;
        };
        flag
    }

    /// One of the words that the table allows.
    pub fn word(&self, report: &mut Report, name: &str) -> &'static str {
        let default = self.default(name);
        let (Some(spot), Some(Type::Word(words))) = (self.spot(name), self.key(name).map(|key| &key.of))
        else {
            return default;
        };
        word(report, &spot, words).unwrap_or(default)
    }

    /// The string or path that the file gives; `None` if it does not, or a wrong one (reported).
    pub fn text(&self, report: &mut Report, name: &str) -> Option<&'v str> {
        let spot = self.spot(name)?;
        match self.key(name)?.of {
            Type::Text { max } => spot.text(report, max),
            Type::Path { max } => path(report, &spot, max),
            _ => None,
        }
    }

    /// [`Section::text`], else the default.
    pub fn text_or_default(&self, report: &mut Report, name: &str) -> Box<str> {
        self.text(report, name).unwrap_or(self.default(name)).into()
    }

    /// The elements of a list; none if the file has none.
    pub fn list(&self, report: &mut Report, name: &str) -> Vec<Spot<'v>> {
        self.spot(name).and_then(|spot| spot.list(report)).unwrap_or_default()
    }
}

/// A duration from `from` to `to` milliseconds.
pub fn duration(report: &mut Report, spot: &Spot<'_>, from: u64, to: u64) -> Option<Duration> {
    let read = match &spot.value.kind {
        Kind::Number(digits) => units::whole(digits).map(Duration::from_secs),
        Kind::Text(text) => units::duration(text),
        _ => None,
    };
    let Some(duration) = read else {
        report.wrong_type(spot, "a duration (\"500ms\", \"10s\", \"5m\", \"24h\", or whole seconds)");
        return None;
    };
    let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
    if (from..=to).contains(&duration) {
        return Some(duration);
    }
    let (shown, from, to) =
        (units::show_duration(duration), units::show_duration(from), units::show_duration(to));
    report.at(spot, format!("must be from {from} to {to}, not {shown}"));
    None
}

/// One of `words`.
pub fn word(report: &mut Report, spot: &Spot<'_>, words: &'static [&'static str]) -> Option<&'static str> {
    let Some(text) = spot.value.text() else {
        report.wrong_type(spot, &format!("one of \"{}\"", words.join("\", \"")));
        return None;
    };
    let known = words.iter().find(|word| **word == text).copied();
    if known.is_none() {
        let what = format!("{} is not one of \"{}\"", quoted(text), words.join("\", \""));
        report.unknown(spot.value.at, &spot.path, &what, text, words.iter().copied());
    }
    known
}

/// An absolute path of at most `max` bytes.
pub fn path<'v>(report: &mut Report, spot: &Spot<'v>, max: usize) -> Option<&'v str> {
    let text = spot.text(report, max)?;
    if !text.starts_with('/') || text.ends_with('/') {
        report.at(spot, format!("{} is not an absolute path of a file; it must start with /", quoted(text)));
        return None;
    }
    Some(text)
}
