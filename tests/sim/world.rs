//! The world that scenarios speak to: building a cluster, doing things to it, letting time pass.
//!
//! How an input reaches an agent and what becomes of its actions is in [`crate::engine`], what can be
//! seen of the cluster in [`crate::observe`].

use std::collections::BinaryHeap;
use std::time::Duration;

use picored::membership::Timing;
use picored::rng::{Rng, Seed};
use picored::time::Instant;

use crate::engine::Entry;
use crate::net::Net;
use crate::node::{Behaviour, Health, Node, Settings, first_address, picored_timing};
use crate::outside::Outside;
use crate::{millis, mins, secs};

/// What must hold after every step, with what to say if it does not.
type Always = (&'static str, Box<dyn Fn(&World) -> bool>);

/// How a node goes away without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Power cut: its packets and its kernel are gone too.
    Machine,
    /// The kernel is still there: connections are refused or reset.
    Process,
}

pub struct World {
    pub seed: u64,
    pub now: Instant,
    pub rng: Rng,
    pub settings: Settings,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub outside: Outside,
    /// By (time, sequence).
    pub queue: BinaryHeap<Entry>,
    pub sequence: u64,
    pub steps: u64,
    /// The one packet buffer.
    pub buffer: Vec<u8>,
    /// How often the costly invariants are looked at, those that ask every node.
    pub inspect_every: Duration,
    pub inspect_at: Instant,
    always: Vec<Always>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let net = Net::new(rng.next_u64());
        Self {
            seed,
            now: Instant::ZERO + secs(1_000),
            rng,
            settings: Settings::default(),
            nodes: Vec::new(),
            net,
            outside: Outside::default(),
            queue: BinaryHeap::new(),
            sequence: 0,
            steps: 0,
            buffer: Vec::new(),
            inspect_every: secs(10),
            inspect_at: Instant::ZERO,
            always: Vec::new(),
        }
    }

    // Building.

    /// Adds nodes `n1`, `n2`, …; they are not started.
    pub fn nodes(mut self, count: usize) -> Self {
        for _ in 0..count {
            self.nodes.push(Node::new(self.nodes.len(), self.settings.timing.clone()));
        }
        self
    }

    /// Every node serves it, and the handler `dns` publishes it.
    pub fn app(mut self, name: &str) -> Self {
        self.settings.apps.push(name.to_string());
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub fn loss(mut self, part: f64) -> Self {
        self.net.link.loss = part;
        self
    }

    pub fn timing_of(mut self, node: &str, change: impl FnOnce(&mut Timing)) -> Self {
        let mut timing = picored_timing();
        change(&mut timing);
        self.node_mut(node).timing = timing;
        self
    }

    /// Started within two seconds of each other.
    pub fn started(mut self) -> Self {
        self.start_all();
        self
    }

    /// Started, and run until everybody sees everybody and the records are right.
    pub fn settled(self) -> Self {
        let mut world = self.started();
        let joined = world.run_until(mins(3), Self::all_see_all);
        assert!(joined.is_some(), "{}", world.blame("the cluster did not come together within 3 min"));
        if !world.settings.apps.is_empty() && world.settings.handler {
            let right = world.run_until(mins(3), |world| world.records_are_right());
            assert!(right.is_some(), "{}", world.blame("the records were not right within 3 min"));
        }
        world
    }

    /// From now on this holds after every step.
    pub fn always(&mut self, claim: &'static str, holds: impl Fn(&World) -> bool + 'static) {
        self.always.push((claim, Box::new(holds)));
    }

    pub fn check_always(&self) {
        for (claim, holds) in &self.always {
            assert!(holds(self), "{}", self.blame(claim));
        }
    }

    // Finding.

    pub fn index(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name} in this world"))
    }

    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.index(name)]
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        let index = self.index(name);
        &mut self.nodes[index]
    }

    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The place of a failure: what, when, and which seed shows it again.
    pub fn blame(&self, what: &str) -> String {
        format!("at {:?} with seed {}: {what}\n{}", self.now, self.seed, self.picture())
    }

    // Doing.

    /// A fresh process: no state but its configuration, other randomness.
    pub fn start(&mut self, name: &str) {
        let index = self.index(name);
        self.start_index(index);
    }

    pub fn start_index(&mut self, index: usize) {
        let seed = Seed::from_u64(self.rng.next_u64());
        assert!(!self.nodes[index].is_running(), "{} runs already", self.nodes[index].name);
        self.nodes[index].start(&self.settings, seed, self.now);
        self.drain(index);
    }

    /// Starts all that do not run, within two seconds.
    pub fn start_all(&mut self) {
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|&i| !self.nodes[i].is_running()).collect();
        self.rng.shuffle(&mut order);
        let pause = secs(2) / (order.len().max(1) as u32);
        for index in order {
            self.start_index(index);
            self.run_for(pause);
        }
    }

    pub fn crash(&mut self, name: &str, how: Down) {
        let index = self.index(name);
        self.crash_index(index, how);
    }

    pub fn crash_index(&mut self, index: usize, how: Down) {
        let life = self.nodes[index].life;
        self.nodes[index].clear();
        self.nodes[index].powered = how == Down::Process;
        self.drop_streams(index, life);
    }

    /// The process is stopped (SIGSTOP) or the machine suspended; what comes waits in the kernel.
    pub fn freeze(&mut self, name: &str) {
        let node = self.node_mut(name);
        node.frozen = node.is_running();
    }

    /// It goes on: a burst of all that has waited, then its deadlines.
    pub fn thaw(&mut self, name: &str) {
        let index = self.index(name);
        self.thaw_index(index);
    }

    /// It says goodbye and ends by itself.
    pub fn leave(&mut self, name: &str) {
        let index = self.index(name);
        let now = self.now;
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.leave(now);
            self.drain(index);
        }
    }

    /// Takes effect at the next start, as a changed address does.
    pub fn move_to_new_address(&mut self, name: &str) {
        let index = self.index(name);
        assert!(!self.nodes[index].is_running(), "{name} runs");
        // Any place of the first numbering that is not taken.
        let free = (100..).map(first_address).find(|addr| self.nodes.iter().all(|node| node.addr != *addr));
        self.nodes[index].addr = free.expect("there are more addresses than nodes");
    }

    pub fn cut(&mut self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub fn cut_one_way(&mut self, from: &str, to: &str) {
        let (from, to) = (self.index(from), self.index(to));
        self.net.cut_one_way(from, to);
    }

    /// Nothing passes between the named nodes and the others.
    pub fn partition(&mut self, side: &[&str]) {
        let inside: Vec<usize> = side.iter().map(|name| self.index(name)).collect();
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if inside.contains(&a) != inside.contains(&b) {
                    self.net.cut_one_way(a, b);
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.net.heal();
    }

    pub fn set_health(&mut self, name: &str, app: &str, health: Health) {
        let app = self.settings.apps.iter().position(|known| known == app).expect("the app is known");
        self.node_mut(name).health[app] = health;
    }

    /// The next runs on this node go so; then as before.
    pub fn script(&mut self, name: &str, runs: impl IntoIterator<Item = Behaviour>) {
        self.node_mut(name).script.extend(runs);
    }

    // Letting time pass.

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Until `done`, looked at twice a second, says so: how long it took. `None`: not within `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        loop {
            if done(self) {
                return Some(self.now.since(start));
            }
            if self.now.since(start) >= limit {
                return None;
            }
            self.run_for(millis(500));
        }
    }

    /// As [`World::run_until`], but it must happen.
    pub fn expect_within(
        &mut self,
        limit: Duration,
        what: &str,
        done: impl FnMut(&mut Self) -> bool,
    ) -> Duration {
        let took = self.run_until(limit, done);
        took.unwrap_or_else(|| {
            let picture = self.full_picture();
            panic!("at {:?} with seed {}: not within {limit:?}: {what}\n{picture}", self.now, self.seed)
        })
    }
}
