//! Whom to join: the configured targets, tried for ever (P 6), and those that a person names, tried once.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;

use super::ping::{Tried, TryId};
use super::sync::Cause;
use super::{Action, Event, Membership, ResolveId, Target};
use crate::limits;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::stream::{NodeState, PushPull};

/// Between two tries of one join target, at least and at most.
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
const RETRY_JITTER_PERCENT: u32 = 20;

/// An entry of `join` that does not lead to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinEntry<'a> {
    pub target: &'a Target,
    /// Who is there, if that is known.
    pub member: Option<&'a str>,
    /// Where it leads: the literal address, or what the last look-up gave; empty: none worked yet.
    pub addrs: &'a [SocketAddr],
}

/// One entry of `join`: tried until it is reached, and again whenever nobody there is known to run.
pub(super) struct Join {
    target: Target,
    /// Where it is: the literal address, or what the last look-up gave, without our own.
    addrs: Vec<SocketAddr>,
    /// The place in `addrs` of the next one to talk to in this try.
    next_addr: usize,
    next_try: Option<Instant>,
    backoff: Duration,
    busy: Busy,
    reached: bool,
    /// Who is there, as far as is known.
    member: Option<Rc<str>>,
    /// All that it leads to is this node.
    is_self: bool,
    /// A person said to forget the member there: it is not tried until one runs there again.
    rests: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    No,
    Resolving(ResolveId),
    Talking,
}

impl Join {
    /// `own` is the address that others reach this node at.
    pub fn new(target: Target, own: SocketAddr, now: Instant) -> Self {
        let is_self = target == Target::Addr(own);
        let addrs = match &target {
            Target::Addr(addr) => vec![*addr],
            Target::Name { .. } => Vec::new(),
        };
        Self {
            target,
            addrs,
            next_addr: 0,
            next_try: Some(now),
            backoff: RETRY_MIN,
            busy: Busy::No,
            reached: false,
            member: None,
            is_self,
            rests: false,
        }
    }

    pub fn next_try(&self) -> Option<Instant> {
        self.next_try.filter(|_| self.busy == Busy::No && !self.is_self && !self.rests)
    }

    fn try_again(&mut self, now: Instant, rng: &mut Rng) {
        self.next_try = Some(now + rng.jitter(self.backoff, RETRY_JITTER_PERCENT));
        self.backoff = (self.backoff * 2).min(RETRY_MAX);
    }

    pub fn was_reached(&self) -> bool {
        self.reached || self.is_self || self.rests
    }

    /// Where it leads, and to whom. `None`: to this node, to one that a person said to forget, or, behind a NAT, to a
    /// member that advertises another address.
    pub fn entry(&self) -> Option<JoinEntry<'_>> {
        let is_unknown = self.reached && self.member.is_none();
        let entry = JoinEntry { target: &self.target, member: self.member.as_deref(), addrs: &self.addrs };
        (!self.is_self && !self.rests && !is_unknown).then_some(entry)
    }

    pub fn is_of(&self, target: &Target) -> bool {
        self.target == *target
    }

    pub fn is_at(&self, addr: SocketAddr) -> bool {
        self.addrs.contains(&addr)
    }

    /// The member at `addr` is forgotten. A target that leads elsewhere, too, is still tried.
    pub fn forget(&mut self, addr: SocketAddr) {
        self.rests |= !self.addrs.is_empty() && self.addrs.iter().all(|known| *known == addr);
    }
}

/// A target that a person wants joined: each of its addresses is tried once.
pub(super) struct Once {
    id: TryId,
    target: Target,
    addrs: Vec<SocketAddr>,
    /// The place in `addrs` of the next one to talk to.
    next_addr: usize,
    resolving: Option<ResolveId>,
    pub deadline: Instant,
    reached: bool,
    /// Why the last address could not be joined.
    error: Option<Box<str>>,
    /// Nobody waits for it any more; it is kept while a look-up runs, so that these stay few.
    cancelled: bool,
}

impl Membership {
    // Joining.

    /// Tries the join targets whose time has come.
    pub(super) fn join_when_due(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        for i in 0..self.joins.len() {
            if self.joins[i].next_try().is_some_and(|at| at <= now) {
                self.try_join(now, i);
            }
        }
    }

    fn try_join(&mut self, now: Instant, i: usize) {
        if let Target::Name { host, .. } = &self.joins[i].target {
            let resolving = self.joins.iter().filter(|j| matches!(j.busy, Busy::Resolving(_))).count();
            if resolving < limits::RESOLVES_MAX {
                let id = self.streams.next_id();
                self.actions.push_back(Action::Resolve { id, host: host.clone() });
                self.joins[i].busy = Busy::Resolving(id);
            } else {
                self.joins[i].next_try = Some(now + RETRY_MIN);
            }
        } else {
            self.talk(now, i);
        }
    }

    /// A look-up ended; no addresses: it failed, for `error`.
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, addresses: &[IpAddr], error: &str) {
        self.begin_input(now);
        if let Some(i) = self.joins.iter().position(|join| join.busy == Busy::Resolving(id)) {
            self.resolved(now, i, addresses, error);
        } else if let Some(at) = self.joins_once.iter().position(|once| once.resolving == Some(id)) {
            self.once_resolved(now, at, addresses, error);
        }
        self.finish_input(now);
    }

    fn resolved(&mut self, now: Instant, i: usize, addresses: &[IpAddr], error: &str) {
        let join = &mut self.joins[i];
        let Target::Name { host, port } = &join.target else { return };
        join.busy = Busy::No;
        if addresses.is_empty() {
            self.events.push_back(Event::NotResolved { host: host.clone(), error: error.into() });
            join.try_again(now, &mut self.rng);
            return;
        }
        let port = *port;
        let own = self.config.advertise;
        join.addrs = others(addresses, port, own);
        join.is_self = join.addrs.is_empty();
        self.changed = true;
        self.talk(now, i);
    }

    /// Begins a try: each of the target's addresses in turn.
    fn talk(&mut self, now: Instant, i: usize) {
        self.joins[i].next_addr = 0;
        if !self.talk_to_next(now, i) {
            self.joins[i].next_try = None;
        }
    }

    /// Talks to the next address of this try at which nobody is known to run; false if there is none. One that
    /// answers is not enough: of four nodes behind one name, two and two could be content with each other.
    fn talk_to_next(&mut self, now: Instant, i: usize) -> bool {
        while let Some(&to) = self.joins[i].addrs.get(self.joins[i].next_addr) {
            self.joins[i].next_addr += 1;
            if self.leaving.is_some() || self.table.running_at(to).is_some() {
                continue;
            }
            if self.push_pull(now, to, Cause::Target(i)) {
                self.joins[i].busy = Busy::Talking;
            } else {
                self.joins[i].next_try = Some(now + RETRY_MIN);
            }
            return true;
        }
        false
    }

    /// An exchange with the join target `i` is over.
    pub(super) fn target_tried(&mut self, now: Instant, i: usize, failed: bool) {
        let entry = &mut self.joins[i];
        entry.busy = Busy::No;
        if !failed {
            entry.reached = true;
            entry.next_try = None;
            self.announce_first_join();
        }
        if !self.talk_to_next(now, i) && failed {
            self.joins[i].try_again(now, &mut self.rng);
        }
        self.changed = true;
    }

    /// After a change: targets where nobody is known to run (any more) are tried again. That includes those that
    /// answered but advertise another address, behind a NAT, say: an exchange a minute is what they cost.
    pub(super) fn review_joins(&mut self, now: Instant) {
        for i in 0..self.joins.len() {
            let satisfied = self.is_satisfied(i);
            let there = self.table.members().iter().find(|m| self.joins[i].is_at(m.addr));
            let there = there.filter(|m| m.name != self.config.node).map(|m| m.name.clone());
            let join = &mut self.joins[i];
            join.member = there.or(join.member.take());
            if satisfied {
                (join.reached, join.rests) = (true, false);
                join.next_try = None;
                join.backoff = RETRY_MIN;
            } else if join.next_try.is_none() && join.busy == Busy::No {
                join.try_again(now, &mut self.rng);
            }
        }
    }

    /// Whether a running member is at one of the target's addresses, or the target is this node.
    fn is_satisfied(&self, i: usize) -> bool {
        let join = &self.joins[i];
        join.is_self || join.addrs.iter().any(|addr| self.table.running_at(*addr).is_some())
    }

    /// A table with nobody but this node in it is our own: `peer` is ourselves under another address. One with our
    /// name at an address that is not ours is that of a copy of this machine, which may yet be given its own name.
    pub(super) fn note_own_address(&mut self, cause: Cause, peer: SocketAddr, table: &PushPull<'_>) {
        let (Cause::Target(i), [node]) = (cause, &table.nodes[..]) else { return };
        if self.is_oneself(node) {
            let join = &mut self.joins[i];
            join.addrs.retain(|addr| *addr != peer);
            join.next_addr = join.next_addr.saturating_sub(1);
            join.is_self = join.addrs.is_empty();
        }
    }

    /// Whether `node` is this one: it has our name and our address.
    fn is_oneself(&self, node: &NodeState<'_>) -> bool {
        let me = self.me();
        let same_address = node.port == me.addr.port() && *node.addr == *me.addr_bytes().as_slice();
        *node.name == *me.name && same_address
    }

    // A person's joins.

    /// Tries `target` once, each of its addresses, and says what came of it with [`Event::Tried`]. It is not
    /// remembered. `None`: [`Membership::may_join`] says no.
    pub fn join_once(&mut self, now: Instant, target: &Target) -> Option<TryId> {
        if !self.may_join() {
            return None;
        }
        self.begin_input(now);
        let id = self.next_try_id();
        let mut once = Once {
            id,
            target: target.clone(),
            addrs: Vec::new(),
            next_addr: 0,
            resolving: None,
            deadline: now + limits::JOIN_TIME_MAX,
            reached: false,
            error: None,
            cancelled: false,
        };
        match target {
            Target::Addr(addr) => {
                once.addrs = Vec::from_iter((*addr != self.config.advertise).then_some(*addr))
            }
            Target::Name { host, .. } => {
                let lookup = self.streams.next_id();
                self.actions.push_back(Action::Resolve { id: lookup, host: host.clone() });
                once.resolving = Some(lookup);
            }
        }
        self.joins_once.push(once);
        self.talk_once(now, self.joins_once.len() - 1);
        self.finish_input(now);
        Some(id)
    }

    /// Whether [`Membership::join_once`] would begin one more: not while this node leaves. Joins hold their places for
    /// long, where nobody answers, so one is left to pings.
    pub fn may_join(&self) -> bool {
        self.leaving.is_none() && self.may_try() && self.joins_once.len() < limits::TRIES_MAX - 1
    }

    fn once_resolved(&mut self, now: Instant, at: usize, addresses: &[IpAddr], error: &str) {
        let once = &mut self.joins_once[at];
        once.resolving = None;
        if let Target::Name { port, .. } = once.target {
            once.addrs = others(addresses, port, self.config.advertise);
        }
        if addresses.is_empty() {
            once.error = Some(error.into());
        }
        self.talk_once(now, at);
    }

    /// Goes on with the next address; after the last one, it is over.
    fn talk_once(&mut self, now: Instant, at: usize) {
        let once = &mut self.joins_once[at];
        let (id, next) = (once.id, once.addrs.get(once.next_addr).copied());
        if once.resolving.is_some() {
            return;
        }
        if self.leaving.is_some() && next.is_some() {
            once.error.get_or_insert(LEAVES.into());
            return self.end_once(at);
        }
        match next.filter(|_| !once.cancelled) {
            None => self.end_once(at),
            Some(to) => {
                once.next_addr += 1;
                if !self.push_pull(now, to, Cause::Person(id)) {
                    self.person_tried(now, id, Some("no connection is free here; try again".into()));
                }
            }
        }
    }

    /// An exchange that a person wanted is over.
    pub(super) fn person_tried(&mut self, now: Instant, id: TryId, error: Option<Box<str>>) {
        if error.is_none() {
            self.announce_first_join();
            self.changed = true;
        }
        let Some(at) = self.joins_once.iter().position(|once| once.id == id) else { return };
        let once = &mut self.joins_once[at];
        once.reached |= error.is_none();
        once.error = error;
        self.talk_once(now, at);
    }

    fn end_once(&mut self, at: usize) {
        let Once { id, reached, error, cancelled, .. } = self.joins_once.swap_remove(at);
        if cancelled {
            return;
        }
        let error = match reached {
            true => None,
            false if error.is_none() => Some(IS_SELF.into()),
            false => error,
        };
        self.events.push_back(Event::Tried { id, result: Tried::Join { error } });
    }

    /// Joins of a person whose time is over.
    pub(super) fn expire_joins_once(&mut self, now: Instant) {
        while let Some(at) = self.joins_once.iter().position(|once| once.deadline <= now) {
            self.abandon_streams(None, self.joins_once[at].id);
            self.joins_once[at].error.get_or_insert("no answer in time".into());
            self.end_once(at);
        }
    }

    /// True if it was one.
    pub(super) fn cancel_join_once(&mut self, id: TryId) -> bool {
        let Some(at) = self.joins_once.iter().position(|once| once.id == id) else { return false };
        self.abandon_streams(None, id);
        self.joins_once[at].cancelled = true;
        if self.joins_once[at].resolving.is_none() {
            self.end_once(at);
        }
        true
    }

    /// Why an exchange that a person wanted joined nobody, though it worked.
    pub(super) fn joined_nobody(&self, cause: Cause, table: &PushPull<'_>) -> Option<&'static str> {
        let Cause::Person(_) = cause else { return None };
        let mut others = table.nodes.iter().filter(|node| *node.name != *self.config.node).peekable();
        if others.peek().is_none() {
            return Some(match table.nodes.iter().all(|node| self.is_oneself(node)) {
                true => IS_SELF,
                false => SAME_NAME,
            });
        }
        others.all(|node| self.table.get(node.name).is_none()).then_some(REFUSED)
    }
}

#[cfg(test)]
impl Once {
    pub fn id(&self) -> TryId {
        self.id
    }
}

/// Why a join of oneself is none.
const IS_SELF: &str = "that is this node itself";
/// Why a lone node is not joined.
const SAME_NAME: &str = "another node there has this node's name: give one of them its own (\"node\")";
const REFUSED: &str = "it answers, but its members were refused: they are of another \"cluster\", \"allow\" does not \
                       name their addresses, or the table is full (the log says which)";
/// Why the rest of a join is not tried.
const LEAVES: &str = "this node is leaving; it joins nobody";

/// What a look-up gave, without our own address: one name may stand for all nodes, this one among them.
fn others(addresses: &[IpAddr], port: u16, own: SocketAddr) -> Vec<SocketAddr> {
    let all = addresses.iter().map(|ip| SocketAddr::new(ip.to_canonical(), port));
    all.filter(|addr| *addr != own).take(limits::RESOLVED_ADDRESSES_MAX).collect()
}
