//! A server whose Internet is gone: nobody reaches it, it reaches nobody, and its own view is worth nothing.

use std::time::Duration;

use crate::scenario::{BACK, DEAD_HALF, DEAD_NODE, Row, scenario};
use crate::verdict::Limits;
use crate::world::{Setup, World};

/// As long it is watched after it should be out, and after it is back.
const AFTER: u64 = 20;

#[test]
fn one_of_two() {
    scenario("one of two without Internet", |row| {
        taken_out(row, 2, DEAD_HALF, true, World::isolate, |world, _| world.heal())
    });
}

/// Here it is the plug at the server itself: sending fails.
#[test]
fn one_of_three() {
    scenario("one of three unplugged", |row| taken_out(row, 3, DEAD_NODE, true, World::unplug, World::plug));
}

#[test]
fn one_of_three_without_witness() {
    scenario("one of three without Internet, witness down", |row| {
        taken_out(row, 3, DEAD_NODE, false, World::isolate, |world, _| world.heal());
    });
}

#[test]
fn one_of_two_without_witness() {
    scenario("one of two without Internet, witness down: frozen", |row| {
        let world = World::start(&Setup::picored(2));
        world.stop_witness();
        let gone = world.runner();
        world.isolate(gone);
        world.wait_for_failed(world.others(gone)[0], gone);
        world.look_on(60);
        world.heal();
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(None, 0, &[1, 2]));
        assert!(world.runs().is_empty(), "runs though nothing was to be changed:\n{}", world.story());
    });
}

/// The others take it out, it does nothing, and it comes back. One change for each.
fn taken_out(row: &Row, nodes: u8, limit: u64, witness: bool, gone: fn(&World, u8), back: fn(&World, u8)) {
    let world = World::start(&Setup::picored(nodes));
    if !witness {
        world.stop_witness();
    }
    // The harder case: the one that ran the handlers is gone.
    let lost = world.runner();
    gone(&world, lost);
    let took = world.wait_for_records(&world.others(lost), Duration::from_secs(limit) + BACK);
    row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
    world.look_on(AFTER);
    let runs = world.runs();
    back(&world, lost);
    let took = world.wait_for_records(&world.all(), BACK);
    row.remark(&format!("back after {:.0} s", took.as_secs_f64()));
    world.look_on(AFTER);
    row.judge(&world.verdict(), &Limits::new(Some(limit), 2, &world.all()));
    let by_lost = runs.iter().filter(|run| run.node == lost).count();
    assert_eq!(by_lost, 0, "runs of n{lost}, which reaches nobody:\n{}", world.story());
}
