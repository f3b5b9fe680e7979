//! Named stories of single rules of 4.5 and gates of section 5, each of which goes wrong without its rule and is right
//! with it: what `scripts/mutants` takes away, one after the other.

use std::time::Duration;

use picored::delivery::Config;
use picored::safety::AllDown;

use crate::disk::Memory;
use crate::node::{Behaviour, Health};
use crate::stories::{DOWN_WITHIN, NODE_DOWN_WITHIN, is_right, never_empty, others, runner, runs, web, with};
use crate::world::{Down, World};
use crate::{for_seeds, hours, millis, mins, secs};

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

/// A cluster at rest with another handler than usual.
fn with_handler(world: World, change: impl FnOnce(&mut Config)) -> World {
    let world = world.with(|settings| {
        let mut handler = settings.handler();
        change(&mut handler);
        settings.handler = false;
        settings.handlers.push(handler);
    });
    let mut world = world.settled();
    world.run_for(mins(3));
    world
}

/// A handler that may take three minutes, more than anything else takes.
fn patient(seed: u64) -> World {
    with_handler(World::new(seed).nodes(3).app("web"), |handler| handler.timeout = mins(3))
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

/// Goal: a server that is alone knows after a crash that it had begun a run: it starts no other beside the child that
/// outlived it, and repairs what that one does to the records. No peer could tell it.
#[test]
fn a_lone_server_that_crashes_in_its_run_remembers_that_it_had_begun() {
    for_seeds(10, |seed| {
        let world = World::new(seed).nodes(1).app("web").with(|settings| {
            settings.all_down = AllDown::Empty;
            settings.resync = hours(2);
        });
        let mut world = with_handler(world, |handler| handler.timeout = mins(3));
        world.script("n1", [Behaviour::Takes(mins(1))]);
        world.set_health("n1", "web", Health::Down);
        world.expect_within(DOWN_WITHIN, "the run has begun", |world| !world.node("n1").runs.is_empty());
        let begun = world.now;
        world.crash("n1", Down::Process);
        world.set_health("n1", "web", Health::Up);
        world.run_for(secs(1));
        world.start("n1");
        world.expect_within(mins(2), "the child wrote", |world| world.node("n1").orphans.is_empty());
        assert_eq!(runs(&world, begun), 0, "{}", world.blame("a run beside the child"));
        is_right(&mut world, mins(3), "what the child did is repaired");
    });
}

/// Goal: a machine that is reinstalled after a run that nobody heard of knows that it cannot know what it told last, and
/// one more run makes sure (rule 6). Method: the runner alone sees that its own app is down, tells it, and loses its disk.
#[test]
fn what_a_reinstalled_runner_told_unheard_is_repaired() {
    for_seeds(10, |seed| {
        let world = World::new(seed).nodes(7).app("web").with(|settings| {
            settings.check_interval = secs(1);
            settings.resync = hours(2);
        });
        let mut world = with_handler(world, |handler| handler.debounce = Duration::ZERO);
        never_empty(&mut world);
        // Without `debounce` several may have written at first.
        let written = world.outside.writes.iter().map(|write| (write.lc, write.by.clone()));
        let (_, first) = written.max().expect("somebody wrote");
        world.set_health(&first, "web", Health::Down);
        // Two checks have failed.
        world.run_for(secs(2));
        world.partition(&[&first]);
        let is_told = |world: &mut World| !world.records("web").contains(&first);
        world.expect_within(secs(5), "it told that it is down", is_told);
        world.crash(&first, Down::Machine);
        world.heal();
        world.set_health(&first, "web", Health::Up);
        world.run_for(secs(1));
        world.start_with(&first, Memory::Lost);
        is_right(&mut world, mins(2), "it is published again");
    });
}

/// Goal: after two sides both wrote, the records are repaired even if what is wanted then is just what the greater record
/// says (rule 5): the lesser one was written later. Method: without the quorum gate; n1, alone, ends last.
#[test]
fn the_side_that_wrote_last_with_the_lesser_record_is_written_over() {
    for_seeds(10, |seed| {
        let world = World::new(seed).nodes(4).app("web").with(|settings| {
            (settings.quorum, settings.verify) = (false, false);
            settings.resync = hours(2);
        });
        // One run on each side, whenever they notice whom.
        let mut world =
            with_handler(world, |handler| (handler.timeout, handler.debounce) = (mins(3), mins(1)));
        never_empty(&mut world);
        world.script("n1", [Behaviour::Takes(mins(2))]);
        world.partition(&["n1"]);
        world.expect_within(mins(2), "three are told", |world| world.records("web") == ["n2", "n3", "n4"]);
        world.expect_within(mins(5), "then one", |world| world.records("web") == ["n1"]);
        world.set_health("n1", "web", Health::Down);
        world.run_for(mins(1));
        assert_eq!(world.records("web"), ["n1"], "{}", world.full_picture());
        world.heal();
        is_right(&mut world, mins(4), "who is up is published");
    });
}

/// Goal: run numbers never fall while one node remembers them, though the last writer is forgotten and all others are
/// reinstalled one after another: a handler may go by them. Method: n4, which no configuration names, wrote it all.
#[test]
fn run_numbers_do_not_fall_when_all_are_replaced_one_by_one() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(4).app("web").started();
        // Before the first run, so that it is the only one that ever ran.
        world.sync("n4");
        is_right(&mut world, mins(3), "all are published");
        never_empty(&mut world);
        world.run_for(mins(3));
        for health in [Health::Down, Health::Up, Health::Down] {
            world.set_health("n4", "web", health);
            world.run_for(mins(2));
            assert!(world.records_are_right(), "{}", world.full_picture());
        }
        assert_eq!(runner(&world), "n4");
        world.crash("n4", Down::Machine);
        world.run_for(mins(2));
        world.forget_everywhere("n4");
        for name in ["n1", "n2", "n3"] {
            world.run_for(mins(2));
            world.crash(name, Down::Machine);
            world.run_for(secs(3));
            world.start_with(name, Memory::Lost);
        }
        world.run_for(mins(2));
        world.set_health("n2", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN + secs(10), "a change is told");
        let numbers: Vec<u32> = world.outside.starts.iter().map(|start| start.told.lc).collect();
        assert!(numbers.is_sorted(), "{}", world.blame(&format!("{numbers:?}")));
    });
}

/// Goal: the greatest record is in the state file though no tag shows it any more.
/// Method: of two servers the last writer is forgotten, and the other's picored restarts before it may act.
#[test]
fn the_last_of_two_restarts_after_the_other_was_forgotten_and_runs_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 2);
        never_empty(&mut world);
        let first = runner(&world);
        let other = others(&world, &first)[0].clone();
        world.set_health(&first, "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "it told that its own app is down");
        world.run_for(secs(5));
        assert_eq!(runner(&world), first);
        let since = world.now;
        world.crash(&first, Down::Machine);
        world.run_for(mins(2));
        world.forget_everywhere(&first);
        world.run_for(secs(2));
        world.crash(&other, Down::Process);
        world.run_for(secs(1));
        world.start(&other);
        world.run_for(mins(3));
        assert_eq!(runs(&world, since), 0, "{}", world.blame("a run without a change"));
    });
}

/// Two of five failed: one refuses connections, the other says nothing, so that a fresh try of it takes 5 s. Gives the
/// runner, which waits for just that, the one that refuses, and another node.
fn waits_for_a_try(seed: u64) -> (World, String, String, String) {
    let world = World::new(seed).nodes(5).app("web").app("mail");
    let mut world = with_handler(world, |handler| handler.debounce = mins(1));
    never_empty(&mut world);
    let first = runner(&world);
    let rest = others(&world, &first);
    let [refuses, silent, other] = [&rest[0], &rest[1], &rest[2]].map(String::clone);
    // Of mail nothing is to be tried.
    for name in [&refuses, &silent] {
        world.set_health(name, "mail", Health::Down);
    }
    is_right(&mut world, DOWN_WITHIN + mins(1), "their mail is down");
    world.crash(&refuses, Down::Process);
    world.set_health(&refuses, "web", Health::Down);
    world.crash(&silent, Down::Machine);
    let index = world.index(&first);
    let is_trying =
        |world: &mut World| world.ask(index, r#"{"cmd":"status"}"#).to_string().contains("verify of");
    for _ in 0..1_000 {
        if is_trying(&mut world) {
            return (world, first, refuses, other);
        }
        world.run_for(millis(200));
    }
    panic!("{}", world.blame("the runner never waited for its tries"));
}

/// Goal: a server that serves again while the run that was to remove it waits for another stays (gate 5).
#[test]
fn one_that_serves_again_while_its_removal_waits_for_another_run_stays() {
    for_seeds(10, |seed| {
        let (mut world, first, refuses, _) = waits_for_a_try(seed);
        let published = refuses.clone();
        world.always("it stays", move |world| world.records("web").contains(&published));
        // Mail's run is the first to start.
        world.script(&first, [Behaviour::Takes(secs(20))]);
        world.sync(&first);
        assert!(!world.node(&first).runs.is_empty(), "{}", world.blame("mail is not told"));
        world.run_for(secs(1));
        world.set_health(&refuses, "web", Health::Up);
        world.run_for(mins(1));
        is_right(&mut world, mins(2), "the other one is gone");
    });
}

/// Goal: a run that another node starts while this one makes its fresh tries is waited for (rule 3: 2 again).
/// Method: a person says `sync` on that other node, which need not wait for anything.
#[test]
fn a_run_that_begins_elsewhere_during_the_tries_is_waited_for() {
    for_seeds(10, |seed| {
        let (mut world, first, _, other) = waits_for_a_try(seed);
        world.script(&other, [Behaviour::Takes(secs(20))]);
        let since = world.now;
        world.sync(&other);
        world.run_for(secs(19));
        assert!(!world.node(&other).runs.is_empty(), "{}", world.blame("it does not run"));
        let beside =
            world.outside.starts.iter().filter(|start| start.at > since && start.by == first).count();
        assert_eq!(beside, 0, "{}", world.blame("two run at once"));
        is_right(&mut world, mins(3), "both are gone");
    });
}
