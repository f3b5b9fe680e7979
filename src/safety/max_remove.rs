//! Gate 8: how much may leave G within 5 minutes, whoever ran.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use super::{Address, Addresses, Reason, Verdict, contains};
use crate::time::{Instant, earliest};

/// What left within this time counts.
pub const WINDOW: Duration = Duration::from_secs(300);

/// What this node saw leave one G. Bounded by the addresses that G can have: of sizes only those are kept that were
/// greater than all later ones.
#[derive(Debug, Default)]
pub struct Window {
    /// G at the last look.
    last: Addresses,
    left: Vec<(IpAddr, Instant)>,
    /// Sizes that G had, greatest first, and when each was over.
    sizes: VecDeque<(usize, Instant)>,
}

impl Window {
    /// Applies the gate to what the others made. `percent`: the share that may leave; `None`: any. `is_told`: whether
    /// this is what the outside was told last; then it is done, by whomever a person let do it.
    pub fn apply(
        &mut self,
        now: Instant,
        percent: Option<u8>,
        published: Option<&[Address]>,
        is_told: impl FnOnce(&[Address]) -> bool,
        verdict: &mut Verdict,
    ) {
        self.expire(now);
        let Some(goal) = &mut verdict.publish else { return };
        if *goal == self.last {
            *goal = self.last.clone(); // the same, not one more like it
        }
        self.left.retain(|(addr, _)| !contains(goal, *addr));
        let shown = published.unwrap_or_default();
        let known = self.last.iter().chain(shown);
        let mut leaving: Vec<Address> = Vec::new();
        for old in known.filter(|old| !contains(goal, old.addr)) {
            if !contains(&leaving, old.addr) && !self.left.iter().any(|(addr, _)| *addr == old.addr) {
                leaving.push(old.clone());
            }
        }
        let greatest = self.sizes.front().map_or(0, |size| size.0).max(self.last.len()).max(shown.len());
        // What P does not show has nothing to lose: it counts, but is not put back.
        let (held, gone): (Vec<Address>, Vec<Address>) =
            leaving.into_iter().partition(|address| contains(shown, address.addr));
        self.left.extend(gone.into_iter().map(|address| (address.addr, now)));
        let gone = self.left.len() + held.len();
        match percent {
            Some(percent) if !held.is_empty() && gone * 100 > greatest * usize::from(percent) => {
                if is_told(goal) {
                    self.forgive();
                } else {
                    let reason = Reason::TooMany { leaving: gone, of: greatest, percent };
                    let mut all = [&goal[..], &held[..]].concat();
                    all.sort_unstable();
                    *goal = all.into();
                    verdict.held.extend(held.into_iter().map(|address| (address, reason.clone())));
                    verdict.guard = Some(reason);
                    let over = self.left.iter().map(|(_, at)| Some(*at + WINDOW));
                    verdict.until = earliest(over.chain([verdict.until]));
                }
            }
            _ => self.left.extend(held.into_iter().map(|address| (address.addr, now))),
        }
        if self.last.len() != goal.len() {
            self.was(now, self.last.len());
        }
        self.last = goal.clone();
    }

    /// This node may not act: what the others take away meanwhile is not seen to leave, and is not counted when it may
    /// act again.
    pub fn pause(&mut self, now: Instant) {
        if !self.last.is_empty() {
            self.was(now, self.last.len());
            self.last = Addresses::default();
        }
    }

    /// A person said that all may go, and it went: it counts no more.
    pub fn forgive(&mut self) {
        self.left.clear();
        self.sizes.clear();
    }

    fn was(&mut self, now: Instant, size: usize) {
        while self.sizes.back().is_some_and(|(smaller, _)| *smaller <= size) {
            self.sizes.pop_back();
        }
        self.sizes.push_back((size, now));
    }

    fn expire(&mut self, now: Instant) {
        self.left.retain(|(_, at)| *at + WINDOW > now);
        while self.sizes.front().is_some_and(|(_, until)| *until + WINDOW <= now) {
            self.sizes.pop_front();
        }
    }
}
