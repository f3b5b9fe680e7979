//! The ring of recent events, and one event as a line for the log or the control socket.

use core::time::Duration;
use std::collections::VecDeque;

use log::Level;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::control::text::{cut, printable, push_field, rfc3339};
use crate::limits::{EVENTS_MAX, REASON_MAX};
use crate::time::{Date, Instant};

/// The two clocks are not read in the same moment, so they differ a little each time; that is not another date.
const SAME_DATE: Duration = Duration::from_millis(250);

/// The date, as far as it is known. For people only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall(Option<Date>);

impl Wall {
    /// It is `unix` since 1970 at `now`. Whether the dates of moments have changed by that.
    pub fn set(&mut self, now: Instant, unix: Duration) -> bool {
        let is_known = self.unix(now).is_some_and(|known| known.abs_diff(unix) < SAME_DATE);
        if !is_known {
            self.0 = Some(Date::new(now, unix));
        }
        !is_known
    }
    /// For the state file: 1970, as long as nobody said the date.
    pub fn date(&self, now: Instant) -> Date {
        self.0.unwrap_or(Date::new(now, Duration::ZERO))
    }
    /// Since 1970; `None` as long as nobody said the date.
    pub fn unix(&self, at: Instant) -> Option<Duration> {
        self.0.map(|date| date.unix(at))
    }
    /// Seconds since 1970, or 0.
    pub fn unix_secs(&self, at: Instant) -> u64 {
        self.unix(at).unwrap_or_default().as_secs()
    }
}

/// Something that an operator may want to know. What others said is in it as they said it: it is escaped when it is
/// written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Instant,
    pub level: Level,
    /// `node-failed`, `app-up`, …
    pub kind: &'static str,
    pub fields: Vec<(&'static str, Box<str>)>,
    /// A sentence without a full stop.
    pub text: Box<str>,
}

impl Event {
    pub fn new(at: Instant, level: Level, kind: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at, level, kind, fields: Vec::new(), text: cut(&text, 2 * REASON_MAX).into() }
    }

    /// With one more field. The key must not be `time`, `level`, `event` or `message`.
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.fields.push((key, cut(value, REASON_MAX).into()));
        self
    }

    /// `event=node-failed node=nyc1 from=par1: nyc1 failed`. Level and date are the log's.
    pub fn log_line(&self) -> String {
        let mut line = String::with_capacity(96);
        push_field(&mut line, "event", self.kind);
        for (key, value) in &self.fields {
            push_field(&mut line, key, value);
        }
        line.push_str(": ");
        line.push_str(&printable(&self.text));
        line
    }

    /// The JSON line of the control socket ([`crate::control::EventLine`]).
    pub fn json_line(&self, wall: Wall) -> String {
        serde_json::to_string(&Dated { event: self, wall }).unwrap_or_default()
    }
}

struct Dated<'a> {
    event: &'a Event,
    wall: Wall,
}

impl Serialize for Dated<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let time = self.wall.unix(self.event.at).map(rfc3339).unwrap_or_default();
        map.serialize_entry("time", &time)?;
        map.serialize_entry("level", level_name(self.event.level))?;
        map.serialize_entry("event", self.event.kind)?;
        for (key, value) in &self.event.fields {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("message", &self.event.text)?;
        map.end()
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The last [`EVENTS_MAX`] events.
#[derive(Default)]
pub struct Ring(VecDeque<Event>);

impl Ring {
    /// The oldest makes room.
    pub fn push(&mut self, event: Event) {
        while self.0.len() >= EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }
    /// The newest `n`, oldest first.
    pub fn newest(&self, n: usize) -> impl ExactSizeIterator<Item = &Event> {
        self.0.iter().skip(self.0.len().saturating_sub(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        Event::new(Instant::ZERO + Duration::from_millis(1_500), Level::Warn, "node-failed", text)
    }

    #[test]
    fn a_line_for_the_log_has_fields_and_a_sentence() {
        let line = event("nyc1 failed").with("node", "nyc1").with("from", "par1").log_line();
        assert_eq!(line, "event=node-failed node=nyc1 from=par1: nyc1 failed");
    }

    #[test]
    fn a_hostile_name_cannot_forge_a_line() {
        let name = "x\n2026 ERROR event=forged\x1b[31m";
        let line = event(&format!("{name} failed")).with("node", name).log_line();
        assert!(!line.contains(['\n', '\x1b']), "{line}");
        assert!(line.starts_with("event=node-failed node=\"x\\n2026 ERROR"), "{line}");
    }

    #[test]
    fn a_json_line_is_dated_as_soon_as_the_date_is_known() {
        let mut wall = Wall::default();
        let event = event("nyc1 failed").with("node", "nyc1");
        assert!(event.json_line(wall).starts_with(r#"{"time":"","level":"warn""#));
        wall.set(Instant::ZERO + Duration::from_secs(10), Duration::from_secs(110));
        assert_eq!(
            event.json_line(wall),
            r#"{"time":"1970-01-01T00:01:41.500Z","level":"warn","event":"node-failed","node":"nyc1","message":"nyc1 failed"}"#
        );
        let read: crate::control::EventLine = serde_json::from_str(&event.json_line(wall)).unwrap();
        assert_eq!((read.event.as_str(), read.message.as_str()), ("node-failed", "nyc1 failed"));
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut ring = Ring::default();
        for n in 0..EVENTS_MAX + 5 {
            ring.push(event(&n.to_string()));
        }
        assert_eq!(ring.newest(usize::MAX).len(), EVENTS_MAX);
        assert_eq!(&*ring.newest(usize::MAX).next().unwrap().text, "5");
        let newest: Vec<&str> = ring.newest(2).map(|event| &*event.text).collect();
        assert_eq!(newest, [(EVENTS_MAX + 3).to_string(), (EVENTS_MAX + 4).to_string()]);
    }
}
