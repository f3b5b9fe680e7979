//! Several agents, and between them a network that loses nothing but what is cut. Their checks, tries and runs are
//! answered at once.

use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::safety::Verify;

const WITNESS: &str = "198.51.100.53:53";
const DELAY: Duration = Duration::from_millis(1);

pub struct Node {
    pub agent: Agent,
    /// Off: the process hangs or is gone.
    pub runs: bool,
    pub app_up: bool,
    /// It can begin no connection to others, for a reason of its own.
    pub is_full: bool,
    /// Where it can reach a witness.
    pub witness: bool,
    /// Lines of the log.
    pub log: Vec<String>,
}

/// A run of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    pub at: Instant,
    pub node: usize,
    pub handler: String,
    pub event: String,
    pub publish: String,
    pub guard: String,
}

/// A try of the public endpoint of a node, by another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Try {
    pub at: Instant,
    pub by: usize,
    pub of: usize,
}

pub struct Cluster {
    pub now: Instant,
    pub nodes: Vec<Node>,
    /// What serves the public.
    pub serving: BTreeSet<usize>,
    /// Pairs that do not hear each other.
    cuts: BTreeSet<(usize, usize)>,
    datagrams: VecDeque<(Instant, usize, usize, Vec<u8>)>,
    /// Both ends of each stream.
    streams: Vec<[(usize, StreamId); 2]>,
    pub ran: Vec<Ran>,
    pub tried: Vec<Try>,
}

pub fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8], 7946))
}

pub fn dns() -> delivery::Config {
    let (name, events) = ("dns".into(), Vec::new());
    let (debounce, resync) = (secs(3), secs(86_400));
    delivery::Config { name, mode: Mode::Sync, place: Place::One, events, debounce, resync, ..mail() }
}

pub fn quorum_mail() -> delivery::Config {
    delivery::Config { events: vec![EventKind::Quorum, EventKind::NoQuorum], ..mail() }
}

/// Node `node` of `count`; nodes are numbered from 1.
pub fn config_of(node: usize, count: usize) -> Config {
    let mut config = config(vec![dns(), quorum_mail()]);
    config.membership.node = format!("n{node}").into();
    config.membership.advertise = addr(node);
    let others = (1..=count).filter(|&other| other != node);
    config.membership.join = others.map(|other| membership::Target::Addr(addr(other))).collect();
    config.apps[0].policy.verify = Some(Verify::Tcp { port: 443 });
    config.safety.witness = vec![Target::Tcp(WITNESS.parse().unwrap())];
    config
}

impl Cluster {
    /// `count` nodes that have settled and published all addresses.
    pub fn settled(count: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let mut cluster = Self::start(count, change);
        cluster.run_for(secs(120));
        assert_eq!(cluster.ran.len(), 1, "{:?}", cluster.ran);
        assert_eq!(cluster.ran[0].publish, cluster.addrs(&(1..=count).collect::<Vec<_>>()));
        cluster.ran.clear();
        cluster
    }

    pub fn start(count: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let mut cluster = Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            serving: (1..=count).collect(),
            cuts: BTreeSet::new(),
            datagrams: VecDeque::new(),
            streams: Vec::new(),
            ran: Vec::new(),
            tried: Vec::new(),
        };
        for node in 1..=count {
            let mut config = config_of(node, count);
            change(node, &mut config);
            let agent = Agent::new(config, Seed::from_u64(node as u64), Instant::ZERO);
            cluster.nodes.push(Node {
                agent,
                runs: true,
                app_up: true,
                is_full: false,
                witness: true,
                log: Vec::new(),
            });
        }
        cluster
    }

    pub fn addrs(&self, nodes: &[usize]) -> String {
        nodes.iter().map(|&node| addr(node).ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    pub fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node - 1]
    }

    /// The machine: neither picored nor the app is there any more.
    pub fn kill(&mut self, node: usize) {
        self.node(node).runs = false;
        self.serving.remove(&node);
    }

    /// Gossip between the two sides.
    pub fn cut(&mut self, side: &[usize], other: &[usize]) {
        for &a in side {
            self.cuts.extend(other.iter().flat_map(|&b| [(a, b), (b, a)]));
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Runs of the `sync` handler.
    pub fn told(&self) -> Vec<&Ran> {
        self.ran.iter().filter(|ran| ran.handler == "dns").collect()
    }

    pub fn log(&mut self, node: usize, what: &str) -> usize {
        self.node(node).log.iter().filter(|line| line.contains(what)).count()
    }

    /// The reply to a request.
    pub fn ask(&mut self, node: usize, request: &str) -> String {
        let now = self.now;
        self.node(node).agent.handle_request(now, 1, request.as_bytes());
        self.drain(node).concat()
    }

    pub fn status(&mut self, node: usize) -> crate::control::Status {
        serde_json::from_str(&self.ask(node, r#"{"cmd":"status","verbose":true}"#)).unwrap()
    }

    /// Why the node does not act; empty: it does.
    pub fn waiting(&mut self, node: usize) -> String {
        self.status(node).waiting.unwrap_or_default()
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        (1..=self.nodes.len()).for_each(|node| _ = self.drain(node));
        loop {
            let running = (1..=self.nodes.len()).filter(|&node| self.nodes[node - 1].runs);
            let due = running.filter_map(|node| Some((self.nodes[node - 1].agent.next_deadline()?, node)));
            let due = due.min().filter(|(at, _)| *at <= end);
            let arrives = self.datagrams.front().map(|datagram| datagram.0).filter(|at| *at <= end);
            match (due, arrives) {
                (None, None) => break,
                (Some((at, node)), arrives) if arrives.is_none_or(|first| at < first) => {
                    self.now = self.now.max(at);
                    let now = self.now;
                    self.node(node).agent.handle_timeout(now);
                    self.drain(node);
                }
                _ => self.deliver(),
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let Some((at, from, to, mut packet)) = self.datagrams.pop_front() else { return };
        self.now = self.now.max(at);
        let now = self.now;
        if self.node(to).runs {
            self.node(to).agent.handle_packet(now, addr(from), &mut packet);
            self.drain(to);
        }
    }

    fn reaches(&self, from: usize, to: SocketAddr) -> Option<usize> {
        let to = (1..=self.nodes.len()).find(|&node| addr(node) == to)?;
        (!self.cuts.contains(&(from, to)) && self.nodes[to - 1].runs).then_some(to)
    }

    /// Does what the node wants done; gives the replies.
    fn drain(&mut self, node: usize) -> Vec<String> {
        let (now, mut replies) = (self.now, Vec::new());
        if !self.node(node).runs {
            return replies;
        }
        loop {
            let mut packet = Vec::new();
            while let Some(to) = self.node(node).agent.poll_transmit(now, &mut packet) {
                if let Some(to) = self.reaches(node, to) {
                    self.datagrams.push_back((now + DELAY, node, to, packet.clone()));
                }
            }
            let Some(action) = self.node(node).agent.poll_action() else { return replies };
            match action {
                Action::Attempt { id, target } => {
                    let outcome = self.attempt(node, &target);
                    self.node(node).agent.handle_attempt(now, id, outcome);
                }
                Action::Run { id, run } => self.run(node, id, &run),
                Action::Log { line, .. } => self.node(node).log.push(line),
                Action::Reply { line, .. } => replies.push(line),
                Action::Membership(action) => self.stream(node, action),
                _ => {}
            }
        }
    }

    fn attempt(&mut self, node: usize, target: &Target) -> Outcome {
        let Target::Tcp(to) = target else { panic!("{target} is not tried here") };
        let passes = match to {
            to if to.ip().is_loopback() => self.node(node).app_up,
            _ if self.node(node).is_full => return Outcome::NotTried("too many open files".into()),
            to if to.to_string() == WITNESS => self.node(node).witness,
            to => {
                assert_eq!(to.port(), 443);
                let of = (1..=self.nodes.len()).find(|&other| addr(other).ip() == to.ip()).unwrap();
                self.tried.push(Try { at: self.now, by: node, of });
                self.serving.contains(&of)
            }
        };
        match passes {
            true => Outcome::Pass("connected".into()),
            false => Outcome::Fail("connection refused".into()),
        }
    }

    fn run(&mut self, node: usize, id: RunId, run: &Run) {
        let env = |name: &str| {
            let found = run.env.iter().find(|(key, _)| &**key == name);
            found.map(|(_, value)| value.to_string()).unwrap_or_default()
        };
        self.ran.push(Ran {
            at: self.now,
            node,
            handler: run.handler.to_string(),
            event: env("PICORED_EVENT"),
            publish: env("PICORED_UP_ADDRS"),
            guard: env("PICORED_GUARD"),
        });
        let now = self.now;
        self.node(node).agent.handle_exit(now, id, Exit::Code(0), b"");
    }

    fn stream(&mut self, node: usize, action: membership::Action) {
        let now = self.now;
        let end = |streams: &[[(usize, StreamId); 2]], id| {
            streams.iter().position(|ends| ends.contains(&(node, id)))
        };
        match action {
            membership::Action::StreamOpen { id, to } => {
                let accepted = self
                    .reaches(node, to)
                    .and_then(|peer| Some((peer, self.node(peer).agent.accept_stream(now, addr(node))?)));
                if let Some(peer) = accepted {
                    self.streams.push([(node, id), peer]);
                }
                let event =
                    if accepted.is_some() { StreamEvent::Connected } else { StreamEvent::Closed("refused") };
                self.node(node).agent.handle_stream(now, id, event);
            }
            membership::Action::StreamSend { id, bytes } => {
                if let Some(index) = end(&self.streams, id) {
                    self.hand_over(node, index, StreamEvent::Data(&bytes));
                }
            }
            membership::Action::StreamClose { id } => {
                if let Some(index) = end(&self.streams, id) {
                    self.hand_over(node, index, StreamEvent::Closed(""));
                    let ends = &mut self.streams[index];
                    ends.iter_mut().filter(|end| end.0 == node).for_each(|end| *end = (0, 0));
                    self.streams.retain(|ends| ends.iter().any(|end| end.0 != 0));
                }
            }
            membership::Action::Resolve { .. } => {}
        }
    }

    fn hand_over(&mut self, from: usize, index: usize, event: StreamEvent<'_>) {
        let now = self.now;
        let Some(&(peer, id)) = self.streams[index].iter().find(|end| end.0 != from && end.0 != 0) else {
            return;
        };
        if self.node(peer).runs {
            self.node(peer).agent.handle_stream(now, id, event);
            self.drain(peer);
        }
    }
}
