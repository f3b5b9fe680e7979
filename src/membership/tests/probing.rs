//! Probes: what relays and nacks are for, and what does not count as an answer.

use super::*;
use crate::wire::{IndirectPing, Source};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// As `Net::new`, with time for a nack between the probe's timeout and its end.
fn with_time_for_nacks() -> Net {
    let mut net = Net::new(&NAMES);
    for node in &mut net.nodes {
        (node.config.timing.probe_interval, node.config.timing.probe_timeout) = (3 * SECOND, SECOND / 2);
    }
    net.run(10 * SECOND);
    net
}

/// The worst health score that any of these had.
fn worst_score(net: &mut Net, nodes: &[usize], time: Duration) -> u32 {
    let (end, mut worst) = (net.now + time, 0);
    while net.now < end {
        net.run(SECOND / 10);
        worst = nodes.iter().map(|&i| net.nodes[i].health_score()).max().unwrap_or(0).max(worst);
    }
    worst
}

#[test]
fn relays_that_send_nacks_say_that_it_is_not_the_prober_that_is_ill() {
    let mut net = with_time_for_nacks();
    net.stopped[3] = true;
    assert_eq!(worst_score(&mut net, &[0, 1, 2], 10 * SECOND), 0);
    assert_ne!(net.state(0, "d"), Some(State::Alive), "it was probed, or this shows nothing");
}

#[test]
fn a_prober_that_hears_from_no_relay_doubts_itself() {
    let mut net = with_time_for_nacks();
    for other in 1..4 {
        net.cut_packets(0, other);
        net.no_streams.extend([(0, other), (other, 0)]);
    }
    assert!(worst_score(&mut net, &[0], 10 * SECOND) >= 2);
}

#[test]
fn one_cut_link_makes_nobody_suspect_while_there_is_a_relay() {
    let mut net = Net::new(&NAMES[..3]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.no_streams.extend([(0, 1), (1, 0)]);
    net.run(60 * SECOND);
    assert!(!net.saw(|_, event| matches!(event, Event::Suspected { .. })), "{:?}", net.log);
}

#[test]
fn nobody_is_pinged_for_others_that_is_no_member() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    let refused = net.nodes[0].counters().refused;
    let source = Source { addr: &[127, 0, 0, 2], port: 7946, node: "b" };
    let request = IndirectPing { node: "x", seq: 9, target: &[192, 0, 2, 9], port: 53, nack: true, source };
    let now = net.now;
    net.nodes[0].handle_indirect_ping(now, addr(2), &request);
    assert_eq!(net.nodes[0].counters().refused, refused + 1);
    assert_eq!(net.nodes[0].poll_transmit(now, &mut Vec::new()), None);
}

#[test]
fn an_ack_of_another_ping_answers_no_probe() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    net.stopped[1] = true;
    while net.nodes[0].probe.is_none() {
        net.run(SECOND / 10);
    }
    // Its number has not been given yet, and a late one is as strange.
    let (now, strange) = (net.now, net.nodes[0].next_seq().wrapping_add(1_000));
    net.nodes[0].handle_ack(now, addr(2), strange);
    assert!(net.nodes[0].probe.is_some());
}

#[test]
fn a_name_is_not_given_away_before_three_pings_were_left_unanswered() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    net.stopped[1] = true;
    let (now, timeout) = (net.now, net.nodes[0].config.timing.probe_timeout);
    let incarnation = net.nodes[0].member("b").expect("known").incarnation + 1;
    let claim = Alive {
        node: "b",
        addr: &[127, 0, 0, 9],
        port: 7946,
        incarnation,
        meta: &[],
        vsn: &[1, 5, 5, 2, 5, 5],
    };
    net.nodes[0].handle_alive(now, &claim);
    let held_by = |net: &Net| net.nodes[0].member("b").map(|m| m.addr);
    net.run(2 * timeout + timeout / 2);
    assert_eq!(held_by(&net), Some(addr(2)));
    net.run(timeout);
    assert_eq!(held_by(&net), Some(addr(9)));
}

/// Goal: the join target of all others, restarted before they noticed, does not stay alone.
#[test]
fn who_knows_nobody_asks_the_one_that_pings_it() {
    let mut net = Net::new(&NAMES);
    net.run(5 * SECOND);
    let meta = encode_tags([("cluster", "default")].into_iter());
    net.nodes[0] = Membership::new(config("a", addr(1)), &meta, Seed::from_u64(5), net.now);
    net.run(5 * SECOND);
    for name in &NAMES[1..] {
        assert_eq!(net.state(0, name), Some(State::Alive), "{name}");
    }
}

#[test]
fn an_ack_goes_to_where_the_ping_came_from_and_to_nobody_whom_it_names() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    let now = net.now;
    let stranger = Source { addr: &[192, 0, 2, 9], port: 53, node: "x" };
    net.nodes[0].handle_ping(now, addr(7), &crate::wire::Ping { seq: 1, node: "a", source: stranger });
    assert_eq!(net.nodes[0].poll_transmit(now, &mut Vec::new()), Some(addr(7)));
}
