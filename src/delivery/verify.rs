//! Rule 3's last step: before a run, fresh tries of the failed members whose addresses it is about (gate 5).

use core::time::Duration;

use super::handler::Turn;
use super::{Action, AppSituation, Verified};
use crate::check::AppState;
use crate::membership::State;
use crate::safety::Address;
use crate::time::Instant;
use crate::view::Instance;

/// A try that failed counts for so long after its end.
const FRESH: Duration = Duration::from_secs(10);
/// After so long without a result it is asked for again: a try has its own timeout, but may wait for its turn.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Whether fresh tries were asked for, and since when they count.
#[derive(Default)]
pub struct Verify(Option<Instant>);

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
        outside: &[Address],
        goal: &[Address],
    ) -> Option<(Vec<Box<str>>, Instant)> {
        let now = turn.now;
        let concerned = |i: &&Instance| {
            let is_in = |set: &[Address]| set.iter().any(|entry| i.addrs.contains(&entry.addr));
            let may_serve = matches!(i.app, AppState::Up | AppState::Unknown) && i.withdrawn_by.is_none();
            i.member == State::Dead && may_serve && (is_in(outside) || is_in(goal))
        };
        let failed = situation.instances.iter().filter(concerned);
        let tries: Vec<&Verified> =
            failed.filter_map(|i| situation.verified.iter().find(|v| v.node == i.node)).collect();
        if tries.is_empty() {
            self.forget();
            return None;
        }
        let is_wanted_anew = |since: Instant| {
            let is_late = since + ASKED_AGAIN_AFTER <= now && tries.iter().any(|v| !v.is_fresh(now, since));
            is_late || tries.iter().any(|v| v.is_stale(now, since))
        };
        let since = match self.0.filter(|&since| !is_wanted_anew(since)) {
            Some(since) => since,
            None => {
                turn.out.actions.push_back(Action::Verify { app: situation.name.clone(), since: now });
                *self.0.insert(now)
            }
        };
        let missing: Vec<Box<str>> =
            tries.iter().filter(|v| !v.is_fresh(now, since)).map(|v| v.node.clone()).collect();
        (!missing.is_empty()).then_some((missing, since + ASKED_AGAIN_AFTER))
    }
}

impl Verified {
    /// Whether it counts for a run at `now` for which tries since `since` count.
    fn is_fresh(&self, now: Instant, since: Instant) -> bool {
        self.last.is_some_and(|(began, ended)| began >= since && (self.answered || ended + FRESH > now))
    }

    /// Whether it did count, and is too old by now.
    fn is_stale(&self, now: Instant, since: Instant) -> bool {
        self.last.is_some_and(|(began, _)| began >= since) && !self.is_fresh(now, since)
    }
}
