//! Programs that die or stop: picored, web servers, both.

use std::time::Duration;

use serde_json::json;

use crate::scenario::{BACK, DEAD_APP, DEAD_LATER, DEAD_NODE, Row, scenario};
use crate::verdict::Limits;
use crate::world::{Setup, World};

/// As long it is watched that nothing happens.
const AFTER: u64 = 20;

#[test]
fn picored_killed_among_three() {
    scenario("picored killed, its web server lives; then that dies, too (3 nodes)", |row| {
        picored_killed(row, 3)
    });
}

#[test]
fn picored_killed_among_two() {
    scenario("picored killed, its web server lives; then that dies, too (2 nodes)", |row| {
        picored_killed(row, 2)
    });
}

fn picored_killed(row: &Row, nodes: u8) {
    let mut world = World::start(&Setup::picored(nodes));
    let victim = world.runner();
    let others = world.others(victim);
    world.node(victim).agent.kill();
    world.wait_for_failed(others[0], victim);
    world.look_on(40);
    assert_eq!(world.verdict().writes, 0, "it still serves:\n{}", world.story());
    if nodes > 2 {
        let told = |&other: &u8| world.log(other).contains("event=unreachable-but-serving");
        assert!(others.iter().any(told), "nobody says that it serves on");
    }
    world.node(victim).web.kill();
    let took = world.wait_for_records(&others, Duration::from_secs(DEAD_LATER) + BACK);
    row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
    world.look_on(AFTER);
    row.judge(&world.verdict(), &Limits::new(Some(DEAD_LATER), 1, &others));
}

#[test]
fn all_apps_down() {
    scenario("all web servers down, then one is back", |row| {
        let mut world = World::start(&Setup::picored(3));
        for n in world.all() {
            world.node(n).web.kill();
        }
        // Those that were found down first may go before the last one is found down.
        world.look_on(15);
        let kept = world.records();
        world.look_on(30);
        assert_eq!(world.records(), kept, "the last set is kept:\n{}", world.story());
        // Nothing that was published could be better, until now.
        row.show(&world.verdict(), &Limits::new(None, 3, &[]));
        world.begin();
        world.start_web(2);
        let took = world.wait_for_records(&[2], BACK);
        row.remark(&format!("right after {:.0} s", took.as_secs_f64()));
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(Some(DEAD_APP + 3), 1, &[2]));
    });
}

#[test]
fn web_server_down() {
    scenario("one of three web servers down for 30 s", |row| {
        let mut world = World::start(&Setup::picored(3));
        world.node(2).web.kill();
        let took = world.wait_for_records(&[1, 3], BACK);
        row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
        world.look_on(30);
        world.start_web(2);
        world.wait_for_records(&[1, 2, 3], BACK);
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(Some(DEAD_APP), 2, &[1, 2, 3]));
        assert_eq!(world.runs().len(), 2, "one run each:\n{}", world.story());
    });
}

/// Its kernel goes on accepting connections; the check's request is never answered, and its picored says so.
#[test]
fn web_server_stopped() {
    scenario("one of three web servers stopped for 30 s, its picored runs", |row| {
        let mut world = World::start(&Setup::picored(3));
        // The harder case: who runs the handlers takes itself out.
        let sleeper = world.runner();
        let others = world.others(sleeper);
        world.node(sleeper).web.set_stopped(true);
        let took = world.wait_for_records(&others, Duration::from_secs(DEAD_APP) + BACK);
        row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
        world.look_on(30);
        world.node(sleeper).web.set_stopped(false);
        let took = world.wait_for_records(&[1, 2, 3], BACK);
        row.remark(&format!("back after {:.0} s", took.as_secs_f64()));
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(Some(DEAD_APP), 2, &[1, 2, 3]));
        assert_eq!(world.runs().len(), 2, "one run each:\n{}", world.story());
        let failed = |&n: &u8| world.log(n).contains("event=node-failed");
        assert!(!world.all().iter().any(failed), "no picored was away");
    });
}

/// A node that slept for longer than it takes to suspect all others must not act on what it thinks when it wakes.
const ASLEEP: u64 = 60;

#[test]
fn picored_stopped() {
    scenario("picored stopped for a minute, its web server serves", |row| {
        let mut world = World::start(&Setup::picored(3));
        let sleeper = world.runner();
        world.node(sleeper).agent.stop();
        world.wait_for_failed(world.others(sleeper)[0], sleeper);
        world.look_on(ASLEEP);
        world.node(sleeper).agent.cont();
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(None, 0, &[1, 2, 3]));
        assert!(world.runs().is_empty(), "runs though nothing was to be changed:\n{}", world.story());
    });
}

/// Its kernel goes on accepting connections, so a TCP `verify` would take it for serving; a request finds out.
#[test]
fn server_stopped() {
    scenario("a whole server stopped for a minute", |row| {
        let verify = |config: &mut serde_json::Value| {
            config["apps"]["web"]["verify"] = json!("http://{addr}:80/health");
        };
        let mut world = World::start(&Setup::picored(3).with(verify));
        let sleeper = world.runner();
        let others = world.others(sleeper);
        world.node(sleeper).agent.stop();
        world.node(sleeper).web.set_stopped(true);
        let took = world.wait_for_records(&others, Duration::from_secs(DEAD_NODE) + BACK);
        row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
        world.look_on(ASLEEP);
        world.node(sleeper).web.set_stopped(false);
        world.node(sleeper).agent.cont();
        world.wait_for_records(&[1, 2, 3], BACK);
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(Some(DEAD_NODE), 2, &[1, 2, 3]));
        let rash = world.runs().into_iter().find(|run| others.iter().any(|other| !run.set.contains(other)));
        assert!(rash.is_none(), "{rash:?} takes out who was there all the time:\n{}", world.story());
    });
}
