//! Join targets: names that stand for several nodes, and who is taken for oneself.

use super::*;
use crate::wire::Alive;
use crate::wire::serf::UserState;

/// A node that joins whatever the look-ups of `all.example.net` give.
fn by_name(node: &str, own: SocketAddr) -> Config {
    let target = Target::Name { host: "all.example.net".into(), port: 7946 };
    Config { join: vec![target], ..config(node, own) }
}

fn add_by_name(net: &mut Net, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        net.add(by_name(name, addr(i as u8 + 1)));
    }
}

/// Whether each of the nodes runs in the eyes of all.
fn all_see_all(net: &Net) -> bool {
    let names: Vec<_> = net.nodes.iter().map(|node| node.config.node.clone()).collect();
    (0..names.len()).all(|i| names.iter().all(|name| net.state(i, name) == Some(State::Alive)))
}

#[test]
fn a_name_that_stands_for_all_nodes_is_that_of_the_others() {
    let mut net = Net::new(&[]);
    net.answers = vec![vec![addr(1).ip(), addr(2).ip()]; 2];
    add_by_name(&mut net, &["a", "b"]);
    net.run(5 * SECOND);
    assert!(all_see_all(&net), "{:?}", net.log);
    assert!(net.nodes.iter().all(Membership::is_joined));
}

#[test]
fn a_name_that_stands_for_this_node_alone_is_done_with() {
    let mut net = Net::new(&[]);
    net.answers = vec![vec![addr(1).ip()]];
    add_by_name(&mut net, &["a"]);
    net.run(60 * SECOND);
    assert!(net.nodes[0].is_joined());
    assert_eq!(net.nodes[0].counters().streams_out, 0);
}

/// Method: two and two get each other's address first, and so could be content with that.
#[test]
fn nodes_behind_one_name_do_not_pair_off() {
    let mut net = Net::new(&[]);
    let order = [[2, 3, 4], [1, 3, 4], [4, 1, 2], [3, 1, 2]];
    net.answers = order.iter().map(|order| order.map(|n| addr(n).ip()).to_vec()).collect();
    add_by_name(&mut net, &["a", "b", "c", "d"]);
    net.run(5 * SECOND);
    assert!(all_see_all(&net), "{:?}", net.log);
}

/// Method: a NAT leads from 127.0.0.99 to the node itself, and its name gives that address and the other's.
#[test]
fn oneself_behind_a_nat_is_not_the_only_one_behind_a_name() {
    let mut net = Net::new(&[]);
    net.answers = vec![vec![addr(99).ip(), addr(2).ip()]];
    net.aliases.push((addr(99), addr(1)));
    add_by_name(&mut net, &["a"]);
    net.run(5 * SECOND);
    net.add(config("b", addr(2)));
    net.run(60 * SECOND);
    assert!(all_see_all(&net), "{:?}", net.log);
}

#[test]
fn oneself_under_another_address_is_not_joined_again() {
    let mut net = Net::new(&[]);
    net.aliases.push((addr(99), addr(1)));
    net.add(Config { join: vec![Target::Addr(addr(99))], ..config("a", addr(1)) });
    net.run(600 * SECOND);
    assert!(net.nodes[0].is_joined());
    assert_eq!(net.nodes[0].counters().streams_out, 1);
}

/// Goal: a machine and its copy, both alone, find each other once one of them has its own name.
#[test]
fn a_lone_node_of_the_same_name_elsewhere_is_not_oneself() {
    let mut net = Net::new(&["n"]);
    net.add(Config { join: vec![Target::Addr(addr(1))], ..config("n", addr(2)) });
    net.run(30 * SECOND);
    let meta = encode_tags([("cluster", "default")].into_iter());
    net.nodes[0] = Membership::new(config("m", addr(1)), &meta, Seed::from_u64(5), net.now);
    net.run(90 * SECOND);
    assert!(all_see_all(&net), "{:?}", net.log);
}

/// Goal: a node that left comes back with an intent that is newer than all that is said of its leaving.
#[test]
fn the_time_of_one_that_left_stays_behind_the_clocks() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.nodes[2].leave(net.now);
    net.settle();
    net.run(10 * SECOND);
    net.stopped[2] = true;
    net.run(600 * SECOND);
    let left = net.nodes[0].member("c").expect("kept").intent_ltime;
    let config = Config { join: vec![Target::Addr(addr(1))], ..config("c", addr(3)) };
    let meta = encode_tags([("cluster", "default")].into_iter());
    net.nodes[2] = Membership::new(config, &meta, Seed::from_u64(5), net.now);
    net.stopped[2] = false;
    net.run(5 * SECOND);
    assert!(net.nodes[2].me().intent_ltime > left);
    assert_eq!(net.nodes[0].member("c").expect("back").intent_ltime, net.nodes[2].me().intent_ltime);
}

/// Goal: only who left by Serf's intent is called left in Serf's part of a push/pull; a bare memberlist program that
/// said goodbye has none, and Serf's agents take it for failed.
#[test]
fn serf_is_told_of_those_who_left_by_its_intent_only() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.nodes[2].leave(net.now);
    net.settle();
    net.run(10 * SECOND);
    let incarnation = net.nodes[0].member("b").expect("known").incarnation;
    net.nodes[0].handle_dead(net.now, &Claim { node: "b", from: "b", incarnation });
    let states: Vec<_> = ["b", "c"].map(|name| net.nodes[0].member(name).expect("kept").state).into();
    assert_eq!(states, [State::Left, State::Left]);
    let told = net.nodes[0].serf.encode_user_state(net.nodes[0].table.members(), &net.nodes[0].queries);
    assert_eq!(UserState::decode(&told).expect("our own").left_members, ["c"]);
}

// A person's joins.

/// What came of each, in its order: `None` for success.
fn tried(net: &Net) -> Vec<Option<&str>> {
    let told = net.log.iter().filter_map(|(_, event)| match event {
        Event::Tried { result: Tried::Join { error }, .. } => Some(error.as_deref()),
        _ => None,
    });
    told.collect()
}

fn join(net: &mut Net, target: Target) -> Option<TryId> {
    let now = net.now;
    let id = net.nodes[0].join_once(now, &target);
    net.settle();
    id
}

fn by_any_name() -> Target {
    Target::Name { host: "all.example.net".into(), port: 7946 }
}

#[test]
fn a_person_joins_an_address_once_and_it_is_not_remembered() {
    let mut net = Net::new(&["a"]);
    net.add(config("b", addr(2)));
    net.run(5 * SECOND);
    assert!(join(&mut net, Target::Addr(addr(2))).is_some());
    assert_eq!(tried(&net), [None]);
    net.run(SECOND);
    assert!(all_see_all(&net));
    net.stopped[1] = true;
    net.run(60 * SECOND);
    let before = net.nodes[0].counters().streams_out;
    net.run(600 * SECOND);
    assert_eq!((net.state(0, "b"), net.nodes[0].counters().streams_out), (Some(State::Dead), before));
}

#[test]
fn of_a_name_each_address_is_tried_and_one_is_enough() {
    let mut net = Net::new(&["a"]);
    net.answers = vec![vec![addr(1).ip(), addr(9).ip(), addr(2).ip(), addr(8).ip()]];
    net.add(config("b", addr(2)));
    net.run(5 * SECOND);
    let before = net.nodes[0].counters().streams_out;
    join(&mut net, by_any_name());
    assert_eq!((tried(&net), net.nodes[0].counters().streams_out - before), (vec![None], 3));
    assert_eq!(net.state(0, "b"), Some(State::Alive));
}

#[test]
fn why_a_join_did_not_work_is_said_to_the_person_and_to_nobody_else() {
    let mut net = Net::new(&["a"]);
    net.add(Config { cluster: "other".into(), ..config("x", addr(2)) });
    let meta = encode_tags([("cluster", "other")].into_iter());
    net.nodes[1].set_meta(net.now, &meta);
    net.aliases.push((addr(99), addr(1)));
    net.run(5 * SECOND);
    net.log.clear();
    for n in [9, 1, 99, 2] {
        join(&mut net, Target::Addr(addr(n)));
    }
    join(&mut net, by_any_name());
    let told = tried(&net);
    assert_eq!(told[..3], [Some("connection refused"), Some(IS_SELF), Some(IS_SELF)]);
    let reasons = ["cluster", "allow", "full"];
    assert!(told[3].is_some_and(|why| reasons.iter().all(|reason| why.contains(reason))), "{told:?}");
    assert_eq!(told[4..], [Some("no such name")]);
    assert!(!net.saw(|i, event| i == 0 && matches!(event, Event::Synced { .. } | Event::NotResolved { .. })));
    assert_eq!(net.nodes[0].members().len(), 1);
}

const IS_SELF: &str = "that is this node itself";

#[test]
fn a_lone_node_of_our_name_elsewhere_is_called_another_one() {
    let mut net = Net::new(&["a"]);
    net.add(config("a", addr(2)));
    net.run(5 * SECOND);
    join(&mut net, Target::Addr(addr(2)));
    let told = tried(&net);
    assert!(told[0].is_some_and(|why| why.contains("another node there has this node's name")), "{told:?}");
}

/// Method: two addresses that nobody answers; the first one's time is over while the node leaves.
#[test]
fn who_leaves_joins_nobody_any_more() {
    let mut net = Net::new(&["a", "b"]);
    net.run(5 * SECOND);
    let now = net.now;
    net.answers = vec![vec![addr(8).ip(), addr(9).ip()]];
    net.nodes[0].join_once(now, &by_any_name()).expect("room");
    net.nodes[0].leave(now);
    let before = net.nodes[0].counters().streams_out;
    net.settle();
    assert_eq!(net.nodes[0].counters().streams_out, before);
    assert_eq!(tried(&net), [Some("this node is leaving; it joins nobody")]);
    assert_eq!(net.nodes[0].join_once(now, &Target::Addr(addr(8))), None);
}

/// Method: the look-up is answered by nobody.
#[test]
fn a_join_ends_in_time_and_a_cancelled_one_without_a_word() {
    let mut net = Net::new(&["a"]);
    net.run(5 * SECOND);
    let now = net.now;
    for _ in 0..2 {
        net.nodes[0].join_once(now, &by_any_name()).expect("room");
        while net.nodes[0].poll_action().is_some() {}
    }
    let second = net.nodes[0].joins_once[1].id();
    net.nodes[0].cancel_try(second);
    assert_eq!(net.nodes[0].tries_under_way(), 2, "the look-up still runs");
    net.run(limits::JOIN_TIME_MAX);
    assert_eq!((tried(&net), net.nodes[0].tries_under_way()), (vec![Some("no answer in time")], 0));
}

/// Goal: who is killed while it says goodbye has left, as for Serf's agents; once it is back, a crash is a crash.
#[test]
fn who_said_that_it_leaves_and_falls_silent_has_left() {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(5 * SECOND);
    net.nodes[2].leave(net.now);
    net.settle();
    net.run(SECOND / 5);
    assert!(net.nodes[2].leaving.is_some() && net.state(2, "c") == Some(State::Alive), "the intent only");
    net.stopped[2] = true;
    net.run(60 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Left), Some(State::Left)));
    assert!(!net.saw(|_, event| matches!(event, Event::Failed { .. })), "{:?}", net.log);
    // A bare memberlist program comes back without a word of Serf's, and crashes.
    let vsn = net.nodes[0].own_vsn();
    let alive =
        Alive { node: "c", addr: &[127, 0, 0, 3], port: 7946, incarnation: 9, meta: b"\xFF\x80", vsn: &vsn };
    net.nodes[0].handle_alive(net.now, &alive);
    net.nodes[0].handle_dead(net.now, &Claim { node: "c", from: "b", incarnation: 9 });
    assert_eq!(net.state(0, "c"), Some(State::Dead));
}
