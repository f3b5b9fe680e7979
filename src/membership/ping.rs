//! Pings that a person asks for: what gets through to a member, and how fast. They are told to nobody else: the
//! failure detector and the health score know nothing of them.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use super::member::State;
use super::probe::NACK_FROM;
use super::transmit::Outgoing;
use super::{Event, Membership, SendError};
use crate::limits;
use crate::time::Instant;

/// Something that a person wants tried: a ping, or a join.
pub type TryId = u32;

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    Ping(Box<Pinged>),
    Join {
        /// `None`: it worked.
        error: Option<Box<str>>,
    },
}

/// What got through to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinged {
    pub node: Rc<str>,
    pub addr: SocketAddr,
    pub udp: Answer,
    /// By way of other members.
    pub indirect: Answer,
    /// Whose ack came first.
    pub via: Option<Rc<str>>,
    /// The members that were asked to ping it for us.
    pub relays: Vec<Rc<str>>,
    /// The time is that of connecting and of the ping.
    pub tcp: Answer,
}

/// How long an answer took, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Took(Duration),
    Missing(Box<str>),
}

/// A ping that is under way.
pub(super) struct MemberPing {
    id: TryId,
    node: Rc<str>,
    addr: SocketAddr,
    started: Instant,
    pub deadline: Instant,
    /// Of the direct ping and of that over TCP.
    seq: u32,
    relays: Vec<Asked>,
    udp: Option<Answer>,
    indirect: Option<Answer>,
    via: Option<Rc<str>>,
    tcp: Option<Answer>,
}

/// A member that was asked to ping it for us. Each has its own number, so that we know whose answer came.
struct Asked {
    node: Rc<str>,
    addr: SocketAddr,
    seq: u32,
    /// It said that it had no answer, or could not be asked.
    gave_up: bool,
}

impl MemberPing {
    fn is_done(&self) -> bool {
        self.udp.is_some() && self.indirect.is_some() && self.tcp.is_some()
    }

    fn relay_gave_up(&mut self, at: usize) {
        self.relays[at].gave_up = true;
        if self.relays.iter().all(|relay| relay.gave_up) {
            self.indirect.get_or_insert(Answer::Missing(NO_ANSWER.into()));
        }
    }
}

const NO_ANSWER: &str = "no answer";

impl Membership {
    /// Pings `node` in every way; what came of it is said with [`Event::Tried`], within [`limits::PING_TIME_MAX`].
    /// `None`: there is no such member, or [`limits::TRIES_MAX`] tries are under way.
    pub fn ping_member(&mut self, now: Instant, node: &str) -> Option<TryId> {
        let (node, addr) = self.table.get(node).map(|m| (m.name.clone(), m.addr))?;
        if self.tries_under_way() >= limits::TRIES_MAX {
            return None;
        }
        self.begin_input(now);
        let (id, seq, deadline) = (self.next_try_id(), self.next_seq(), now + limits::PING_TIME_MAX);
        self.send(Outgoing::Ping { to: addr, node: node.clone(), seq, suspect: None });
        let relays = self.ask_relays(&node);
        let indirect = relays.is_empty().then(|| Answer::Missing("no other member to ask".into()));
        let tcp = match self.tcp_ping(addr, &node, seq, deadline) {
            true => None,
            false => Some(Answer::Missing("no connection is free here; try again".into())),
        };
        let (udp, via) = (None, None);
        let started = now;
        self.pings.push(MemberPing {
            id,
            node,
            addr,
            started,
            deadline,
            seq,
            relays,
            udp,
            indirect,
            via,
            tcp,
        });
        self.finish_input(now);
        Some(id)
    }

    fn ask_relays(&mut self, node: &str) -> Vec<Asked> {
        let Some(target) = self.table.get(node) else { return Vec::new() };
        let (target, port) = (target.addr_bytes(), target.addr.port());
        let me = &self.config.node;
        let picked = self.table.pick(&mut self.rng, self.config.timing.indirect_checks, |m| {
            m.state == State::Alive && m.name != *me && *m.name != *node
        });
        let picked: Vec<_> = picked.iter().map(|m| (m.name.clone(), m.addr, m.vsn[1] >= NACK_FROM)).collect();
        let ask = |(relay, addr, nack): (Rc<str>, SocketAddr, bool)| {
            let seq = self.next_seq();
            self.send(Outgoing::IndirectPing { to: addr, node: node.into(), target, port, seq, nack });
            Asked { node: relay, addr, seq, gave_up: false }
        };
        picked.into_iter().map(ask).collect()
    }

    /// An ack; false if it answers no ping of a person.
    pub(super) fn ping_answered(&mut self, now: Instant, seq: u32) -> bool {
        for ping in &mut self.pings {
            let took = Answer::Took(now.since(ping.started));
            if ping.seq == seq {
                ping.udp.get_or_insert(took);
                return true;
            }
            if let Some(relay) = ping.relays.iter().find(|relay| relay.seq == seq) {
                if ping.indirect.is_none() {
                    (ping.indirect, ping.via) = (Some(took), Some(relay.node.clone()));
                }
                return true;
            }
        }
        false
    }

    /// A relay had no answer from the member.
    pub(super) fn ping_nacked(&mut self, seq: u32) {
        for ping in &mut self.pings {
            if let Some(at) = ping.relays.iter().position(|relay| relay.seq == seq) {
                return ping.relay_gave_up(at);
            }
        }
    }

    /// A TCP ping of a person was answered, or (`error`) was not.
    pub(super) fn ping_by_tcp_done(&mut self, now: Instant, seq: u32, error: Option<&str>) {
        if let Some(ping) = self.pings.iter_mut().find(|ping| ping.seq == seq) {
            let answer = match error {
                None => Answer::Took(now.since(ping.started)),
                Some(error) => Answer::Missing(error.into()),
            };
            ping.tcp.get_or_insert(answer);
        }
    }

    /// This machine could not send to `to`.
    pub(super) fn ping_not_sent(&mut self, to: SocketAddr, error: SendError) {
        let text = match error {
            SendError::Unreachable => "this machine has no route to it",
            SendError::NotPermitted => "a firewall of this machine forbids it",
            SendError::NoBuffers => "this machine has no room to send it",
            SendError::Other => "this machine cannot send to it",
        };
        for ping in &mut self.pings {
            if ping.addr == to {
                ping.udp.get_or_insert(Answer::Missing(text.into()));
            }
            if let Some(at) = ping.relays.iter().position(|relay| relay.addr == to) {
                ping.relay_gave_up(at);
            }
        }
    }

    /// Pings of a person whose time is over.
    pub(super) fn expire_pings(&mut self, now: Instant) {
        for ping in self.pings.iter_mut().filter(|ping| ping.deadline <= now) {
            for answer in [&mut ping.udp, &mut ping.indirect, &mut ping.tcp] {
                answer.get_or_insert_with(|| Answer::Missing(NO_ANSWER.into()));
            }
        }
    }

    /// After every input: says what came of those that are done.
    pub(super) fn report_pings(&mut self) {
        while let Some(at) = self.pings.iter().position(MemberPing::is_done) {
            let MemberPing { id, node, addr, relays, udp, indirect, via, tcp, .. } =
                self.pings.swap_remove(at);
            let (Some(udp), Some(indirect), Some(tcp)) = (udp, indirect, tcp) else { return };
            let relays = relays.into_iter().map(|relay| relay.node).collect();
            let pinged = Pinged { node, addr, udp, indirect, via, relays, tcp };
            self.events.push_back(Event::Tried { id, result: Tried::Ping(Box::new(pinged)) });
        }
    }

    /// Nobody waits for it any more: nothing more is said of it.
    pub fn cancel_try(&mut self, id: TryId) {
        if self.cancel_join_once(id) {
            return;
        }
        if let Some(at) = self.pings.iter().position(|ping| ping.id == id) {
            let ping = self.pings.swap_remove(at);
            self.abandon_streams(Some(ping.seq), id);
        }
    }

    /// Whether [`Membership::ping_member`] would begin one more; see [`Membership::may_join`].
    pub fn may_try(&self) -> bool {
        self.tries_under_way() < limits::TRIES_MAX
    }

    pub(super) fn tries_under_way(&self) -> usize {
        self.pings.len() + self.joins_once.len()
    }

    pub(super) fn next_try_id(&mut self) -> TryId {
        self.last_try = self.last_try.wrapping_add(1);
        self.last_try
    }
}
