//! Rule 3's last step: before a run, fresh tries of the failed members whose addresses it is about (gate 5).

use core::time::Duration;
use std::rc::Rc;

use super::handler::Turn;
use super::{Action, AppSituation, Verified};
use crate::check::AppState;
use crate::membership::State;
use crate::safety::Address;
use crate::time::Instant;
use crate::view::Instance;

/// The failed tries of a round count for so long after the last of them ended.
const FRESH: Duration = Duration::from_secs(10);
/// A round that waits asks again so often: what is tried or in line already keeps its place.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The round of tries that a run waits for, if it is to start.
///
/// All tries begun since the round began count until it is over, however many nodes take their turns: a round that
/// began anew for those that failed first would never end with more nodes than can be tried within [`FRESH`].
#[derive(Default)]
pub struct Verify(Option<Round>);

#[derive(Clone, Copy)]
struct Round {
    since: Instant,
    asked: Instant,
}

impl Verify {
    /// The run is not to start now after all.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// All waits of a run of `goal` are over. Gives the nodes that are still tried, and when to look again; none: it may
    /// start. Whether an address stays in G is the gates' to decide, here only time counts.
    ///
    /// A failed node for which the gates give nothing is not waited for: they have nothing to try there.
    pub fn wait(
        &mut self,
        turn: &mut Turn<'_>,
        situation: &AppSituation,
        outside: Option<&[Address]>,
        goal: &[Address],
    ) -> Option<(Vec<Rc<str>>, Instant)> {
        let now = turn.now;
        let concerned = |i: &&Instance| {
            let is_in = |set: &[Address]| set.iter().any(|entry| i.addrs.contains(&entry.addr));
            let may_serve = matches!(i.app, AppState::Up | AppState::Unknown) && i.withdrawn_by.is_none();
            // Where P is not known, it may be in it.
            i.member == State::Dead && may_serve && (outside.is_none_or(is_in) || is_in(goal))
        };
        let failed = situation.instances.iter().filter(concerned);
        let tries: Vec<&Verified> =
            failed.filter_map(|i| situation.verified.iter().find(|v| v.node == i.node)).collect();
        if tries.is_empty() {
            self.forget();
            return None;
        }
        let current = self.0.filter(|round| !round.is_stale(now, &tries));
        let mut round = current.unwrap_or(Round { since: now, asked: now });
        if round.is_over(&tries) {
            return None;
        }
        if current.is_none() || round.asked + ASKED_AGAIN_AFTER <= now {
            round.asked = now;
            turn.out.actions.push_back(Action::Verify { app: situation.name.clone(), since: round.since });
        }
        self.0 = Some(round);
        let missing = tries.iter().filter(|v| !v.counts(round.since)).map(|v| v.node.clone());
        Some((missing.collect(), round.asked + ASKED_AGAIN_AFTER))
    }
}

impl Round {
    /// Each was tried.
    fn is_over(&self, tries: &[&Verified]) -> bool {
        tries.iter().all(|tried| tried.counts(self.since))
    }

    /// It was over long ago, and some did not answer.
    fn is_stale(&self, now: Instant, tries: &[&Verified]) -> bool {
        let ended = tries.iter().filter_map(|tried| tried.last).map(|(_, ended)| ended).max();
        self.is_over(tries)
            && tries.iter().any(|tried| !tried.answered)
            && ended.is_some_and(|ended| ended + FRESH <= now)
    }
}

impl Verified {
    /// Whether it was tried in the round since then, as far as it can be.
    fn counts(&self, since: Instant) -> bool {
        self.last.is_some_and(|(began, _)| began >= since) || self.untried.is_some_and(|began| began >= since)
    }
}
