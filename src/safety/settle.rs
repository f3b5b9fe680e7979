//! Gate 1: nothing before this node knows enough; again after the majority was lost and is back.

use core::time::Duration;

use super::Reason;
use crate::time::Instant;

/// So long a push/pull is waited for when the majority is back.
pub const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Whether peers told what they know.
#[derive(Debug)]
pub struct Settle {
    phase: Phase,
    /// Whether there was a majority at the last look.
    had_majority: Option<bool>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Since the start, until then at the latest.
    First(Instant),
    Done,
    /// The majority is back; until then at the latest.
    Again(Instant),
}

impl Settle {
    /// `until`: the start and `settle`.
    pub fn new(until: Instant) -> Self {
        Self { phase: Phase::First(until), had_majority: None }
    }

    /// `joined`: every configured peer was reached since the start, and somebody is known. `majority`: of gate 4.
    pub fn update(&mut self, now: Instant, joined: bool, majority: bool) {
        let is_back = self.had_majority.replace(majority) == Some(false) && majority;
        match self.phase {
            Phase::First(until) if joined || until <= now => self.phase = Phase::Done,
            Phase::Again(until) if until <= now => self.phase = Phase::Done,
            Phase::Done if is_back => self.phase = Phase::Again(now + AGAIN_MAX),
            _ => {}
        }
    }

    /// A push/pull with somebody went well.
    pub fn synced(&mut self) {
        if let Phase::Again(_) = self.phase {
            self.phase = Phase::Done;
        }
    }

    /// Not the first time since the start: that is over for good.
    pub fn is_first(&self) -> bool {
        matches!(self.phase, Phase::First(_))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::First(until) | Phase::Again(until) => Some(until),
            Phase::Done => None,
        }
    }

    /// The gate. `without_verdict`: an own app whose checks have none yet.
    pub fn gate(&self, without_verdict: Option<&str>) -> Result<(), Reason> {
        match (&self.phase, without_verdict) {
            (Phase::First(_), _) => Err(Reason::Settling),
            (_, Some(app)) => Err(Reason::NoVerdictHere { app: app.into() }),
            (Phase::Again(_), None) => Err(Reason::SettlingAgain),
            (Phase::Done, None) => Ok(()),
        }
    }
}
