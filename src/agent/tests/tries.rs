//! What a person wants tried, and forgotten.

use super::*;
use crate::control::{Joined, Pinged};
use crate::limits::{JOIN_TIME_MAX, PING_TIME_MAX, TRIES_MAX, TRYING_CLIENTS_MAX, TRYING_TIME_MAX};
use crate::wire::{Alive, Claim, Message};

/// Members n000, n001, …, each with the app web up, that nobody carries anything to.
pub fn with_members(world: &mut World, count: usize) {
    for n in 0..count {
        with_member(world, &format!("n{n:03}"), (n % 200) as u8 + 10);
    }
}

/// One whose app is up, at 192.0.2.`last`.
pub fn with_member(world: &mut World, name: &str, last: u8) {
    let meta = crate::wire::serf::encode_tags([("cluster", "tny"), ("a.web", "up")].into_iter());
    let alive = Alive {
        node: name,
        addr: &[192, 0, 2, last],
        port: 7946,
        incarnation: 1,
        meta: &meta,
        vsn: &[1, 5, 2, 2, 5, 5],
    };
    hear(world, &Message::Alive(alive));
}

pub fn hear(world: &mut World, message: &Message<'_>) {
    let mut packet = Vec::new();
    message.encode(&mut packet);
    world.agent.handle_packet(world.now, "192.0.2.10:7946".parse().unwrap(), &mut packet);
    world.drain();
}

fn ask_as(world: &mut World, client: ClientId, request: &str) {
    world.agent.handle_request(world.now, client, request.as_bytes());
    world.drain();
}

/// The lines for a client so far, with whether one was the last.
fn lines(world: &World, client: ClientId) -> (Vec<&str>, bool) {
    let replies = world.done.iter().filter_map(|action| match action {
        Action::Reply { client: to, line, last } if *to == client => Some((line.as_str(), *last)),
        _ => None,
    });
    let (lines, lasts): (Vec<_>, Vec<_>) = replies.unzip();
    assert!(lasts.iter().rev().skip(1).all(|last| !last), "nothing comes after the last line");
    (lines, lasts.last().is_some_and(|last| *last))
}

const PING_ALL: &str = r#"{"cmd":"ping-members"}"#;

#[test]
fn pings_of_all_run_a_few_at_once_and_each_is_told_when_it_is_done() {
    let mut world = World::new(Vec::new());
    with_members(&mut world, 10);
    ask_as(&mut world, 7, PING_ALL);
    assert_eq!(lines(&world, 7), (vec![r#"{"ok":true,"count":10}"#], false));
    let opened = |world: &World| {
        let open =
            |action: &&Action| matches!(action, Action::Membership(membership::Action::StreamOpen { .. }));
        world.done.iter().filter(open).count()
    };
    assert_eq!(opened(&world), TRIES_MAX);
    world.run_for(PING_TIME_MAX);
    assert_eq!((lines(&world, 7).0.len(), lines(&world, 7).1), (1 + TRIES_MAX, false));
    world.run_for(2 * PING_TIME_MAX);
    let (told, over) = lines(&world, 7);
    assert_eq!((told.len(), over), (11, true));
    let told: Vec<Pinged> = told[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut names: Vec<_> = told.iter().map(|pinged| pinged.node.clone()).collect();
    names.sort();
    assert_eq!(names, (0..10).map(|n| format!("n{n:03}")).collect::<Vec<_>>());
    let why = told[0].problem.as_deref().unwrap_or_default();
    assert!(why.contains("nothing of n000 answers") && why.contains("port 7946"), "{why}");
    assert_eq!((told[0].udp_ms, told[0].udp_why.as_deref()), (None, Some("no answer")));
}

/// Goal: joins that nobody answers do not keep pings from being answered, nor pings joins.
#[test]
fn joins_that_hang_leave_room_for_pings() {
    let mut world = World::new(Vec::new());
    with_members(&mut world, 2);
    let targets: Vec<_> = (100..116).map(|n| format!("\"198.51.100.{n}:7946\"")).collect();
    let request = format!(r#"{{"cmd":"join","targets":[{}]}}"#, targets.join(","));
    ask_as(&mut world, 1, &request);
    for client in 2..=TRYING_CLIENTS_MAX as u32 {
        ask_as(&mut world, client, PING_ALL);
    }
    // They share one place, in turns, and do not wait until the first joins are given up.
    world.run_for(PING_TIME_MAX);
    assert_eq!((lines(&world, 1).0.len(), lines(&world, 2).0.len()), (1, 2));
    world.run_for((2 * (TRYING_CLIENTS_MAX as u32 - 1) - 1) * PING_TIME_MAX);
    for client in 2..=TRYING_CLIENTS_MAX as u32 {
        assert_eq!((lines(&world, client).0.len(), lines(&world, client).1), (3, true), "{client}");
    }
    with_members(&mut world, 60);
    (2..=3).for_each(|client| ask_as(&mut world, client + 10, PING_ALL));
    world.run_for(2 * JOIN_TIME_MAX + PING_TIME_MAX);
    assert!(lines(&world, 1).0.len() > 2 * (TRIES_MAX - 1), "{:?}", lines(&world, 1));
}

/// Goal: who ends joins nobody any more, and says so to those who wait for it; pings go on.
#[test]
fn joins_end_with_the_leaving_and_the_stop() {
    for (command, ending) in [("leave", "leaving"), ("stop", "stopping")] {
        let mut world = World::new(vec![delivery::Config { timeout: secs(300), ..mail() }]);
        world.runs_hang = true;
        world.run_for(secs(60));
        world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
        world.run_for(secs(5));
        with_members(&mut world, 1);
        ask_as(&mut world, 7, r#"{"cmd":"join","targets":["192.0.2.9:7946","192.0.2.8:7946"]}"#);
        ask_as(&mut world, 8, PING_ALL);
        ask_as(&mut world, 9, &format!(r#"{{"cmd":"{command}"}}"#));
        let (told, over) = lines(&world, 7);
        assert!(over && told[1].contains(&format!("this node is {ending}; it joins nobody")), "{told:?}");
        assert_eq!(told.len(), 2);
        world.run_for(PING_TIME_MAX);
        assert_eq!((lines(&world, 8).0.len(), lines(&world, 8).1), (2, true));
    }
}

/// Goal: who asks later does not wait for all of an earlier one, and who goes away frees its place.
#[test]
fn clients_take_turns_and_those_gone_are_forgotten() {
    let mut world = World::new(Vec::new());
    with_members(&mut world, 200);
    for client in 0..TRYING_CLIENTS_MAX as u32 {
        ask_as(&mut world, client, PING_ALL);
    }
    world.run_for(2 * PING_TIME_MAX);
    for client in 0..TRYING_CLIENTS_MAX as u32 {
        assert!(lines(&world, client).0.len() > 1, "{client}");
    }
    ask_as(&mut world, 99, PING_ALL);
    assert!(lines(&world, 99).0[0].contains("try again when they are done"));
    ask_as(&mut world, 0, PING_ALL);
    assert!(lines(&world, 0).1, "one request at a time");
    (0..TRYING_CLIENTS_MAX as u32).for_each(|client| world.agent.handle_client_gone(client));
    world.done.clear();
    world.run_for(secs(60));
    assert!((0..TRYING_CLIENTS_MAX as u32).all(|client| lines(&world, client).0.is_empty()));
    ask_as(&mut world, 100, r#"{"cmd":"ping-members","node":"n007"}"#);
    world.run_for(PING_TIME_MAX);
    assert_eq!((lines(&world, 100).0.len(), lines(&world, 100).1), (2, true));
}

#[test]
fn nobody_waits_longer_than_the_time_for_all() {
    let mut world = World::new(Vec::new());
    with_members(&mut world, 300);
    ask_as(&mut world, 1, PING_ALL);
    world.run_for(TRYING_TIME_MAX);
    let (told, over) = lines(&world, 1);
    assert!(over && told.len() > 100, "{}", told.len());
    let left = 300 - (told.len() - 2);
    assert!(told[told.len() - 1].contains(&format!("{left} were not tried to the end")), "{:?}", told.last());
    assert!(world.agent.membership.may_try());
}

#[test]
fn who_cannot_be_pinged_is_named_with_what_can() {
    let mut world = World::new(Vec::new());
    assert_eq!(world.ask(PING_ALL), [r#"{"ok":true,"count":0}"#]);
    with_members(&mut world, 12);
    let mut error = |node: &str| world.ask(&format!(r#"{{"cmd":"ping-members","node":"{node}"}}"#)).concat();
    assert!(error("n00").contains("no member n00; did you mean n000?"));
    assert!(error("fra1").contains("fra1 is this node itself"));
    let all = error("amsterdam");
    assert!(all.contains("members: fra1, n000, n001") && all.contains("n008, …"), "{all}");
}

#[test]
fn a_join_is_answered_for_each_target() {
    let mut world = World::new(Vec::new());
    ask_as(
        &mut world,
        1,
        r#"{"cmd":"join","targets":["192.0.2.9:7946","par1.example.net:7947","192.0.2.1:7946"]}"#,
    );
    world.run_for(JOIN_TIME_MAX);
    let (told, over) = lines(&world, 1);
    assert!(over);
    let mut told: Vec<Joined> = told[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    told.sort_by(|a, b| a.target.cmp(&b.target));
    let shown: Vec<_> = told.iter().map(|tried| (tried.target.as_str(), tried.why.as_deref())).collect();
    let late = Some("no answer in time");
    assert_eq!(
        shown,
        [
            ("192.0.2.1:7946", Some("that is this node itself")),
            ("192.0.2.9:7946", late),
            ("par1.example.net:7947", late)
        ]
    );
    world.ask(r#"{"cmd":"leave"}"#);
    assert!(world.ask(r#"{"cmd":"join","targets":["192.0.2.9:7946"]}"#)[0].contains("it joins nobody"));
}

/// Method: `all` publishes every known node, failed ones, too, while nobody is up.
#[test]
fn a_forgotten_node_is_out_of_what_is_published() {
    let mut config = config(Vec::new());
    config.apps[0].policy.all_down = AllDown::All;
    let agent = Agent::new(config, Seed::from_u64(7), Instant::ZERO);
    let mut world = World::of(agent);
    world.drain();
    world.run_for(secs(30));
    with_members(&mut world, 1);
    let refused = world.ask(r#"{"cmd":"forget","node":"n000"}"#).concat();
    assert!(refused.contains("n000 is alive") && refused.contains("picored leave"), "{refused}");
    hear(&mut world, &Message::Dead(Claim { node: "n000", from: "n9", incarnation: 1 }));
    world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
    let published = |world: &mut World| world.status().apps[0].publish.clone().unwrap_or_default();
    assert_eq!(published(&mut world), ["192.0.2.1", "192.0.2.10"]);
    let reply = world.ask(r#"{"cmd":"forget","node":"n000"}"#).concat();
    assert!(reply.contains("n000 is forgotten here. Other nodes remember it"), "{reply}");
    assert_eq!(
        (published(&mut world), world.agent.membership.members().len()),
        (vec!["192.0.2.1".to_owned()], 1)
    );
    assert!(world.ask(r#"{"cmd":"forget","node":"n000"}"#)[0].contains("no member n000"));
    assert!(world.ask(r#"{"cmd":"forget","node":"fra1"}"#)[0].contains("picored leave"));
    assert_eq!(
        world.ask(r#"{"cmd":"events","n":9}"#).iter().filter(|l| l.contains("node-forgotten")).count(),
        1
    );
}
