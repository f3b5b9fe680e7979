//! Who is forgotten, when, and what brings a forgotten member back.

use super::*;

/// a, b and c, of which c has failed.
fn with_c_failed() -> Net {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.stopped[2] = true;
    net.run(30 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Dead), Some(State::Dead)));
    net.log.clear();
    net
}

fn forget(net: &mut Net, i: usize, node: &str) -> Result<bool, NotForgotten> {
    let now = net.now;
    let result = net.nodes[i].forget_member(now, node);
    net.settle();
    result
}

fn exchange(net: &mut Net, from: usize, to: u8) {
    let now = net.now;
    net.nodes[from].begin_input(now);
    net.nodes[from].sync_with(now, addr(to));
    net.nodes[from].finish_input(now);
    net.settle();
}

/// Somebody's claim that c is alive at this address reaches a.
fn claim_alive(net: &mut Net, ip: u8, incarnation: u32) {
    let (now, addr, vsn) = (net.now, [127, 0, 0, ip], net.nodes[0].own_vsn());
    net.nodes[0].begin_input(now);
    net.nodes[0].handle_alive(
        now,
        &Alive { node: "c", addr: &addr, port: 7946, incarnation, meta: b"\xFF\x80", vsn: &vsn },
    );
    net.nodes[0].finish_input(now);
    net.settle();
}

#[test]
fn a_forgotten_member_is_brought_back_by_nothing_but_being_alive() {
    let mut net = with_c_failed();
    let incarnation = net.nodes[0].member("c").expect("known").incarnation;
    assert_eq!(forget(&mut net, 0, "c"), Ok(false));
    assert!(net.saw(|i, event| i == 0 && *event == Event::Forgotten { node: "c".into() }));
    assert_eq!(net.state(0, "c"), None);
    let now = net.now;
    for incarnation in [incarnation, incarnation + 7] {
        for from in ["b", "c"] {
            net.nodes[0].handle_dead(now, &Claim { node: "c", from, incarnation });
            net.nodes[0].handle_suspect(now, &Claim { node: "c", from, incarnation });
        }
    }
    for incarnation in 1..=incarnation {
        claim_alive(&mut net, 3, incarnation);
    }
    exchange(&mut net, 0, 2);
    exchange(&mut net, 1, 1);
    net.run(120 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (None, Some(State::Dead)));
    let before = net.nodes[0].counters().packets_out;
    net.stopped[1] = true;
    net.run(2 * SECOND);
    assert!(net.nodes[0].counters().packets_out <= before + 4, "c is not asked any more");
    (net.stopped[1], net.stopped[2]) = (false, false);
    net.run(60 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Alive), Some(State::Alive)));
    assert!(net.saw(|i, event| i == 0 && *event == Event::Joined { node: "c".into(), returned: true }));
}

#[test]
fn only_who_does_not_run_and_is_not_oneself_can_be_forgotten() {
    let mut net = with_c_failed();
    assert_eq!(forget(&mut net, 0, "a"), Err(NotForgotten::Oneself));
    assert_eq!(forget(&mut net, 0, "b"), Err(NotForgotten::Running(State::Alive)));
    assert_eq!(forget(&mut net, 0, "x"), Err(NotForgotten::Unknown));
    net.stopped[1] = true;
    while net.state(0, "b") == Some(State::Alive) {
        net.run(SECOND / 10);
    }
    assert_eq!(forget(&mut net, 0, "b"), Err(NotForgotten::Running(State::Suspect)));
    assert_eq!(net.nodes[0].members().len(), 3);
    assert!(net.nodes[0].tombstones.is_empty());
}

#[test]
fn who_left_can_be_forgotten_too() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.nodes[2].leave(net.now);
    net.run(10 * SECOND);
    net.stopped[2] = true;
    let incarnation = net.nodes[0].member("c").expect("kept").incarnation;
    assert_eq!((net.state(0, "c"), forget(&mut net, 0, "c")), (Some(State::Left), Ok(false)));
    exchange(&mut net, 0, 2);
    claim_alive(&mut net, 3, incarnation);
    net.run(60 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (None, Some(State::Left)));
}

/// Goal: one node that missed a death does not undo a person's word, and who does run is not kept out by it.
/// Method: c is told of nothing, and tells nothing but answers.
#[test]
fn a_forgotten_member_that_is_said_to_be_alive_is_asked() {
    let mut net = with_c_failed();
    let incarnation = net.nodes[0].member("c").expect("known").incarnation;
    assert_eq!(forget(&mut net, 0, "c"), Ok(false));
    let sent = |net: &Net| net.nodes[0].counters().packets_out;
    let before = sent(&net);
    (0..20).for_each(|_| claim_alive(&mut net, 3, incarnation));
    assert_eq!((net.state(0, "c"), sent(&net) - before), (None, 1), "not more than one ping in 5 s");
    net.run(10 * SECOND);
    let before = sent(&net);
    claim_alive(&mut net, 3, incarnation);
    assert_eq!((net.state(0, "c"), sent(&net) - before), (None, 1));
    net.run(10 * SECOND);
    let meta = encode_tags([("cluster", "default")].into_iter());
    net.nodes[2] = Membership::new(config("c", addr(3)), &meta, Seed::from_u64(5), net.now);
    net.stopped[2] = false;
    net.log.clear();
    claim_alive(&mut net, 3, incarnation);
    assert_eq!(net.state(0, "c"), Some(State::Alive), "it answered, and told its table");
    assert!(net.saw(|i, event| i == 0 && *event == Event::Joined { node: "c".into(), returned: true }));
    assert!(net.nodes[0].tombstones.is_empty());
}

#[test]
fn what_is_new_about_a_forgotten_member_is_believed_at_once() {
    for (ip, newer) in [(3, 1), (9, 0)] {
        let mut net = with_c_failed();
        let incarnation = net.nodes[0].member("c").expect("known").incarnation;
        assert_eq!(forget(&mut net, 0, "c"), Ok(false));
        claim_alive(&mut net, ip, incarnation + newer);
        assert_eq!(net.nodes[0].member("c").map(|m| (m.addr, m.state)), Some((addr(ip), State::Alive)));
    }
}

#[test]
fn after_a_day_a_claim_about_a_forgotten_member_is_believed() {
    let mut net = with_c_failed();
    let incarnation = net.nodes[0].member("c").expect("known").incarnation;
    assert_eq!(forget(&mut net, 0, "c"), Ok(false));
    net.run(24 * 3_600 * SECOND);
    claim_alive(&mut net, 3, incarnation);
    assert_eq!(net.state(0, "c"), Some(State::Alive));
}

/// Goal: the join target whose member was forgotten costs nothing any more, until the member comes by itself.
#[test]
fn a_join_target_rests_while_its_member_is_forgotten() {
    let mut net = Net::new(&["a"]);
    net.add(Config { join: vec![Target::Addr(addr(1))], members: vec!["a".into()], ..config("b", addr(2)) });
    net.run(5 * SECOND);
    net.stopped[0] = true;
    net.run(30 * SECOND);
    assert_eq!(forget(&mut net, 1, "a"), Ok(true));
    let out = |net: &Net| (net.nodes[1].counters().packets_out, net.nodes[1].counters().streams_out);
    net.run(SECOND);
    let before = out(&net);
    net.run(3_600 * SECOND);
    assert_eq!((out(&net), net.nodes[1].is_joined()), (before, true));
    let meta = encode_tags([("cluster", "default")].into_iter());
    let config = Config { join: vec![Target::Addr(addr(2))], ..config("a", addr(1)) };
    net.nodes[0] = Membership::new(config, &meta, Seed::from_u64(5), net.now);
    net.stopped[0] = false;
    net.run(5 * SECOND);
    assert_eq!(net.state(1, "a"), Some(State::Alive));
    // It is a target as any other again.
    net.stopped[0] = true;
    net.run(60 * SECOND);
    let before = out(&net).1;
    net.run(300 * SECOND);
    assert!(out(&net).1 > before);
}

#[test]
fn a_name_that_leads_to_others_too_is_still_tried() {
    let mut net = Net::new(&["a", "b"]);
    let own = addr(3);
    net.answers = vec![Vec::new(), Vec::new(), vec![addr(1).ip(), addr(2).ip()]];
    let target = Target::Name { host: "all.example.net".into(), port: 7946 };
    net.add(Config { join: vec![target], ..config("c", own) });
    net.run(5 * SECOND);
    (net.stopped[0], net.stopped[1]) = (true, true);
    net.run(60 * SECOND);
    assert_eq!((net.state(2, "a"), forget(&mut net, 2, "a")), (Some(State::Dead), Ok(true)));
    net.run(300 * SECOND);
    // Started anew: its old table would have a alive in it.
    let meta = encode_tags([("cluster", "default")].into_iter());
    net.nodes[1] = Membership::new(config("b", addr(2)), &meta, Seed::from_u64(5), net.now);
    net.stopped[1] = false;
    net.run(120 * SECOND);
    assert_eq!((net.state(2, "a"), net.state(2, "b")), (None, Some(State::Alive)));
}

#[test]
fn tombstones_are_bounded_and_end_after_a_day() {
    let mut net = Net::new(&["a"]);
    net.run(SECOND);
    for n in 0..limits::TOMBSTONES_MAX + 44 {
        let (now, node) = (net.now, format!("n{n}"));
        let (ip, incarnation) = ([127, 0, 1, (n % 250) as u8 + 1], 1);
        let alive = Alive { node: &node, addr: &ip, port: 7946, incarnation, meta: &[], vsn: &[] };
        net.nodes[0].handle_alive(now, &alive);
        net.nodes[0].handle_dead(now, &Claim { node: &node, from: "a", incarnation });
        assert_eq!(net.nodes[0].forget_member(now, &node), Ok(false));
    }
    assert_eq!(net.nodes[0].tombstones.len(), limits::TOMBSTONES_MAX);
    let last = format!("n{}", limits::TOMBSTONES_MAX + 43);
    assert!(net.nodes[0].is_forgotten(net.now, &last) && !net.nodes[0].is_forgotten(net.now, "n0"));
    assert!(!net.nodes[0].is_forgotten(net.now + 24 * 3_600 * SECOND, &last));
}

/// Goal: failed members that `members` or `join` names are asked for ever, learned ones are forgotten in time.
#[test]
fn named_members_are_tried_for_ever_and_learned_ones_forgotten_after_their_time() {
    let mut net = Net::new(&["learned", "named", "joined"]);
    let forget_after = 600 * SECOND;
    let join = vec![Target::Addr(addr(3))];
    let i = net.add(Config { join, members: vec!["named".into()], forget_after, ..config("a", addr(4)) });
    net.run(10 * SECOND);
    assert!(["learned", "named", "joined"].iter().all(|name| net.state(i, name) == Some(State::Alive)));
    net.stopped[..3].fill(true);
    net.run(300 * SECOND);
    assert_eq!(net.state(i, "learned"), Some(State::Dead));
    net.run(72 * 3_600 * SECOND);
    assert_eq!(net.state(i, "learned"), None);
    for name in ["named", "joined"] {
        assert_eq!(net.state(i, name), Some(State::Dead), "{name}");
    }
    let (packets, streams) = (net.nodes[i].counters().packets_out, net.nodes[i].counters().streams_out);
    net.run(300 * SECOND);
    let after = net.nodes[i].counters();
    // One ping for each probe interval, and a try of the join target a minute.
    assert!(after.packets_out >= packets + 250, "{packets} {}", after.packets_out);
    assert!((4..=8).contains(&(after.streams_out - streams)), "{streams} {}", after.streams_out);
    (net.stopped[1], net.stopped[2]) = (false, false);
    net.run(5 * SECOND);
    assert!(["named", "joined"].iter().all(|name| net.state(i, name) == Some(State::Alive)), "{:?}", net.log);
}
