//! Everything drawn from one seed: size, faults, their times. Whole classes of faults are switched off at
//! random, so that the others meet each other alone. While they last only the invariants must hold; when
//! they stop, the cluster must come to rest in the right state.

use std::time::Duration;

use crate::node::{Behaviour, Health};
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, secs};

/// The longest that anything in the configuration may put off the last correction: `hold_up` doubled up
/// to 10 min, a handler that stood back for 10 min, a backoff of 5 min, a `resync`.
const LIVE_WITHIN: Duration = mins(30);
/// After that long without a reason to run, nothing may run.
const QUIET_AFTER: Duration = mins(15);
const QUIET_FOR: Duration = mins(5);

const CLASSES: usize = 8;

/// The classes of faults that this seed plays with.
struct Faults {
    crash: bool,
    freeze: bool,
    cut: bool,
    network: bool,
    health: bool,
    handler: bool,
    leave: bool,
    late: bool,
}

impl Faults {
    fn draw(world: &mut World) -> Self {
        let on: [bool; CLASSES] = std::array::from_fn(|_| world.rng.chance(0.5));
        let [crash, freeze, cut, network, health, handler, leave, late] = on;
        Self { crash, freeze, cut, network, health, handler, leave, late }
    }
}

fn cluster(seed: u64) -> World {
    let mut world = World::new(seed);
    let nodes = 2 + world.rng.below(6);
    let apps = 1 + world.rng.below(2);
    let key = world.rng.chance(0.3).then_some([3; 16]);
    let resync = mins(2 + world.rng.below(9) as u64);
    let seeds = 1 + world.rng.below(3);
    world = world.nodes(nodes).with(|settings| {
        settings.key = key;
        settings.resync = resync;
        settings.seeds = seeds.min(nodes);
    });
    for app in ["web", "mail"].into_iter().take(apps) {
        world = world.app(app);
    }
    // Half of the seeds have their faults while the cluster is forming, too.
    if world.rng.chance(0.5) { world.settled() } else { world.started() }
}

fn any(world: &mut World) -> usize {
    let count = world.nodes.len();
    world.rng.below(count)
}

fn crash_or_start(world: &mut World) {
    let index = any(world);
    if world.nodes[index].is_running() {
        let how = if world.rng.chance(0.5) { Down::Machine } else { Down::Process };
        world.crash_index(index, how);
    } else {
        world.start_index(index);
    }
}

fn freeze_or_thaw(world: &mut World) {
    let index = any(world);
    if world.nodes[index].frozen {
        world.thaw_index(index);
    } else if world.nodes[index].is_running() {
        let name = world.nodes[index].name.clone();
        world.freeze(&name);
    }
}

fn cut_or_heal(world: &mut World) {
    let (a, b) = (any(world), any(world));
    match world.rng.below(5) {
        0 => world.net.cut_one_way(a, b),
        1 => {
            world.net.cut_one_way(a, b);
            world.net.cut_one_way(b, a);
        }
        2 => {
            let names = world.names();
            let side: Vec<&str> = names[..=a].iter().map(String::as_str).collect();
            world.partition(&side);
        }
        3 => world.net.heal_one_way(a, b),
        _ => world.heal(),
    }
}

fn change_network(world: &mut World) {
    let link = &mut world.net.link;
    let mut part = |max: f64| world.rng.below(1_000) as f64 / 1_000.0 * max;
    link.loss = part(0.4);
    link.duplicates = part(0.2);
    link.reordered = part(0.3);
    link.delay = millis(world.rng.below(200) as u64);
    link.jitter = millis(1 + world.rng.below(300) as u64);
}

fn change_health(world: &mut World) {
    let index = any(world);
    let app = world.rng.below(world.settings.apps.len());
    let health = [Health::Up, Health::Down, Health::Hang][world.rng.below(3)];
    world.nodes[index].health[app] = health;
}

fn change_handler(world: &mut World) {
    use Behaviour::{Fail, Hang, IgnoreTerm, Slow, Succeed};
    let all = [Succeed, Slow, Fail(1), Fail(75), Hang, IgnoreTerm];
    let behaviour = all[world.rng.below(all.len())];
    let index = any(world);
    world.nodes[index].behaviour = behaviour;
}

fn leave(world: &mut World) {
    let index = any(world);
    if world.nodes[index].is_running() && !world.nodes[index].frozen {
        let name = world.nodes[index].name.clone();
        world.leave(&name);
    }
}

type Play = fn(&mut World);

fn play(world: &mut World, faults: &Faults, time: Duration) {
    let classes: [(bool, Play); 7] = [
        (faults.crash, crash_or_start),
        (faults.freeze, freeze_or_thaw),
        (faults.cut, cut_or_heal),
        (faults.network, change_network),
        (faults.health, change_health),
        (faults.handler, change_handler),
        (faults.leave, leave),
    ];
    let on: Vec<Play> = classes.into_iter().filter(|(on, _)| *on).map(|(_, play)| play).collect();
    let end = world.now + time;
    while world.now < end {
        let pause = secs(1) + world.rng.duration_below(secs(20));
        world.run_for(pause);
        if !on.is_empty() {
            let class = on[world.rng.below(on.len())];
            class(world);
        }
    }
}

/// The network is whole, everybody runs, checks are stable (some apps stay down, one of each is up),
/// handlers work.
fn stop_faults(world: &mut World) {
    world.heal();
    world.net.link = Default::default();
    for index in 0..world.nodes.len() {
        world.thaw_index(index);
        let node = &mut world.nodes[index];
        node.behaviour = Behaviour::Succeed;
        node.script.clear();
        node.lateness = Duration::ZERO;
    }
    for app in 0..world.settings.apps.len() {
        let surely = any(world);
        for index in 0..world.nodes.len() {
            let up = index == surely || world.rng.chance(0.7);
            world.nodes[index].health[app] = if up { Health::Up } else { Health::Down };
        }
    }
    // Who is about to leave ends first.
    world.run_for(secs(90));
    for index in 0..world.nodes.len() {
        if !world.nodes[index].is_running() {
            world.start_index(index);
        }
    }
}

fn story(seed: u64) {
    let mut world = cluster(seed);
    let faults = Faults::draw(&mut world);
    if faults.late {
        for node in &mut world.nodes {
            node.lateness = millis(300);
        }
    }
    let time = mins(3 + world.rng.below(10) as u64);
    play(&mut world, &faults, time);
    stop_faults(&mut world);
    world.expect_within(mins(5), "all see all after the faults", World::all_see_all);
    world.expect_within(LIVE_WITHIN, "the records are right after the faults", |world| {
        world.records_are_right()
    });
    world.run_for(QUIET_AFTER);
    let since = world.now;
    world.run_for(QUIET_FOR);
    let runs = world.outside.starts_since(since).count();
    assert_eq!(runs, 0, "{}", world.blame("runs did not stop"));
    assert!(world.records_are_right(), "{}", world.blame("the records did not stay right"));
    assert!(world.all_see_all(), "{}", world.full_picture());
}

/// Goal: from any history of faults the cluster comes to rest in the right state.
#[test]
fn swarm() {
    for_seeds(40, story);
}

/// The same seed gives the same history, to the last step: what a printed seed is worth.
#[test]
fn a_seed_repeats_its_run_exactly() {
    let trace = |seed| {
        let mut world = cluster(seed);
        let faults = Faults::draw(&mut world);
        play(&mut world, &faults, mins(3));
        (world.steps, world.now, world.net.datagrams, world.net.bytes, world.rng.next_u64())
    };
    for_seeds(3, |seed| assert_eq!(trace(seed), trace(seed)));
}
