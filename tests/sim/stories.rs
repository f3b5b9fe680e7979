//! Named stories of `one` (`interfaces`, 4.5): who acts, once, and what remains when that one is gone. Each broke a
//! draft of the rules.

use std::time::Duration;

use crate::disk::Memory;
use crate::node::{Behaviour, Health};
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, secs};

/// A node that dies among three is known to all within 34 s ([`crate::table`]); then `node_down_after`, debounce, a
/// try of its public address that nobody answers (5 s), and the run.
pub const NODE_DOWN_WITHIN: Duration = secs(34 + 5 + 3 + 5 + 2);
/// An app that goes down: three failed checks, gossip, debounce and run.
pub const DOWN_WITHIN: Duration = secs(3 * 10 + 5 + 2 + 3 + 2);
/// A run that was interrupted: `timeout` and 10 s are given to it.
pub const PATIENCE: Duration = secs(40);
/// The default `resync`, which repairs what nobody can know.
pub const RESYNC: Duration = mins(10);

/// A cluster at rest, all up and published, `grace` over, and its electorate known.
pub fn web(seed: u64, nodes: usize) -> World {
    with(seed, nodes, |_| {})
}

pub fn with(seed: u64, nodes: usize, change: impl FnOnce(&mut crate::settings::Settings)) -> World {
    let mut world = World::new(seed).nodes(nodes).with(change).app("web").settled();
    world.run_for(mins(3));
    world
}

pub fn never_empty(world: &mut World) {
    world.always("the records of web are never emptied", |world| !world.records("web").is_empty());
}

pub fn runner(world: &World) -> String {
    world.outside.last_writer("web").expect("somebody wrote").to_string()
}

pub fn others(world: &World, but: &str) -> Vec<String> {
    world.names().into_iter().filter(|name| name != but).collect()
}

/// Runs since then, resync left out.
pub fn runs(world: &World, since: picored::time::Instant) -> usize {
    world.outside.starts_since(since).count()
}

pub fn is_right(world: &mut World, within: Duration, what: &str) {
    world.expect_within(within, what, |world| world.records_are_right());
}

#[test]
fn a_first_run_with_staggered_starts_takes_nobody_away() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(3).app("web");
        for name in world.names() {
            world.start(&name);
            let pause = secs(5) + world.rng.duration_below(mins(2));
            world.run_for(pause);
        }
        is_right(&mut world, mins(3), "all are published");
        let mut before = 0;
        for write in &world.outside.writes {
            assert!(write.addrs.len() >= before, "{}", world.blame(&format!("{write:?}")));
            before = write.addrs.len();
        }
    });
}

/// The first runner's child may have written or not: whoever is next finds out by running again, and takes nobody
/// away whose app serves.
#[test]
fn the_first_runner_s_picored_crashes_in_mid_run_while_its_app_serves() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(3).app("web");
        for node in &mut world.nodes {
            node.behaviour = Behaviour::Takes(secs(8));
        }
        for name in world.names() {
            world.start(&name);
            let pause = secs(1) + world.rng.duration_below(secs(20));
            world.run_for(pause);
        }
        world.expect_within(mins(3), "a first run", |world| !world.outside.starts.is_empty());
        let first = world.outside.starts[0].by.clone();
        world.crash(&first, Down::Process);
        let two = others(&world, &first);
        world.expect_within(mins(3), "the others are published", |world| {
            two.iter().all(|name| world.records("web").contains(name))
        });
        world.run_for(mins(1));
        world.start(&first);
        world.expect_within(mins(3), "all are published", |world| world.records("web") == ["n1", "n2", "n3"]);
    });
}

/// Goal: a runner that cannot reach the records passes the job on, and does not take it back while it cannot.
#[test]
fn a_runner_with_broken_egress_passes_the_job_on() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let broken = runner(&world);
        world.cut_from_internet(&broken);
        let other = others(&world, &broken)[0].clone();
        world.set_health(&other, "web", Health::Down);
        // Three failures, 5 s and 10 s apart.
        is_right(&mut world, DOWN_WITHIN + mins(1), "another one told it");
        let since = world.now;
        world.set_health(&other, "web", Health::Up);
        world.run_for(secs(90));
        is_right(&mut world, secs(1), "and told the return");
        let by_it = world.outside.starts_since(since).filter(|start| start.by == broken).count();
        assert_eq!(by_it, 0, "{}", world.blame("the one that stood back ran"));
    });
}

/// Two nodes notice the same failure `apart`: whoever acts, the records are right in the end, without `resync`.
fn noticed_apart(seed: u64, apart: Duration, first_slow: bool, differs: bool) {
    let mut world = web(seed, 4);
    never_empty(&mut world);
    // The two sides learn of it separately: n1, n2 | n3, with n4 dead. n3's side is deaf for a while.
    let (early, late) = (runner(&world), others(&world, &runner(&world))[0].clone());
    let victim = others(&world, &early).into_iter().find(|name| *name != late).expect("there are four");
    let slow = if first_slow { early.clone() } else { late.clone() };
    world.node_mut(&slow).behaviour = Behaviour::Takes(secs(9));
    world.crash(&victim, Down::Machine);
    let seen =
        |world: &mut World, name: &str| world.sees(name, &victim).is_some_and(|seen| seen.state == "failed");
    world.expect_within(mins(1), "somebody noticed", |world| seen(world, &early) || seen(world, &late));
    let side = [late.as_str()];
    world.partition(&side);
    world.run_for(apart);
    if differs {
        let fourth = others(&world, &early).into_iter().find(|name| *name != late && *name != victim);
        world.set_health(&fourth.expect("there are four"), "web", Health::Down);
    }
    world.heal();
    is_right(&mut world, NODE_DOWN_WITHIN + PATIENCE + DOWN_WITHIN, "the records are right");
    world.run_for(mins(3));
    assert!(world.records_are_right(), "{}", world.full_picture());
}

#[test]
fn two_nodes_notice_the_same_failure_some_seconds_apart() {
    for_seeds(10, |seed| {
        for (first_slow, differs) in [(false, false), (true, false), (false, true), (true, true)] {
            noticed_apart(seed, secs(5) + millis(seed * 300), first_slow, differs);
        }
    });
}

/// Goal: a runner that dies before its `r` got round is succeeded, although nobody knows that it had begun.
#[test]
fn an_r_that_others_never_saw() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        let other = others(&world, &first)[0].clone();
        world.script(&first, [Behaviour::Takes(secs(3))]);
        world.set_health(&other, "web", Health::Down);
        // The moment it is cut off it has already seen the change, and runs alone.
        world.expect_within(DOWN_WITHIN, "its app is down", |world| world.count("app-down") >= 2);
        world.partition(&[&first]);
        world.run_for(secs(8));
        world.crash(&first, Down::Machine);
        world.heal();
        world.expect_within(NODE_DOWN_WITHIN + PATIENCE, "the survivors told it", |world| {
            !world.records("web").contains(&other)
        });
        world.run_for(mins(1));
        // The dead one's goes, too; and its return is seen although nobody knew its last number.
        is_right(&mut world, mins(2), "both are gone");
        world.start(&first);
        is_right(&mut world, mins(3), "it is back");
    });
}

/// The child ends long after another node's, and overwrites it with what was wanted before.
fn child_lives_on(seed: u64, memory: Memory) {
    let mut world = web(seed, 3);
    never_empty(&mut world);
    let first = runner(&world);
    let other = others(&world, &first)[0].clone();
    world.script(&first, [Behaviour::Takes(secs(70))]);
    world.set_health(&other, "web", Health::Down);
    world.expect_within(DOWN_WITHIN, "the run has begun", |world| !world.node(&first).runs.is_empty());
    world.crash(&first, Down::Process);
    world.run_for(secs(2));
    // What the child tells is outdated before it is written.
    world.set_health(&other, "web", Health::Up);
    world.start_with(&first, memory);
    world.expect_within(mins(2), "the child wrote", |world| world.node(&first).orphans.is_empty());
    is_right(&mut world, RESYNC + mins(2), "the records are right at the latest after resync");
}

#[test]
fn a_crashed_runner_s_child_lives_on_and_it_restarts_with_its_state() {
    for_seeds(10, |seed| child_lives_on(seed, Memory::Kept));
}

#[test]
fn a_crashed_runner_s_child_lives_on_and_it_restarts_without_state() {
    for_seeds(10, |seed| child_lives_on(seed, Memory::Lost));
}

/// Goal: after two that did not know of each other wrote, the records are made right when both sides meet, also if
/// one writer is gone then. Method: without the quorum gate, which else forbids it.
#[test]
fn two_nodes_both_acted_while_apart_and_one_is_gone_for_good() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 4, |settings| {
            settings.quorum = false;
            settings.verify = false;
        });
        never_empty(&mut world);
        world.partition(&["n1", "n2"]);
        world.run_for(mins(2));
        let writers: Vec<String> =
            world.outside.writes.iter().rev().take(2).map(|write| write.by.clone()).collect();
        assert_eq!(writers.len(), 2);
        let last = runner(&world);
        world.crash(&last, Down::Machine);
        world.node_mut(&last).gone_for_good = true;
        world.run_for(secs(1));
        world.heal();
        is_right(&mut world, mins(4), "the survivors' records are right");
        world.run_for(mins(15));
        assert!(world.records_are_right(), "{}", world.full_picture());
    });
}

/// Fails three times on the first node, then on the next, then on the last: one of them goes on alone.
#[test]
fn three_fast_failures_on_one_node_then_on_the_next_then_all_stood_back() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let other = others(&world, &runner(&world))[0].clone();
        for name in world.names() {
            world.node_mut(&name).behaviour = Behaviour::Fail(1);
        }
        let since = world.now;
        world.set_health(&other, "web", Health::Down);
        world.run_for(mins(4));
        for name in world.names() {
            let tried = world.outside.starts_since(since).filter(|start| start.by == name).count();
            assert!(tried >= 3, "{}", world.blame(&format!("{name} tried {tried} times")));
        }
        for name in world.names() {
            world.node_mut(&name).behaviour = Behaviour::Succeed;
        }
        // The longest backoff.
        is_right(&mut world, mins(6) + secs(30), "one went on");
        world.set_health(&other, "web", Health::Up);
        is_right(&mut world, mins(3), "and it works again");
    });
}

#[test]
fn exit_77_stands_back_at_once_and_for_good() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        let other = others(&world, &first)[0].clone();
        world.node_mut(&first).behaviour = Behaviour::Fail(77);
        let since = world.now;
        world.set_health(&other, "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN + secs(15), "another one told it");
        world.run_for(mins(30));
        world.set_health(&other, "web", Health::Up);
        is_right(&mut world, mins(3), "and the next");
        let by_it = world.outside.starts.iter().filter(|start| start.at > since && start.by == first).count();
        assert_eq!(by_it, 1, "{}", world.blame("it ran again"));
    });
}

#[test]
fn the_runner_leaves() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        let since = world.now;
        world.leave(&first);
        world.expect_within(mins(2), "its process ended", |world| world.node(&first).exited == Some(0));
        is_right(&mut world, secs(30), "its address is gone");
        let runs = runs(&world, since);
        assert!((1..=2).contains(&runs), "{}", world.blame(&format!("{runs} runs")));
        let rest = others(&world, &first);
        world.set_health(&rest[0], "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN + secs(2), "the next one acts");
    });
}

#[test]
fn a_member_is_killed_for_good() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        world.crash("n2", Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN + secs(5), "its address is gone");
        let since = world.now;
        world.run_for(mins(60));
        assert_eq!(runs(&world, since), 0, "{}", world.blame("a run without a change"));
        // The electorate has shrunk: of the two that are left, none may be missed without a witness.
        world.set_health("n3", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "the two go on");
        assert!(world.records_are_right(), "{}", world.full_picture());
    });
}
