//! What comes in and is not fit to be passed on, or to be kept.

use super::*;
use crate::wire::{Alive, IndirectPing, Source};

fn two() -> Net {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    net
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    message.encode(&mut packet);
    packet
}

#[test]
fn an_accusation_whose_sender_has_no_possible_name_is_malformed() {
    let mut net = two();
    let incarnation = net.nodes[0].member("b").expect("known").incarnation;
    let from = "x".repeat(limits::NAME_MAX + 1);
    let claim = Claim { node: "b", from: &from, incarnation };
    for message in [Message::Suspect(claim), Message::Dead(claim)] {
        let before = net.nodes[0].counters().bad[wire::Error::Malformed.kind()];
        net.nodes[0].handle_packet(net.now, addr(3), &mut encoded(&message));
        assert_eq!(net.nodes[0].counters().bad[wire::Error::Malformed.kind()], before + 1);
        assert_eq!(net.state(0, "b"), Some(State::Alive));
        assert!(!net.nodes[0].broadcasts.has("b"));
    }
}

#[test]
fn a_ping_for_somebody_else_repeats_no_name_that_nobody_can_have() {
    let mut net = two();
    let node = "x".repeat(30_000);
    let source = Source { addr: &[127, 0, 0, 2], port: 7946, node: "b" };
    let request =
        IndirectPing { node: &node, seq: 9, target: &[127, 0, 0, 2], port: 7946, nack: true, source };
    net.nodes[0].handle_packet(net.now, addr(2), &mut encoded(&Message::IndirectPing(request)));
    assert_eq!(net.nodes[0].poll_transmit(net.now, &mut Vec::new()), None);
    assert!(net.nodes[0].relays.is_empty());
}

#[test]
fn the_room_for_inflated_packets_is_kept_from_one_to_the_next() {
    let mut net = two();
    let envelope = Envelope { compress_from: 0, ..Envelope::default() };
    let (mut builder, mut packet) = (Builder::default(), Vec::new());
    // A user message that is not Serf's.
    builder.push(&[&[8, 9][..], &[b'a'; 1_200]].concat());
    builder.finish(&envelope, [0; 12], false, &mut packet);
    let mut places = Vec::new();
    for _ in 0..3 {
        net.nodes[0].handle_packet(net.now, addr(2), &mut packet.clone());
        places.push((net.nodes[0].scratch.as_ptr(), net.nodes[0].scratch.capacity()));
    }
    assert!(places[0].1 >= 1_200);
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

#[test]
fn late_news_of_who_had_the_name_before_fail_nobody_at_the_new_address() {
    let mut net = Net::new(&["a"]);
    let vsn = net.nodes[0].own_vsn();
    let alive = |net: &mut Net, n: u8, incarnation| {
        let addr = [127, 0, 0, n];
        let alive = Alive { node: "c", addr: &addr, port: 7946, incarnation, meta: &[], vsn: &vsn };
        net.nodes[0].handle_alive(net.now, &alive);
    };
    let accused = |net: &mut Net, incarnation| {
        net.nodes[0].handle_dead(net.now, &Claim { node: "c", from: "b", incarnation });
        net.state(0, "c")
    };
    alive(&mut net, 3, 5);
    assert_eq!(accused(&mut net, 5), Some(State::Dead));
    alive(&mut net, 9, 1);
    assert_eq!(net.state(0, "c"), Some(State::Alive));
    assert_eq!(accused(&mut net, 5), Some(State::Suspect), "passed on late by somebody");
    alive(&mut net, 9, 6);
    assert_eq!(net.state(0, "c"), Some(State::Alive));
    assert_eq!(accused(&mut net, 6), Some(State::Dead), "that is news of itself");
    // Who does not refute fails after all.
    alive(&mut net, 10, 1);
    assert_eq!(accused(&mut net, 6), Some(State::Suspect));
    net.run(40 * SECOND);
    assert_eq!(net.state(0, "c"), Some(State::Dead));
}

/// Goal: whoever has missed a refutation gets it before its suspicion ends, by its own next word to the accused.
/// Method: b refutes while it reaches a third one only, until nobody passes that on any more; then a pings b as
/// memberlist pings a suspect, with its suspicion in the same packet.
#[test]
fn a_refutation_that_was_missed_is_sent_again_to_who_still_suspects() {
    for dead in [false, true] {
        let mut net = Net::new(&["a", "b"]);
        net.run(5 * SECOND);
        let outdated = net.nodes[1].me().incarnation;
        let (node, from, now) = ("b", "a", net.now);
        let claim = Claim { node, from, incarnation: outdated };
        net.nodes[1].handle_suspect(now, &claim);
        let refuted = net.nodes[1].me().incarnation;
        assert!(refuted > outdated && net.nodes[1].broadcasts.has("b"));
        net.nodes[1].broadcasts.take(0, |_| true); // sent to others, as often as it is
        net.nodes[0].handle_suspect(now, &claim);
        net.nodes[0].broadcasts.take(0, |_| true);
        let accuse = |b: &mut Membership| match dead {
            false => b.handle_suspect(now, &claim),
            true => b.handle_dead(now, &claim),
        };
        accuse(&mut net.nodes[1]);
        assert_eq!((net.nodes[1].me().incarnation, net.state(0, "b")), (refuted, Some(State::Suspect)));
        net.run(SECOND);
        assert_eq!(net.state(0, "b"), Some(State::Alive));
        assert_eq!(net.nodes[0].member("b").expect("known").incarnation, refuted, "the same one again");
        // Nobody answers for another, and who says goodbye does not take it back.
        for node in &mut net.nodes {
            node.broadcasts.take(0, |_| true);
        }
        net.nodes[0].handle_suspect(net.now, &claim);
        assert!(net.nodes[0].broadcasts.is_empty());
        net.nodes[1].leave(net.now);
        net.nodes[1].broadcasts.take(0, |_| true);
        accuse(&mut net.nodes[1]);
        assert!(net.nodes[1].broadcasts.is_empty());
    }
}
