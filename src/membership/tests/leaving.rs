//! Who leaves by Serf's intent, by memberlist's goodbye or both, and for how long an intent counts.

use super::*;
use crate::wire::packet;
use crate::wire::serf::SerfMessage;

/// Somebody's intent about a member reaches node `i`.
fn hear_leave(net: &mut Net, i: usize, node: &str) {
    let ltime = net.nodes[i].member(node).map_or(100, |m| m.intent_ltime + 1);
    let mut payload = Vec::new();
    SerfMessage::Leave { ltime, node, prune: false }.encode(&mut payload);
    let now = net.now;
    net.nodes[i].handle_user(now, &payload);
    net.settle();
}

/// The claims that a member is dead in what node `i` sends now: about whom, by whom.
fn dead_claims(net: &mut Net, i: usize) -> Vec<(String, String)> {
    let (mut claims, mut buf, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let now = net.now;
    while net.nodes[i].poll_transmit(now, &mut buf).is_some() {
        let envelope = Rc::clone(&net.nodes[i].envelope);
        let opened = packet::open(&envelope, &mut buf, &mut scratch, &mut |message| {
            if let Ok(Message::Dead(claim)) = message {
                claims.push((claim.node.to_owned(), claim.from.to_owned()));
            }
        });
        opened.expect("our own");
        buf.clear();
    }
    claims
}

fn alive_claim(net: &mut Net, i: usize, node: &str, ip: u8, incarnation: u32) {
    let vsn = net.nodes[i].own_vsn();
    let (now, addr) = (net.now, [127, 0, 0, ip]);
    net.nodes[i].handle_alive(
        now,
        &Alive { node, addr: &addr, port: 7946, incarnation, meta: b"\xFF\x80", vsn: &vsn },
    );
}

/// Goal: `serf force-leave` of a member that lives makes nobody else call it left: they suspect it, and it refutes.
/// Method: c fails in the eyes of a only.
#[test]
fn who_was_made_left_by_an_intent_is_dead_to_memberlist() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    let (now, incarnation) = (net.now, net.nodes[0].member("c").expect("known").incarnation);
    net.nodes[0].handle_dead(now, &Claim { node: "c", from: "b", incarnation });
    net.nodes[0].broadcasts.take(0, |_| true); // only the tables are to tell
    hear_leave(&mut net, 0, "c");
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Left), Some(State::Alive)));
    net.nodes[1].begin_input(now);
    net.nodes[1].sync_with(now, addr(1));
    net.nodes[1].finish_input(now);
    net.settle();
    assert!(!net.saw(|i, event| i == 1 && matches!(event, Event::Left { .. })), "{:?}", net.log);
    assert_eq!(net.state(1, "c"), Some(State::Suspect), "a's table says dead, which is a suspicion");
    net.run(10 * SECOND);
    assert!((0..3).all(|i| net.state(i, "c") == Some(State::Alive)));
}

#[test]
fn who_pings_and_is_left_here_is_told_so_in_its_own_name_only_if_it_said_so() {
    for says_goodbye in [false, true] {
        let mut net = Net::new(&["a", "b", "c"]);
        net.run(5 * SECOND);
        let (now, incarnation) = (net.now, net.nodes[0].member("c").expect("known").incarnation);
        let from = if says_goodbye { "c" } else { "b" };
        hear_leave(&mut net, 0, "c");
        net.nodes[0].handle_dead(now, &Claim { node: "c", from, incarnation });
        assert_eq!(net.state(0, "c"), Some(State::Left));
        net.nodes[0].broadcasts.take(0, |_| true); // the news of it
        let source = crate::wire::Source { addr: &[127, 0, 0, 3], port: 7946, node: "c" };
        net.nodes[0].handle_ping(now, addr(3), &crate::wire::Ping { seq: 1, node: "a", source });
        let by = if says_goodbye { "c" } else { "a" };
        assert_eq!(dead_claims(&mut net, 0), [("c".to_owned(), by.to_owned())]);
    }
}

/// Goal: an intent to leave makes a crash soon after it a departure, and no later one.
#[test]
fn an_intent_to_leave_counts_for_a_time_only() {
    for (later, left) in [(50 * SECOND, true), (70 * SECOND, false)] {
        let mut net = Net::new(&["a", "b", "c"]);
        net.run(5 * SECOND);
        hear_leave(&mut net, 0, "b");
        // b knows better, and would say so.
        net.no_packets.push((1, 0));
        net.no_streams.extend([(0, 1), (1, 0)]);
        let (now, incarnation) = (net.now + later, net.nodes[0].member("b").expect("known").incarnation);
        assert!(net.nodes[0].member("b").expect("known").intent_leaves);
        net.nodes[0].handle_dead(now, &Claim { node: "b", from: "c", incarnation });
        let state = if left { State::Left } else { State::Dead };
        assert_eq!(net.state(0, "b"), Some(state), "after {later:?}");
    }
}

#[test]
fn who_says_something_new_after_an_intent_to_leave_does_not_leave() {
    let mut net = Net::new(&["a"]);
    net.run(SECOND);
    alive_claim(&mut net, 0, "b", 2, 1);
    hear_leave(&mut net, 0, "b");
    alive_claim(&mut net, 0, "b", 2, 2);
    let now = net.now;
    net.nodes[0].handle_dead(now, &Claim { node: "b", from: "c", incarnation: 2 });
    assert_eq!(net.state(0, "b"), Some(State::Dead));
}

/// Goal: a newcomer is told that x left, x appears, and crashes later: that is a failure. Only if it crashes at once
/// the intent may be about this crash.
#[test]
fn an_intent_about_a_stranger_counts_for_a_time_only() {
    const WEEKS: Duration = Duration::from_secs(30 * 24 * 3600);
    let short = 10 * SECOND;
    let cases = [
        (short, short, State::Left),
        (short, WEEKS, State::Dead),
        (299 * SECOND, short, State::Dead),
        (301 * SECOND, Duration::ZERO, State::Dead),
    ];
    for (appears, crashes, state) in cases {
        let mut net = Net::new(&["a"]);
        net.run(SECOND);
        hear_leave(&mut net, 0, "x");
        assert_eq!(net.nodes[0].serf.buffered_intents(), 1);
        net.run(appears);
        alive_claim(&mut net, 0, "x", 9, 1);
        assert_eq!(net.nodes[0].serf.buffered_intents(), 0, "taken, or too old");
        let is_known = appears <= 300 * SECOND;
        assert_eq!(net.nodes[0].member("x").expect("new").intent_leaves, is_known);
        let now = net.now + crashes;
        net.nodes[0].handle_dead(now, &Claim { node: "x", from: "b", incarnation: 1 });
        assert_eq!(net.state(0, "x"), Some(state), "{appears:?}, {crashes:?}");
    }
}

/// Goal: `leave` on the old server, a start on the new one, and a late goodbye of the old one: the new one stays.
/// Method: the goodbye comes twice, as gossip does; the new one's own goodbye is believed.
#[test]
fn a_late_goodbye_of_the_one_that_had_the_name_before_is_only_a_suspicion() {
    let mut net = Net::new(&["a"]);
    net.run(SECOND);
    alive_claim(&mut net, 0, "b", 2, 10);
    let goodbye = |incarnation| Claim { node: "b", from: "b", incarnation };
    let now = net.now;
    net.nodes[0].handle_dead(now, &goodbye(10));
    alive_claim(&mut net, 0, "b", 3, 1);
    assert_eq!(net.nodes[0].member("b").map(|m| (m.addr, m.state)), Some((addr(3), State::Alive)));
    for _ in 0..2 {
        net.nodes[0].handle_dead(now, &goodbye(10));
        assert_eq!(net.state(0, "b"), Some(State::Suspect));
    }
    net.settle();
    assert!(net.saw(|_, e| matches!(e, Event::Suspected { from, .. } if **from == *"a")), "{:?}", net.log);
    alive_claim(&mut net, 0, "b", 3, 11);
    net.nodes[0].handle_dead(now, &goodbye(10));
    assert_eq!(net.state(0, "b"), Some(State::Alive));
    net.nodes[0].handle_dead(now, &goodbye(11));
    assert_eq!(net.state(0, "b"), Some(State::Left));
}

#[test]
fn the_present_owners_own_goodbye_is_believed_even_below_the_former_ones_incarnation() {
    let mut net = Net::new(&["a"]);
    net.run(SECOND);
    let now = net.now;
    alive_claim(&mut net, 0, "b", 2, 10);
    net.nodes[0].handle_dead(now, &Claim { node: "b", from: "b", incarnation: 10 });
    alive_claim(&mut net, 0, "b", 3, 1);
    alive_claim(&mut net, 0, "b", 3, 4);
    net.nodes[0].handle_dead(now, &Claim { node: "b", from: "b", incarnation: 4 });
    assert_eq!(net.state(0, "b"), Some(State::Left));
}
