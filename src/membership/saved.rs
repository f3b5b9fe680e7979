//! What membership must know after a restart (`interfaces`, section 6).

use serde::{Deserialize, Serialize};

use super::Membership;
use crate::time::Instant;

/// Own incarnation, members with addresses and tags, forgotten names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {}

/// What speaks against this node itself (`interfaces`, section 5, gate 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Lifeguard's health score.
    pub score: u32,
    /// Other running members, and to how many of them the system refused to send last.
    pub others: usize,
    pub unsendable: usize,
    /// Probe rounds ended since the start.
    pub rounds: u64,
}

impl Membership {
    /// What a restart must not forget. `unix_now`: seconds since 1970, for what has an age.
    pub fn saved(&self, _now: Instant, _unix_now: u64) -> Saved {
        Saved {}
    }

    /// Takes up what was saved; right after [`Membership::new`].
    pub fn restore(&mut self, _now: Instant, _unix_now: u64, _saved: Saved) {}

    pub fn evidence(&self, _now: Instant) -> Evidence {
        Evidence { score: self.health_score(), ..Evidence::default() }
    }

    /// The configured join entries that are not this node itself, each with the member that was reached through it.
    pub fn join_entries(&self) -> impl Iterator<Item = (&super::Target, Option<&str>)> {
        core::iter::empty()
    }
}
