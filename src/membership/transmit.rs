//! Datagrams on their way out: small intents that become bytes, with news piggybacked, when the driver asks
//! for them (P 7.8, 7.9).

use core::net::SocketAddr;
use std::rc::Rc;

use super::member::AddrBytes;
use super::{Config, Membership, Timer};
use crate::limits;
use crate::time::Instant;
use crate::wire::stream::WireState;
use crate::wire::{Ack, Claim, IndirectPing, Message, Ping, Source};

/// Packets from this size on are compressed if that makes them shorter. A ping or an ack without news is
/// shorter, and never compresses.
pub(super) const COMPRESS_FROM: usize = 200;

/// A datagram that waits to be written.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// `suspect`: tell it that it is suspected, at this incarnation, so that it can refute at once.
    Ping {
        to: SocketAddr,
        node: Rc<str>,
        seq: u32,
        suspect: Option<u32>,
    },
    IndirectPing {
        to: SocketAddr,
        node: Rc<str>,
        target: AddrBytes,
        port: u16,
        seq: u32,
        nack: bool,
    },
    Ack {
        to: SocketAddr,
        seq: u32,
    },
    Nack {
        to: SocketAddr,
        seq: u32,
    },
    /// Serf's: an answer to a query.
    User {
        to: SocketAddr,
        payload: Box<[u8]>,
    },
    /// Nothing but news.
    Gossip {
        to: SocketAddr,
    },
}

/// AES-GCM nonces: a 96-bit counter from a random start, so no two packets of one key share one.
#[derive(Debug)]
pub(super) struct Nonces(u128);

impl Nonces {
    pub fn new(start: [u8; 12]) -> Self {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&start);
        Self(u128::from_le_bytes(bytes))
    }

    pub fn next(&mut self) -> [u8; 12] {
        self.0 = self.0.wrapping_add(1);
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.0.to_le_bytes()[..12]);
        nonce
    }
}

impl Membership {
    /// Writes the next datagram into `buf` and says where it goes.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        loop {
            let outgoing = self.outgoing.pop_front()?;
            self.builder.clear();
            let to = self.write(&outgoing);
            let alone = matches!(outgoing, Outgoing::Ping { suspect: Some(_), .. } | Outgoing::User { .. });
            if !alone {
                self.piggyback(now);
            }
            if self.builder.is_empty() {
                continue;
            }
            let nonce = self.nonces.next();
            // The CRC header is optional for the sender (P 1.2) and adds nothing to UDP's checksum and the tag.
            self.builder.finish(&self.envelope, nonce, false, buf);
            self.note_sent(to, true);
            self.counters.packets_out += 1;
            self.counters.bytes_out += buf.len() as u64;
            self.arm_gossip(now);
            self.asked_for = self.earliest_deadline();
            return Some(to);
        }
    }

    /// Queues a datagram; beyond the limit it is dropped and counted, as the network might have done.
    pub(super) fn send(&mut self, outgoing: Outgoing) {
        if self.outgoing.len() < limits::REPLIES_MAX {
            self.outgoing.push_back(outgoing);
        } else {
            self.counters.refused += 1;
        }
    }

    fn write(&mut self, outgoing: &Outgoing) -> SocketAddr {
        let addr = self.me().addr_bytes();
        let source = source(&self.config, &addr);
        match outgoing {
            Outgoing::Ping { to, node, seq, suspect } => {
                self.builder.push_message(&Message::Ping(Ping { node, seq: *seq, source }));
                if let Some(incarnation) = *suspect {
                    let claim = Claim { node, from: &self.config.node, incarnation };
                    self.builder.push_message(&Message::Suspect(claim));
                }
                *to
            }
            Outgoing::IndirectPing { to, node, target, port, seq, nack } => {
                let target = target.as_slice();
                let ping = IndirectPing { node, seq: *seq, target, port: *port, nack: *nack, source };
                self.builder.push_message(&Message::IndirectPing(ping));
                *to
            }
            // The payload is for ping delegates; Serf logs an error if it is not a coordinate (P 8.7).
            Outgoing::Ack { to, seq } => {
                self.builder.push_message(&Message::Ack(Ack { seq: *seq, payload: &[] }));
                // Who asks us and is dead or left here does not know it (nobody gossips to the left): told at
                // once, it refutes. Lifeguard's buddy system, which memberlist has for suspects only.
                if let Some(member) =
                    self.table.members().iter().find(|m| m.addr == *to && !m.state.is_running())
                {
                    let from = if member.said_goodbye { &member.name } else { &self.config.node };
                    let claim = Claim { node: &member.name, from, incarnation: member.incarnation };
                    self.builder.push_message(&Message::Dead(claim));
                }
                *to
            }
            Outgoing::Nack { to, seq } => {
                self.builder.push_message(&Message::Nack { seq: *seq });
                *to
            }
            Outgoing::User { to, payload } => {
                self.builder.push_message(&Message::User(payload));
                *to
            }
            Outgoing::Gossip { to } => *to,
        }
    }

    /// Fills the packet up with news: membership first, then Serf's intents, queries and events.
    fn piggyback(&mut self, now: Instant) {
        let limit = self.retransmit_limit(now);
        let (builder, envelope) = (&mut self.builder, &self.envelope);
        let mut put = |bytes: &[u8]| {
            let fits = bytes.len() <= builder.room(envelope);
            if fits {
                builder.push(bytes);
            }
            fits
        };
        self.broadcasts.take(limit, &mut put);
        self.serf.broadcasts.take(limit, &mut put);
        self.queries.take(limit, &mut put);
    }

    fn has_news(&self) -> bool {
        !self.broadcasts.is_empty() || !self.serf.broadcasts.is_empty() || !self.queries.is_empty()
    }

    fn retransmit_limit(&self, now: Instant) -> u32 {
        if !self.has_news() {
            return 0;
        }
        super::dissemination::retransmit_limit(
            self.config.timing.retransmit_mult,
            self.estimated_members(now),
        )
    }

    /// A gossip round: the news go to a few random members, the recently failed among them.
    pub(super) fn gossip(&mut self, now: Instant) {
        self.last_gossip = now;
        let dead_time = self.config.timing.gossip_to_the_dead;
        let me = &self.config.node;
        let targets = self.table.pick(&mut self.rng, self.config.timing.gossip_nodes, |m| {
            m.name != *me && m.wire_state() != WireState::Left && m.is_current(now, dead_time)
        });
        let targets: Vec<SocketAddr> = targets.iter().map(|m| m.addr).collect();
        for to in targets {
            self.send(Outgoing::Gossip { to });
        }
    }

    /// While there are news and somebody to tell, gossip goes on; otherwise nothing wakes up for it.
    pub(super) fn arm_gossip(&mut self, now: Instant) {
        let news = self.has_news();
        let timer = &mut self.timers[Timer::Gossip as usize];
        if !news {
            *timer = None;
        } else if timer.is_none()
            && self.table.members().iter().any(|m| m.state.is_running() && m.name != self.config.node)
        {
            *timer = Some((self.last_gossip + self.config.timing.gossip_interval).max(now));
        }
    }
}

/// Who sends a ping, with our address in the protocol's form.
pub(super) fn source<'a>(config: &'a Config, addr: &'a AddrBytes) -> Source<'a> {
    Source { addr: addr.as_slice(), port: config.advertise.port(), node: &config.node }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_count_on_from_their_start_and_wrap() {
        let mut nonces = Nonces::new([0xFF; 12]);
        assert_eq!(nonces.next(), [0; 12]);
        let mut second = [0; 12];
        second[0] = 1;
        assert_eq!(nonces.next(), second);
    }
}
