//! What can happen a thousand times a second, by accident or malice: counted, and logged once a minute per kind.

use log::Level;

use crate::agent::events::Event;
use crate::limits::LOG_REPEAT;
use crate::time::{Instant, earliest};
use crate::wire;

/// A kind of noise. [`Kind::Bad`] is by [`wire::Error::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bad(usize),
    NotAllowed,
    Refused,
    SendError,
    JoinFailed,
    SyncFailed,
    NotResolved,
    Conflict,
    ForeignCluster,
    TableFull,
    Late,
    TagsTooLong,
    KeysRefused,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bad(_) => "bad-packet",
            Self::NotAllowed => "not-allowed",
            Self::Refused => "refused",
            Self::SendError => "send-error",
            Self::JoinFailed => "join-failed",
            Self::SyncFailed => "sync-failed",
            Self::NotResolved => "not-resolved",
            Self::Conflict => "name-conflict",
            Self::ForeignCluster => "foreign-cluster",
            Self::TableFull => "table-full",
            Self::Late => "loop-late",
            Self::TagsTooLong => "tags-too-long",
            Self::KeysRefused => "keys-refused",
        }
    }
}

struct Slot {
    kind: Kind,
    logged: Option<Instant>,
    seen: Option<Instant>,
    /// Since it was logged last.
    pending: u64,
    text: Box<str>,
}

/// Targets of `join` whose failures are told apart; those of more are counted together.
const TARGETS_MAX: usize = 32;

/// The last failure told of one target of `join`.
struct Target {
    kind: Kind,
    /// Address or host name.
    name: Box<str>,
    error: Box<str>,
    told: Instant,
}

/// All kinds of noise.
#[derive(Default)]
pub struct Noise {
    /// One for each kind that was heard of.
    slots: Vec<Slot>,
    targets: Vec<Target>,
}

impl Noise {
    /// It happened `count` times more; `text` says what, and is asked for only when it is needed.
    /// Gives what is to be logged now.
    pub fn hit(
        &mut self,
        now: Instant,
        kind: Kind,
        count: u64,
        text: impl FnOnce() -> String,
    ) -> Option<Event> {
        let index = self.slots.iter().position(|slot| slot.kind == kind).unwrap_or_else(|| {
            self.slots.push(Slot { kind, logged: None, seen: None, pending: 0, text: Box::default() });
            self.slots.len() - 1
        });
        let slot = self.slots.get_mut(index)?;
        slot.pending = slot.pending.saturating_add(count);
        // A flood pays for one sentence a second, not for one each.
        if slot.seen.is_none_or(|seen| now.since(seen).as_secs() >= 1) || slot.is_due(now) {
            slot.text = text().into();
            slot.seen = Some(now);
        }
        slot.is_due(now).then(|| slot.flush(now))
    }

    /// `name`, which is tried for ever, failed with `error`: gives what is to be logged now. Each target has its
    /// own first line; the same error again says nothing new, and another one is told a minute later at the earliest.
    pub fn target_failed(
        &mut self,
        now: Instant,
        kind: Kind,
        name: &str,
        error: &str,
        text: &str,
    ) -> Option<Event> {
        let is_full = self.targets.len() >= TARGETS_MAX;
        match self.targets.iter_mut().find(|target| target.kind == kind && *target.name == *name) {
            Some(same) if *same.error == *error || now < same.told + LOG_REPEAT => return None,
            Some(target) => (target.error, target.told) = (error.into(), now),
            None if is_full => return self.hit(now, kind, 1, || text.into()),
            None => self.targets.push(Target { kind, name: name.into(), error: error.into(), told: now }),
        }
        Some(Event::new(now, Level::Warn, kind.name(), text))
    }

    /// `name` was reached: its next failure is news again.
    pub fn target_reached(&mut self, name: &str) {
        self.targets.retain(|target| *target.name != *name);
    }

    /// The next one that has waited long enough, if there is one. To be called until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        self.slots.iter_mut().find(|slot| slot.pending > 0 && slot.is_due(now)).map(|slot| slot.flush(now))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        earliest(
            self.slots
                .iter()
                .filter(|slot| slot.pending > 0)
                .map(|slot| slot.logged.map(|at| at + LOG_REPEAT)),
        )
    }

    /// What was heard of `kind` in the last five minutes, for `status`.
    pub fn recent(&self, now: Instant, kind: Kind) -> Option<&str> {
        let slot = self.slots.iter().find(|slot| slot.kind == kind)?;
        slot.seen.filter(|&seen| now.since(seen) < 5 * LOG_REPEAT).map(|_| &*slot.text)
    }
}

impl Slot {
    fn is_due(&self, now: Instant) -> bool {
        self.logged.is_none_or(|at| now >= at + LOG_REPEAT)
    }

    fn flush(&mut self, now: Instant) -> Event {
        let count = core::mem::take(&mut self.pending);
        self.logged = Some(now);
        let event = Event::new(now, Level::Warn, self.kind.name(), &*self.text);
        let event = match self.kind {
            Kind::Bad(kind) => event.with("kind", wire::Error::KINDS.get(kind).unwrap_or(&"other")),
            _ => event,
        };
        if count > 1 { event.with("count", &count.to_string()) } else { event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_flood_of_one_kind_is_one_line_a_minute() {
        let mut noise = Noise::default();
        let mut lines = Vec::new();
        for ms in 0..150_000u64 {
            let now = Instant::from_micros(ms * 1_000);
            lines.extend(noise.hit(now, Kind::Bad(6), 1, || "from 192.0.2.1:7946".into()));
        }
        let counts: Vec<_> = lines.iter().map(Event::log_line).collect();
        assert_eq!(
            counts,
            [
                "event=bad-packet kind=wrong-key: from 192.0.2.1:7946",
                "event=bad-packet kind=wrong-key count=60000: from 192.0.2.1:7946",
                "event=bad-packet kind=wrong-key count=60000: from 192.0.2.1:7946",
            ]
        );
    }

    #[test]
    fn what_was_held_back_is_said_when_the_minute_is_over() {
        let mut noise = Noise::default();
        assert!(noise.hit(at(0), Kind::Refused, 1, || "a".into()).is_some());
        assert_eq!(noise.next_deadline(), None);
        assert!(noise.hit(at(10), Kind::Refused, 2, || "b".into()).is_none());
        assert_eq!(noise.next_deadline(), Some(at(60)));
        assert!(noise.poll(at(59)).is_none());
        assert_eq!(noise.poll(at(60)).unwrap().log_line(), "event=refused count=2: b");
        assert!(noise.poll(at(60)).is_none());
    }

    #[test]
    fn each_target_is_told_once_until_its_error_changes_or_it_was_reached() {
        let mut noise = Noise::default();
        let mut told = |secs, name: &str, error: &str| {
            noise.target_failed(at(secs), Kind::JoinFailed, name, error, error).is_some()
        };
        assert!(told(0, "a", "refused") && told(0, "b", "refused"), "one does not hide the other");
        assert!(!told(1, "a", "refused") && !told(500, "a", "refused"));
        assert!(told(501, "a", "timeout") && !told(502, "a", "refused"), "to and fro: once a minute");
        assert!(told(562, "a", "refused"));
        noise.target_reached("a");
        assert!(noise.target_failed(at(563), Kind::JoinFailed, "a", "refused", "").is_some());
        let mut failed = |secs, name: u64| {
            noise.target_failed(at(secs), Kind::NotResolved, &name.to_string(), "no", "").is_some()
        };
        let told = (0..600).filter(|round| failed(600 + round, round % 100)).count();
        // a and b are there; of each hundred the first thirty fit.
        assert_eq!(told, TARGETS_MAX - 2 + 9, "those that fit once each, of the others one a minute");
        assert_eq!(noise.targets.len(), TARGETS_MAX);
    }

    #[test]
    fn every_kind_has_its_own_minute() {
        let mut noise = Noise::default();
        let kinds = [Kind::Bad(0), Kind::Bad(7), Kind::NotAllowed, Kind::JoinFailed, Kind::TagsTooLong];
        for kind in kinds {
            assert!(noise.hit(at(1), kind, 1, String::new).is_some(), "{kind:?}");
        }
        assert!(kinds.into_iter().all(|kind| noise.recent(at(2), kind).is_some()));
        assert!(noise.recent(at(400), Kind::NotAllowed).is_none());
    }
}
