//! Named stories of the records: applications and nodes come and go, and what the public sees follows.
//!
//! Times that are promised here, with the default settings: a check every 10 s that may hang for 5 s,
//! `fall` 3, `rise` 2, `hold_up` 15 s; a handler with `debounce` 3 s, whose run takes up to 1.5 s.

use std::time::Duration;

use crate::node::{Behaviour, Health};
use crate::stories::NODE_DOWN_WITHIN;
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, secs};

/// An app that goes down: three failed checks, the last of which may hang, then gossip, debounce and run.
const DOWN_WITHIN: Duration = secs(3 * 10 + 5 + 2 + 3 + 2);
/// One that comes back: two passed checks, `hold_up` (doubled by the flap), gossip, debounce and run.
const UP_WITHIN: Duration = secs(2 * 10 + 30 + 2 + 3 + 2);

/// A cluster at rest: all up and published, and `grace`, during which failed checks do not count, over.
fn web(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed).nodes(nodes).app("web").settled();
    world.run_for(mins(1));
    world.always("the records of web are never emptied", |world| !world.records("web").is_empty());
    world
}

#[test]
fn the_records_hold_all_servers_within_a_minute_of_a_first_start() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(3).app("web").app("mail").started();
        world.expect_within(mins(1), "the records hold all", |world| world.records_are_right());
        world.run_for(mins(5));
        // Each app may need a second run, if the verdicts came far apart.
        assert!(world.outside.writes.len() <= 6, "{}", world.blame("more runs than changes"));
    });
}

#[test]
fn the_records_follow_a_web_server_down_and_up() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        for (name, health) in [("n2", Health::Down), ("n3", Health::Hang)] {
            world.set_health(name, "web", health);
            let limit = if health == Health::Hang { DOWN_WITHIN + secs(10) } else { DOWN_WITHIN };
            world.expect_within(limit, "its address is gone", |world| world.records_are_right());
            world.run_for(mins(15));
            world.set_health(name, "web", Health::Up);
            world.expect_within(UP_WITHIN, "its address is back", |world| world.records_are_right());
        }
        assert_eq!(world.failures(), 0, "{}", world.blame("an app that is down is not a node that failed"));
    });
}

#[test]
fn one_failed_check_changes_nothing() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        for _ in 0..10 {
            world.set_health("n2", "web", Health::Down);
            world.run_for(secs(15)); // one or two checks
            world.set_health("n2", "web", Health::Up);
            world.run_for(secs(25));
        }
        assert_eq!(world.outside.starts_since(since).count(), 0, "{}", world.blame("a run without a change"));
    });
}

#[test]
fn a_flapping_app_runs_the_handler_at_most_once_for_each_change() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        const CHANGES: usize = 20;
        for change in 0..CHANGES {
            world.set_health("n2", "web", if change % 2 == 0 { Health::Down } else { Health::Up });
            world.run_for(secs(45));
        }
        let runs = world.outside.starts_since(since).count();
        assert!(runs <= CHANGES, "{}", world.blame(&format!("{runs} runs for {CHANGES} changes")));
        // `hold_up` has doubled with each flap, to ten minutes at most.
        world.expect_within(mins(11), "the records are right at the end", |world| world.records_are_right());
    });
}

#[test]
fn the_records_follow_a_node_that_dies_and_comes_back() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        for how in [Down::Machine, Down::Process] {
            world.crash("n2", how);
            world.expect_within(NODE_DOWN_WITHIN, "its address is gone", |world| world.records_are_right());
            world.run_for(mins(5));
            world.start("n2");
            world.expect_within(UP_WITHIN, "its address is back", |world| world.records_are_right());
        }
    });
}

#[test]
fn when_the_runner_dies_the_next_one_acts() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let runner = world.outside.last_writer("web").expect("somebody wrote").to_string();
        world.crash(&runner, Down::Machine);
        world.expect_within(NODE_DOWN_WITHIN + secs(10), "its address is gone", |world| {
            world.records_are_right()
        });
        assert_ne!(world.outside.last_writer("web"), Some(runner.as_str()));
        world.start(&runner);
        world.expect_within(UP_WITHIN, "its address is back", |world| world.records_are_right());
    });
}

#[test]
fn when_the_runner_dies_during_its_run_the_next_one_finishes() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let runner = world.outside.last_writer("web").expect("somebody wrote").to_string();
        let other = world.names().into_iter().find(|name| *name != runner).expect("there are three");
        world.script(&runner, [Behaviour::Hang]);
        world.set_health(&other, "web", Health::Down);
        world.expect_within(DOWN_WITHIN, "the run has begun", |world| !world.node(&runner).runs.is_empty());
        world.crash(&runner, Down::Machine);
        // Its tag says that it is at it: `timeout` and 10 s are given to it.
        world.expect_within(NODE_DOWN_WITHIN + secs(50), "both are gone", |world| world.records_are_right());
    });
}

fn is_retried(first: [Behaviour; 2], limit: Duration) {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        for name in world.names() {
            world.script(&name, first);
        }
        world.set_health("n2", "web", Health::Down);
        world.expect_within(DOWN_WITHIN + limit, "a retry did it", |world| world.records_are_right());
        let starts: Vec<_> = world.outside.starts_since(since).collect();
        assert!(starts.len() >= 3, "{}", world.blame("two failures, and a success, are three runs"));
        for pair in starts.windows(2) {
            // 5 s, give or take 20 %, is the shortest backoff; another node need not wait for it.
            let pause = pair[1].at.since(pair[0].at);
            if pair[0].by != pair[1].by {
                continue;
            }
            assert!(pause >= secs(4), "{}", world.blame(&format!("retried after {pause:?}")));
        }
        world.run_for(mins(8));
        assert!(world.records_are_right(), "{}", world.full_picture());
    });
}

#[test]
fn a_handler_that_fails_is_retried() {
    is_retried([Behaviour::Fail(1), Behaviour::Fail(2)], secs(60));
}

#[test]
fn a_handler_that_says_later_is_retried() {
    is_retried([Behaviour::Fail(75), Behaviour::Fail(75)], secs(60));
}

#[test]
fn a_handler_that_hangs_is_ended_and_retried() {
    is_retried([Behaviour::Hang, Behaviour::IgnoreTerm], secs(60 + 30 + 35 + 10));
}

/// Goal: a node whose run not even KILL can end holds up neither the records nor its own leaving.
/// Method: the runner's run begins and never ends; one of the others must tell it, and what comes after.
#[test]
fn a_run_that_kill_does_not_end_is_left_behind() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let runner = world.outside.last_writer("web").expect("somebody wrote").to_string();
        let other = world.names().into_iter().find(|name| *name != runner).expect("there are three");
        world.script(&runner, [Behaviour::IgnoreKill]);
        world.set_health(&other, "web", Health::Down);
        // TERM after 30 s, KILL 5 s and the end of all patience 10 s later.
        world.expect_within(DOWN_WITHIN + secs(30 + 10 + 5), "another took over", |world| {
            world.records_are_right()
        });
        assert_ne!(world.outside.last_writer("web"), Some(runner.as_str()));
        world.run_for(mins(15));
        world.set_health(&other, "web", Health::Up);
        world.expect_within(UP_WITHIN, "its address is back", |world| world.records_are_right());
        world.leave(&runner);
        world.expect_within(secs(30), "its process ended", |world| world.node(&runner).exited == Some(0));
    });
}

#[test]
fn what_changes_during_a_run_of_some_seconds_is_told_by_the_next_one() {
    for_seeds(5, |seed| {
        // Quick checks, so that the second change comes during the run for the first.
        let quick = World::new(seed).nodes(3).with(|settings| settings.check_interval = millis(500));
        let mut world = quick.app("web").settled();
        world.run_for(mins(1));
        for node in &mut world.nodes {
            node.behaviour = Behaviour::Slow;
        }
        let since = world.now;
        world.set_health("n2", "web", Health::Down);
        world.expect_within(secs(15), "a run has begun", |world| {
            world.nodes.iter().any(|node| !node.runs.is_empty())
        });
        world.set_health("n3", "web", Health::Down);
        // Two runs of up to 12 s, `min_interval` between them.
        world.expect_within(secs(12 + 5 + 12 + 1), "both are gone", |world| world.records("web") == ["n1"]);
        assert_eq!(world.outside.starts_since(since).count(), 2, "{}", world.blame("a run for each"));
    });
}

#[test]
fn a_handler_that_never_works_is_not_run_without_end() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        for node in &mut world.nodes {
            node.behaviour = Behaviour::Fail(1);
        }
        world.set_health("n2", "web", Health::Down);
        world.run_for(mins(60));
        // Three quick ones on each node, then every 5 min: with backoff of 5, 10, 20 … 300 s a node that
        // goes on alone runs about 18 times in an hour.
        let runs = world.outside.starts_since(since).count();
        assert!((3..=60).contains(&runs), "{}", world.blame(&format!("{runs} runs in an hour of failures")));
        for node in &mut world.nodes {
            node.behaviour = Behaviour::Succeed;
        }
        world.expect_within(mins(11), "it works again", |world| world.records_are_right());
    });
}

#[test]
fn when_all_apps_go_down_the_records_are_kept() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        for name in world.names() {
            world.set_health(&name, "web", Health::Down);
        }
        world.run_for(mins(30)); // `always`: not empty
        for name in world.names() {
            world.set_health(&name, "web", Health::Up);
        }
        world.expect_within(UP_WITHIN + secs(30), "all are back", |world| world.records_are_right());
    });
}

/// Goal: one cause that stops all web servers takes nothing away, not even down to the last one.
/// Method: all go down within the handler's debounce, so that no run has told of the first ones yet.
#[test]
fn when_all_apps_go_down_at_once_all_addresses_stay() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed)
            .nodes(3)
            .with(|settings| settings.check_interval = millis(500))
            .app("web")
            .settled();
        world.run_for(mins(1));
        let all = world.records("web");
        assert_eq!(all.len(), 3, "{}", world.blame("not all are published at first"));
        world.always("all addresses stay", move |world| world.records("web") == all);
        for name in world.names() {
            world.set_health(&name, "web", Health::Down);
        }
        let (now, quiet) = (world.now, mins(5));
        world.run_for(quiet);
        assert_eq!(world.outside.starts_since(now).count(), 0, "{}", world.blame("a run without a change"));
    });
}

#[test]
fn a_restart_of_the_whole_cluster_never_empties_the_records() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        for round in 0..3 {
            let how = if round == 1 { Down::Process } else { Down::Machine };
            for name in world.names() {
                world.crash(&name, how);
            }
            let away = secs(1) + world.rng.duration_below(mins(3));
            world.run_for(away);
            world.start_all();
            world.expect_within(mins(2), "all see all", World::all_see_all);
            world.expect_within(mins(2), "the records are right", |world| world.records_are_right());
        }
    });
}

#[test]
fn a_partition_never_empties_the_records_and_healing_makes_them_whole() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 5);
        world.partition(&["n1", "n2"]);
        world.run_for(mins(7));
        world.heal();
        world.expect_within(mins(2), "all see all", World::all_see_all);
        world.expect_within(secs(60), "the records are right", |world| world.records_are_right());
    });
}

#[test]
fn a_cut_between_two_healthy_servers_never_empties_the_records() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(2).app("web").loss(0.02).settled();
        world.always("the records of web are never emptied", |world| !world.records("web").is_empty());
        world.cut("n1", "n2");
        world.run_for(mins(5));
        world.heal();
        world.expect_within(mins(3), "both are back", |world| world.records("web") == ["n1", "n2"]);
    });
}

#[test]
fn the_address_of_a_node_that_leaves_goes_at_once() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        world.leave("n1");
        world.expect_within(secs(90), "its address is gone", |world| world.records("web") == ["n2", "n3"]);
        world.expect_within(secs(90), "its process ended", |world| world.node("n1").exited == Some(0));
        assert_eq!(world.failures(), 0, "{}", world.blame("who left was said to have failed"));
    });
}

#[test]
fn the_records_hold_the_new_address_of_a_node_that_moved() {
    for_seeds(5, |seed| {
        let mut world = web(seed, 3);
        world.crash("n2", Down::Machine);
        world.run_for(mins(1));
        world.move_to_new_address("n2");
        world.start("n2");
        // Names stand for the addresses that the nodes have now; an old one would stand as itself.
        world.expect_within(UP_WITHIN + secs(60), "the new address, not the old", |world| {
            world.records_are_right()
        });
    });
}

#[test]
fn a_resync_repairs_what_others_did_to_the_records() {
    for_seeds(3, |seed| {
        let mut world = web(seed, 3);
        let started = world.outside.starts.len();
        world.run_for(mins(25));
        let resyncs =
            world.outside.starts[started..].iter().filter(|start| start.told.reason == "resync").count();
        // Every 10 min by one node.
        assert!((2..=3).contains(&resyncs), "{}", world.blame(&format!("{resyncs} in 25 min")));
    });
}
