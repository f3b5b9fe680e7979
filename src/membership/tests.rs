//! Membership as a whole: the real library's traces, and small clusters on a network without delay.

use super::*;
use crate::rng::Seed;
use crate::wire::serf::encode_tags;
use crate::wire::stream::{NodeState, PushPull, WireState};
use crate::wire::{Alive, Claim};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 7946))
}

fn config(name: &str, advertise: SocketAddr) -> Config {
    Config {
        node: name.into(),
        cluster: "default".into(),
        advertise,
        label: [].into(),
        keys: KeyRing::default(),
        delegate_versions: [2, 5, 5],
        timing: crate::config::profile::timing("lan"),
        join: Vec::new(),
        members: Vec::new(),
        allow: Vec::new(),
        forget_after: Duration::from_secs(72 * 3600),
    }
}

mod forgetting;
mod input;
mod joining;
mod leaving;
mod pinging;
mod probing;
mod queries;
mod restoring;
mod traces;

// Small clusters.

/// Nodes on a network without delay. Links can be cut for datagrams, streams or both.
struct Net {
    now: Instant,
    nodes: Vec<Membership>,
    stopped: Vec<bool>,
    /// (from, to): no datagrams; no streams.
    no_packets: Vec<(usize, usize)>,
    no_streams: Vec<(usize, usize)>,
    /// (opener, its id, acceptor, its id).
    streams: Vec<(usize, StreamId, usize, StreamId)>,
    log: Vec<(usize, Event)>,
    /// Addresses that lead to another one, as a NAT makes them.
    aliases: Vec<(SocketAddr, SocketAddr)>,
    /// Nodes whose packets come from another address, as a NAT makes it.
    masked: Vec<(usize, SocketAddr)>,
    /// What each node's look-ups give.
    answers: Vec<Vec<IpAddr>>,
}

impl Net {
    fn new(names: &[&str]) -> Self {
        let mut net = Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            stopped: Vec::new(),
            no_packets: Vec::new(),
            no_streams: Vec::new(),
            streams: Vec::new(),
            log: Vec::new(),
            aliases: Vec::new(),
            masked: Vec::new(),
            answers: Vec::new(),
        };
        for (i, name) in names.iter().enumerate() {
            let mut config = config(name, addr(i as u8 + 1));
            if i > 0 {
                config.join = vec![Target::Addr(addr(1))];
            }
            net.add(config);
        }
        net
    }

    fn add(&mut self, config: Config) -> usize {
        let seed = Seed::from_u64(self.nodes.len() as u64 + 77);
        let meta = encode_tags([("cluster", "default")].into_iter());
        self.nodes.push(Membership::new(config, &meta, seed, self.now));
        self.stopped.push(false);
        self.nodes.len() - 1
    }

    /// The running node at an address.
    fn at(&self, addr: SocketAddr) -> Option<usize> {
        let addr = self.aliases.iter().find(|(alias, _)| *alias == addr).map_or(addr, |(_, real)| *real);
        (0..self.nodes.len()).find(|&i| self.nodes[i].config.advertise == addr && !self.stopped[i])
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, i)) = (0..self.nodes.len())
            .filter(|&i| !self.stopped[i])
            .filter_map(|i| Some((self.nodes[i].next_deadline()?, i)))
            .min()
            .filter(|(at, _)| *at <= end)
        {
            self.now = self.now.max(at);
            self.nodes[i].handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// Carries everything that is on its way until nothing is.
    fn settle(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for i in 0..self.nodes.len() {
                while let Some(event) = self.nodes[i].poll_event() {
                    self.log.push((i, event));
                }
                let mut buf = Vec::new();
                while let Some(to) = self.nodes[i].poll_transmit(self.now, &mut buf) {
                    quiet = false;
                    if let Some(j) = self.at(to).filter(|&j| !self.no_packets.contains(&(i, j))) {
                        let masked = self.masked.iter().find(|(n, _)| *n == i);
                        let from = masked.map_or(self.nodes[i].config.advertise, |&(_, at)| at);
                        self.nodes[j].handle_packet(self.now, from, &mut buf);
                    }
                }
                while let Some(action) = self.nodes[i].poll_action() {
                    quiet = false;
                    self.perform(i, action);
                }
            }
        }
    }

    fn perform(&mut self, i: usize, action: Action) {
        let now = self.now;
        match action {
            Action::StreamOpen { id, to } => {
                let from = self.nodes[i].config.advertise;
                let peer = self.at(to).filter(|&j| !self.no_streams.contains(&(i, j)));
                match peer.and_then(|j| Some((j, self.nodes[j].accept_stream(now, from)?))) {
                    Some((j, other)) => {
                        self.streams.push((i, id, j, other));
                        self.nodes[i].handle_stream(now, id, StreamEvent::Connected);
                    }
                    None => self.nodes[i].handle_stream(now, id, StreamEvent::Closed("connection refused")),
                }
            }
            Action::StreamSend { id, bytes } => {
                if let Some((j, other)) = self.other_end(i, id) {
                    self.nodes[j].handle_stream(now, other, StreamEvent::Data(&bytes));
                }
            }
            Action::StreamClose { id } => {
                if let Some((j, other)) = self.other_end(i, id) {
                    self.nodes[j].handle_stream(now, other, StreamEvent::Closed(""));
                }
            }
            Action::Resolve { id, .. } => {
                let answers = self.answers.get(i).cloned().unwrap_or_default();
                self.nodes[i].handle_resolved(now, id, &answers, "no such name");
            }
        }
    }

    fn other_end(&self, i: usize, id: StreamId) -> Option<(usize, StreamId)> {
        // The latest: a restarted node counts its streams from the start again.
        self.streams.iter().rev().find_map(|&(a, a_id, b, b_id)| match () {
            () if (a, a_id) == (i, id) => Some((b, b_id)),
            () if (b, b_id) == (i, id) => Some((a, a_id)),
            () => None,
        })
    }

    fn state(&self, i: usize, name: &str) -> Option<State> {
        self.nodes[i].member(name).map(|m| m.state)
    }

    fn saw(&self, wanted: impl Fn(usize, &Event) -> bool) -> bool {
        self.log.iter().any(|(i, event)| wanted(*i, event))
    }

    fn failures(&self) -> usize {
        self.log.iter().filter(|(_, event)| matches!(event, Event::Failed { .. })).count()
    }

    fn cut_packets(&mut self, a: usize, b: usize) {
        self.no_packets.extend([(a, b), (b, a)]);
    }
}

#[test]
fn three_nodes_find_each_other_through_one() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(3 * SECOND);
    for i in 0..3 {
        assert!(["a", "b", "c"].iter().all(|name| net.state(i, name) == Some(State::Alive)), "node {i}");
        assert!(net.nodes[i].is_joined());
    }
}

#[test]
fn a_stopped_node_is_suspected_then_failed_and_comes_back() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.stopped[2] = true;
    let stopped_at = net.now;
    net.run(3 * SECOND);
    assert_eq!(net.state(0, "c"), Some(State::Suspect));
    net.run(9 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Dead), Some(State::Dead)));
    let since = net.nodes[0].member("c").expect("kept").since;
    // Probed within 2 s (a round of two), suspected after 1 s at the latest times 2, failed 4 s after that.
    assert!(since.since(stopped_at) >= 4 * SECOND && since.since(stopped_at) <= 10 * SECOND);
    net.stopped[2] = false;
    net.run(10 * SECOND);
    assert!((0..3).all(|i| net.state(i, "c") == Some(State::Alive)));
}

#[test]
fn a_cut_between_two_is_bridged_by_the_third() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.no_streams.extend([(0, 1), (1, 0)]);
    net.run(120 * SECOND);
    assert_eq!(net.failures(), 0, "{:?}", net.log);
}

#[test]
fn blocked_udp_is_named_once_and_nobody_fails() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.run(120 * SECOND);
    assert_eq!(net.failures(), 0);
    let named = net.log.iter().filter(|(i, e)| *i == 0 && matches!(e, Event::UdpBlocked { .. })).count();
    assert_eq!(named, 1);
    assert!(net.nodes[0].member("b").expect("known").udp_blocked);
    net.no_packets.clear();
    net.run(10 * SECOND);
    assert!(!net.nodes[0].member("b").expect("known").udp_blocked);
}

#[test]
fn a_node_that_leaves_is_left_and_not_failed() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.nodes[1].leave(net.now);
    net.settle();
    net.run(10 * SECOND);
    assert!(net.saw(|i, event| i == 1 && *event == Event::LeaveDone));
    assert_eq!((net.state(0, "b"), net.state(2, "b")), (Some(State::Left), Some(State::Left)));
    assert_eq!(net.failures(), 0);
}

#[test]
fn a_lone_node_leaves_at_once() {
    let mut net = Net::new(&["a"]);
    net.run(SECOND);
    net.nodes[0].leave(net.now);
    net.run(SECOND);
    assert!(net.saw(|_, event| *event == Event::LeaveDone));
}

#[test]
fn new_metadata_reach_everybody() {
    let mut net = Net::new(&["a", "b", "c", "d"]);
    net.run(5 * SECOND);
    let meta = encode_tags([("cluster", "default"), ("a.web", "up")].into_iter());
    net.nodes[3].set_meta(net.now, &meta);
    net.settle();
    net.run(2 * SECOND);
    assert!((0..4).all(|i| *net.nodes[i].member("d").expect("known").meta == *meta));
    let before = net.nodes[3].member("d").expect("me").incarnation;
    net.nodes[3].set_meta(net.now, &meta);
    assert_eq!(net.nodes[3].member("d").expect("me").incarnation, before, "the same again is no news");
}

#[test]
fn a_restarted_node_outbids_its_former_self() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    for i in 0..3u8 {
        let meta = encode_tags([("cluster", "default"), ("n", ["0", "1", "2"][usize::from(i)])].into_iter());
        net.nodes[1].set_meta(net.now, &meta);
        net.settle();
        net.run(SECOND);
    }
    let before = net.nodes[0].member("b").expect("known").incarnation;
    let config = net.nodes[1].config.clone();
    let meta = encode_tags([("cluster", "default"), ("n", "new")].into_iter());
    net.nodes[1] = Membership::new(config, &meta, Seed::from_u64(9), net.now);
    net.run(3 * SECOND);
    let b = net.nodes[0].member("b").expect("known");
    assert_eq!((b.state, &*b.meta), (State::Alive, &*meta));
    assert!(b.incarnation > before);
    assert_eq!(net.failures(), 0);
}

#[test]
fn a_failed_node_may_come_back_at_another_address_at_once() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.stopped[2] = true;
    net.run(20 * SECOND);
    assert_eq!(net.state(0, "c"), Some(State::Dead));
    let mut config = config("c", addr(9));
    config.join = vec![Target::Addr(addr(1))];
    net.add(config);
    net.run(3 * SECOND);
    assert!(
        (0..2)
            .all(|i| net.nodes[i].member("c").is_some_and(|m| m.addr == addr(9) && m.state == State::Alive))
    );
    assert!(net.saw(|i, event| i == 0 && matches!(event, Event::Moved { .. })));
}

#[test]
fn a_moved_node_is_believed_when_its_old_address_is_silent() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.stopped[2] = true;
    let mut config = config("c", addr(9));
    config.join = vec![Target::Addr(addr(1))];
    net.add(config);
    net.run(4 * SECOND);
    assert!(
        (0..2)
            .all(|i| net.nodes[i].member("c").is_some_and(|m| m.addr == addr(9) && m.state == State::Alive))
    );
}

#[test]
fn a_second_node_of_the_same_name_does_not_get_it() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    let mut config = config("c", addr(9));
    config.join = vec![Target::Addr(addr(1))];
    let twin = net.add(config);
    net.run(30 * SECOND);
    assert_eq!(net.nodes[0].member("c").map(|m| m.addr), Some(addr(3)));
    assert!(net.saw(|i, event| i == 0 && matches!(event, Event::Conflict { .. })));
    assert!(net.saw(|i, event| i == twin && matches!(event, Event::Conflict { node, .. } if **node == *"c")));
}

#[test]
fn members_of_another_cluster_are_refused() {
    let mut net = Net::new(&["a"]);
    let mut config = config("x", addr(2));
    config.cluster = "other".into();
    config.join = vec![Target::Addr(addr(1))];
    let meta = encode_tags([("cluster", "other")].into_iter());
    net.nodes.push(Membership::new(config, &meta, Seed::from_u64(3), net.now));
    net.stopped.push(false);
    net.run(10 * SECOND);
    assert_eq!(net.nodes[0].members().len(), 1);
    assert_eq!(net.nodes[1].members().len(), 1);
    assert!(net.saw(|i, event| i == 0 && matches!(event, Event::ForeignCluster { .. })));
}

#[test]
fn both_halves_of_a_healed_cut_find_each_other() {
    let mut net = Net::new(&["a", "b", "c", "d"]);
    net.run(5 * SECOND);
    for i in 0..2 {
        for j in 2..4 {
            net.cut_packets(i, j);
            net.no_streams.extend([(i, j), (j, i)]);
        }
    }
    net.run(60 * SECOND);
    assert_eq!((net.state(0, "d"), net.state(3, "b")), (Some(State::Dead), Some(State::Dead)));
    net.no_packets.clear();
    net.no_streams.clear();
    net.run(5 * SECOND);
    for i in 0..4 {
        assert!(["a", "b", "c", "d"].iter().all(|name| net.state(i, name) == Some(State::Alive)), "node {i}");
    }
}

#[test]
fn time_in_which_we_did_not_run_fails_nobody() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.cut_packets(0, 2);
    net.no_streams.extend([(0, 1), (0, 2), (1, 0), (2, 0)]);
    net.run(3 * SECOND);
    assert!(net.nodes[0].members().any(|m| m.state == State::Suspect));
    // a sleeps for a minute and wakes up on a network that works.
    net.stopped[0] = true;
    net.no_packets.clear();
    net.no_streams.clear();
    net.run(60 * SECOND);
    net.stopped[0] = false;
    net.log.clear();
    net.run(20 * SECOND);
    assert!(!net.saw(|i, event| i == 0 && matches!(event, Event::Failed { .. })), "{:?}", net.log);
    assert!((0..3).all(|i| net.nodes[i].members().all(|m| m.state == State::Alive)));
}

#[test]
fn a_packet_that_cannot_leave_this_machine_accuses_nobody() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    net.stopped[1] = true;
    for _ in 0..300 {
        net.run(Duration::from_millis(100));
        net.nodes[0].handle_send_error(net.now, addr(2), SendError::Unreachable);
        net.settle();
    }
    assert_eq!(net.state(0, "b"), Some(State::Alive));
    assert_eq!(net.nodes[0].counters().send_errors, 300);
}

#[test]
fn a_quiet_cluster_gossips_nothing() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(30 * SECOND);
    let before = net.nodes[0].counters().packets_out;
    net.run(60 * SECOND);
    let sent = net.nodes[0].counters().packets_out - before;
    // One ping of its own and one ack for each of the others' pings a second.
    assert!(sent <= 60 + 2 * 60 + 5, "{sent} packets in a minute");
}

#[test]
fn a_target_that_advertises_another_address_is_not_joined_without_end() {
    let mut net = Net::new(&["a"]);
    let mut config = config("b", addr(2));
    config.join = vec![Target::Addr(addr(99))];
    let b = net.add(config);
    net.aliases.push((addr(99), addr(1)));
    net.run(600 * SECOND);
    assert!(net.nodes[b].is_joined());
    assert_eq!(net.state(0, "b"), Some(State::Alive));
    let opened = net.nodes[b].counters().streams_out;
    // One a minute, besides the periodic exchange each 30 s and the first few.
    assert!((30..45).contains(&opened), "{opened} streams in ten minutes");
}

#[test]
fn long_gone_members_are_forgotten_unless_they_are_expected() {
    let mut net = Net::new(&["a", "b", "c"]);
    for i in 0..3 {
        net.nodes[i].config.forget_after = 60 * SECOND;
    }
    net.nodes[0].config.members = vec!["b".into()];
    net.run(5 * SECOND);
    net.stopped[1] = true;
    net.stopped[2] = true;
    net.run(200 * SECOND);
    assert_eq!(net.state(0, "c"), None);
    assert_eq!(net.state(0, "b"), Some(State::Dead));
    assert!(net.saw(|i, event| i == 0 && matches!(event, Event::Forgotten { node } if **node == *"c")));
}

#[test]
fn a_network_is_its_prefix() {
    let net = |addr: &str, prefix| Cidr { addr: addr.parse().expect("an address"), prefix };
    let ip = |addr: &str| addr.parse::<IpAddr>().expect("an address");
    assert!(net("203.0.113.0", 24).contains(ip("203.0.113.200")));
    assert!(!net("203.0.113.0", 24).contains(ip("203.0.114.1")));
    assert!(net("0.0.0.0", 0).contains(ip("198.51.100.7")));
    assert!(!net("0.0.0.0", 0).contains(ip("::1")));
    assert!(net("2001:db8::", 32).contains(ip("2001:db8:5::1")));
    assert!(net("192.0.2.1", 32).contains(ip("192.0.2.1")));
}
