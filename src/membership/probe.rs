//! Who still answers: pings, indirect pings, TCP pings (SWIM, sections 3.1 and 4.1; Lifeguard, LHA-Probe;
//! P 7.4), and relaying other members' pings.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use super::member::{AddrBytes, State};
use super::transmit::Outgoing;
use super::{Event, Member, Membership, Timer};
use crate::limits;
use crate::time::Instant;
use crate::wire::{Alive, Claim, IndirectPing, Ping, Source};

/// From this PMax on a member answers TCP pings, and from the other one on it sends nacks (P 3.9).
const TCP_PING_FROM: u8 = 3;
pub(super) const NACK_FROM: u8 = 4;
/// Members asked out of turn at once.
const ENQUIRIES_MAX: usize = 8;
/// Pings that a member must leave unanswered before another address gets its name.
const CHALLENGE_PINGS: u32 = 3;
/// Probes in a row after which the way by UDP to a member counts as blocked, or as free again. Lost packets are no
/// firewall: where one in a hundred is lost, so many pings in a row are in two of ten million probes.
const UDP_PROBES: u8 = 4;
/// A round begins early by at most one part of so many of the interval.
pub(super) const EARLY: u32 = 10;
/// A failed or forgotten member is not asked more often than this because somebody claims that it is alive.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The probe that is under way.
#[derive(Debug)]
pub(super) struct Probe {
    node: Rc<str>,
    addr: SocketAddr,
    /// As it was when the probe began: that is what would be suspected.
    incarnation: u32,
    seq: u32,
    ends: Instant,
    /// The ping could not leave this machine: whatever comes of it accuses nobody.
    send_failed: bool,
    /// The number of the pings by way of relays: whose address an ack comes from does not say whose it is.
    relayed_seq: Option<u32>,
    nacks_wanted: u32,
    nacks: u32,
    tcp_answered: bool,
}

/// A probe that only relays or TCP answered. Until the next one begins the member's own ack may still come, from
/// far away.
#[derive(Debug)]
pub(super) struct Missed {
    node: Rc<str>,
    seq: u32,
}

impl Probe {
    pub fn note_send_error(&mut self, to: SocketAddr) {
        self.send_failed |= to == self.addr;
    }

    #[cfg(test)]
    pub fn is_of(&self, node: &str) -> bool {
        *self.node == *node
    }
}

#[cfg(test)]
impl Missed {
    pub fn seq(&self) -> u32 {
        self.seq
    }
}

/// A ping that we sent for somebody else.
#[derive(Debug)]
pub(super) struct Relay {
    seq: u32,
    requester: SocketAddr,
    requester_seq: u32,
    nack: bool,
    pub deadline: Instant,
}

/// A member that was asked out of turn whether it is there.
#[derive(Debug)]
pub(super) struct Enquiry {
    pub node: Rc<str>,
    addr: SocketAddr,
    seq: u32,
    pub deadline: Instant,
    purpose: Purpose,
}

impl Enquiry {
    pub fn is_about(&self, addr: SocketAddr) -> bool {
        self.addr == addr
    }

    fn challenges(&self, node: &str) -> bool {
        *self.node == *node && matches!(self.purpose, Purpose::Challenge { .. })
    }

    /// As [`Enquiry::challenges`], and a ping was left unanswered.
    fn doubts(&self, node: &str) -> bool {
        let silent = |left| left < CHALLENGE_PINGS - 1;
        *self.node == *node
            && matches!(self.purpose, Purpose::Challenge { pings_left, .. } if silent(pings_left))
    }
}

/// The member answered, by whatever way: its name stays its own.
fn end_challenge(enquiries: &mut Vec<Enquiry>, node: &str) {
    enquiries.retain(|enquiry| !enquiry.challenges(node));
}

#[derive(Debug)]
enum Purpose {
    /// It is failed; is it back?
    Revival,
    /// Another address claims its name. Silence gives the name away, if the member's probe fails, too.
    Challenge { pings_left: u32, claim: Box<OwnedAlive> },
}

/// An alive message that is kept until its claim is decided.
#[derive(Debug)]
struct OwnedAlive {
    addr: AddrBytes,
    port: u16,
    incarnation: u32,
    meta: Box<[u8]>,
    vsn: Box<[u8]>,
}

impl Membership {
    /// A packet has woken us, and the next round is not far: it comes now, so that nothing need wake us for it. Rounds
    /// are so 0.9 to 1 interval apart, and those of a cluster tend to fall together, each ping being another's reason.
    pub(super) fn probe_early(&mut self, now: Instant) {
        let slack = self.config.timing.probe_interval / EARLY;
        let soon = self.timers[Timer::Probe as usize].is_some_and(|at| at <= now + slack);
        if soon && self.probe.is_none() {
            self.probe_next(now);
        }
    }

    /// The next member in the order is pinged. One probe at a time: while one still runs (its interval was
    /// scaled), the round is skipped.
    pub(super) fn probe_next(&mut self, now: Instant) {
        let interval = self.config.timing.probe_interval;
        self.set_timer(Timer::Probe, now + interval);
        self.rounds += 1;
        self.ask_a_failed_one(now);
        if let Some(missed) = self.missed.take() {
            self.note_udp(&missed.node, false);
        }
        if self.probe.is_some() {
            return;
        }
        let challenged = self.challenged();
        self.probed_out_of_turn = challenged.is_some();
        let (at, wrapped) = if challenged.is_some() {
            (challenged, false)
        } else {
            let me = &self.config.node;
            let wanted = |m: &Member| m.state.is_running() && m.name != *me;
            self.table.next_to_probe(&mut self.rng, wanted)
        };
        if let Some(member) = at.map(|at| &self.table.members()[at]) {
            let (node, addr, incarnation) = (member.name.clone(), member.addr, member.incarnation);
            let suspect = (member.state == State::Suspect).then_some(incarnation);
            let seq = self.next_seq();
            let ends = now + self.awareness.scale(interval);
            let (nacks_wanted, nacks) = (0, 0);
            self.send(Outgoing::Ping { to: addr, node: node.clone(), seq, suspect });
            let (send_failed, tcp_answered) = (false, false);
            self.probe = Some(Probe {
                node,
                addr,
                incarnation,
                seq,
                ends,
                send_failed,
                relayed_seq: None,
                nacks_wanted,
                nacks,
                tcp_answered,
            });
            self.set_timer(Timer::ProbeTimeout, now + self.config.timing.probe_timeout);
            self.set_timer(Timer::ProbeEnd, ends);
        }
        if wrapped {
            self.forget_old(now);
        }
    }

    /// No answer in time: ask through others, and over TCP.
    pub(super) fn probe_timed_out(&mut self) {
        let Some(probe) = &self.probe else { return };
        let (node, seq, ends, to) = (probe.node.clone(), probe.seq, probe.ends, probe.addr);
        let relayed_seq = self.next_seq();
        let Some(target) = self.table.get(&node) else { return self.abandon_probe() };
        let (target_addr, port, speaks_tcp) =
            (target.addr_bytes(), target.addr.port(), target.vsn[1] >= TCP_PING_FROM);
        let me = &self.config.node;
        let relays = self.table.pick(&mut self.rng, self.config.timing.indirect_checks, |m| {
            m.state == State::Alive && m.name != *me && m.name != node
        });
        let relays: Vec<(SocketAddr, bool)> =
            relays.iter().map(|m| (m.addr, m.vsn[1] >= NACK_FROM)).collect();
        for &(to, nack) in &relays {
            let node = node.clone();
            self.send(Outgoing::IndirectPing { to, node, target: target_addr, port, seq: relayed_seq, nack });
        }
        if speaks_tcp {
            self.tcp_ping(to, &node, seq, ends);
        }
        if let Some(probe) = &mut self.probe {
            probe.nacks_wanted = relays.iter().filter(|(_, nack)| *nack).count() as u32;
            probe.relayed_seq = Some(relayed_seq);
        }
    }

    /// The interval is over without an ack by UDP, direct or relayed.
    pub(super) fn probe_ended(&mut self, now: Instant) {
        let Some(probe) = self.probe.take() else { return };
        self.timers[Timer::ProbeTimeout as usize] = None;
        if probe.tcp_answered {
            self.awareness.apply(-1);
            self.udp_missed(probe);
            return;
        }
        if probe.send_failed {
            return;
        }
        let missing = probe.nacks_wanted as i32 - probe.nacks as i32;
        self.awareness.apply(if probe.nacks_wanted == 0 { 1 } else { missing.max(0) });
        let from = self.config.node.clone();
        self.handle_suspect(now, &Claim { node: &probe.node, from: &from, incarnation: probe.incarnation });
    }

    /// Forgets the probe under way; it proves nothing.
    pub(super) fn abandon_probe(&mut self) {
        self.probe = None;
        self.timers[Timer::ProbeTimeout as usize] = None;
        self.timers[Timer::ProbeEnd as usize] = None;
    }

    /// A TCP ping was answered.
    pub(super) fn tcp_ping_answered(&mut self, now: Instant, seq: u32) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.seq == seq) {
            probe.tcp_answered = true;
            let node = probe.node.clone();
            end_challenge(&mut self.enquiries, &node);
            self.hear(&node);
        } else {
            self.ping_by_tcp_done(now, seq, None);
        }
    }

    /// Somebody asks whether we are there. Members need not be known to be answered.
    pub(super) fn handle_ping(&mut self, now: Instant, from: SocketAddr, ping: &Ping<'_>) {
        if ping.node.is_empty() || *ping.node == *self.config.node {
            let to = self.reply_address(from, &ping.source);
            self.send(Outgoing::Ack { to, seq: ping.seq });
            self.ask_who_knows_me(now, from, ping);
        }
    }

    /// Who knows nobody and is pinged was restarted before the others noticed: they have no news for it, and if it
    /// is the join target of all the others it has none itself. An exchange, with the source of the packet only,
    /// brings everybody back.
    fn ask_who_knows_me(&mut self, now: Instant, from: SocketAddr, ping: &Ping<'_>) {
        let lately = self.asked_stranger_at.is_some_and(|at| now.since(at) < ASK_AGAIN);
        if lately || self.table.members().len() > 1 || *ping.source.node == *self.config.node {
            return;
        }
        self.asked_stranger_at = Some(now);
        let port = if ping.source.port == 0 { from.port() } else { ping.source.port };
        self.sync_with(now, SocketAddr::new(from.ip(), port));
    }

    /// Somebody asks us to ping another member for it.
    pub(super) fn handle_indirect_ping(
        &mut self,
        now: Instant,
        from: SocketAddr,
        request: &IndirectPing<'_>,
    ) {
        let port = if request.port == 0 { self.config.advertise.port() } else { request.port };
        let target = AddrBytes::parse(request.target).map(|addr| SocketAddr::new(addr.ip(), port));
        // Only to members: else anybody could have us send packets anywhere (P 9).
        let known = |to: &SocketAddr| self.table.members().iter().any(|m| m.addr == *to);
        let Some(to) = target.filter(known).filter(|_| self.relays.len() < limits::RELAYS_MAX) else {
            self.counters.refused += 1;
            return;
        };
        let seq = self.next_seq();
        let requester = self.reply_address(from, &request.source);
        let deadline = now + self.config.timing.probe_timeout;
        self.relays.push(Relay { seq, requester, requester_seq: request.seq, nack: request.nack, deadline });
        self.send(Outgoing::Ping { to, node: request.node.into(), seq, suspect: None });
    }

    /// An answer to a probe, to a relayed ping, or to an enquiry; else it came too late. Acks are not checked for
    /// their source (P 7.4), which is why our numbers start at a random one.
    pub(super) fn handle_ack(&mut self, now: Instant, seq: u32) {
        if let Some(probe) = self.probe.take_if(|probe| probe.seq == seq || probe.relayed_seq == Some(seq)) {
            self.abandon_probe();
            self.awareness.apply(-1);
            end_challenge(&mut self.enquiries, &probe.node);
            self.hear(&probe.node);
            match probe.seq == seq {
                true => self.note_udp(&probe.node, true),
                false => self.udp_missed(probe),
            }
        } else if self.ping_answered(now, seq) {
        } else if let Some(at) = self.relays.iter().position(|relay| relay.seq == seq) {
            let relay = self.relays.swap_remove(at);
            self.send(Outgoing::Ack { to: relay.requester, seq: relay.requester_seq });
        } else if let Some(at) = self.enquiries.iter().position(|enquiry| enquiry.seq == seq) {
            let enquiry = self.enquiries.swap_remove(at);
            if let Purpose::Revival = enquiry.purpose {
                self.forgotten_answered(&enquiry.node);
                // It runs, and does not know what we think of it: the exchange makes it refute.
                self.sync_with(now, enquiry.addr);
            }
        } else if let Some(missed) = self.missed.take_if(|missed| missed.seq == seq) {
            // Slow, but not blocked.
            self.note_udp(&missed.node, true);
        }
    }

    /// A relay is well, but the target did not answer it.
    pub(super) fn handle_nack(&mut self, seq: u32) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.relayed_seq == Some(seq)) {
            probe.nacks = (probe.nacks + 1).min(probe.nacks_wanted);
        } else {
            self.ping_nacked(seq);
        }
    }

    /// Relayed pings that were not answered: say so, if wanted.
    pub(super) fn expire_relays(&mut self, now: Instant) {
        while let Some(at) = self.relays.iter().position(|relay| relay.deadline <= now) {
            let relay = self.relays.swap_remove(at);
            if relay.nack {
                self.send(Outgoing::Nack { to: relay.requester, seq: relay.requester_seq });
            }
        }
    }

    /// Asks a failed member, because somebody says that it is alive.
    pub(super) fn ask_whether_back(&mut self, now: Instant, node: &str) {
        let Some(member) = self.table.get_mut(node) else { return };
        if member.asked_at.is_some_and(|at| now.since(at) < ASK_AGAIN) {
            return;
        }
        member.asked_at = Some(now);
        let (node, addr) = (member.name.clone(), member.addr);
        self.enquire(now, node, addr, Purpose::Revival);
    }

    /// One of the failed members, the one that was not asked for the longest, is asked in each round.
    fn ask_a_failed_one(&mut self, now: Instant) {
        let failed = self.table.members().iter().filter(|m| m.state == State::Dead);
        let longest_ago = failed.min_by_key(|m| m.asked_at).map(|m| m.name.clone());
        if let Some(member) = longest_ago.and_then(|node| self.table.get_mut(&node)) {
            member.asked_at = Some(now);
            let (node, addr) = (member.name.clone(), member.addr);
            self.enquire(now, node, addr, Purpose::Revival);
        }
    }

    /// Another address claims the name of a running member: is the old one still there? Direct pings ask at once;
    /// if the first has no answer the next probe is the member's, which relays or TCP alone may reach from here.
    pub(super) fn challenge(&mut self, now: Instant, alive: &Alive<'_>) {
        let Some(member) = self.table.get(alive.node) else { return };
        let (node, addr) = (member.name.clone(), member.addr);
        if self.enquiries.iter().any(|enquiry| enquiry.node == node) {
            return;
        }
        let Some(claimed) = AddrBytes::parse(alive.addr) else { return };
        let claim = Box::new(OwnedAlive {
            addr: claimed,
            port: alive.port,
            incarnation: alive.incarnation,
            meta: alive.meta.into(),
            vsn: alive.vsn.into(),
        });
        self.enquire(now, node, addr, Purpose::Challenge { pings_left: CHALLENGE_PINGS - 1, claim });
    }

    /// Asks whether it is back after all.
    pub(super) fn enquire_revival(&mut self, now: Instant, node: Rc<str>, addr: SocketAddr) {
        self.enquire(now, node, addr, Purpose::Revival);
    }

    fn enquire(&mut self, now: Instant, node: Rc<str>, addr: SocketAddr, purpose: Purpose) {
        if self.enquiries.len() >= ENQUIRIES_MAX || self.enquiries.iter().any(|enquiry| enquiry.node == node)
        {
            return;
        }
        let seq = self.next_seq();
        let deadline = now + self.config.timing.probe_timeout;
        self.send(Outgoing::Ping { to: addr, node: node.clone(), seq, suspect: None });
        self.enquiries.push(Enquiry { node, addr, seq, deadline, purpose });
    }

    /// Enquiries that nobody answered.
    pub(super) fn expire_enquiries(&mut self, now: Instant) {
        while let Some(at) = self.enquiries.iter().position(|enquiry| enquiry.deadline <= now) {
            let Enquiry { node, addr, purpose, .. } = self.enquiries.swap_remove(at);
            match purpose {
                Purpose::Revival => {}
                Purpose::Challenge { pings_left: 0, claim } if !self.is_alive(&node) => {
                    self.give_name_away(now, &node, addr, &claim);
                }
                Purpose::Challenge { pings_left, claim } => {
                    // After the last one they go on, at the same pace, until the probe has decided.
                    let pings_left = pings_left.saturating_sub(1);
                    self.enquire(now, node, addr, Purpose::Challenge { pings_left, claim });
                }
            }
        }
    }

    fn is_alive(&self, node: &str) -> bool {
        self.table.get(node).is_some_and(|m| m.state == State::Alive)
    }

    /// The index of a member to probe out of turn, since its name is claimed and it did not answer at once. The others
    /// keep every second probe at least, however many claims there are.
    fn challenged(&self) -> Option<usize> {
        if self.probed_out_of_turn {
            return None;
        }
        let doubted = |m: &Member| self.enquiries.iter().any(|enquiry| enquiry.doubts(&m.name));
        self.table.members().iter().position(|m| m.state == State::Alive && doubted(m))
    }

    /// The old address was silent to everybody: the claim is taken as if the member had been failed before.
    fn give_name_away(&mut self, now: Instant, node: &str, silent: SocketAddr, claim: &OwnedAlive) {
        let Some(member) = self.table.get_mut(node).filter(|m| m.addr == silent && m.state.is_running())
        else {
            return;
        };
        member.former = None;
        let incarnation = member.incarnation;
        let from = self.config.node.clone();
        self.handle_dead(now, &Claim { node, from: &from, incarnation });
        self.handle_alive(
            now,
            &Alive {
                node,
                addr: claim.addr.as_slice(),
                port: claim.port,
                incarnation: claim.incarnation,
                meta: &claim.meta,
                vsn: &claim.vsn,
            },
        );
    }

    /// Where an answer goes: to the address that the sender names if that is a member's, else to where the
    /// packet came from, so that nobody can have our answers sent to a third party (P 9).
    fn reply_address(&self, from: SocketAddr, source: &Source<'_>) -> SocketAddr {
        let named = AddrBytes::parse(source.addr)
            .filter(|_| source.port != 0)
            .map(|addr| SocketAddr::new(addr.ip(), source.port));
        match named {
            Some(named) if self.table.get(source.node).is_some_and(|m| m.addr == named) => named,
            _ => from,
        }
    }

    /// The probe was answered, but not by UDP from the member itself.
    fn udp_missed(&mut self, probe: Probe) {
        self.missed = Some(Missed { node: probe.node, seq: probe.seq });
    }

    /// Whether the direct ping of a probe got `through`. Said only when it has changed for good, and once: memberlist
    /// warns at each probe that TCP alone answers, and says nothing where relays do.
    fn note_udp(&mut self, node: &str, through: bool) {
        let Some(member) = self.table.get_mut(node) else { return };
        if member.udp_blocked != through {
            member.udp_doubts = 0;
            return;
        }
        member.udp_doubts += 1;
        if member.udp_doubts < UDP_PROBES {
            return;
        }
        (member.udp_blocked, member.udp_doubts) = (!through, 0);
        let (node, addr) = (member.name.clone(), member.addr);
        self.events.push_back(match through {
            true => Event::UdpRestored { node },
            false => Event::UdpBlocked { node, addr },
        });
    }
}
