//! Everything that is wrong with the file or worth saying, found in any order, told in the file's.

use std::borrow::Cow;

use super::Problem;
use super::file::{self, Kind};
use super::section::Spot;
use super::units;

/// Problems told at once; the rest is counted. A broken file of a megabyte stays readable.
const PROBLEMS_MAX: usize = 100;
/// A string of the file that is repeated in a message.
const QUOTED_MAX: usize = 60;

/// Everything that was found, with offsets until [`Report::finish`].
#[derive(Default)]
pub struct Report {
    problems: Vec<Found>,
    notes: Vec<Found>,
}

struct Found {
    at: usize,
    path: String,
    text: String,
}

impl Report {
    pub fn problem(&mut self, at: usize, path: &str, text: impl Into<String>) {
        self.problems.push(Found { at, path: path.into(), text: text.into() });
    }

    /// A problem with this value.
    pub fn at(&mut self, spot: &Spot<'_>, text: impl Into<String>) {
        self.problem(spot.value.at, &spot.path, text);
    }

    pub fn note(&mut self, at: usize, path: &str, text: impl Into<String>) {
        self.notes.push(Found { at, path: path.into(), text: text.into() });
    }

    pub fn wrong_type(&mut self, spot: &Spot<'_>, wanted: &str) {
        let found = match &spot.value.kind {
            Kind::Text(text) => quoted(text),
            Kind::Number(digits) => shortened(digits).into_owned(),
            Kind::Null => "null (leave the key out for its default)".into(),
            _ => spot.value.kind_name().into(),
        };
        self.at(spot, format!("must be {wanted}, not {found}"));
    }

    /// A name that nobody knows, and the nearest one that somebody does.
    pub fn unknown<'n>(
        &mut self,
        at: usize,
        path: &str,
        what: &str,
        wrong: &str,
        names: impl Iterator<Item = &'n str>,
    ) {
        let meant = units::nearest(wrong, names);
        let hint = meant.map_or(String::new(), |name| format!("; did you mean \"{name}\"?"));
        self.problem(at, path, format!("{what}{hint}"));
    }

    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// Problems and notes in the order of their places.
    pub fn finish(self, text: &str) -> (Vec<Problem>, Vec<Problem>) {
        (placed(self.problems, text), placed(self.notes, text))
    }
}

fn placed(mut found: Vec<Found>, text: &str) -> Vec<Problem> {
    found.sort_by_key(|found| found.at);
    let more = found.len().saturating_sub(PROBLEMS_MAX);
    found.truncate(PROBLEMS_MAX);
    let problem = |found: Found| {
        let (line, column) = file::place(text, found.at);
        Problem { line, column, path: found.path, text: found.text }
    };
    let mut problems: Vec<Problem> = found.into_iter().map(problem).collect();
    if more > 0 {
        let text = format!("and {more} more");
        problems.push(Problem { line: 0, column: 0, path: String::new(), text });
    }
    problems
}

/// `path.key`, readable whatever the key holds.
pub fn join(path: &str, key: &str) -> String {
    let key = shortened(key);
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// A string of the file in quotes, short and without control characters.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", shortened(text))
}

fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= QUOTED_MAX && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().nth(QUOTED_MAX).map_or(text.len(), |(i, _)| i);
    let start = text.get(..end).unwrap_or(text);
    let more = if end < text.len() { "…" } else { "" };
    Cow::Owned(start.chars().flat_map(escaped).collect::<String>() + more)
}

fn escaped(letter: char) -> Box<dyn Iterator<Item = char>> {
    if letter.is_control() { Box::new(letter.escape_default()) } else { Box::new(core::iter::once(letter)) }
}
