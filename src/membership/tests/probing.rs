//! Probes: what relays and nacks are for, and what does not count as an answer.

use super::super::probe::EARLY;
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
fn a_round_that_is_nearly_due_comes_with_the_packet_that_wakes_us() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    let probes = |net: &Net| net.nodes[0].rounds;
    let due = net.nodes[0].timers[Timer::Probe as usize].unwrap();
    let interval = net.nodes[0].config.timing.probe_interval;
    let (before, mut junk) = (probes(&net), [0xff]);
    let early = interval / EARLY;
    net.nodes[0].handle_packet(due - early - Duration::from_micros(1), addr(2), &mut junk);
    assert_eq!(probes(&net), before, "more than a tenth early");
    net.nodes[0].handle_packet(due - early, addr(2), &mut junk);
    assert_eq!(probes(&net), before + 1);
    assert_eq!(net.nodes[0].timers[Timer::Probe as usize], Some(due - early + interval));
    net.nodes[0].handle_packet(due, addr(2), &mut junk);
    assert_eq!(probes(&net), before + 1, "once");
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
    net.nodes[0].handle_ack(now, strange);
    assert!(net.nodes[0].probe.is_some());
}

/// A second node of the name "b" starts at another address and joins "a".
fn add_a_second_b(net: &mut Net) {
    net.add(Config { join: vec![Target::Addr(addr(1))], ..config("b", addr(9)) });
}

/// The address that "a" takes for that of "b".
fn held_by(net: &Net) -> Option<SocketAddr> {
    net.nodes[0].member("b").map(|m| m.addr)
}

impl Membership {
    fn is_probing(&self, node: &str) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.is_of(node))
    }
}

/// Runs until `done`, and says how long that took.
fn until(net: &mut Net, limit: Duration, done: impl Fn(&Net) -> bool) -> Duration {
    let start = net.now;
    while !done(net) {
        assert!(net.now < start + limit, "not within {limit:?}: {:?}", net.log);
        net.run(SECOND / 10);
    }
    net.now.since(start)
}

#[test]
fn a_name_is_given_away_after_three_silent_pings_and_a_failed_probe() {
    let mut net = Net::new(&NAMES[..2]);
    net.run(5 * SECOND);
    net.stopped[1] = true;
    let timing = net.nodes[0].config.timing.clone();
    add_a_second_b(&mut net);
    let took = until(&mut net, 10 * SECOND, |net| held_by(net) == Some(addr(9)));
    // One ping's time until the doubt, one interval until the next probe, one (with an ill score, two) for it, and
    // one ping's time until the next look.
    assert!(took >= 3 * timing.probe_timeout, "{took:?}");
    assert!(took <= 2 * timing.probe_timeout + 3 * timing.probe_interval, "{took:?}");
    assert!(net.saw(|i, event| i == 0 && matches!(event, Event::Suspected { node, .. } if **node == *"b")));
}

/// Goal: a node that really moved waits for no other member's turn.
/// Method: forty members, of which only the one that hears of the claim does not reach the old address.
#[test]
fn who_does_not_answer_for_its_name_at_once_is_probed_next() {
    let names: Vec<String> = (0..40).map(|i| format!("n{i:02}")).collect();
    let mut net = Net::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    net.run(60 * SECOND);
    net.cut_packets(0, 1);
    net.no_streams.extend([(0, 1), (1, 0)]);
    let (now, timing) = (net.now, net.nodes[0].config.timing.clone());
    let incarnation = net.nodes[0].member("n01").expect("known").incarnation + 1;
    let vsn = &[1, 5, 5, 2, 5, 5];
    let claim = Alive { node: "n01", addr: &[127, 0, 0, 99], port: 7946, incarnation, meta: &[], vsn };
    net.nodes[0].handle_alive(now, &claim);
    net.nodes[0].finish_input(now);
    let limit = timing.probe_timeout + timing.probe_interval;
    until(&mut net, limit, |net| net.nodes[0].is_probing("n01"));
    until(&mut net, limit, |net| net.nodes[0].enquiries.is_empty());
    assert_eq!(net.nodes[0].member("n01").map(|m| (m.addr, m.state)), Some((addr(2), State::Alive)));
}

/// Goal: who is reached through a relay only, or by TCP only, keeps its name, and the asking ends.
#[test]
fn a_name_is_not_given_away_because_one_link_is_bad() {
    for tcp in [false, true] {
        let mut net = Net::new(&NAMES[..3]);
        net.run(5 * SECOND);
        net.cut_packets(0, 1);
        if tcp {
            net.stopped[2] = true;
            net.run(20 * SECOND);
        } else {
            net.no_streams.extend([(0, 1), (1, 0)]);
        }
        add_a_second_b(&mut net);
        let mut asked = false;
        for _ in 0..300 {
            net.run(SECOND / 10);
            asked |= net.nodes[0].enquiries.iter().any(|enquiry| *enquiry.node == *"b");
            assert_eq!((held_by(&net), net.state(0, "b")), (Some(addr(2)), Some(State::Alive)), "tcp {tcp}");
        }
        assert!(asked && !net.nodes[0].enquiries.iter().any(|enquiry| *enquiry.node == *"b"));
    }
}

#[test]
fn while_names_are_to_be_kept_for_a_time_no_claim_fails_anybody() {
    let mut net = Net::new(&NAMES[..2]);
    net.nodes[0].config.timing.reclaim_after = 30 * SECOND;
    net.run(5 * SECOND);
    net.stopped[1] = true;
    add_a_second_b(&mut net);
    net.run(2 * SECOND);
    assert!(net.nodes[0].enquiries.is_empty());
    assert_eq!((held_by(&net), net.failures()), (Some(addr(2)), 0));
    // Suspected and failed in its own time, and free 30 s later.
    let took = until(&mut net, 200 * SECOND, |net| held_by(net) == Some(addr(9)));
    assert!(took >= 30 * SECOND, "{took:?}");
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

/// Method: after a gap several inputs come at one time, as from a loop that has more than one thing to tell.
#[test]
fn a_gap_counts_once_however_many_inputs_end_it() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    assert_eq!(net.nodes[0].health_score(), 0);
    let now = net.now + 60 * SECOND;
    for n in 1..=3u8 {
        net.nodes[0].set_meta(now, &[b'x', n]);
    }
    assert_eq!(net.nodes[0].health_score(), 1);
}
