//! Which news beat which: alive, suspect, dead, and what follows (SWIM, section 4.2; P 7.5).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;

use super::member::{AddrBytes, Former};
use super::probe::ASK_AGAIN;
use super::suspicion::{self, Suspicion};
use super::{Event, Member, Membership, State};
use crate::limits;
use crate::time::Instant;
use crate::wire::stream::WireState;
use crate::wire::{self, Alive, Claim, Message, serf};

/// For so long it is known who was forgotten.
pub(super) const TOMBSTONE_TIME: Duration = Duration::from_secs(24 * 3600);

/// From a member's leave intent until somebody suspects it: its own steps of leaving (5 s each, P 8.5), the next
/// probe of it and a slow prober's second try, with as much again.
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// A member that was forgotten, by a person's word or since its time was over, as it was last known.
pub(super) struct Tombstone {
    pub node: Rc<str>,
    pub addr: SocketAddr,
    pub incarnation: u32,
    pub until: Instant,
    /// When it was last asked whether it is there, since somebody says so.
    pub asked_at: Option<Instant>,
    /// It was: what is said of it is believed again.
    pub answered: bool,
}

/// Why a member is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForgotten {
    Unknown,
    /// It is this node.
    Oneself,
    /// It is alive or suspect.
    Running(State),
}

impl Membership {
    /// alive(a): a member says that it is there, with an incarnation that only itself may raise.
    pub(super) fn handle_alive(&mut self, now: Instant, alive: &Alive<'_>) {
        let Some((addr, port)) = self.check_alive(alive) else { return };
        let about_me = *alive.node == *self.config.node;
        if about_me && self.leaving.is_some() {
            return;
        }
        let Some(known) = self.table.get(alive.node) else {
            if !self.doubt_forgotten(now, alive, SocketAddr::new(addr.ip(), port)) {
                self.add(now, alive, &addr, port);
            }
            return;
        };
        let mut takeover = false;
        if !known.has_address(&addr, port) {
            takeover = self.may_take_over(now, known);
            if !takeover {
                self.conflict(now, alive, SocketAddr::new(addr.ip(), port));
                return;
            }
        }
        let former = takeover.then_some(Former {
            since: now,
            incarnation: known.incarnation,
            successor: alive.incarnation,
        });
        if about_me {
            self.alive_about_me(alive);
        } else if takeover || alive.incarnation > known.incarnation {
            self.apply_alive(now, alive, &addr, port);
            if let (Some(_), Some(member)) = (former, self.table.get_mut(alive.node)) {
                member.former = former;
            }
        } else if known.wire_state() == WireState::Dead {
            // Proves nothing, but memberlist, which forgets, would believe it: ask the member itself.
            self.ask_whether_back(now, alive.node);
        } else if alive.incarnation == known.incarnation {
            self.hear(alive.node);
        }
    }

    /// Refuses what no real peer sends, or what must not be passed on; and members of another cluster.
    pub(super) fn check_alive(&mut self, alive: &Alive<'_>) -> Option<(AddrBytes, u16)> {
        let addr = AddrBytes::parse(alive.addr);
        let port = if alive.port == 0 { self.config.advertise.port() } else { alive.port };
        let vsn_fits = match alive.vsn {
            [] => true,
            [min, max, _, _, _, _] => *min != 0 && *max != 0 && min <= max,
            _ => false,
        };
        let sound = !alive.node.is_empty()
            && alive.node.len() <= limits::NAME_MAX
            && alive.meta.len() <= limits::META_MAX
            && vsn_fits;
        let Some(addr) = addr.filter(|addr| sound && is_unicast(addr.ip())) else {
            self.count_bad(wire::Error::Malformed);
            return None;
        };
        if !self.is_allowed(addr.ip()) {
            self.counters.not_allowed += 1;
            return None;
        }
        let cluster = serf::tag(alive.meta, "cluster");
        if let Some(cluster) = cluster.filter(|cluster| **cluster != *self.config.cluster) {
            let (node, cluster) = (alive.node.into(), cluster.into());
            self.events.push_back(Event::ForeignCluster {
                node,
                cluster,
                addr: SocketAddr::new(addr.ip(), port),
            });
            return None;
        }
        Some((addr, port))
    }

    fn add(&mut self, now: Instant, alive: &Alive<'_>, addr: &AddrBytes, port: u16) {
        // memberlist would keep a dead entry for an incarnation of 0; it serves nobody (P 7.5).
        if alive.incarnation == 0 {
            return;
        }
        if self.table.members().len() >= limits::MEMBERS_MAX && !self.make_room() {
            self.counters.refused += 1;
            self.events.push_back(Event::TableFull { node: alive.node.into() });
            return;
        }
        let mut member = Member::new(alive.node, SocketAddr::new(addr.ip(), port), now);
        // memberlist, too, adds it as dead and lets the alive message wake it up.
        (member.state, member.incarnation) = (State::Dead, 0);
        member.mapped = addr.is_mapped();
        if let Some(intent) = self.serf.take_buffered(now, alive.node) {
            (member.intent_ltime, member.intent_leaves) = (intent.ltime, intent.leaves);
            member.leave_heard = intent.leaves.then_some(intent.heard);
        }
        self.table.insert(member, &mut self.rng);
        let returned = self.is_forgotten(now, alive.node);
        self.tombstones.retain(|tombstone| *tombstone.node != *alive.node);
        self.apply_alive_as(now, alive, addr, port, returned);
    }

    fn apply_alive(&mut self, now: Instant, alive: &Alive<'_>, addr: &AddrBytes, port: u16) {
        self.apply_alive_as(now, alive, addr, port, true);
    }

    fn apply_alive_as(&mut self, now: Instant, alive: &Alive<'_>, addr: &AddrBytes, port: u16, known: bool) {
        self.broadcast(alive.node, &Message::Alive(*alive));
        let Some(member) = self.table.get_mut(alive.node) else { return };
        let (before, addr_before) = (member.state, member.addr);
        let was_heard = core::mem::replace(&mut member.heard, true);
        member.source = super::member::Source::Own;
        if before == State::Dead && known {
            member.returned = Some(now);
        }
        let new_meta = *member.meta != *alive.meta;
        member.suspicion = None;
        (member.incarnation, member.told) = (alive.incarnation, alive.incarnation);
        if new_meta {
            member.meta = alive.meta.into();
        }
        if let Ok(vsn) = alive.vsn.try_into() {
            member.vsn = vsn;
        }
        (member.addr, member.mapped) = (SocketAddr::new(addr.ip(), port), addr.is_mapped());
        if known {
            member.intent_leaves &= before.is_running(); // else that was before it came back
            member.leave_heard = None;
        }
        member.said_goodbye = false;
        if let Some(former) = &mut member.former {
            former.successor = alive.incarnation;
        }
        if before != State::Alive {
            (member.state, member.since) = (State::Alive, now);
            self.changed = true;
        }
        let (node, to) = (member.name.clone(), member.addr);
        self.enquiries.retain(|enquiry| *enquiry.node != *node);
        if addr_before != to || !before.is_running() {
            (member.udp_blocked, member.udp_doubts) = (false, 0);
        }
        if known && addr_before != to {
            self.events.push_back(Event::Moved { node: node.clone(), from: addr_before, to });
        }
        match before {
            State::Dead | State::Left => self.events.push_back(Event::Joined { node, returned: known }),
            _ if !was_heard => self.events.push_back(Event::Joined { node, returned: false }),
            State::Suspect => {
                self.events.push_back(Event::Recovered { node: node.clone() });
                if new_meta {
                    self.events.push_back(Event::Updated { node });
                }
            }
            State::Alive if new_meta => self.events.push_back(Event::Updated { node }),
            State::Alive => {}
        }
    }

    /// Somebody passes on what we are said to have said.
    fn alive_about_me(&mut self, alive: &Alive<'_>) {
        let me = self.me();
        let same = *me.meta == *alive.meta && me.vsn == *alive.vsn;
        if alive.incarnation < me.incarnation || (alive.incarnation == me.incarnation && same) {
            return;
        }
        self.refute(alive.incarnation);
    }

    /// suspect(s): somebody could not reach a member.
    pub(super) fn handle_suspect(&mut self, now: Instant, claim: &Claim<'_>) {
        let members = self.estimated_members(now);
        let timing = &self.config.timing;
        let (mult, interval) = (timing.suspicion_mult, timing.probe_interval);
        let Some(member) = self.table.get_mut(claim.node) else { return };
        if claim.incarnation < member.incarnation {
            return self.repeat_refutation(claim);
        }
        if let Some(suspicion) = &mut member.suspicion {
            if suspicion.confirm(claim.from) {
                self.broadcast(claim.node, &Message::Suspect(*claim));
            }
            return;
        }
        if member.state != State::Alive {
            return;
        }
        if *claim.node == *self.config.node {
            self.refute(claim.incarnation);
            return;
        }
        member.incarnation = claim.incarnation;
        (member.state, member.since) = (State::Suspect, now);
        member.suspicion = Some(Box::new(Suspicion::new(now, claim.from, members, mult, interval)));
        self.broadcast(claim.node, &Message::Suspect(*claim));
        self.events.push_back(Event::Suspected { node: claim.node.into(), from: claim.from.into() });
    }

    /// dead(d): a member's time to refute is over, or (said by itself) it leaves.
    pub(super) fn handle_dead(&mut self, now: Instant, claim: &Claim<'_>) {
        let dead_time = self.config.timing.gossip_to_the_dead;
        let leave_time = self.leave_intent_time(now);
        let said_goodbye = claim.from == claim.node;
        let Some(member) = self.table.get_mut(claim.node) else { return };
        if claim.incarnation < member.incarnation {
            return self.repeat_refutation(claim);
        }
        if member.may_mean_former(now, claim, dead_time) {
            // It may be news of the one that had the name before: let the new one refute it. Nobody accuses itself.
            let me = self.config.node.clone();
            let from = if said_goodbye { &*me } else { claim.from };
            return self.handle_suspect(now, &Claim { from, ..*claim });
        }
        member.suspicion = None;
        if !member.state.is_running() {
            return;
        }
        let about_me = *claim.node == *self.config.node;
        if about_me && self.leaving.is_none() {
            self.refute(claim.incarnation);
            return;
        }
        // Who said that it leaves and then is silent has left, as Serf sees it (P 8.4): its own word may have been lost.
        let has_announced_it = member.leave_heard.is_some_and(|at| now.since(at) <= leave_time);
        let left = said_goodbye || has_announced_it;
        (member.incarnation, member.said_goodbye) = (claim.incarnation, said_goodbye);
        (member.state, member.since) = (if left { State::Left } else { State::Dead }, now);
        self.changed = true;
        self.broadcast(claim.node, &Message::Dead(*claim));
        let node: Rc<str> = claim.node.into();
        self.events.push_back(if left {
            Event::Left { node }
        } else {
            Event::Failed { node, from: claim.from.into() }
        });
    }

    /// How long a member that said that it leaves is taken to have left when it is silent: until the slowest
    /// suspicion of it is over. After that it has changed its mind, or the intent was an old one.
    fn leave_intent_time(&self, now: Instant) -> Duration {
        let timing = &self.config.timing;
        let members = self.estimated_members(now);
        LEAVE_TIME + suspicion::timeout_max(timing.suspicion_mult, members, timing.probe_interval)
    }

    /// Suspects that did not refute in time are declared dead, by us.
    pub(super) fn expire_suspicions(&mut self, now: Instant) {
        let overdue = |m: &Member| m.suspicion.as_ref().is_some_and(|s| s.deadline() <= now);
        while let Some(member) = self.table.members_mut().iter_mut().find(|m| overdue(m)) {
            member.former = None;
            let (node, incarnation) = (member.name.clone(), member.incarnation);
            let from = self.config.node.clone();
            self.handle_dead(now, &Claim { node: &node, from: &from, incarnation });
        }
    }

    /// We were accused, or mistaken for a former self: outbid it. `accused` is the incarnation that was meant.
    /// At the very end of the numbers nothing outbids it; we are believed again when the others have forgotten us.
    fn refute(&mut self, accused: u32) {
        let me = self.me_mut();
        me.incarnation = me.incarnation.saturating_add(1);
        if accused >= me.incarnation {
            me.incarnation = accused.saturating_add(1);
        }
        let incarnation = me.incarnation;
        self.awareness.apply(1);
        self.broadcast_own_alive();
        self.events.push_back(Event::Refuted { incarnation });
    }

    /// We were accused of what we have refuted long ago: whoever says so has missed that, and it is not sent any more.
    /// memberlist says nothing, and is declared dead by those (deviations.rs).
    fn repeat_refutation(&mut self, claim: &Claim<'_>) {
        let me = &*self.config.node;
        if claim.node == me && self.leaving.is_none() && !self.broadcasts.has(me) {
            self.broadcast_own_alive();
        }
    }

    /// Queues our own alive message.
    pub(super) fn broadcast_own_alive(&mut self) {
        let me = self.me();
        let (addr, meta, vsn) = (me.addr_bytes(), me.meta.clone(), me.vsn);
        let (port, incarnation) = (me.addr.port(), me.incarnation);
        let node = self.config.node.clone();
        let addr = addr.as_slice();
        let alive = Alive { node: &node, addr, port, incarnation, meta: &meta, vsn: &vsn };
        self.broadcast(&node, &Message::Alive(alive));
    }

    /// Queues news about `subject`, in place of older ones.
    pub(super) fn broadcast(&mut self, subject: &str, message: &Message<'_>) {
        self.message.clear();
        message.encode(&mut self.message);
        self.broadcasts.push(subject, &self.message);
    }

    /// Whether another address may have the name of `member` now.
    fn may_take_over(&self, now: Instant, member: &Member) -> bool {
        match member.state {
            State::Left if member.said_goodbye => *member.name != *self.config.node,
            State::Dead | State::Left => now.since(member.since) >= self.config.timing.reclaim_after,
            // Whom only the state file has there may have moved since.
            State::Alive | State::Suspect => !member.heard,
        }
    }

    /// Another address claims the name of a member that is not known to be gone. If it is our own, or names are
    /// to be kept for a time, there is nothing to do but to say so; else the old address is asked whether it is
    /// still there.
    fn conflict(&mut self, now: Instant, alive: &Alive<'_>, addr: SocketAddr) {
        self.events.push_back(Event::Conflict { node: alive.node.into(), addr });
        if *alive.node != *self.config.node && self.config.timing.reclaim_after.is_zero() {
            self.challenge(now, alive);
        }
    }

    /// Forgets the member that has been gone for the longest, if there is one that is not expected back.
    fn make_room(&mut self) -> bool {
        let gone = |m: &&Member| !m.state.is_running() && !self.is_expected(m) && !self.is_kept(m);
        let oldest = self.table.members().iter().filter(gone).min_by_key(|m| m.since);
        let Some(name) = oldest.map(|m| m.name.clone()) else { return false };
        self.forget(|m| m.name == name);
        true
    }

    /// What a person says: the failed or left member is forgotten now and not when its time is over. Where `join`
    /// leads to nobody else, that is not tried any more. Only its being alive brings it back. For [`TOMBSTONE_TIME`]
    /// a claim of that which says no more than was known is checked: one node that missed its death must not do so.
    ///
    /// `Ok`: whether `members` or `join` names it, so that the next start asks for it again. Errors change nothing.
    pub fn forget_member(&mut self, now: Instant, node: &str) -> Result<bool, NotForgotten> {
        let member = self.table.get(node).ok_or(NotForgotten::Unknown)?;
        let state = member.state;
        if *node == *self.config.node {
            return Err(NotForgotten::Oneself);
        }
        if state.is_running() {
            return Err(NotForgotten::Running(state));
        }
        let (expected, addr) = (self.is_expected(member), member.addr);
        self.begin_input(now);
        self.joins.iter_mut().for_each(|join| join.forget(addr));
        self.enquiries.retain(|enquiry| *enquiry.node != *node);
        self.bury(now, node);
        self.forget(|m| *m.name == *node);
        self.finish_input(now);
        Ok(expected)
    }

    /// For a while it is known that the member was forgotten.
    fn bury(&mut self, now: Instant, node: &str) {
        let Some(Member { addr, incarnation, .. }) = self.table.get(node) else { return };
        let (node, addr, incarnation) = (node.into(), *addr, *incarnation);
        let until = now + TOMBSTONE_TIME;
        self.add_tombstone(
            now,
            Tombstone { node, addr, incarnation, until, asked_at: None, answered: false },
        );
    }

    pub(super) fn add_tombstone(&mut self, now: Instant, new: Tombstone) {
        self.tombstones.retain(|tombstone| tombstone.node != new.node && tombstone.until > now);
        if self.tombstones.len() >= limits::TOMBSTONES_MAX {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(new);
    }

    /// Whether a claim that a stranger is alive may be older than a person's word to forget it. Then it is asked, as
    /// [`Membership::ask_whether_back`] does with failed members.
    fn doubt_forgotten(&mut self, now: Instant, alive: &Alive<'_>, addr: SocketAddr) -> bool {
        let tells_nothing_new = |tombstone: &&mut Tombstone| {
            *tombstone.node == *alive.node
                && now < tombstone.until
                && !tombstone.answered
                && tombstone.addr == addr
                && alive.incarnation <= tombstone.incarnation
        };
        let Some(tombstone) = self.tombstones.iter_mut().find(tells_nothing_new) else { return false };
        if tombstone.asked_at.is_none_or(|at| now.since(at) >= ASK_AGAIN) {
            tombstone.asked_at = Some(now);
            let node = tombstone.node.clone();
            self.enquire_revival(now, node, addr);
        }
        true
    }

    /// A forgotten member answered: it is there.
    pub(super) fn forgotten_answered(&mut self, node: &str) {
        for tombstone in self.tombstones.iter_mut().filter(|tombstone| *tombstone.node == *node) {
            tombstone.answered = true;
        }
    }

    /// Whether it was forgotten lately, and was not alive since.
    pub fn is_forgotten(&self, now: Instant, node: &str) -> bool {
        self.tombstones.iter().any(|tombstone| *tombstone.node == *node && now < tombstone.until)
    }

    /// At each end of the probe order: members that have been gone for long leave the table (P 7.7).
    pub(super) fn forget_old(&mut self, now: Instant) {
        let expired: Vec<Rc<str>> =
            self.table.members().iter().filter(|m| self.is_overdue(now, m)).map(|m| m.name.clone()).collect();
        // Others may forget them a little later, and must not bring them back until then.
        expired.iter().for_each(|node| self.bury(now, node));
        if !expired.is_empty() {
            self.forget(|m| expired.contains(&m.name));
        }
    }

    /// Gone for so long that it is to be forgotten.
    pub(super) fn is_overdue(&self, now: Instant, member: &Member) -> bool {
        !member.state.is_running()
            && now.since(member.since) > self.config.forget_after
            && (member.state == State::Left || !self.is_expected(member))
            && !self.is_kept(member)
            && member.name != self.config.node
    }

    /// Failed, or left while too few others were up, and still published: whoever takes its address away must know it,
    /// and a person must be able to say that it is to be forgotten.
    fn is_kept(&self, member: &Member) -> bool {
        !member.state.is_running() && self.kept.contains(&member.name)
    }

    fn forget(&mut self, gone: impl FnMut(&Member) -> bool) {
        for node in self.table.remove_if(gone) {
            self.events.push_back(Event::Forgotten { node });
        }
    }

    /// Named in `members`, or at an address of `join`.
    fn is_expected(&self, member: &Member) -> bool {
        self.config.members.iter().any(|name| **name == *member.name)
            || self.joins.iter().any(|join| join.is_at(member.addr))
    }
}

/// An address that a node can be reached at.
fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}
