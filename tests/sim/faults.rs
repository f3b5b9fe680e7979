//! What the swarm does to a cluster: each class of faults as one small step, taken at random.

use std::time::Duration;

use crate::disk::Memory;
use crate::net::INTERNET;
use crate::node::{Behaviour, Health};
use crate::settings::Joins;
use crate::world::{Down, World};
use crate::{millis, secs};

type Step = fn(&mut World);

/// The classes, and how often a step is taken of each where it is on at all.
const CLASSES: [(u32, Step); 16] = [
    (6, crash_or_start),
    (2, restart_with_other_memory),
    (3, freeze_or_thaw),
    (4, cut_or_heal),
    (2, block_or_heal),
    (2, change_network),
    (5, change_health),
    (4, change_handler),
    (2, change_egress),
    (2, change_witness),
    (2, leave_or_stop),
    (1, change_clock),
    (2, change_disk),
    (2, change_maintenance),
    (1, sync),
    (1, go_for_good),
];

/// The classes of faults that this seed plays with.
pub struct Faults {
    steps: Vec<Step>,
}

impl Faults {
    pub fn draw(world: &mut World) -> Self {
        let mut steps = Vec::new();
        for (weight, step) in CLASSES {
            if world.rng.chance(0.4) {
                steps.extend((0..weight).map(|_| step));
            }
        }
        if world.rng.chance(0.4) {
            for node in &mut world.nodes {
                node.lateness = millis(300);
            }
        }
        Self { steps }
    }
}

pub fn play(world: &mut World, faults: &mut Faults, time: Duration) {
    let end = world.now + time;
    while world.now < end {
        let pause = secs(1) + world.rng.duration_below(secs(20));
        world.run_for(pause);
        if !faults.steps.is_empty() {
            let step = faults.steps[world.rng.below(faults.steps.len())];
            step(world);
        }
    }
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
    } else if !world.nodes[index].gone_for_good {
        world.start_index(index);
    }
}

fn restart_with_other_memory(world: &mut World) {
    let index = any(world);
    if world.nodes[index].gone_for_good {
        return;
    }
    if world.nodes[index].is_running() {
        let how = if world.rng.chance(0.5) { Down::Machine } else { Down::Process };
        world.crash_index(index, how);
    }
    let memory = [Memory::Kept, Memory::Lost, Memory::Older, Memory::Damaged][world.rng.below(4)];
    world.start_index_with(index, memory);
}

fn freeze_or_thaw(world: &mut World) {
    let index = any(world);
    if world.nodes[index].frozen {
        world.disturb();
        world.thaw_index(index);
    } else if world.nodes[index].is_running() {
        let name = world.nodes[index].name.clone();
        match world.rng.chance(0.5) {
            true => world.freeze(&name),
            false => world.suspend(&name),
        }
    }
}

fn cut_or_heal(world: &mut World) {
    let (a, b) = (any(world), any(world));
    world.disturb();
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

fn block_or_heal(world: &mut World) {
    let index = any(world);
    match world.rng.chance(0.5) {
        true => {
            let name = world.nodes[index].name.clone();
            world.block_gossip(&name);
        }
        false => world.heal(),
    }
}

fn change_network(world: &mut World) {
    world.disturb();
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
    if let Some(own) = world.nodes[index].health.get_mut(app) {
        *own = health;
    }
}

fn change_handler(world: &mut World) {
    use Behaviour::{Fail, FailAfter, Hang, IgnoreTerm, Slow, Succeed, Takes};
    let all = [Succeed, Slow, Fail(1), Fail(75), Fail(78), FailAfter(1), Takes(secs(25)), Hang, IgnoreTerm];
    let behaviour = all[world.rng.below(all.len())];
    let index = any(world);
    world.nodes[index].behaviour = behaviour;
}

fn change_egress(world: &mut World) {
    let index = any(world);
    world.disturb();
    match world.rng.below(4) {
        0 => world.net.cut_one_way(index, INTERNET),
        1 => world.net.cut_one_way(INTERNET, index),
        _ => {
            world.net.heal_one_way(index, INTERNET);
            world.net.heal_one_way(INTERNET, index);
        }
    }
}

fn change_witness(world: &mut World) {
    let witness = world.rng.below(2);
    if !world.witness_off.remove(&witness) {
        world.witness_off.insert(witness);
    }
}

fn leave_or_stop(world: &mut World) {
    let index = any(world);
    if world.nodes[index].is_awake() {
        let name = world.nodes[index].name.clone();
        match world.rng.below(3) {
            0 => world.leave(&name),
            1 => world.stop(&name),
            _ => drop(world.say(index, r#"{"cmd":"restart"}"#)),
        }
    }
}

fn change_clock(world: &mut World) {
    let index = any(world);
    let name = world.nodes[index].name.clone();
    let off = [0, 86_400, -86_400, 3_600, -5][world.rng.below(5)];
    world.set_clock(&name, off);
}

fn change_disk(world: &mut World) {
    let index = any(world);
    let disk = &mut world.nodes[index].disk;
    disk.broken = !disk.broken;
}

fn change_maintenance(world: &mut World) {
    let (by, about) = (any(world), any(world));
    if !world.nodes[by].is_awake() {
        return;
    }
    let app = world.settings.apps[world.rng.below(world.settings.apps.len())].clone();
    let about = if world.rng.chance(0.5) { by } else { about };
    let (by, about) = (world.nodes[by].name.clone(), world.nodes[about].name.clone());
    let on = world.rng.chance(0.6);
    world.maint(&by, &about, &app, on);
}

fn sync(world: &mut World) {
    let index = any(world);
    if world.nodes[index].is_awake() {
        let name = world.nodes[index].name.clone();
        world.sync(&name);
    }
}

/// One whom nobody needs to find the others, and never so many that the rest is no majority.
fn go_for_good(world: &mut World) {
    let index = any(world);
    let named = match world.settings.joins {
        Joins::First(count) => count,
        Joins::Chain => return,
    };
    let gone = world.nodes.iter().filter(|node| node.gone_for_good).count();
    if index < named || 2 * (gone + 1) >= world.nodes.len() {
        return;
    }
    world.crash_index(index, Down::Machine);
    world.nodes[index].gone_for_good = true;
}

/// The network is whole, everybody runs who is still there, checks are stable (some apps stay down, one of each is
/// up), handlers work, disks too, and nothing is in maintenance any more.
pub fn stop_faults(world: &mut World) {
    world.heal();
    world.net.link = Default::default();
    world.witness_off.clear();
    for index in 0..world.nodes.len() {
        world.thaw_index(index);
        let node = &mut world.nodes[index];
        node.behaviour = Behaviour::Succeed;
        node.script.clear();
        node.lateness = Duration::ZERO;
        node.disk.broken = false;
    }
    for app in 0..world.settings.apps.len() {
        let there: Vec<usize> = (0..world.nodes.len()).filter(|&i| !world.nodes[i].gone_for_good).collect();
        let surely = there[world.rng.below(there.len())];
        for index in there {
            let up = index == surely || world.rng.chance(0.7);
            if let Some(health) = world.nodes[index].health.get_mut(app) {
                *health = if up { Health::Up } else { Health::Down };
            }
        }
    }
    // Who is about to leave ends first.
    world.run_for(secs(90));
    world.start_all();
    // Exit 78 gives up until the configuration is read anew, or the process starts anew.
    for index in 0..world.nodes.len() {
        if world.nodes[index].is_running() && world.nodes[index].has_said_never {
            world.crash_index(index, Down::Process);
            world.run_for(secs(1));
            world.start_index(index);
        }
    }
    end_maintenance(world);
}

/// Everywhere, of everybody: an older state file may have brought back what had been ended.
fn end_maintenance(world: &mut World) {
    let (names, apps) = (world.names(), world.settings.apps.clone());
    for by in names.iter().filter(|by| world.node(by).is_running()).cloned().collect::<Vec<_>>() {
        for (node, app) in names.iter().flat_map(|node| apps.iter().map(move |app| (node, app))) {
            world.maint(&by, node, app, false);
        }
    }
    // What one that is gone for good said of itself last holds.
    let gone: Vec<String> = world.nodes.iter().filter(|n| n.gone_for_good).map(|n| n.name.clone()).collect();
    world.maint.retain(|(node, _, by)| node == by && gone.contains(by));
}
