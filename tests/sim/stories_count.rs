//! How often handlers run: once for a change as the rule, at least once in all cases, never for a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::{Behaviour, Health};
use crate::stories::{DOWN_WITHIN, NODE_DOWN_WITHIN, never_empty, others, runner, runs, web};
use crate::world::{Down, World};
use crate::{for_seeds, mins, say, secs};

const CHANGES: usize = 200;
/// After each change: the longest that a return may take (`hold_up` is doubled by flaps within 10 min).
const PAUSE: Duration = mins(4);

/// One change, drawn at random, and how many runs it must cause.
fn change(world: &mut World) -> (&'static str, usize) {
    let index = world.rng.below(world.nodes.len());
    let name = world.nodes[index].name.clone();
    if !world.nodes[index].is_running() {
        world.start_index(index);
        return ("start", 1);
    }
    let away = world.nodes.iter().filter(|node| !node.is_running()).count();
    match world.rng.below(4) {
        0 if away == 0 => {
            world.crash(&name, Down::Machine);
            ("kill", if world.nodes[index].health[0] == Health::Up { 1 } else { 0 })
        }
        1 => {
            world.crash(&name, Down::Process);
            let pause = world.rng.duration_below(secs(10));
            world.run_for(pause);
            world.start(&name);
            ("restart", 0)
        }
        _ => {
            let is_up = world.nodes[index].health[0] == Health::Up;
            let up = world.nodes.iter().filter(|node| node.is_running() && node.health[0] == Health::Up);
            if is_up && up.count() <= 2 {
                return ("nothing", 0);
            }
            world.nodes[index].health[0] = if is_up { Health::Down } else { Health::Up };
            (if is_up { "down" } else { "up" }, 1)
        }
    }
}

/// Goal: of 200 kills, flaps and restarts among five nodes 99 % cause one run, each at least one.
#[test]
fn a_change_causes_one_run() {
    for_seeds(1, |seed| {
        let mut world = web(seed, 5);
        world.inspect_every = mins(1);
        never_empty(&mut world);
        let (mut once, mut counted) = (0, 0);
        let mut table: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        for _ in 0..CHANGES {
            let was_right = world.records_are_right();
            assert!(was_right, "{}", world.full_picture());
            let before = world.now;
            let (mut kind, mut expected) = change(&mut world);
            // Who is started with its app down changes nothing.
            if kind == "start" && world.records_are_right() {
                (kind, expected) = ("start, down", 0);
            }
            world.run_for(PAUSE);
            if !world.records_are_right() {
                // A flap's longer `hold_up`.
                world.expect_within(mins(8), "the change is told", |world| world.records_are_right());
                world.run_for(secs(30));
            }
            let count = runs(&world, before);
            *table.entry((kind, count)).or_default() += 1;
            counted += 1;
            once += usize::from(count == expected);
            assert!(count >= expected, "{}", world.blame(&format!("no run for {kind}")));
        }
        say(&format!("  runs for {CHANGES} changes, (kind, runs): how often: {table:?}"));
        assert!(once * 100 >= counted * 99, "{}", world.blame(&format!("{once} of {counted}: {table:?}")));
    });
}

/// Goal: a runner that dies in mid-run is succeeded within the detection time, or its timeout and 15 s.
#[test]
fn a_runner_killed_in_mid_run_is_succeeded_in_time() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 5);
        never_empty(&mut world);
        let first = runner(&world);
        let other = others(&world, &first)[0].clone();
        world.script(&first, [Behaviour::Hang]);
        world.set_health(&other, "web", Health::Down);
        world.expect_within(DOWN_WITHIN, "the run has begun", |world| !world.node(&first).runs.is_empty());
        let begun = world.now;
        world.crash(&first, Down::Machine);
        // `timeout` is 30 s; the survivors then know of the crash, too, or soon.
        let limit = NODE_DOWN_WITHIN.max(secs(30 + 15));
        world.expect_within(limit, "another one began", |world| {
            world.outside.starts.iter().any(|start| start.at > begun && start.by != first)
        });
    });
}
