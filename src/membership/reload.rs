//! What can be changed while this node runs: keys, join targets, expected members, sources, memory of the failed.

use core::time::Duration;
use std::rc::Rc;

use super::join::Join;
use super::{Cidr, Config, Membership, Target};
use crate::time::Instant;
use crate::wire::crypt::KeyRing;
use crate::wire::packet::Envelope;

/// The part of [`Config`] that [`Membership::reconfigure`] takes over, but for the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changeable {
    pub join: Vec<Target>,
    pub members: Vec<Box<str>>,
    pub allow: Vec<Cidr>,
    pub forget_after: Duration,
}

impl Changeable {
    pub fn of(config: &Config) -> Self {
        Self {
            join: config.join.clone(),
            members: config.members.clone(),
            allow: config.allow.clone(),
            forget_after: config.forget_after,
        }
    }
}

impl Membership {
    /// Takes over what can be changed. A target that stays keeps what is known of it; a new one is joined at once.
    pub fn reconfigure(&mut self, now: Instant, changes: Changeable) {
        self.begin_input(now);
        let Changeable { join, members, allow, forget_after } = changes;
        self.set_joins(now, &join);
        (self.config.join, self.config.members) = (join, members);
        (self.config.allow, self.config.forget_after) = (allow, forget_after);
        self.changed = true;
        self.finish_input(now);
    }

    fn set_joins(&mut self, now: Instant, targets: &[Target]) {
        let mut before: Vec<Option<Join>> = core::mem::take(&mut self.joins).into_iter().map(Some).collect();
        // Exchanges under way are for the target at a place of the old list.
        let mut places = vec![None; before.len()];
        for target in targets {
            let known = before.iter().position(|join| join.as_ref().is_some_and(|join| join.is_of(target)));
            if let Some(at) = known {
                places[at] = Some(self.joins.len());
            }
            let known = known.and_then(|at| before[at].take());
            let new = || Join::new(target.clone(), self.config.advertise, now);
            self.joins.push(known.unwrap_or_else(new));
        }
        self.streams.move_joins(|at| places.get(at).copied().flatten());
    }

    /// The keys in use, the one that encrypts first.
    pub fn keys(&self) -> &KeyRing {
        &self.envelope.keys
    }

    /// Other keys from now on. Between none and some there is no way while others run: false, and nothing changed.
    pub fn set_keys(&mut self, now: Instant, keys: KeyRing) -> bool {
        let possible = keys.is_empty() == self.keys().is_empty();
        if possible {
            self.begin_input(now);
            self.swap_keys(keys);
            self.finish_input(now);
        }
        possible
    }

    pub(super) fn swap_keys(&mut self, keys: KeyRing) {
        let envelope = Envelope { keys, ..(*self.envelope).clone() };
        self.streams.keep_keys(&self.envelope, &envelope);
        self.envelope = Rc::new(envelope);
    }
}
