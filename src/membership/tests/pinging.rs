//! Pings that a person asks for, and blocked UDP.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What was told of pings, in its order.
fn pinged(net: &Net) -> Vec<&Pinged> {
    let told = net.log.iter().filter_map(|(_, event)| match event {
        Event::Tried { result: Tried::Ping(pinged), .. } => Some(&**pinged),
        _ => None,
    });
    told.collect()
}

fn ping(net: &mut Net, i: usize, node: &str) {
    let now = net.now;
    net.nodes[i].ping_member(now, node).expect("a member, and room");
    net.settle();
}

fn missing(why: &str) -> Answer {
    Answer::Missing(why.into())
}

const TOOK_NO_TIME: Answer = Answer::Took(Duration::ZERO);

#[test]
fn a_ping_is_answered_by_udp_a_named_relay_and_tcp() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    ping(&mut net, 0, "b");
    let [told] = pinged(&net)[..] else { panic!("{:?}", net.log) };
    assert_eq!((&told.udp, &told.indirect, &told.tcp), (&TOOK_NO_TIME, &TOOK_NO_TIME, &TOOK_NO_TIME));
    assert_eq!((&*told.node, told.via.as_deref(), told.addr), ("b", Some("c"), addr(2)));
}

/// Method: two nodes, each datagram carried by hand, 3 and 4 ms late, and the stream 5 ms after them.
#[test]
fn times_are_from_the_ping_to_its_own_answer() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    let start = net.now;
    net.nodes[0].ping_member(start, "b").expect("a member, and room");
    let mut packet = Vec::new();
    while net.nodes[0].poll_transmit(start, &mut packet).is_some() {
        net.nodes[1].handle_packet(start + 3 * MS, addr(1), &mut packet);
    }
    while net.nodes[1].poll_transmit(start + 3 * MS, &mut packet).is_some() {
        net.nodes[0].handle_packet(start + 7 * MS, addr(2), &mut packet);
    }
    assert!(pinged(&net).is_empty());
    net.now = start + 12 * MS;
    net.settle();
    let [told] = pinged(&net)[..] else { panic!("{:?}", net.log) };
    assert_eq!((&told.udp, &told.tcp), (&Answer::Took(7 * MS), &Answer::Took(12 * MS)));
    assert_eq!((&told.indirect, told.relays.len()), (&missing("no other member to ask"), 0));
}

#[test]
fn a_ping_says_what_does_not_get_through() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    ping(&mut net, 0, "b");
    assert!(pinged(&net).is_empty(), "an answer may still come");
    net.run(limits::PING_TIME_MAX);
    let [told] = pinged(&net)[..] else { panic!("{:?}", net.log) };
    assert_eq!((&told.udp, &told.indirect, &told.tcp), (&missing("no answer"), &TOOK_NO_TIME, &TOOK_NO_TIME));
    net.log.clear();
    net.stopped[1] = true;
    net.run(30 * SECOND);
    assert_eq!(net.state(0, "b"), Some(State::Dead));
    ping(&mut net, 0, "b");
    net.run(limits::PING_TIME_MAX);
    let [told] = pinged(&net)[..] else { panic!("failed ones are pinged, too: {:?}", net.log) };
    let none = missing("no answer");
    assert_eq!((&told.udp, &told.indirect, &told.tcp), (&none, &none, &missing("connection refused")));
    assert_eq!((told.relays.len(), told.via.as_deref()), (1, None));
}

#[test]
fn a_ping_that_cannot_be_sent_blames_this_machine() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    ping(&mut net, 0, "b");
    let now = net.now;
    net.nodes[0].handle_send_error(now, addr(2), SendError::NotPermitted);
    net.settle();
    assert_eq!(pinged(&net)[0].udp, missing("a firewall of this machine forbids it"));
}

/// Goal: neither the failure detector nor the health score learns of a person's pings.
/// Method: no probe comes for an hour; the member is gone, and later it answers.
#[test]
fn pings_of_a_person_suspect_and_doubt_nobody() {
    let mut net = Net::new(&[]);
    for (name, own) in [("a", addr(1)), ("b", addr(2)), ("c", addr(3))] {
        let mut config = config(name, own);
        config.timing.probe_interval = 3_600 * SECOND;
        config.join = vec![Target::Addr(addr(1))];
        net.add(config);
    }
    net.run(10 * SECOND);
    net.nodes[0].awareness.apply(2);
    net.stopped[1] = true;
    for _ in 0..10 {
        ping(&mut net, 0, "b");
        net.run(limits::PING_TIME_MAX);
    }
    assert_eq!((net.state(0, "b"), net.nodes[0].health_score()), (Some(State::Alive), 2));
    net.stopped[1] = false;
    ping(&mut net, 0, "b");
    assert_eq!((net.nodes[0].health_score(), pinged(&net).len()), (2, 11));
    assert!(!net.nodes[0].member("b").expect("known").udp_blocked);
}

#[test]
fn few_tries_run_at_once_and_a_cancelled_one_leaves_nothing() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    let now = net.now;
    let ids: Vec<_> = (0..10).map_while(|_| net.nodes[0].ping_member(now, "b")).collect();
    assert_eq!(ids.len(), limits::TRIES_MAX);
    let target = Target::Addr(addr(9));
    assert!(!net.nodes[0].may_try() && net.nodes[0].join_once(now, &target).is_none());
    let streams = |net: &Net| net.nodes[0].streams.deadlines().count();
    assert_eq!(streams(&net), limits::TRIES_MAX);
    ids.iter().for_each(|&id| net.nodes[0].cancel_try(id));
    assert!(net.nodes[0].may_try() && streams(&net) == 0);
    net.settle();
    net.run(10 * SECOND);
    assert!(pinged(&net).is_empty());
    assert_eq!(net.nodes[0].ping_member(net.now, "x"), None, "no such member");
}

// Blocked UDP.

fn count(net: &Net, wanted: impl Fn(&Event) -> bool) -> usize {
    net.log.iter().filter(|(i, event)| *i == 0 && wanted(event)).count()
}

fn blocked(net: &Net) -> usize {
    count(net, |event| matches!(event, Event::UdpBlocked { .. }))
}

fn restored(net: &Net) -> usize {
    count(net, |event| matches!(event, Event::UdpRestored { .. }))
}

#[test]
fn blocked_udp_is_named_once_though_relays_reach_the_member_and_so_is_its_end() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.no_streams.extend([(0, 1), (1, 0)]);
    net.run(120 * SECOND);
    assert_eq!((blocked(&net), restored(&net), net.failures()), (1, 0, 0), "{:?}", net.log);
    assert!(net.saw(|i, e| i == 0
        && matches!(e, Event::UdpBlocked { node, addr: at } if **node == *"b" && *at == addr(2))));
    assert!(!net.nodes[0].member("c").expect("known").udp_blocked);
    net.no_packets.clear();
    net.run(20 * SECOND);
    assert_eq!((blocked(&net), restored(&net)), (1, 1));
    assert!(!net.nodes[0].member("b").expect("known").udp_blocked);
}

#[test]
fn a_relay_behind_a_nat_does_not_hide_blocked_udp() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.no_streams.extend([(0, 1), (1, 0)]);
    net.masked.push((2, addr(77)));
    net.run(60 * SECOND);
    assert_eq!((blocked(&net), restored(&net), net.failures()), (1, 0, 0), "{:?}", net.log);
}

#[test]
fn a_lost_packet_now_and_then_is_no_firewall() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    for _ in 0..10 {
        net.cut_packets(0, 1);
        net.run(2 * SECOND);
        net.no_packets.clear();
        net.run(2 * SECOND);
    }
    assert_eq!((blocked(&net), restored(&net), net.failures()), (0, 0, 0));
}

/// Method: no ack of b's comes in time; each comes after that of the relay.
#[test]
fn a_member_that_answers_late_is_not_blocked() {
    for late in [true, false] {
        let mut net = Net::new(&["a", "b", "c"]);
        net.run(5 * SECOND);
        net.no_packets.push((1, 0));
        for _ in 0..300 {
            net.run(100 * MS);
            if let Some(seq) = net.nodes[0].missed.as_ref().map(|missed| missed.seq()).filter(|_| late) {
                let now = net.now;
                net.nodes[0].handle_ack(now, seq);
            }
        }
        assert_eq!((blocked(&net), net.failures()), (usize::from(!late), 0), "late {late}");
    }
}

#[test]
fn who_comes_back_starts_with_a_clean_record() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    net.cut_packets(0, 1);
    net.run(20 * SECOND);
    assert!(net.nodes[0].member("b").expect("known").udp_blocked);
    net.stopped[1] = true;
    net.run(30 * SECOND);
    assert_eq!(net.state(0, "b"), Some(State::Dead));
    (net.stopped[1], net.no_packets) = (false, Vec::new());
    let back = |net: &Net| net.state(0, "b") == Some(State::Alive);
    while !back(&net) {
        net.run(100 * MS);
    }
    assert!(!net.nodes[0].member("b").expect("known").udp_blocked);
}
