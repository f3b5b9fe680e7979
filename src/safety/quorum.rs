//! Gates 3 and 4: whether this node's side of the cluster may act.

use super::electorate::Votes;
use super::verify::Last;
use super::{Config, Reason};
use crate::time::Instant;

/// What decides besides the votes.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// How many witnesses answered since then.
    pub witnesses: &'a dyn Fn(Instant) -> usize,
    /// Witnesses that could not be asked, or are asked for the first time.
    pub untried: usize,
    /// How one that is missing answered; outer `None`: there is nothing to try there.
    pub tried: &'a dyn Fn(&str) -> Option<Option<Last>>,
}

/// Since when there is no majority.
#[derive(Debug, Default)]
pub struct Quorum {
    /// With the case: exactly half, or less.
    lost: Option<(Case, Instant)>,
    /// When the delay is over.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Half,
    Minority,
}

impl Quorum {
    /// The gate. Looks at the votes first, for its delays.
    pub fn gate(
        &mut self,
        now: Instant,
        config: &Config,
        votes: &Votes,
        proof: &Proof<'_>,
    ) -> Result<(), Reason> {
        self.due = None;
        if config.quorum && votes.has_majority() && !votes.is_sure() {
            let (alive, suspects, voters) = (votes.alive, votes.suspects, votes.voters);
            return Err(Reason::Suspecting { alive, suspects, voters });
        }
        if !config.quorum || votes.has_majority() {
            self.lost = None;
            return Ok(());
        }
        let case = if votes.is_half() { Case::Half } else { Case::Minority };
        let since = match self.lost {
            Some((before, since)) if before == case => since,
            _ => now,
        };
        self.lost = Some((case, since));
        let (alive, voters, missing) = (votes.alive, votes.voters, votes.missing_text());
        let Some(delay) = case.delay(config) else {
            return Err(Reason::Minority { alive, voters, missing });
        };
        if config.witness.is_empty() {
            return Err(Reason::NoWitness { alive, voters, missing });
        }
        self.due = Some(since + delay).filter(|&at| at > now);
        if self.due.is_some() {
            return Err(Reason::Waiting { alive, voters, missing });
        }
        // Gate 3, where it is needed. What a witness answered before says nothing: this node's own Internet may be what
        // was lost.
        let (answered, needed) = ((proof.witnesses)(since), config.witness_min);
        if answered < needed && answered + proof.untried >= needed {
            return Err(Reason::WitnessNotTried { answered, needed, missing });
        }
        if answered < needed {
            return Err(Reason::WitnessSilent { answered, needed, missing });
        }
        if case == Case::Half { half(votes, proof) } else { Ok(()) }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Since when there is no majority; `None`: there is one, or none is needed.
    pub fn lost_since(&self) -> Option<Instant> {
        self.lost.map(|(_, since)| since)
    }
}

impl Case {
    fn delay(self, config: &Config) -> Option<core::time::Duration> {
        match self {
            Self::Half => Some(config.half_delay),
            Self::Minority => config.minority_delay,
        }
    }
}

/// `withdraw_self`: whether own addresses may be taken away. Not while the delay runs, or while it is not decided for
/// another cause, and of two halves not in the one with the smallest name, whether the other one answers or not: as
/// long as it is without quorum it stays as it is.
pub fn may_withdraw(found: &Result<(), Reason>, votes: &Votes) -> bool {
    found.as_ref().is_err_and(Reason::is_no_quorum) && votes.yields()
}

/// Of those that are missing none may serve on: it would be the other half.
fn half(votes: &Votes, proof: &Proof<'_>) -> Result<(), Reason> {
    let mut waiting = Ok(());
    for node in &votes.missing {
        match (proof.tried)(node) {
            Some(Some(last)) if last.answered => return Err(Reason::MissingServes { node: node.clone() }),
            Some(None) => waiting = Err(Reason::MissingNotTried { node: node.clone() }),
            _ => {}
        }
    }
    waiting
}
