//! Named stories of the handlers that are not `sync` for `one`: events, `picored1`, two for one app; and of
//! checks that are programs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picored::delivery::{Config, Mode, Place};
use picored::time::Instant;

use crate::node::{Behaviour, Health};
use crate::world::{Down, World};
use crate::{for_seeds, mins, secs};

/// Three nodes at rest that have this handler besides `dns`.
fn cluster(seed: u64, name: &str, mode: Mode, place: Place) -> World {
    let mut world = World::new(seed).nodes(3).app("web");
    let base = world.settings.handler();
    world.settings.handlers.push(Config { name: name.into(), mode, place, ..base });
    let mut world = world.settled();
    world.run_for(mins(2));
    world
}

/// How often each (event, node) was told since then, by whom does not matter.
fn told(world: &World, since: Instant) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    let is_told = |mode: &str| mode == "event" || mode == "serf";
    let starts = world.outside.starts.iter().filter(|start| start.at > since && is_told(&start.told.mode));
    for start in starts {
        *counts.entry((start.told.event.clone(), start.told.node.clone())).or_default() += 1;
    }
    counts
}

fn is(counts: &BTreeMap<(String, String), usize>, expected: &[(&str, usize)]) -> bool {
    let found: Vec<(&str, usize)> = counts.iter().map(|((event, _), count)| (&**event, *count)).collect();
    found == expected && counts.keys().all(|(_, node)| node == "n2")
}

#[test]
fn each_event_is_told_once_in_the_cluster() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "mail", Mode::Event, Place::One);
        let since = world.now;
        world.set_health("n2", "web", Health::Down);
        world.run_for(mins(2));
        world.set_health("n2", "web", Health::Up);
        world.run_for(mins(2));
        let counts = told(&world, since);
        assert!(is(&counts, &[("app-down", 1), ("app-up", 1)]), "{}", world.blame(&format!("{counts:?}")));
        let since = world.now;
        world.crash("n2", Down::Machine);
        world.run_for(mins(3));
        let counts = told(&world, since);
        // A runner that fails has told nobody what it was about to tell.
        assert!(is(&counts, &[("node-failed", 1)]), "{}", world.blame(&format!("{counts:?}")));
        let since = world.now;
        world.start("n2");
        world.run_for(mins(2));
        let counts = told(&world, since);
        assert!(is(&counts, &[("node-joined", 1)]), "{}", world.blame(&format!("{counts:?}")));
    });
}

/// Goal: what the runner of an `event` handler left undone is done by the next one.
#[test]
fn an_event_that_a_dead_runner_left_undone_is_told_by_the_next() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "mail", Mode::Event, Place::One);
        let tell = |world: &mut World, health| {
            let since = world.now;
            world.set_health("n2", "web", health);
            world.expect_within(mins(2), "it is told", |world| !told(world, since).is_empty());
            let told = |start: &&crate::outside::Start| start.at > since && start.told.mode == "event";
            world.outside.starts.iter().find(told).expect("just seen").by.clone()
        };
        let first = tell(&mut world, Health::Down);
        world.run_for(mins(1));
        if first == "n2" {
            return; // its own app's event would go with it
        }
        world.script(&first, [Behaviour::Hang]);
        let (same, since) = (tell(&mut world, Health::Up), world.now);
        assert_eq!(same, first, "{}", world.blame("the runner changed without a reason"));
        world.crash(&first, Down::Machine);
        world.run_for(mins(3));
        let of_it = |start: &&crate::outside::Start| start.at > since && start.told.event == "app-up";
        let again: Vec<_> = world.outside.starts.iter().filter(of_it).collect();
        assert_eq!(again.len(), 1, "{}", world.blame("once more, by the next one"));
        assert_eq!(again[0].told.reason, "takeover");
    });
}

#[test]
fn with_where_all_each_node_tells_what_it_saw_and_a_newcomer_nothing_old() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "mail", Mode::Event, Place::All);
        let since = world.now;
        world.crash("n2", Down::Machine);
        world.run_for(mins(3));
        let counts = told(&world, since);
        assert!(is(&counts, &[("node-failed", 2)]), "{}", world.blame(&format!("{counts:?}")));
        let since = world.now;
        world.crash("n1", Down::Process);
        world.run_for(secs(1));
        world.start("n1");
        world.run_for(mins(3));
        let by_it =
            world.outside.starts.iter().filter(|s| s.at > since && s.by == "n1" && s.told.mode == "event");
        assert_eq!(by_it.count(), 0, "{}", world.blame("what was before its start is no news"));
    });
}

#[test]
fn serf_handlers_are_told_of_members_by_all_or_by_one_and_their_runs_are_no_news() {
    for (place, count) in [(Place::All, 2), (Place::One, 1)] {
        for_seeds(5, |seed| {
            let mut world = cluster(seed, "script", Mode::Serf, place);
            let since = world.now;
            world.crash("n2", Down::Machine);
            world.run_for(mins(3));
            let mut counts = told(&world, since);
            // Of the others the `dns` handler's tags change when the set does.
            counts.retain(|(event, _), _| event != "member-update");
            assert!(is(&counts, &[("member-failed", count)]), "{}", world.blame(&format!("{counts:?}")));
            let since = world.now;
            world.run_for(mins(60));
            // At each resync, every 10 min, the tag of the runner says so and then that it is over.
            let updates: usize = told(&world, since).values().sum();
            assert!(updates <= 6 * 2 * count, "{}", world.blame(&format!("{updates} in an hour")));
        });
    }
}

#[test]
fn picored1_calls_keep_each_node_s_own_table_right() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "hosts", Mode::Picored1, Place::All);
        let addrs = |world: &World, names: &[&str]| -> Vec<IpAddr> {
            names.iter().map(|name| world.node(name).addr.ip()).collect()
        };
        let all_have = |world: &World, names: &[&str], by: &[&str]| {
            let expected = addrs(world, names);
            by.iter().all(|by| {
                world
                    .outside
                    .called
                    .get(*by)
                    .is_some_and(|table| table.iter().copied().eq(expected.iter().copied()))
            })
        };
        let everybody = ["n1", "n2", "n3"];
        assert!(all_have(&world, &everybody, &everybody), "{}", world.blame("not all were called up"));
        let calls = world.outside.starts.iter().filter(|start| start.told.call.is_some()).count();
        assert_eq!(calls, 9, "{}", world.blame("one call for each address on each node"));
        world.script("n1", [Behaviour::Fail(1)]);
        world.set_health("n2", "web", Health::Down);
        world.expect_within(mins(2), "n2 is called down", |world| all_have(world, &["n1", "n3"], &everybody));
        world.set_health("n2", "web", Health::Up);
        world.crash("n3", Down::Machine);
        world.expect_within(mins(3), "n2 is called up, n3 down", |world| {
            all_have(world, &["n1", "n2"], &["n1", "n2"])
        });
        let before = world.outside.starts.len();
        world.run_for(mins(30));
        let calls = world.outside.starts[before..].iter().filter(|start| start.told.call.is_some()).count();
        assert_eq!(calls, 0, "{}", world.blame("calls without a change"));
    });
}

/// Goal: when two sides meet of which each called the other down, all is called up in the end.
/// Method: without quorum both sides of a cut may act. Whoever goes on calls every address again, for it is not known
/// what the outside shows, and those back from failed are held at first.
#[test]
fn picored1_for_one_calls_all_up_after_two_sides_met() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(3).app("web").with(|settings| settings.quorum = false);
        let base = world.settings.handler();
        let calls = Config { name: "calls".into(), mode: Mode::Picored1, ..base };
        world.settings.handlers.push(calls);
        let mut world = world.settled();
        world.run_for(mins(2));
        world.partition(&["n3"]);
        world.run_for(mins(2));
        let up = |world: &World| -> BTreeMap<IpAddr, bool> {
            let starts = world.outside.starts.iter().filter_map(|start| start.told.call.as_ref());
            starts.map(|(addr, state)| (*addr, state == "up")).collect()
        };
        assert!(up(&world).values().any(|up| !up), "{}", world.blame("each side called the other down"));
        world.heal();
        world.run_for(mins(5));
        let up = up(&world);
        assert!(up.len() == 3 && up.values().all(|up| *up), "{}", world.blame(&format!("{up:?}")));
    });
}

/// Goal: a handler that never works does not make another one tell what only its own outside still shows.
/// Method: it worked once, then never; n3, down since, is restarted, and is `unknown` for a while.
#[test]
fn a_handler_that_always_fails_adds_no_address_to_another_s_records() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "api", Mode::Sync, Place::One);
        for node in &mut world.nodes {
            node.failing = Some("api");
        }
        world.set_health("n3", "web", Health::Down);
        world.expect_within(mins(2), "n3 is gone", |world| world.records("web") == ["n1", "n2"]);
        let before = world.outside.writes.len();
        world.crash("n3", Down::Process);
        world.run_for(secs(1));
        world.start("n3");
        world.run_for(mins(3));
        let n3 = world.node("n3").addr.ip();
        let added = world.outside.writes[before..].iter().any(|write| write.addrs.contains(&n3));
        assert!(!added, "{}", world.blame("one without a verdict was published"));
    });
}

#[test]
fn programs_as_checks_decide_as_connections_do() {
    for_seeds(5, |seed| {
        let world = World::new(seed).nodes(3).with(|settings| settings.exec = true);
        let mut world = world.app("web").settled();
        world.run_for(mins(1));
        for health in [Health::Down, Health::Hang] {
            world.set_health("n2", "web", health);
            world.expect_within(secs(60), "its address is gone", |world| world.records_are_right());
            world.run_for(mins(15));
            world.set_health("n2", "web", Health::Up);
            world.expect_within(secs(60), "its address is back", |world| world.records_are_right());
        }
    });
}

/// Goal: who takes over tells nothing that the runner before it has told: nobody wants last hour's mails once more.
#[test]
fn a_takeover_tells_no_event_a_second_time() {
    for_seeds(5, |seed| {
        let mut world = cluster(seed, "mail", Mode::Event, Place::One);
        let since = world.now;
        world.set_health("n2", "web", Health::Down);
        world.expect_within(mins(2), "it is told", |world| !told(world, since).is_empty());
        world.set_health("n2", "web", Health::Up);
        world.run_for(mins(2));
        let is_event = |start: &&crate::outside::Start| start.at > since && start.told.mode == "event";
        let first = world.outside.starts.iter().find(is_event).expect("just seen").by.clone();
        let since = world.now;
        world.crash(&first, Down::Machine);
        world.run_for(mins(3));
        let counts = told(&world, since);
        let expected = BTreeMap::from([(("node-failed".to_string(), first), 1)]);
        assert_eq!(counts, expected, "{}", world.blame("told twice"));
    });
}
