//! The world that scenarios speak to: building a cluster, doing things to it, letting time pass.
//!
//! How an input reaches an agent and what becomes of its actions is in [`crate::engine`], what can be
//! seen of the cluster in [`crate::observe`].

use std::collections::{BTreeSet, BinaryHeap};
use std::net::IpAddr;
use std::time::Duration;

use picored::membership::Timing;
use picored::rng::{Rng, Seed};
use picored::time::Instant;

use crate::disk::Memory;
use crate::engine::Entry;
use crate::net::{INTERNET, Net};
use crate::node::{Behaviour, Health, Node};
use crate::outside::Outside;
use crate::settings::{Joins, Settings, first_address, picored_timing};
use crate::told::Told;
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
    /// Witnesses that do not answer.
    pub witness_off: BTreeSet<usize>,
    /// Runs that were started in this drain.
    pub to_judge: Vec<(usize, Told)>,
    /// Since then nothing was cut, healed, started, ended, stopped or resumed.
    pub disturbed_at: Instant,
    /// Addresses of those that a person told somebody to forget.
    pub forgotten: BTreeSet<IpAddr>,
    /// Apps that persons withdrew on nodes, by the node where it was said (as those said last, and no answer has
    /// to have come): node, app, by.
    pub maint: BTreeSet<(String, String, String)>,
    /// Each node and app that was ever withdrawn.
    pub ever_withdrawn: BTreeSet<(String, String)>,
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
            witness_off: BTreeSet::new(),
            to_judge: Vec::new(),
            disturbed_at: Instant::ZERO,
            forgotten: BTreeSet::new(),
            maint: BTreeSet::new(),
            ever_withdrawn: BTreeSet::new(),
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

    /// Something happened that not all know of yet.
    pub fn disturb(&mut self) {
        self.disturbed_at = self.now;
    }

    /// A process that finds the state file of the one before it.
    pub fn start(&mut self, name: &str) {
        self.start_with(name, Memory::Kept);
    }

    pub fn start_with(&mut self, name: &str, memory: Memory) {
        let index = self.index(name);
        self.start_index_with(index, memory);
    }

    pub fn start_index(&mut self, index: usize) {
        self.start_index_with(index, Memory::Kept);
    }

    pub fn start_index_with(&mut self, index: usize, memory: Memory) {
        let seed = Seed::from_u64(self.rng.next_u64());
        assert!(!self.nodes[index].is_running(), "{} runs already", self.nodes[index].name);
        self.disturb();
        let names = self.names();
        self.nodes[index].start(&self.settings, &names, seed, self.now, memory);
        self.drain(index);
    }

    /// Starts all that do not run, within two seconds.
    pub fn start_all(&mut self) {
        let can = |node: &Node| !node.is_running() && !node.gone_for_good;
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|&i| can(&self.nodes[i])).collect();
        self.rng.shuffle(&mut order);
        let pause = secs(2) / (order.len().max(1) as u32);
        for index in order {
            if !self.nodes[index].is_running() {
                self.start_index(index);
            }
            self.run_for(pause);
        }
    }

    pub fn crash(&mut self, name: &str, how: Down) {
        let index = self.index(name);
        self.crash_index(index, how);
    }

    pub fn crash_index(&mut self, index: usize, how: Down) {
        self.disturb();
        let life = self.nodes[index].life;
        match how {
            Down::Machine => self.nodes[index].cut_power(),
            Down::Process => {
                self.nodes[index].clear();
                self.resume_children(index);
            }
        }
        self.drop_streams(index, life);
    }

    /// The process is stopped (SIGSTOP); what comes waits in the kernel. Its machine goes on.
    pub fn freeze(&mut self, name: &str) {
        self.disturb();
        let node = self.node_mut(name);
        node.frozen = node.is_running();
    }

    /// The whole machine stands still.
    pub fn suspend(&mut self, name: &str) {
        self.freeze(name);
        let node = self.node_mut(name);
        node.suspended = node.frozen;
    }

    /// It goes on: a burst of all that has waited, then its deadlines.
    pub fn thaw(&mut self, name: &str) {
        let index = self.index(name);
        self.thaw_index(index);
    }

    /// The date on this machine jumps.
    pub fn set_clock(&mut self, name: &str, off_secs: i64) {
        let now = self.now;
        let index = self.index(name);
        self.nodes[index].clock_off = off_secs;
        let date = self.nodes[index].date(now);
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.handle_wall_clock(now, date);
            self.drain(index);
        }
    }

    /// It says goodbye and ends by itself.
    pub fn leave(&mut self, name: &str) {
        let index = self.index(name);
        let now = self.now;
        // First of all it withdraws its apps.
        let withdrawn = self.settings.apps.iter().map(|app| (name.to_string(), app.clone()));
        self.ever_withdrawn.extend(withdrawn);
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.leave(now);
            self.nodes[index].has_left = true;
            self.disturb();
            self.drain(index);
        }
    }

    /// It ends without a goodbye, when its handlers have ended.
    pub fn stop(&mut self, name: &str) {
        let index = self.index(name);
        let now = self.now;
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.stop(now);
            self.nodes[index].minute.reasons += 1;
            self.disturb();
            self.drain(index);
        }
    }

    /// Takes effect at the next start, as a changed address does.
    pub fn move_to_new_address(&mut self, name: &str) {
        let index = self.index(name);
        assert!(!self.nodes[index].is_running(), "{name} runs");
        // Any place of the first numbering that is not taken.
        let free = (100..).map(first_address).find(|addr| self.nodes.iter().all(|node| node.addr != *addr));
        let addr = free.expect("there are more addresses than nodes");
        self.nodes[index].addr = addr;
        self.nodes[index].addresses.push(addr.ip());
    }

    pub fn cut(&mut self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub fn cut_one_way(&mut self, from: &str, to: &str) {
        self.disturb();
        let (from, to) = (self.index(from), self.index(to));
        self.net.cut_one_way(from, to);
    }

    /// Between this node and everybody who is not one of the nodes: the public, the records, the witnesses.
    pub fn cut_from_internet(&mut self, name: &str) {
        self.disturb();
        let index = self.index(name);
        self.net.cut_one_way(index, INTERNET);
        self.net.cut_one_way(INTERNET, index);
    }

    /// The others' gossip does not reach this node and its own reaches nobody; all else does.
    pub fn block_gossip(&mut self, name: &str) {
        self.disturb();
        let index = self.index(name);
        for other in (0..self.nodes.len()).filter(|&other| other != index) {
            self.net.block_gossip(index, other);
            self.net.block_gossip(other, index);
        }
    }

    /// Nothing passes between the named nodes and the others.
    pub fn partition(&mut self, side: &[&str]) {
        self.disturb();
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
        self.disturb();
        self.net.heal();
    }

    /// Whether a person withdrew the app there, as far as any node may know.
    pub fn is_withdrawn(&self, node: &str, app: &str) -> bool {
        self.maint.iter().any(|(whom, what, _)| whom == node && what == app)
    }

    /// Its `join` holds nobody but the first node.
    pub fn let_join_first_only(&mut self, name: &str) {
        let own = Settings { joins: Joins::First(1), ..self.settings.clone() };
        self.node_mut(name).settings = Some(own);
    }

    pub fn was_withdrawn(&self, node: &str, app: &str) -> bool {
        self.ever_withdrawn.contains(&(node.to_string(), app.to_string()))
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
