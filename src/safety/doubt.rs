//! Gate 2: evidence against this node itself, until a clean probe round.

use core::time::Duration;

use super::Reason;
use crate::membership::Evidence;
use crate::time::Instant;

/// The health score up to which a node may act (Lifeguard's goes to 7).
pub const SCORE_MAX: u32 = 4;
/// So many probe rounds without new evidence are a clean one: the first had begun before.
const ROUNDS: u64 = 2;

/// Whether this node doubts itself.
#[derive(Debug)]
pub struct Doubt {
    probe_interval: Duration,
    of: Option<Of>,
}

#[derive(Debug)]
struct Of {
    reason: Reason,
    /// Probe rounds at the last evidence.
    rounds: u64,
    /// Then it ends even if no probe round does: there may be nobody to probe.
    until: Instant,
}

impl Doubt {
    pub fn new(probe_interval: Duration) -> Self {
        Self { probe_interval, of: None }
    }

    /// `late`: the loop came round too late since the last look.
    pub fn update(&mut self, now: Instant, evidence: &Evidence, late: bool) {
        let of = match Self::against(evidence, late) {
            // A cause that lasts on may have another number now, and other causes may follow: the last one is told.
            Some(reason) => Some(self.doubted(now, reason, evidence)),
            None => self.of.take().filter(|of| {
                let rounds = evidence.rounds.saturating_sub(of.rounds);
                rounds < ROUNDS && of.until > now
            }),
        };
        self.of = of;
    }

    fn against(evidence: &Evidence, late: bool) -> Option<Reason> {
        let Evidence { score, others, unsendable, .. } = *evidence;
        match () {
            () if late => Some(Reason::WasLate),
            () if others > 0 && unsendable * 2 >= others => Some(Reason::CannotSend { unsendable, others }),
            // With nobody left to probe the score stays what it was, and says nothing.
            () if others > 0 && score > SCORE_MAX => Some(Reason::Unwell { score }),
            () => None,
        }
    }

    fn doubted(&self, now: Instant, reason: Reason, evidence: &Evidence) -> Of {
        // Lifeguard stretches the rounds by the score.
        let rounds = evidence.score.saturating_add(1).saturating_mul(ROUNDS as u32 + 1);
        Of { reason, rounds: evidence.rounds, until: now + self.probe_interval.saturating_mul(rounds) }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.of.as_ref().map(|of| of.until)
    }

    pub fn gate(&self) -> Result<(), Reason> {
        self.of.as_ref().map_or(Ok(()), |of| Err(of.reason.clone()))
    }
}
