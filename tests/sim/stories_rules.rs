//! Named stories of single rules of 4.5 and gates of section 5, each of which goes wrong without its rule and is right
//! with it: what `scripts/mutants` takes away, one after the other.

use picored::delivery::Config;

use crate::node::{Behaviour, Health};
use crate::stories::{DOWN_WITHIN, NODE_DOWN_WITHIN, is_right, never_empty, others, runner, runs, web, with};
use crate::world::{Down, World};
use crate::{for_seeds, mins, secs};

/// Goal: an unstable node does not attract the job: who took it over keeps it.
#[test]
fn who_took_over_stays_the_runner_when_the_first_one_is_back() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        world.crash(&first, Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN + secs(5), "its address is gone");
        let second = runner(&world);
        world.start(&first);
        is_right(&mut world, mins(3), "it is back");
        let third = others(&world, &first).into_iter().find(|name| *name != second).expect("there are three");
        world.set_health(&third, "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "the third is gone");
        assert_eq!(runner(&world), second, "{}", world.blame("the job went back"));
    });
}

/// Goal: who takes over without a change runs nothing. Method: the runner's picored ends, its app serves on.
#[test]
fn a_takeover_alone_runs_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let (first, since) = (runner(&world), world.now);
        world.crash(&first, Down::Process);
        world.run_for(mins(5));
        assert_eq!(runs(&world, since), 0, "{}", world.blame("a run without a change"));
    });
}

/// A handler that may take three minutes, more than anything else takes.
fn patient(seed: u64) -> World {
    let mut world = World::new(seed).nodes(3).app("web").with(|settings| {
        let base = settings.handler();
        settings.handler = false;
        settings.handlers.push(Config { timeout: mins(3), ..base });
    });
    world = world.settled();
    world.run_for(mins(3));
    world
}

/// Goal: a child that outlived its picored is waited for: by the others, and by its own node's next life (rule 2).
fn child_is_waited_for(seed: u64, comes_back: bool) {
    let mut world = patient(seed);
    never_empty(&mut world);
    let first = runner(&world);
    let other = others(&world, &first)[0].clone();
    world.script(&first, [Behaviour::Takes(secs(150))]);
    world.set_health(&other, "web", Health::Down);
    world.expect_within(DOWN_WITHIN, "the run has begun", |world| !world.node(&first).runs.is_empty());
    let begun = world.now;
    // The others hear of it.
    world.run_for(secs(3));
    world.crash(&first, Down::Process);
    world.run_for(secs(1));
    if comes_back {
        world.start(&first);
    }
    world.run_for(mins(2));
    assert_eq!(runs(&world, begun), 0, "{}", world.blame("a run beside the child of a dead picored"));
    world.expect_within(mins(2), "another run follows", |world| runs(world, begun) > 0);
    is_right(&mut world, secs(30), "the records are right");
}

#[test]
fn the_child_of_a_picored_that_died_is_waited_for_by_the_others() {
    for_seeds(10, |seed| child_is_waited_for(seed, false));
}

#[test]
fn the_child_of_its_last_life_is_waited_for_by_its_own_node() {
    for_seeds(10, |seed| child_is_waited_for(seed, true));
}

/// Goal: P is remembered: a whole cluster that restarts takes nobody away that it does not see, and goes on.
#[test]
fn after_a_reboot_who_serves_without_picored_stays_and_changes_are_told() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 5);
        never_empty(&mut world);
        for name in world.names() {
            world.crash(&name, Down::Process);
        }
        world.run_for(secs(2));
        for name in ["n1", "n2", "n3", "n4"] {
            world.start(name);
        }
        world.run_for(mins(2));
        world.set_health("n2", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "the change is told");
        assert_eq!(world.records("web"), ["n1", "n3", "n4", "n5"], "{}", world.full_picture());
    });
}

/// Goal: the greatest record outlives its writer, and nothing is told anew because that one is forgotten.
#[test]
fn to_forget_the_last_writer_runs_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 4);
        never_empty(&mut world);
        let first = runner(&world);
        world.set_health(&first, "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "it told that its own app is down");
        assert_eq!(runner(&world), first);
        // All know how its run ended.
        world.run_for(secs(5));
        let since = world.now;
        world.crash(&first, Down::Machine);
        world.run_for(mins(2));
        world.forget_everywhere(&first);
        world.run_for(mins(3));
        assert_eq!(runs(&world, since), 0, "{}", world.blame("a run without a change"));
    });
}

/// Goal: who cannot send doubts itself, and starts nothing (gate 2), though it sees all the others and its own app go.
#[test]
fn a_runner_whose_uplink_is_gone_starts_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        world.partition(&[&first]);
        world.node_mut(&first).no_uplink = true;
        world.run_for(secs(10));
        let since = world.now;
        world.set_health(&first, "web", Health::Down);
        world.run_for(mins(2));
        let by_it = world.outside.starts_since(since).filter(|start| start.by == first).count();
        assert_eq!(by_it, 0, "{}", world.blame("it ran"));
        world.node_mut(&first).no_uplink = false;
        world.heal();
        world.set_health(&first, "web", Health::Up);
        is_right(&mut world, mins(5), "all are back");
    });
}

/// Goal: who failed just now stays for `node_down_after`, also where nobody makes sure at its address. The judge of each
/// run says so.
#[test]
fn without_verify_a_failed_node_goes_after_node_down_after() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.verify = false);
        never_empty(&mut world);
        world.crash("n2", Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN, "its address is gone");
    });
}
