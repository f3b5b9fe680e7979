//! What an attempt reaches: the own machine's applications, another machine's public address, a witness.
//!
//! Web servers live apart from picored: one answers as long as its machine is on and its link is whole,
//! whatever became of the picored beside it.

use std::net::SocketAddr;
use std::time::Duration;

use picored::agent::AttemptId;
use picored::check::attempt::{Outcome, Target};

use crate::engine::What;
use crate::net::INTERNET;
use crate::node::{Health, Input, Tried, Underway};
use crate::settings::{APP_PORT, witness_at};
use crate::world::World;
use crate::{millis, secs};

/// A connection whose SYN was lost so often is answered after every timeout.
const SYN_LOSSES_MAX: u32 = 3;

impl World {
    pub fn start_attempt(&mut self, index: usize, id: AttemptId, target: &Target) {
        let (began, is_child) = (self.now, matches!(target, Target::Exec(_)));
        let public = match target {
            Target::Tcp(addr) => Some(*addr),
            Target::Http(http) => Some(http.addr),
            Target::Exec(_) | Target::Unix(_) => None,
        };
        let public = public.filter(|addr| !addr.ip().is_loopback());
        let fresh = self.nodes[index].attempts.insert(id, Underway { is_child, public, began }).is_none();
        assert!(fresh, "{}", self.blame("an attempt's number was given twice"));
        if let Some(addr) = public {
            return self.send_syn(index, id, addr, 0);
        }
        if let Some(outcome) = self.nodes[index].probe(target) {
            self.later(index, 1, 21, Input::Attempt { id, outcome });
        }
    }

    /// RFC 6298: a SYN that nobody answers is sent again after 1 s, then 2 s, 4 s. What was cut may be whole by then.
    pub fn send_syn(&mut self, node: usize, id: AttemptId, to: SocketAddr, times: u32) {
        if let Some((delay, outcome)) = self.reach(node, to) {
            let delay = delay.as_millis() as u64;
            return self.later(node, delay, delay + 20, Input::Attempt { id, outcome });
        }
        if times < SYN_LOSSES_MAX {
            let (at, life) = (self.now + secs(1) * 2u32.pow(times), self.nodes[node].life);
            self.push(at, What::Syn { node, life, id, to, times: times + 1 });
        }
    }

    /// What is heard from a public address, and after how long; `None`: nothing, ever.
    fn reach(&mut self, from: usize, addr: SocketAddr) -> Option<(Duration, Outcome)> {
        if self.nodes[from].no_uplink {
            return Some((millis(1), Outcome::Fail("network is unreachable".into())));
        }
        let there = match witness_at(addr) {
            Some(witness) if self.witness_off.contains(&witness) => return None,
            Some(_) => INTERNET,
            None => self.nodes.iter().position(|node| node.publishes(addr.ip()))?,
        };
        let delay = self.round_trip(from, there)?;
        if there == INTERNET {
            return Some((delay, Outcome::Pass("connected".into())));
        }
        let node = &self.nodes[there];
        if !node.powered || node.suspended || node.no_uplink {
            return None;
        }
        let app = usize::from(addr.port().checked_sub(APP_PORT)?);
        node.answer(app).map(|outcome| (delay, outcome))
    }

    /// How long a handshake takes; `None`: a cut, or too much loss.
    fn round_trip(&mut self, from: usize, to: usize) -> Option<Duration> {
        if self.net.is_cut(from, to) || self.net.is_cut(to, from) {
            return None;
        }
        let mut delay = 2 * self.net.link.delay + self.rng.duration_below(self.net.link.jitter);
        let mut losses = 0;
        while self.net.link.loss > 0.0 && self.rng.chance(self.net.link.loss) {
            delay += secs(1) * 2u32.pow(losses);
            losses += 1;
            if losses > SYN_LOSSES_MAX {
                return None;
            }
        }
        Some(delay)
    }

    /// An attempt ended, or was given up: what this node knows by it.
    pub fn end_attempt(&mut self, index: usize, id: AttemptId, answered: bool) -> Option<Underway> {
        let now = self.now;
        let node = &mut self.nodes[index];
        let ended = node.attempts.remove(&id)?;
        if let Some(addr) = ended.public {
            let before = node.tried.get(&addr).and_then(|tried| tried.answered_at);
            let answered_at = if answered { Some(now) } else { before };
            node.tried.insert(addr, Tried { ended: now, answered, answered_at });
        }
        Some(ended)
    }
}

impl crate::node::Node {
    /// How a try of the own machine's app ends; `None`: it does not by itself.
    fn probe(&self, target: &Target) -> Option<Outcome> {
        match target {
            Target::Tcp(addr) => self.answer(usize::from(addr.port().checked_sub(APP_PORT)?)),
            Target::Http(http) => self.answer(usize::from(http.addr.port().checked_sub(APP_PORT)?)),
            Target::Exec(program) => self.answer(program.argv.last().and_then(|index| index.parse().ok())?),
            Target::Unix(_) => Some(Outcome::Pass("ok".into())),
        }
    }

    /// How the app with this index answers whoever reaches the machine.
    fn answer(&self, app: usize) -> Option<Outcome> {
        match self.health.get(app) {
            Some(Health::Up) => Some(Outcome::Pass("connected".into())),
            Some(Health::Hang) => None,
            Some(Health::Down) | None => Some(Outcome::Fail("connection refused".into())),
        }
    }
}
