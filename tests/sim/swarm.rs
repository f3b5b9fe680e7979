//! Everything drawn from one seed: size, settings, faults, their times. Whole classes of faults are switched off
//! at random, so that the others meet each other alone. While they last only the invariants must hold; when they
//! stop, the cluster must come to rest in the right state.

use std::time::Duration;

use picored::delivery::{Config, Place};
use picored::safety::{AllDown, MinUp, OnNoQuorum};

use crate::disk::Memory;
use crate::faults::{Faults, play, stop_faults};
use crate::settings::Joins;
use crate::world::{Down, World};
use crate::{for_seeds, mins, secs};

/// The longest that anything in the configuration may put off the last correction: `hold_up` doubled up
/// to 10 min, a handler that stood back for 10 min, a backoff of 5 min, a `resync`.
const LIVE_WITHIN: Duration = mins(30);
/// After that long without a reason to run, nothing may run.
const QUIET_AFTER: Duration = mins(15);
const QUIET_FOR: Duration = mins(5);

pub fn cluster(seed: u64) -> World {
    let mut world = World::new(seed);
    let nodes = 2 + world.rng.below(6);
    let apps = 1 + world.rng.below(2);
    let key = world.rng.chance(0.3).then_some([3; 16]);
    let resync = mins(2 + world.rng.below(9) as u64);
    let first = 1 + world.rng.below(3.min(nodes));
    let joins = if world.rng.chance(0.2) { Joins::Chain } else { Joins::First(first) };
    let [members, quorum, withdraw, witness, verify, hosts] =
        [0.3, 0.9, 0.2, 0.5, 0.9, 0.2].map(|part| world.rng.chance(part));
    let min_up = [MinUp::Count(1), MinUp::Count(2), MinUp::Percent(50)][world.rng.below(3)];
    let list = AllDown::Fallback(vec!["192.0.2.99".parse().expect("an address")]);
    let keep = || AllDown::Keep;
    let all_down = [keep(), keep(), keep(), AllDown::All, AllDown::Empty, list][world.rng.below(6)].clone();
    world = world.nodes(nodes).with(|settings| {
        settings.key = key;
        settings.resync = resync;
        settings.joins = joins;
        settings.members = members;
        settings.quorum = quorum;
        settings.witnesses = if witness { 2 } else { 0 };
        settings.verify = verify;
        settings.min_up = min_up;
        settings.all_down = all_down;
        if withdraw {
            settings.on_no_quorum = OnNoQuorum::WithdrawSelf;
        }
    });
    for app in ["web", "mail"].into_iter().take(apps) {
        world = world.app(app);
    }
    if hosts {
        let base = world.settings.handler();
        world.settings.handlers.push(Config { name: "hosts".into(), place: Place::All, ..base });
    }
    // Half of the seeds have their faults while the cluster is forming, too.
    if world.rng.chance(0.5) { world.settled() } else { world.started() }
}

fn is_right(world: &World) -> bool {
    world.records_are_right() && world.own_records_are_right()
}

fn sync_all(world: &mut World) {
    for index in 0..world.nodes.len() {
        if world.nodes[index].is_running() {
            let name = world.nodes[index].name.clone();
            world.sync(&name);
        }
    }
}

/// From any history the records become right; where some node remembers nothing, or the first record was never
/// written while all were there, with a person's help.
fn comes_to_rest(world: &mut World) {
    let needs_person = world
        .nodes
        .iter()
        .any(|node| node.forgot_all || node.disk.failed || node.restored || node.gone_for_good);
    if needs_person && world.run_until(LIVE_WITHIN, |world| is_right(world)).is_none() {
        sync_all(world);
        // Those gone for good may be half of all whom some node saw when it had a majority last.
        if world.run_until(LIVE_WITHIN, |world| is_right(world)).is_none() {
            let gone = world.nodes.iter().filter(|node| node.gone_for_good).map(|node| node.name.clone());
            for name in gone.collect::<Vec<_>>() {
                world.forget_everywhere(&name);
            }
            sync_all(world);
        }
    }
    world.expect_within(LIVE_WITHIN, "the records are right after the faults", |world| is_right(world));
}

/// Goal: whoever restarts now, with whatever memory, changes nothing.
fn restarts_change_nothing(world: &mut World) {
    let index = world.rng.below(world.nodes.len());
    if !world.nodes[index].is_running() {
        return;
    }
    let memory = [Memory::Kept, Memory::Kept, Memory::Damaged, Memory::Lost][world.rng.below(4)];
    // How a run ended is stored within 5 s; before that it counts as interrupted.
    let mut ran = world.now;
    let is_at_rest = |world: &mut World| {
        // A short one may begin and end between two looks.
        let is_running = world.nodes.iter().any(|node| !node.runs.is_empty());
        if is_running || world.outside.starts.iter().any(|start| start.at > ran) {
            ran = world.now;
        }
        world.now.since(ran) > secs(6)
    };
    world.expect_within(mins(2), "no run is under way", is_at_rest);
    let since = world.now;
    world.crash_index(index, Down::Process);
    // Nobody notices.
    let away = secs(1) + world.rng.duration_below(secs(8));
    world.run_for(away);
    world.start_index_with(index, memory);
    world.run_for(mins(2));
    let name = world.nodes[index].name.clone();
    // Nobody else remembers for it how those ended that it runs for itself.
    let fresh = |start: &&crate::outside::Start| start.told.handler != "hosts";
    let runs = world.outside.starts_since(since).filter(fresh).count();
    // Where the last writer forgot that, it is told once more (rule 6), of each app.
    let allowed = if memory == Memory::Kept { 0 } else { world.settings.apps.len() };
    let what = format!("{name} restarted with {memory:?} and {runs} ran");
    assert!(runs <= allowed, "{}", world.blame(&what));
    assert!(world.records_are_right(), "{}", world.full_picture());
}

fn story(seed: u64) {
    let mut world = cluster(seed);
    let mut faults = Faults::draw(&mut world);
    let time = mins(3 + world.rng.below(10) as u64);
    play(&mut world, &mut faults, time);
    stop_faults(&mut world);
    world.expect_within(mins(5), "all see all after the faults", World::all_see_all);
    comes_to_rest(&mut world);
    world.run_for(QUIET_AFTER);
    let since = world.now;
    world.run_for(QUIET_FOR);
    let runs = world.outside.starts_since(since).count();
    assert_eq!(runs, 0, "{}", world.blame("runs did not stop"));
    assert!(is_right(&world), "{}", world.blame("the records did not stay right"));
    assert!(world.all_see_all(), "{}", world.full_picture());
    restarts_change_nothing(&mut world);
}

/// Goal: from any history of faults the cluster comes to rest in the right state.
#[test]
fn swarm() {
    for_seeds(100, story);
}

/// The same seed gives the same history, to the last step: what a printed seed is worth.
#[test]
fn a_seed_repeats_its_run_exactly() {
    let trace = |seed| {
        let mut world = cluster(seed);
        let mut faults = Faults::draw(&mut world);
        play(&mut world, &mut faults, mins(3));
        (world.steps, world.now, world.net.datagrams, world.net.bytes, world.rng.next_u64())
    };
    for_seeds(3, |seed| assert_eq!(trace(seed), trace(seed)));
}
